package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tandem/api"
	"tandem/dialogs"
	"tandem/sessions"
	"tandem/store"
	"tandem/trunks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	home    = "/v1/accounts/9900000"
	abroad  = "/v1/accounts/9900001"
	someone = "00000000-0000-4000-8000-000000000000" // an id that nothing has
)

// world is the API over the real services, served on a socket, with a description that every answer must keep to.
type world struct {
	*testing.T

	url       string
	client    *http.Client
	contract  routers.Router
	logged    *logBook
	book      *trunks.Book
	directory *trunks.Service
}

// logBook keeps what is logged.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// hash is of "api-pass", with the least memory.
const hash = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$Jh3K/0cjeKx8rNL/ObgWc3Xz/+y+i4TUKeNHt8AxvVw"

func newWorld(t *testing.T) *world {
	t.Helper()
	logged := &logBook{}
	log := slog.New(slog.NewJSONHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	db := newMemory()
	people := sessions.New(sessions.Config{}, db, sessions.NewSigner([]byte(strings.Repeat("k", 32)), time.Hour), log)
	record, err := store.Open(t.Context(), "sqlite::memory:", nil, log)
	require.NoError(t, err)
	book := trunks.NewBook()
	directory := trunks.NewService(book, record, log)
	require.NoError(t, directory.Seed(t.Context(), []trunks.Trunk{
		{Name: "carrier", Account: "9900000", URI: "sip:192.0.2.1"}, {Name: "gateway", Account: "9900001", URI: "sip:192.0.2.2"},
	}, nil, []trunks.Account{
		{ID: "9900000", MaxCalls: 100}, {ID: "9900001", MaxTrunks: 2, MaxNumbers: 1, AllowedPrefixes: []string{"+"}},
	}))
	calls := dialogs.New(dialogs.Config{Routes: book}, people, phone{}, nil, db, log)

	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = calls.Run(ctx)
	}()
	srv := httptest.NewUnstartedServer(nil)
	url := "http://" + srv.Listener.Addr().String()
	srv.Config.Handler = api.New(api.Config{
		Accounts: []api.Account{
			{ID: "9900000", Username: "api-user", PasswordHash: hash},
			{ID: "9900001", Username: "neighbour", PasswordHash: hash},
		},
		PublicURL:  url + "/",
		Trunks:     directory,
		ICEServers: []api.ICEServer{{URLs: []string{"turn:turn.example.com"}, Username: "u", Credential: "c"}},
	}, people, calls, log)
	srv.Start()
	t.Cleanup(func() {
		srv.Close()
		stop()
		<-stopped
		require.NoError(t, record.Close())
	})

	w := &world{T: t, url: url, client: srv.Client(), logged: logged, book: book, directory: directory}
	w.contract = w.readContract()
	return w
}

// readContract fetches the description as a client would.
func (w *world) readContract() routers.Router {
	w.Helper()
	res, err := w.client.Get(w.url + "/v1/openapi.yml")
	require.NoError(w, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(w, http.StatusOK, res.StatusCode)
	require.Equal(w, "application/yaml", res.Header.Get("Content-Type"))
	raw, err := io.ReadAll(res.Body)
	require.NoError(w, err)
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	require.NoError(w, err)
	require.NoError(w, doc.Validate(w.Context()))
	require.Equal(w, w.url+"/v1", doc.Servers[0].URL)
	router, err := legacy.NewRouter(doc)
	require.NoError(w, err)
	return router
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// field returns a field of the answer's JSON by its path, such as "participant.id"; nil when it is not there.
func (a answer) field(t testing.TB, path string) any {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(a.body), &v), a.body)
	for name := range strings.SplitSeq(path, ".") {
		fields, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = fields[name]
	}
	return v
}

// as changes a request before it is sent.
type as func(*http.Request)

func neighbour(r *http.Request)     { r.SetBasicAuth("neighbour", "api-pass") }
func nobody(r *http.Request)        { r.Header.Del("Authorization") }
func wrongPassword(r *http.Request) { r.SetBasicAuth("api-user", "wrong") }

// do sends a request and holds its answer against the contract; where the answer is a good one, the request too.
func (w *world) do(method, path, body string, changes ...as) answer {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, w.url+path, strings.NewReader(body))
	require.NoError(w, err)
	req.SetBasicAuth("api-user", "api-pass")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, change := range changes {
		change(req)
	}
	res, err := w.client.Do(req)
	require.NoError(w, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(w, err)
	require.NotEmpty(w, res.Header.Get("X-Request-Id"))
	if len(raw) > 0 {
		require.Equal(w, "application/json; charset=utf-8", res.Header.Get("Content-Type"))
	}
	w.check(req, body, res, raw)
	return answer{status: res.StatusCode, header: res.Header, body: strings.TrimSpace(string(raw))}
}

// check holds one exchange against the description. What it doesn't describe must be 404 or 405.
func (w *world) check(req *http.Request, body string, res *http.Response, raw []byte) {
	w.Helper()
	again, err := http.NewRequestWithContext(w.Context(), req.Method, req.URL.String(), strings.NewReader(body))
	require.NoError(w, err)
	again.Header = req.Header.Clone()
	route, params, err := w.contract.FindRoute(again)
	if err != nil || strings.HasSuffix(req.URL.Path, "/") { // its router takes both forms
		require.Contains(w, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, res.StatusCode, err)
		return
	}
	options := &openapi3filter.Options{
		AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
		IncludeResponseStatus: true,
	}
	asked := &openapi3filter.RequestValidationInput{Request: again, PathParams: params, Route: route, Options: options}
	if res.StatusCode < http.StatusBadRequest && req.Header.Get("X-Odd") == "" {
		require.NoError(w, openapi3filter.ValidateRequest(w.Context(), asked), "%s %s %s", req.Method, req.URL, body)
	}
	require.NoError(w, openapi3filter.ValidateResponse(w.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: asked, Status: res.StatusCode, Header: res.Header,
		Body: io.NopCloser(bytes.NewReader(raw)), Options: options,
	}), "%s %s: %d %s", req.Method, req.URL, res.StatusCode, raw)
}

// odd marks a request that is let through although the description does not promise it.
func odd(r *http.Request) { r.Header.Set("X-Odd", "yes") }

// participant and session make one and return its id.
func (w *world) participant(changes ...as) string {
	return w.made("/participants", "participant.id", changes)
}
func (w *world) session(changes ...as) string { return w.made("/sessions", "id", changes) }

func (w *world) made(path, field string, changes []as) string {
	w.Helper()
	base := home
	if len(changes) > 0 {
		base = abroad
	}
	got := w.do(http.MethodPost, base+path, "{}", changes...)
	require.Equal(w, http.StatusOK, got.status, got.body)
	id, ok := got.field(w, field).(string)
	require.True(w, ok, got.body)
	return id
}

// join puts a participant into a session.
func (w *world) join(session, participant string) {
	w.Helper()
	got := w.do(http.MethodPut, home+"/sessions/"+session+"/participants/"+participant, "")
	require.Equal(w, http.StatusNoContent, got.status, got.body)
}

// call places a call and returns the dialog's id.
func (w *world) call(participant string) string {
	w.Helper()
	got := w.do(http.MethodPost, home+"/participants/"+participant+"/dialogs", goodCall)
	require.Equal(w, http.StatusOK, got.status, got.body)
	id, ok := got.field(w, "dialogId").(string)
	require.True(w, ok, got.body)
	return id
}

const goodCall = `{"dialogType":"SIP","dialogStateData":{"to":"+15550101234","from":"+15550100100"}}`
