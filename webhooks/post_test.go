package webhooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// delivery is a request as the application's server got it.
type delivery struct {
	header http.Header
	body   []byte
}

// application is a real server that records what it gets.
type application struct {
	mu       sync.Mutex
	got      []delivery
	arrivals chan struct{}
}

func newApplication() *application { return &application{arrivals: make(chan struct{}, 1000)} }

func (a *application) handler(answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.got = append(a.got, delivery{r.Header.Clone(), body})
		a.mu.Unlock()
		a.arrivals <- struct{}{}
		answer(w, r)
	}
}

func (a *application) all() []delivery {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]delivery{}, a.got...)
}

// impatient runs a worker that retries at once.
func impatient(t *testing.T, cfg Config, o *memoryOutbox) (stop func()) {
	t.Helper()
	w := NewWorker(cfg, o, o.wake, silent)
	w.retry = func(int) time.Duration { return time.Millisecond }
	return runWorker(t, w)
}

func eventually(t *testing.T, o *memoryOutbox, delivered int) {
	t.Helper()
	require.Eventually(t, func() bool {
		got, _, _ := o.get()
		return len(got) == delivered
	}, 20*time.Second, time.Millisecond)
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestSignature(t *testing.T) {
	app := newApplication()
	answers := make(chan int, 10)
	for _, status := range []int{500, 200, 200} {
		answers <- status
	}
	server := serve(t, app.handler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(<-answers) }))
	o := newOutbox()
	id := o.add("p", server.URL+"/cb?x=1")
	other := o.add("q", server.URL+"/cb")
	o.waiting[1].Account = "without a secret"
	stop := impatient(t, Config{Secrets: map[string]Secret{"acme": testSecret, "off": ""}}, o)
	eventually(t, o, 2)
	stop()

	verifier, err := standardwebhooks.NewWebhook(testSecret)
	require.NoError(t, err)
	got := app.all()
	require.Len(t, got, 3)
	ids := map[string]int{}
	for _, d := range got {
		ids[d.header.Get("webhook-id")]++
		require.Equal(t, "application/json", d.header.Get("Content-Type"))
		require.Equal(t, "Tandem", d.header.Get("User-Agent"))
		at, err := strconv.ParseInt(d.header.Get("webhook-timestamp"), 10, 64)
		require.NoError(t, err)
		require.InDelta(t, time.Now().Unix(), at, 60)
		if d.header.Get("webhook-id") == other {
			require.Empty(t, d.header.Get("webhook-signature"))
			continue
		}
		require.JSONEq(t, `{"n":"`+id+`"}`, string(d.body))
		require.NoError(t, verifier.Verify(d.body, d.header))
		require.Error(t, verifier.Verify(append(d.body, ' '), d.header), "another body is not signed")
	}
	require.Len(t, ids, 2)
	require.Equal(t, 3, ids[id]+ids[other])
}

// TestLiars: endpoints that break off, answer nonsense, or do not stop answering. Each is bounded; a 2xx counts as soon
// as it is read; everything else is tried again.
func TestLiars(t *testing.T) {
	cases := []struct {
		name  string
		lie   func(t *testing.T, w http.ResponseWriter, r *http.Request)
		taken bool // at the first attempt
	}{
		{"closes without an answer", func(t *testing.T, w http.ResponseWriter, _ *http.Request) { raw(t, w, "") }, false},
		{"no HTTP", func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			raw(t, w, "220 mail.example.com ESMTP\r\n")
		}, false},
		{"a long line of nonsense", func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			raw(t, w, string(bytes.Repeat([]byte("nonsense "), 1000))+"\r\n\r\n")
		}, false},
		{"no end of headers", func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			raw(t, w, "HTTP/1.1 200 OK\r\nX: "+string(bytes.Repeat([]byte("x"), 1<<20)))
		}, false},
		{"a shorter body than it says", func(t *testing.T, w http.ResponseWriter, _ *http.Request) {
			raw(t, w, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
		}, true},
		{"an endless body", func(_ *testing.T, w http.ResponseWriter, _ *http.Request) {
			block := make([]byte, 8<<10)
			for {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, true},
		{"a body that never comes", func(_ *testing.T, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, true},
		{"no answer at all", func(_ *testing.T, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, false},
		{"a redirect that points nowhere", func(_ *testing.T, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://%zz/")
			w.WriteHeader(http.StatusFound)
		}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			app := newApplication()
			var once sync.Once
			server := serve(t, app.handler(func(w http.ResponseWriter, r *http.Request) {
				lied := false
				once.Do(func() {
					lied = true
					c.lie(t, w, r)
				})
				if !lied {
					w.WriteHeader(http.StatusNoContent)
				}
			}))
			o := newOutbox()
			first, second := o.add("p", server.URL), o.add("p", server.URL)
			stop := impatient(t, Config{Timeout: 300 * time.Millisecond}, o)
			eventually(t, o, 2)
			stop()
			delivered, failed, _ := o.get()
			require.Equal(t, []string{first, second}, delivered)
			if c.taken {
				require.Empty(t, failed)
			} else {
				require.NotEmpty(t, failed)
				require.LessOrEqual(t, len(failed[0]), len(first+": ")+maxReason)
				require.Equal(t, first, app.all()[1].header.Get("webhook-id"))
			}
		})
	}
}

// raw answers with text and closes the connection.
func raw(t *testing.T, w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.WriteString(conn, text)
	_ = conn.Close()
}

func TestRedirectIsNotFollowed(t *testing.T) {
	stranger := newApplication()
	elsewhere := serve(t, stranger.handler(func(http.ResponseWriter, *http.Request) {}))
	app := newApplication()
	var once sync.Once
	server := serve(t, app.handler(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect) })
	}))
	o := newOutbox()
	o.add("p", server.URL)
	impatient(t, Config{}, o)
	eventually(t, o, 1)
	_, failed, _ := o.get()
	require.Equal(t, []string{"p-1: 307 Temporary Redirect"}, failed)
	require.Empty(t, stranger.all())
}

