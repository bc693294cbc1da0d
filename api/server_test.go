package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
)

// answering is a sessions service whose sessions are what the function says.
type answering struct {
	Sessions

	session func(ctx context.Context) (sessions.Session, error)
}

func (a answering) Session(ctx context.Context, _, _ string) (sessions.Session, error) {
	return a.session(ctx)
}

// get asks for a session of a service that answers so.
func get(t *testing.T, log io.Writer, session func(context.Context) (sessions.Session, error), changes ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	s := New(Config{Accounts: []Account{{ID: "A", Username: "password", PasswordHash: referenceHash}}},
		answering{session: session}, nil, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/accounts/A/sessions/1?token=secret-query", http.NoBody)
	req.SetBasicAuth("password", "password")
	for _, change := range changes {
		change(req)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	return w
}

func TestServiceErrors(t *testing.T) {
	cases := []struct {
		name   string
		err    error
		status int
		body   string
		level  string
	}{
		{"too many", errs.New(errs.TooMany, "at most 5 a second"), 429, `{"error":"at most 5 a second","requestId":"r"}`, "INFO"},
		{"unavailable", errs.New(errs.Unavailable, "try again"), 503, `{"error":"try again","requestId":"r"}`, "WARN"},
		{"wrapped", fmt.Errorf("get: %w", errs.Wrap(errors.New("row 5"), errs.Conflict, "not now")), 409, `{"error":"not now","requestId":"r"}`, "INFO"},
		{"internal", errs.New(errs.Internal, "the key is 123"), 500, `{"error":"internal error","requestId":"r"}`, "ERROR"},
		{"foreign", errors.New("pq: password authentication failed"), 500, `{"error":"internal error","requestId":"r"}`, "ERROR"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var log strings.Builder
			w := get(t, &log, func(context.Context) (sessions.Session, error) { return sessions.Session{}, tc.err },
				func(r *http.Request) { r.Header.Set("X-Request-Id", "r") })
			require.Equal(t, tc.status, w.Code)
			require.JSONEq(t, tc.body, w.Body.String())
			line := map[string]any{}
			require.NoError(t, json.Unmarshal([]byte(log.String()), &line), log.String())
			require.Equal(t, tc.level, line["level"])
			require.Equal(t, "r", line["request"])
			require.Equal(t, tc.err.Error(), line["error"], "the log has all of it")
		})
	}
}

func TestClientThatWentAway(t *testing.T) {
	var log strings.Builder
	w := get(t, &log, func(ctx context.Context) (sessions.Session, error) { return sessions.Session{}, ctx.Err() },
		func(r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			*r = *r.WithContext(ctx)
		})
	require.NotEqual(t, http.StatusOK, w.Code)
	require.NotContains(t, log.String(), "ERROR", "it is no fault of ours")
}

func TestPanicIsAnError(t *testing.T) {
	var log strings.Builder
	w := get(t, &log, func(context.Context) (sessions.Session, error) { panic("secret of ours") },
		func(r *http.Request) { r.Header.Set("X-Request-Id", "r") })
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.JSONEq(t, `{"error":"internal error","requestId":"r"}`, w.Body.String())
	require.Contains(t, log.String(), "secret of ours")
	require.Contains(t, log.String(), "server_test.go", "with its stack")
	require.Contains(t, log.String(), `"status":500`)
}

func TestAbortedHandlerStaysAborted(t *testing.T) {
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		get(t, io.Discard, func(context.Context) (sessions.Session, error) { panic(http.ErrAbortHandler) })
	})
}

func TestRequestID(t *testing.T) {
	for name, tc := range map[string]struct {
		id   string
		kept bool
	}{
		"none":       {"", false},
		"uuid":       {"12af78d1-5f88-4917-925d-17c1ac8fda7a", true},
		"trace":      {"Root=1-67891233:a/b+c_d.e@f", true},
		"longest":    {strings.Repeat("a", maxRequestID), true},
		"too long":   {strings.Repeat("a", maxRequestID+1), false},
		"space":      {"a b", false},
		"quote":      {`a"b`, false},
		"line break": {"a\nb", false},
		"accent":     {"é", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := get(t, io.Discard, func(context.Context) (sessions.Session, error) { return sessions.Session{ID: "1"}, nil },
				func(r *http.Request) { r.Header.Set(requestIDHeader, tc.id) })
			require.Equal(t, http.StatusOK, w.Code)
			got := w.Header().Get(requestIDHeader)
			if tc.kept {
				require.Equal(t, tc.id, got)
				return
			}
			require.Regexp(t, `^[a-z2-7]{26}$`, got)
		})
	}
}

func TestAccessLogHoldsNoSecret(t *testing.T) {
	var log strings.Builder
	ok := func(context.Context) (sessions.Session, error) { return sessions.Session{ID: "1"}, nil }
	get(t, &log, ok)
	get(t, &log, ok, func(r *http.Request) { r.SetBasicAuth("password", "secret-wrong") })
	get(t, &log, ok, func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret-token") })
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.Len(t, lines, 3)
	require.Contains(t, lines[0], `"level":"DEBUG"`)
	require.Contains(t, lines[0], `"path":"/v1/accounts/A/sessions/1"`)
	require.Contains(t, lines[1], `"status":401`)
	require.NotContains(t, log.String(), "secret")
	require.NotContains(t, log.String(), "password\"")
	require.NotContains(t, log.String(), "cGFzc3dvcmQ6", "nor in base64")
}

// Every route is described, and everything that is described is routed.
func TestDescriptionIsComplete(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData([]byte(openapi))
	require.NoError(t, err)
	described := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			base := "/v1"
			if strings.HasPrefix(path, "/admin/") {
				base = ""
			}
			described[method+" "+base+path] = true
		}
	}
	s := New(Config{Operator: &fakeOperator{}}, nil, nil, slog.New(slog.DiscardHandler))
	routed := map[string]bool{}
	for _, r := range s.engine.Routes() {
		if r.Path != "/v1/openapi.yml" {
			routed[r.Method+" "+regexp.MustCompile(`:(\w+)`).ReplaceAllString(r.Path, "{$1}")] = true
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(described)), slices.Sorted(maps.Keys(routed)))
	require.Len(t, routed, 52) // 11 and, on two paths, the 3 of dialogs and our 8; 8 of trunks, 6 of numbers, routes; 4 of /admin
}

