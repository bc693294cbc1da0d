package webhooks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answers keeps what it is told of onIncomingCall.
type answers struct {
	mu  sync.Mutex
	got []Answer
}

func (a *answers) Wants(name Name) bool { return name == OnIncomingCall }

func (a *answers) Answered(_ context.Context, got Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, got)
}

func (a *answers) all() []Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Answer{}, a.got...)
}

func TestAnswers(t *testing.T) {
	const body = `{"state":"ANSWERED"}`
	long := `{"x":"` + strings.Repeat("a", maxAnswer) + `"}`
	cases := []struct {
		name   string
		event  Name
		status int
		kind   string
		body   string
		want   string // empty: nobody is told
		cut    bool
	}{
		{"JSON", OnIncomingCall, 200, "application/json; charset=utf-8", body, body, false},
		{"another kind of JSON", OnIncomingCall, 202, "application/vnd.app+json", body, body, false},
		{"JSON under another name", OnIncomingCall, 200, "text/html", "\n" + body, "\n" + body, false},
		{"broken JSON", OnIncomingCall, 200, "application/json", "{", "{", false},
		{"too long", OnIncomingCall, 200, "application/json", long, long[:maxAnswer], true},
		{"a word", OnIncomingCall, 200, "text/plain", "OK", "", false},
		{"nothing", OnIncomingCall, 204, "application/json", "", "", false},
		{"blanks", OnIncomingCall, 200, "application/json", " \n", "", false},
		{"another event", OnConnect, 200, "application/json", body, "", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.kind)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			o, seen := newOutbox(), &answers{}
			id := o.addNamed(c.event, "p", server.URL)
			impatient(t, Config{Answers: seen}, o)
			eventually(t, o, 1)
			if c.want == "" {
				require.Empty(t, seen.all())
				return
			}
			require.Equal(t, []Answer{{
				Event: id, Name: c.event, Account: "acme", Participant: "p", Body: []byte(c.want), Cut: c.cut,
			}}, seen.all())
		})
	}
}

// TestAnswerAfterFailures is an application that answers at last: a refusal's body says nothing, nor does an answer that
// breaks off.
func TestAnswerAfterFailures(t *testing.T) {
	var mu sync.Mutex
	tries := 0
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		tries++
		try := tries
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch try {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.Header().Set("Content-Length", "100")
		}
		_, _ = fmt.Fprintf(w, `{"try":%d}`, try)
	}))
	o, seen := newOutbox(), &answers{}
	o.addNamed(OnIncomingCall, "p", server.URL)
	impatient(t, Config{Answers: seen, Timeout: 5 * time.Second}, o)
	eventually(t, o, 1)
	all := seen.all()
	require.Len(t, all, 1)
	require.Equal(t, `{"try":3}`, string(all[0].Body))
}

// TestAnswerComesBeforeTheNextEvent keeps the order of a participant: what it said is known when the next event goes.
func TestAnswerComesBeforeTheNextEvent(t *testing.T) {
	seen := &answers{}
	known := make(chan int, 2)
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		known <- len(seen.all())
		_, _ = io.WriteString(w, `{}`)
	}))
	o := newOutbox()
	o.addNamed(OnIncomingCall, "p", server.URL)
	o.addNamed(OnConnect, "p", server.URL)
	impatient(t, Config{Answers: seen}, o)
	eventually(t, o, 2)
	require.Equal(t, 0, <-known)
	require.Equal(t, 1, <-known)
}
