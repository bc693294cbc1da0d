// Package harness starts whole gateways for tests and speaks to them as an application does.
package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/test/testlog"
)

// The one account of a test gateway.
const (
	Account  = "9900000"
	User     = "api-user"
	Password = "api-pass"
	// CallbackSecret signs the callbacks.
	CallbackSecret = "whsec_dGVzdC1jYWxsYmFjay1zZWNyZXQtZm9yLXRhbmRlbQ=="
)

// Patience bounds every wait for something that must happen.
const Patience = 20 * time.Second

// Gateway is a running gateway with its own database and free ports.
type Gateway struct {
	App    *gateway.App // nil: it runs in a process of its own
	URL    string       // of REST, without a slash at the end
	sip    []string     // the SIP listeners, as URIs
	client *http.Client
	stop   func()
	log    *kept
}

// Logged is what the gateway has logged so far, at every level. It is empty for one in a process of its own.
func (g *Gateway) Logged() string { return g.log.String() }

// kept is a text that goroutines write to. Nil is empty.
type kept struct {
	mu   sync.Mutex
	text strings.Builder
}

func (k *kept) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.Write(p)
}

func (k *kept) String() string {
	if k == nil {
		return ""
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String()
}

// Config is a configuration for a test: free loopback ports, a database file of its own, one account.
func Config(tb testing.TB) gateway.Config {
	tb.Helper()
	cfg := gateway.Defaults()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.SIP.Listen = []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0"}
	cfg.Media.WebRTCUDP, cfg.Media.WebRTCTCP = 0, 0
	cfg.Database.URL = gateway.Secret("sqlite:" + filepath.Join(tb.TempDir(), "tandem.db"))
	cfg.Accounts = []gateway.AccountConfig{{
		ID: Account, Username: User, Password: Password, CallbackSecret: CallbackSecret,
	}}
	return cfg
}

// Trunk is a trunk of the test account to a far end at uri, which may also call in from loopback.
func Trunk(name, uri string) gateway.TrunkConfig {
	return gateway.TrunkConfig{Name: name, Account: Account, URI: uri, Allow: []string{"127.0.0.1/32"}}
}

// Start runs a gateway until the test ends.
func Start(tb testing.TB, cfg gateway.Config) *Gateway {
	tb.Helper()
	ShowRaces(tb)
	require.NoError(tb, cfg.Check())
	ctx, cancel := context.WithCancel(context.Background())
	logged := &kept{}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(testlog.Writer(tb), logged), &slog.HandlerOptions{Level: slog.LevelDebug}))
	app, err := gateway.New(ctx, cfg, log)
	if err != nil {
		cancel()
	}
	require.NoError(tb, err)
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	g := &Gateway{App: app, URL: app.URL(), sip: app.SIPAddrs(), client: newClient(), log: logged}
	stopped := false
	g.stop = func() {
		if stopped {
			return
		}
		stopped = true
		g.client.CloseIdleConnections()
		cancel()
		require.NoError(tb, <-done)
	}
	tb.Cleanup(g.stop)
	require.Eventually(tb, g.ready, Patience, 5*time.Millisecond)
	return g
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{}, Timeout: Patience}
}

func (g *Gateway) ready() bool {
	resp, err := g.client.Get(g.URL + "/readyz")
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode == http.StatusOK
}

// Stop ends the gateway now.
func (g *Gateway) Stop() { g.stop() }

// SIPAddr is host:port of the listener for a transport, udp or tcp.
func (g *Gateway) SIPAddr(tb testing.TB, transport string) string {
	tb.Helper()
	for _, a := range g.sip {
		if u, err := url.Parse(a); err == nil && u.Scheme == transport {
			return u.Host
		}
	}
	require.FailNow(tb, "no such SIP listener", transport)
	return ""
}

