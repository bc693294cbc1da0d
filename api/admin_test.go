package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// fakeOperator has one ban.
type fakeOperator struct {
	pardoned netip.Addr
	drained  *time.Duration
	until    time.Time
}

func (f *fakeOperator) Bans() []Ban {
	return []Ban{{Address: "192.0.2.1", Reason: "refused calls", Dropped: 3}}
}

func (f *fakeOperator) Pardon(addr netip.Addr) bool {
	f.pardoned = addr
	return addr == netip.MustParseAddr("192.0.2.1")
}

func (f *fakeOperator) Drain(patience *time.Duration) {
	f.drained, f.until = patience, time.Unix(1000, 0)
}

func (f *fakeOperator) Draining() (time.Time, bool) { return f.until, !f.until.IsZero() }

func (f *fakeOperator) Calls() int { return 2 }

func adminRequest(s *Server, method, path, body string, edit func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:4711", "127.0.0.1:8080"
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestAdminIsForThisMachine(t *testing.T) {
	s := New(Config{Operator: &fakeOperator{}}, nil, nil, slog.New(slog.DiscardHandler))
	for name, c := range map[string]struct {
		edit func(*http.Request)
		want int
	}{
		"loopback":      {nil, 200},
		"localhost":     {func(r *http.Request) { r.Host = "localhost:8080" }, 200},
		"IPv6":          {func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:4711", "[::1]:8080" }, 200},
		"own page":      {func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:8080") }, 200},
		"elsewhere":     {func(r *http.Request) { r.RemoteAddr = "192.0.2.1:4711" }, 403},
		"proxy":         {func(r *http.Request) { r.Header.Set("X-Forwarded-For", "127.0.0.1") }, 403},
		"proxy too":     {func(r *http.Request) { r.Header.Set("Forwarded", "for=127.0.0.1") }, 403},
		"rebound name":  {func(r *http.Request) { r.Host = "evil.example.com:8080" }, 403},
		"another page":  {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.com") }, 403},
		"hidden page":   {func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		"another site":  {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"another port":  {func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:9999") }, 403},
		"unknown peer":  {func(r *http.Request) { r.RemoteAddr = "" }, 403},
		"hop by a Via":  {func(r *http.Request) { r.Header.Set("Via", "1.1 proxy") }, 403},
		"a proxy's own": {func(r *http.Request) { r.Header.Set("X-Real-IP", "192.0.2.1") }, 403},
	} {
		require.Equal(t, c.want, adminRequest(s, "GET", "/admin/bans", "", c.edit).Code, name)
	}
	require.Equal(t, 404, adminRequest(New(Config{}, nil, nil, slog.New(slog.DiscardHandler)), "GET", "/admin/bans", "", nil).Code, "nobody operates it")
}

func TestAdminPassword(t *testing.T) {
	hash, err := HashPassword("open sesame")
	require.NoError(t, err)
	s := New(Config{Operator: &fakeOperator{}, Admin: Account{ID: "admin", Username: "root", PasswordHash: hash}}, nil, nil, slog.New(slog.DiscardHandler))
	remote := func(user, password string) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr, r.Host = "192.0.2.1:4711", "gateway.example.com"
			r.SetBasicAuth(user, password)
		}
	}
	require.Equal(t, 200, adminRequest(s, "GET", "/admin/bans", "", remote("root", "open sesame")).Code)
	require.Equal(t, 401, adminRequest(s, "GET", "/admin/bans", "", remote("root", "guess")).Code)
	require.Equal(t, 401, adminRequest(s, "GET", "/admin/bans", "", remote("admin", "open sesame")).Code)
	require.Equal(t, 401, adminRequest(s, "GET", "/admin/bans", "", nil).Code, "this machine needs the password too")
	require.Equal(t, 403, adminRequest(s, "POST", "/admin/drain", "", func(r *http.Request) {
		remote("root", "open sesame")(r)
		r.Header.Set("Origin", "https://evil.example.com")
	}).Code, "a browser that knows the password sends it for any page")
}

func TestBans(t *testing.T) {
	o := &fakeOperator{}
	s := New(Config{Operator: o}, nil, nil, slog.New(slog.DiscardHandler))
	w := adminRequest(s, "GET", "/admin/bans", "", nil)
	describes(t, "GET", "/admin/bans", w)
	require.JSONEq(t, `[{"address":"192.0.2.1","reason":"refused calls","since":"0001-01-01T00:00:00Z","until":"0001-01-01T00:00:00Z","dropped":3}]`, w.Body.String())
	require.Equal(t, 204, adminRequest(s, "DELETE", "/admin/bans/192.0.2.1", "", nil).Code)
	require.Equal(t, "192.0.2.1", o.pardoned.String())
	require.Equal(t, 404, adminRequest(s, "DELETE", "/admin/bans/192.0.2.2", "", nil).Code)
	require.Equal(t, 400, adminRequest(s, "DELETE", "/admin/bans/everyone", "", nil).Code)
}

func TestDrain(t *testing.T) {
	o := &fakeOperator{}
	s := New(Config{Operator: o}, nil, nil, slog.New(slog.DiscardHandler))
	w := adminRequest(s, "GET", "/admin/drain", "", nil)
	describes(t, "GET", "/admin/drain", w)
	require.JSONEq(t, `{"draining":false,"calls":2}`, w.Body.String())
	for _, wrong := range []string{`{"deadline":"soon"}`, `{"deadline":"-1s"}`, `{"deadline":5}`, `[]`} {
		require.Equal(t, 400, adminRequest(s, "POST", "/admin/drain", wrong, nil).Code, wrong)
		require.True(t, o.until.IsZero())
	}
	require.Equal(t, 202, adminRequest(s, "POST", "/admin/drain", "", nil).Code)
	require.Nil(t, o.drained, "the configured deadline")
	w = adminRequest(s, "POST", "/admin/drain", `{"deadline":"10m"}`, nil)
	require.Equal(t, 202, w.Code)
	describes(t, "POST", "/admin/drain", w)
	require.Equal(t, 10*time.Minute, *o.drained)
	require.Contains(t, w.Body.String(), `"draining":true`)
}

// describes holds an answer of /admin against the description, which keeps these paths outside /v1.
func describes(t *testing.T, method, path string, w *httptest.ResponseRecorder) {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(openapi))
	require.NoError(t, err)
	item := doc.Paths.Find(path)
	require.NotNil(t, item, "%s is not described", path)
	require.Equal(t, "/", item.Servers[0].URL)
	operation := item.GetOperation(method)
	require.NotNil(t, operation, "%s %s is not described", method, path)
	response := operation.Responses.Status(w.Code)
	require.NotNil(t, response, "%d is not described", w.Code)
	var body any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	require.NoError(t, response.Value.Content.Get("application/json").Schema.Value.VisitJSON(body))
}
