package harness

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

// Callbacks is an application's endpoint that keeps what it gets and checks every signature.
type Callbacks struct {
	URL string

	mu      sync.Mutex
	all     []Callback
	refuse  func(Callback) bool
	held    chan struct{} // not nil: requests wait until it is closed
	hanging int           // how many wait
	changed chan struct{}
}

// Callback is one request that came in.
type Callback struct {
	Object
	ID       string // webhook-id
	Body     string
	Signed   bool // the signature was right
	Accepted bool
}

// NewCallbacks starts an endpoint that runs until the test ends.
func NewCallbacks(tb testing.TB) *Callbacks {
	tb.Helper()
	c := &Callbacks{changed: make(chan struct{})}
	verifier, err := standardwebhooks.NewWebhook(CallbackSecret)
	require.NoError(tb, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		got := Callback{ID: r.Header.Get("webhook-id"), Body: string(body), Signed: verifier.Verify(body, r.Header) == nil}
		_ = json.Unmarshal(body, &got.Object)
		if !c.wait(r.Context()) {
			return
		}
		if !c.take(got) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	tb.Cleanup(func() {
		c.Release()
		server.Close()
	})
	c.URL = server.URL + "/callback"
	return c
}

func (c *Callbacks) take(got Callback) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	got.Accepted = c.refuse == nil || !c.refuse(got)
	c.all = append(c.all, got)
	close(c.changed)
	c.changed = make(chan struct{})
	return got.Accepted
}

// Refuse lets a function say which callbacks are answered 503; nil: none.
func (c *Callbacks) Refuse(f func(Callback) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = f
}

// Hold lets every request hang from now on, until Release or until its sender gives up: then it did not come in.
func (c *Callbacks) Hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = make(chan struct{})
	}
}

// Release lets the requests go on that Hold kept.
func (c *Callbacks) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil {
		close(c.held)
		c.held = nil
	}
}

// Hanging counts the requests that wait for Release.
func (c *Callbacks) Hanging() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hanging
}

// wait lets a request wait as long as Hold says; false: its sender has given up.
func (c *Callbacks) wait(ctx context.Context) bool {
	c.mu.Lock()
	held := c.held
	if held == nil {
		c.mu.Unlock()
		return true
	}
	c.hanging++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.hanging--
		c.mu.Unlock()
	}()
	select {
	case <-held:
		return true
	case <-ctx.Done():
		return false
	}
}

// All returns what came in, refused ones too.
func (c *Callbacks) All() []Callback {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// Word is the event's name, or the state of a dialog's change.
func (c Callback) Word() string {
	if c.Text("event") == "onSipDialogStateChange" {
		return c.Text("state")
	}
	return c.Text("event")
}

// Words lists the accepted events of a participant in order, as Word says them.
func (c *Callbacks) Words(participant string) []string {
	words := []string{}
	for _, got := range c.All() {
		if got.Text("participantId") == participant && got.Accepted {
			words = append(words, got.Word())
		}
	}
	return words
}

// Wait waits for a callback that f accepts and returns it.
func (c *Callbacks) Wait(tb testing.TB, what string, f func(Callback) bool) Callback {
	tb.Helper()
	found, ok := c.WaitUnless(nil, f)
	if !ok {
		require.FailNow(tb, "no callback: "+what, "%v", c.All())
	}
	require.True(tb, found.Signed, "a callback without a good signature: %v", found.Object)
	return found
}

// WaitUnless waits for a callback that f accepts; false: given was closed before, or Patience is over.
func (c *Callbacks) WaitUnless(given <-chan struct{}, f func(Callback) bool) (Callback, bool) {
	deadline := time.After(Patience)
	for {
		c.mu.Lock()
		changed := c.changed
		i := slices.IndexFunc(c.all, f)
		var found Callback
		if i >= 0 {
			found = c.all[i]
		}
		c.mu.Unlock()
		if i >= 0 {
			return found, true
		}
		select {
		case <-changed:
		case <-given:
			return Callback{}, false
		case <-deadline:
			return Callback{}, false
		}
	}
}

// WaitEvent waits for an event of a participant.
func (c *Callbacks) WaitEvent(tb testing.TB, participant, event string) Callback {
	tb.Helper()
	return c.Wait(tb, event, func(got Callback) bool {
		return got.Accepted && got.Text("participantId") == participant && got.Text("event") == event
	})
}

// WaitState waits for a dialog's change to a state.
func (c *Callbacks) WaitState(tb testing.TB, participant, state string) Callback {
	tb.Helper()
	return c.Wait(tb, state, func(got Callback) bool {
		return got.Accepted && got.Text("participantId") == participant && got.Text("state") == state
	})
}
