package browser_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
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
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.knocks.Add(1)
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
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
			d := newDoor(t, g)
			require.NoError(t, chromium.Page(t).StartConnect(bad, d.url))
			require.Eventually(t, func() bool { return d.knocks.Load() == 1 }, patience, 10*time.Millisecond)
			require.Never(t, func() bool { return d.knocks.Load() != 1 }, reconnects, 50*time.Millisecond)
		})
	}
	t.Run("a participant that is deleted while it is connected", func(t *testing.T) {
		d := newDoor(t, g)
		require.NoError(t, chromium.Page(t).Connect(token, d.url))
		g.Must(t, http.MethodDelete, "/participants/"+id, nil)
		require.Never(t, func() bool { return d.knocks.Load() != 1 }, reconnects, 50*time.Millisecond)
	})
	t.Run("control: a plain refusal is knocked at again", func(t *testing.T) {
		d := newDoor(t, nil)
		require.NoError(t, chromium.Page(t).StartConnect(token, d.url))
		require.Eventually(t, func() bool { return d.knocks.Load() >= 3 }, patience, 10*time.Millisecond)
	})
}