func TestAnswerThatCantBeEncoded(t *testing.T) {
	w := httptest.NewRecorder()
	c, _ := gin.CreateTestContext(w)
	c.Request = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	writeJSON(c, http.StatusOK, func() {})
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.JSONEq(t, `{"error":"internal error","requestId":""}`, w.Body.String())
}

func TestBodyThatBreaksOff(t *testing.T) {
	s := New(Config{Accounts: []Account{{ID: "A", Username: "password", PasswordHash: referenceHash}}}, nil, nil, slog.New(slog.DiscardHandler))
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/accounts/A/sessions", iotest.ErrReader(io.ErrUnexpectedEOF))
	req.SetBasicAuth("password", "password")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "body: broke off while it was read")
}

// A body that never comes holds nothing for longer than the limit, whoever sends it.
func TestBodyThatNeverComes(t *testing.T) {
	s := New(Config{
		Accounts:    []Account{{ID: "A", Username: "password", PasswordHash: referenceHash}},
		BodyTimeout: 50 * time.Millisecond,
	}, nil, nil, slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(s)
	defer srv.Close()
	for name, tc := range map[string]struct{ head, want string }{
		"known":        {"Authorization: Basic cGFzc3dvcmQ6cGFzc3dvcmQ=\r\nContent-Length: 10\r\n", "HTTP/1.1 400 "},
		"in chunks":    {"Authorization: Basic cGFzc3dvcmQ6cGFzc3dvcmQ=\r\nTransfer-Encoding: chunked\r\n", "HTTP/1.1 400 "},
		"unknown":      {"Content-Length: 10\r\n", "HTTP/1.1 401 "},
		"unknown path": {"Content-Length: 10\r\nX-Request-Id: r\r\n", "HTTP/1.1 404 "},
	} {
		t.Run(name, func(t *testing.T) {
			path := "/v1/accounts/A/sessions"
			if name == "unknown path" {
				path = "/"
			}
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, tc.head)
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(testTimeout)))
			answer, err := io.ReadAll(conn)
			require.NoError(t, err, "the connection is closed")
			require.True(t, strings.HasPrefix(string(answer), tc.want), string(answer))
		})
	}
}

// deadlines is a connection that keeps the read deadlines that it is given.
type deadlines struct {
	*httptest.ResponseRecorder

	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// A handler may take longer than the body: the limit ends with the body.
func TestBodyLimitEndsWithTheBody(t *testing.T) {
	s := New(Config{Accounts: []Account{{ID: "A", Username: "password", PasswordHash: referenceHash}}},
		sessionsStub{}, nil, slog.New(slog.DiscardHandler))
	ask := func(method, path string, body io.Reader) []time.Time {
		req := httptest.NewRequestWithContext(t.Context(), method, path, body)
		req.SetBasicAuth("password", "password")
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		s.ServeHTTP(w, req)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		return w.set
	}
	set := ask(http.MethodPost, "/v1/accounts/A/sessions", strings.NewReader(`{}`))
	require.Len(t, set, 2)
	require.False(t, set[0].IsZero())
	require.True(t, set[1].IsZero(), "lifted")
	require.Empty(t, ask(http.MethodGet, "/v1/accounts/A/sessions/1", http.NoBody))
}

func TestViewOfInboundDialog(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.FixedZone("CET", 3600))
	raw, err := json.Marshal(viewDialog(dialogs.Dialog{
		ID: "d", Account: "A", Participant: "p", Inbound: true, State: dialogs.Answered, To: "", From: "UNKNOWN",
		Cause: dialogs.Cause{Reason: dialogs.FarEndBusy, Details: "486 Busy Here", SIPCode: 486},
		Hold:  dialogs.Hold{ByFarEnd: true}, Transfer: dialogs.Transfer{To: "+15550105", Mode: dialogs.ModeBridge, ByFarEnd: true},
		Created: at, Answered: at.Add(time.Second), Ended: at.Add(time.Minute),
	}))
	require.NoError(t, err)
	require.JSONEq(t, `{
		"dialogId": "d", "id": "d", "dialogType": "SIP", "type": "SIP", "state": "ANSWERED", "direction": "inbound", "participantId": "p",
		"dialogStateData": {"state": "ANSWERED", "to": "", "from": "UNKNOWN"}, "data": {"to": "", "from": "UNKNOWN"},
		"eventData": {"reason": "FAR END BUSY", "details": "486 Busy Here", "sipCode": 486},
		"hold": {"byUs": false, "byFarEnd": true}, "transfer": {"to": "+15550105", "mode": "bridge", "by": "FAR END"},
		"createdTime": "2026-03-04T04:06:07.008Z", "answeredTime": "2026-03-04T04:06:08.008Z", "endedTime": "2026-03-04T04:07:07.008Z"
	}`, string(raw))
}

func TestClip(t *testing.T) {
	require.Equal(t, "abc", clip("abc", 3))
	require.Equal(t, "ab…", clip("abc", 2))
	require.Equal(t, "é…", clip("éé", 3), "no half characters")
}