func TestTLSIsVerified(t *testing.T) {
	app := newApplication()
	server := httptest.NewUnstartedServer(app.handler(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	o := newOutbox()
	o.add("p", server.URL+"/?token=hush")
	stop := impatient(t, Config{}, o)
	require.Eventually(t, func() bool {
		_, failed, _ := o.get()
		return len(failed) > 0
	}, 20*time.Second, time.Millisecond)
	stop()
	_, failed, _ := o.get()
	require.Contains(t, failed[0], "certificate")
	require.NotContains(t, failed[0], "hush")
	require.Empty(t, app.all())
	impatient(t, Config{Client: server.Client()}, o)
	eventually(t, o, 1)
}

// TestNobodyThere: a port on which nobody listens.
func TestNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	o := newOutbox()
	o.add("p", "http://user:hush@"+address+"/")
	impatient(t, Config{}, o)
	require.Eventually(t, func() bool {
		_, failed, _ := o.get()
		return len(failed) > 2
	}, 20*time.Second, time.Millisecond)
	_, failed, _ := o.get()
	require.Contains(t, failed[0], "connection refused")
	require.NotContains(t, failed[0], "hush")
}

// TestManyParticipants: everything arrives once, each participant's events in order.
func TestManyParticipants(t *testing.T) {
	app := newApplication()
	server := serve(t, app.handler(func(http.ResponseWriter, *http.Request) {}))
	o := newOutbox()
	stop := impatient(t, Config{}, o)
	const people, each = 20, 10
	for range each {
		for p := range people {
			o.add(fmt.Sprint("p", p), server.URL)
		}
	}
	eventually(t, o, people*each)
	stop()
	next := map[string]int{}
	for _, d := range app.all() {
		var body struct{ N string }
		require.NoError(t, json.Unmarshal(d.body, &body))
		who, n, ok := bytes.Cut([]byte(body.N), []byte("-"))
		require.True(t, ok)
		next[string(who)]++
		require.Equal(t, strconv.Itoa(next[string(who)]), string(n))
	}
	require.Len(t, next, people)
}

func TestSecretHidesItself(t *testing.T) {
	secret := Secret(testSecret)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("config", "config", Config{Secrets: map[string]Secret{"a": secret}}, "secret", secret)
	inJSON, err := json.Marshal(map[string]any{"a": secret})
	require.NoError(t, err)
	for _, shown := range []string{
		log.String(), string(inJSON), fmt.Sprint(secret), fmt.Sprintf("%v %+v %#v %s %q %x", secret, secret, secret, secret, secret, secret),
		fmt.Sprintf("%+v", Config{Secrets: map[string]Secret{"a": secret}}),
	} {
		require.NotContains(t, shown, "MfKQ9r8G")
		require.NotContains(t, shown, fmt.Sprintf("%x", "MfKQ9r8G"))
	}
	require.NoError(t, secret.Validate())
	require.NoError(t, Secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").Validate())
	for _, bad := range []Secret{"", "whsec_", "whsec_%%%", "plain text"} {
		require.Error(t, bad.Validate())
		require.NotContains(t, bad.Validate().Error(), "plain text")
	}
}
