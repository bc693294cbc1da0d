package browser_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/browser"
	"tandem/test/harness"
)

// door stands before a gateway and counts who knocks at its device connection.
type door struct {
	url    string
	knocks atomic.Int64

	mu      sync.Mutex
	sockets []net.Conn // of browsers
}

// drop breaks all connections that are open, without a word.
func (d *door) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.sockets {
		_ = c.Close()
	}
	d.sockets = nil
}

// newDoor passes everything on to the gateway, or refuses everything with 503 when that is nil.
func newDoor(t *testing.T, g *harness.Gateway) *door {
	t.Helper()
	d := &door{}
	next := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	if g != nil {
		target, err := url.Parse(g.URL)
		require.NoError(t, err)
		next = httputil.NewSingleHostReverseProxy(target)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.knocks.Add(1)
		next.ServeHTTP(w, r)
	}))
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateHijacked { // it is a WebSocket now
			d.mu.Lock()
			defer d.mu.Unlock()
			d.sockets = append(d.sockets, c)
		}
	}
	server.Start()
	t.Cleanup(func() {
		d.drop()
		server.Close()
	})
	d.url = "ws" + strings.TrimPrefix(server.URL, "http")
	return d
}

// The SDK knocks again every second.
const reconnects = 4 * time.Second

// TestBadTokenKnocksOnce: a token that is no good ends the SDK's connection for good.
func TestBadTokenKnocksOnce(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	chromium := browser.Start(t, "")
	id, token := g.Participant(t, "")
	_, another := g.Participant(t, "")
	deleted, deletedToken := g.Participant(t, "")
	g.Must(t, http.MethodDelete, "/participants/"+deleted, nil)
	signature := strings.LastIndex(token, ".")

	cases := map[string]string{
		"forged":  token[:signature] + another[strings.LastIndex(another, "."):],
		"deleted": deletedToken,
	}
	for name, bad := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, g)
			require.NoError(t, chromium.Page(t).StartConnect(bad, d.url))
			require.Eventually(t, func() bool { return d.knocks.Load() == 1 }, patience, 10*time.Millisecond)
			require.Never(t, func() bool { return d.knocks.Load() != 1 }, reconnects, 50*time.Millisecond)
		})
	}
	t.Run("a participant that is deleted while it is connected", func(t *testing.T) {
		t.Parallel()
		d := newDoor(t, g)
		require.NoError(t, chromium.Page(t).Connect(token, d.url))
		g.Must(t, http.MethodDelete, "/participants/"+id, nil)
		require.Never(t, func() bool { return d.knocks.Load() != 1 }, reconnects, 50*time.Millisecond)
	})
	t.Run("control: a plain refusal is knocked at again", func(t *testing.T) {
		t.Parallel()
		d := newDoor(t, nil)
		require.NoError(t, chromium.Page(t).StartConnect(token, d.url))
		require.Eventually(t, func() bool { return d.knocks.Load() >= 3 }, patience, 10*time.Millisecond)
	})
}

// TestLostSocketComesBack: the SDK's socket breaks; it comes back within the grace period, and the streams never
// stopped.
func TestLostSocketComesBack(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	calls := harness.NewCallbacks(t)
	chromium := browser.Start(t, browser.WriteTone(t, highTone, -12))
	d := newDoor(t, g)
	from, token := g.Participant(t, calls.URL)
	speaker := chromium.Page(t)
	require.NoError(t, speaker.Connect(token, d.url))
	listener, to := connect(t, g, chromium, "")
	session := g.Session(t)
	g.Join(t, session, from)
	g.Join(t, session, to)
	_, err := speaker.Publish(true, false, "microphone")
	require.NoError(t, err)
	stream := listener.WaitStream(t, from, "microphone")

	d.drop()
	requireTone(t, hear(t, listener, stream.ID), browser.Rate, highTone)
	require.Eventually(t, func() bool { return d.knocks.Load() == 2 }, patience, 10*time.Millisecond)
	// Signalling works again: what is published now arrives, and nothing was reported as lost in between.
	_, err = speaker.PublishCanvas("screen", "")
	require.NoError(t, err)
	requireFrames(t, listener, listener.WaitStream(t, from, "screen").ID)
	events, err := listener.Events()
	require.NoError(t, err)
	require.Len(t, events, 2, "%v", events)
	require.NoError(t, speaker.Disconnect())
	calls.WaitEvent(t, from, "onLeave")
	require.Equal(t, []string{"onConnect", "onLeave"}, calls.Words(from))
}
