package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tandem/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a gateway on free ports until the test ends.
func start(t *testing.T, change func(*gateway.Config)) (*gateway.App, *http.Client) {
	t.Helper()
	cfg := gateway.Defaults()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.SIP.Listen = []string{"udp://127.0.0.1:0"}
	cfg.Media.WebRTCUDP, cfg.Media.WebRTCTCP = 0, 0
	cfg.Database.URL = gateway.Secret("sqlite:" + filepath.Join(t.TempDir(), "tandem.db"))
	cfg.Accounts = []gateway.AccountConfig{{ID: "9900000", Username: "api-user", Password: "api-pass"}}
	change(&cfg)
	require.NoError(t, cfg.Check())
	app, err := gateway.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	client := &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool {
		status, _, _ := get(t, client, app.URL()+"/readyz")
		return status == http.StatusOK
	}, 10*time.Second, 5*time.Millisecond)
	return app, client
}

func get(t *testing.T, client *http.Client, url string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	req.SetBasicAuth("api-user", "api-pass")
	resp, err := client.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, resp.Header, string(body)
}

// TestEveryPathAnswersInOurWords: an id that is empty by mistake, or a path that is not there, is no redirect and no
// page of text.
func TestEveryPathAnswersInOurWords(t *testing.T) {
	app, client := start(t, func(*gateway.Config) {})
	for _, path := range []string{
		"/v1/accounts/9900000/participants//dialogs", "/v1/accounts/9900000//sessions", "/v1/../v1/x", "/nothing", "/",
	} {
		status, header, body := get(t, client, app.URL()+path)
		require.Equal(t, http.StatusNotFound, status, path)
		require.NotEmpty(t, header.Get("X-Request-Id"), path)
		var answer struct{ Error, RequestID string }
		require.NoError(t, json.Unmarshal([]byte(body), &answer), "%s: %s", path, body)
		require.NotEmpty(t, answer.Error)
		require.Equal(t, header.Get("X-Request-Id"), answer.RequestID)
	}
	status, _, body := get(t, client, app.URL()+"/metrics")
	require.Equal(t, http.StatusOK, status)
	for _, value := range []string{
		"tandem_dialogs_live", `tandem_voice_dropped_total{why="order"}`, `tandem_voice_dropped_total{why="late"}`,
		"tandem_voice_overflow_seconds_total", "tandem_browser_packets_decoded_total",
	} {
		require.Contains(t, body, "\n"+value+" 0\n")
	}
}

// TestDeviceSocket takes a device with and without the slash after v3.
func TestDeviceSocket(t *testing.T) {
	app, _ := start(t, func(*gateway.Config) {})
	for _, path := range []string{"/v3", "/v3/"} {
		socket, resp, err := websocket.Dial(t.Context(), app.DeviceURL()+path+"?token=x&uniqueId=u", nil)
		require.NoError(t, err, path)
		if resp.Body != nil {
			require.NoError(t, resp.Body.Close())
		}
		_, text, err := socket.Read(t.Context())
		require.NoError(t, err)
		require.Contains(t, string(text), `"error"`)
		_, _, err = socket.Read(t.Context())
		require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err), "a bad token is told to stay away")
	}
}

// TestDemoCleansUp runs the demo twice on one database.
func TestDemoCleansUp(t *testing.T) {
	database := gateway.Secret("sqlite:" + filepath.Join(t.TempDir(), "tandem.db"))
	demo := func(cfg *gateway.Config) {
		cfg.Demo = true
		cfg.Database.URL = database
	}
	var phone string
	t.Run("first", func(t *testing.T) {
		app, client := start(t, demo)
		phone = app.DemoPhone()
		status, _, body := get(t, client, app.URL()+"/")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, strings.ToLower(body), "<!doctype html>")
	})
	t.Run("second", func(t *testing.T) {
		app, client := start(t, demo)
		status, _, _ := get(t, client, app.URL()+"/v1/accounts/9900000/participants/"+phone)
		require.Equal(t, http.StatusNotFound, status, "the first run's phone is gone")
		status, _, _ = get(t, client, app.URL()+"/v1/accounts/9900000/participants/"+app.DemoPhone())
		require.Equal(t, http.StatusOK, status)
	})
}

// TestMemoryIsWatched: what decides when memory goes back to the system is tested by itself; here that it is at work.
func TestMemoryIsWatched(t *testing.T) {
	start(t, func(*gateway.Config) {})
	var goroutines strings.Builder
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&goroutines, 1))
	require.Contains(t, goroutines.String(), "tandem/gateway.giveBack")
}