// Log writes to the test's own log.
func Log(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testlog.Writer(tb), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Object is a JSON object of the API.
type Object map[string]any

// Text returns the string at a path of keys, or "".
func (o Object) Text(keys ...string) string {
	var at any = map[string]any(o)
	for _, k := range keys {
		m, _ := at.(map[string]any)
		at = m[k]
	}
	s, _ := at.(string)
	return s
}

// Do sends a request below the account's path and returns status and body.
func (g *Gateway) Do(tb testing.TB, method, path string, body any) (int, []byte) {
	tb.Helper()
	status, text, err := g.Try(method, path, body)
	require.NoError(tb, err)
	return status, text
}

// Try is Do where the gateway may be gone: an error means that there was no whole answer.
func (g *Gateway) Try(method, path string, body any) (int, []byte, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, g.URL+"/v1/accounts/"+Account+path, reader)
	if err != nil {
		return 0, nil, err
	}
	req.SetBasicAuth(User, Password)
	resp, err := g.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// Must sends a request that has to succeed and returns the object that it answers.
func (g *Gateway) Must(tb testing.TB, method, path string, body any) Object {
	tb.Helper()
	status, text := g.Do(tb, method, path, body)
	require.Less(tb, status, 300, "%s %s: %s", method, path, text)
	if len(text) == 0 {
		return nil
	}
	var o Object
	require.NoError(tb, json.Unmarshal(text, &o), "%s", text)
	return o
}

// Session creates a session.
func (g *Gateway) Session(tb testing.TB) string {
	tb.Helper()
	return g.Must(tb, http.MethodPost, "/sessions", Object{"tag": "test"}).Text("id")
}

// Participant creates a participant that may publish audio and video, and returns its id and token.
func (g *Gateway) Participant(tb testing.TB, callbackURL string) (id, token string) {
	tb.Helper()
	body := Object{"publishPermissions": []string{"AUDIO", "VIDEO"}, "tag": tag(tb)}
	if callbackURL != "" {
		body["callbackUrl"] = callbackURL
	}
	o := g.Must(tb, http.MethodPost, "/participants", body)
	return o.Text("participant", "id"), o.Text("token")
}

func tag(tb testing.TB) string {
	name := []rune(tb.Name())
	return string(name[max(0, len(name)-50):])
}

// Join puts a participant into a session; it hears those whom it names, or everybody.
func (g *Gateway) Join(tb testing.TB, session, participant string, hears ...string) {
	tb.Helper()
	g.Must(tb, http.MethodPut, "/sessions/"+session+"/participants/"+participant, Subscribe(session, hears...))
}

// Hear replaces a participant's subscriptions.
func (g *Gateway) Hear(tb testing.TB, session, participant string, hears ...string) {
	tb.Helper()
	g.Must(tb, http.MethodPut, "/sessions/"+session+"/participants/"+participant+"/subscriptions", Subscribe(session, hears...))
}

// Subscribe is a subscriptions body: to those who are named, or to the whole session.
func Subscribe(session string, hears ...string) Object {
	list := []Object{}
	for _, p := range hears {
		list = append(list, Object{"participantId": p})
	}
	return Object{"sessionId": session, "participants": list}
}

// Call posts a dialog and returns its id.
func (g *Gateway) Call(tb testing.TB, participant, to string, more ...Object) string {
	tb.Helper()
	o := g.Must(tb, http.MethodPost, "/participants/"+participant+"/dialogs", Dial(to, more...))
	require.Equal(tb, "NEW", o.Text("state"))
	return o.Text("dialogId")
}

// Dial is the body of a dialog to a number.
func Dial(to string, more ...Object) Object {
	data := Object{"to": to, "from": "+15550199"}
	for _, m := range more {
		maps.Copy(data, m)
	}
	return Object{"dialogType": "SIP", "dialogStateData": data}
}

// DialogState returns a dialog's state of this moment.
func (g *Gateway) DialogState(tb testing.TB, participant, dialog string) string {
	tb.Helper()
	return g.Must(tb, http.MethodGet, "/participants/"+participant+"/dialogs/"+dialog, nil).Text("state")
}

// WaitState waits until a dialog has a state.
func (g *Gateway) WaitState(tb testing.TB, participant, dialog, state string) {
	tb.Helper()
	var last string
	require.Eventually(tb, func() bool {
		last = g.DialogState(tb, participant, dialog)
		return last == state
	}, Patience, 20*time.Millisecond, "the dialog never became %s", state)
}

// HangUp sets a dialog to TERMINATED.
func (g *Gateway) HangUp(tb testing.TB, participant, dialog string) {
	tb.Helper()
	o := g.Must(tb, http.MethodPatch, "/participants/"+participant+"/dialogs/"+dialog, Object{"state": "TERMINATED"})
	require.Equal(tb, "TERMINATED", o.Text("state"))
}

// DeviceURL is where a device with this token connects, as the published SDK does.
func (g *Gateway) DeviceURL(token, uniqueID string) string {
	return fmt.Sprintf("%s/v3/?token=%s&client=browser&sdkVersion=test&uniqueId=%s",
		"ws"+strings.TrimPrefix(g.URL, "http"), token, uniqueID)
}

// Get returns the body of a page outside the account's path.
func (g *Gateway) Get(tb testing.TB, path string) string {
	tb.Helper()
	resp, err := g.client.Get(g.URL + path)
	require.NoError(tb, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(tb, http.StatusOK, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(tb, err)
	return string(body)
}

// LastDialog is the id of a participant's newest dialog.
func (g *Gateway) LastDialog(tb testing.TB, participant string) string {
	tb.Helper()
	_, text := g.Do(tb, http.MethodGet, "/participants/"+participant+"/dialogs", nil)
	var all []Object
	require.NoError(tb, json.Unmarshal(text, &all))
	require.NotEmpty(tb, all)
	return all[len(all)-1].Text("dialogId")
}
