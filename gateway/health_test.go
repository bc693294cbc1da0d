package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHealthIsFoundOutOnceASecond, however many ask; who is slow to answer counts as away.
func TestHealthIsFoundOutOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var is error
		h := &health{alive: func(context.Context) error { asked++; return is }}
		for range 100 {
			require.NoError(t, h.check(t.Context()))
		}
		is = errors.New("away")
		require.NoError(t, h.check(t.Context()))
		time.Sleep(healthFor)
		require.ErrorIs(t, h.check(t.Context()), is)
		require.Equal(t, 2, asked)

		h.alive = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		time.Sleep(healthFor)
		require.ErrorIs(t, h.check(t.Context()), context.DeadlineExceeded)
	})
}

// TestNotReadyWithoutItsDatabase: who asks whether calls may come is told no as soon as none could be saved.
func TestNotReadyWithoutItsDatabase(t *testing.T) {
	cfg := Defaults()
	cfg.HTTP.Listen, cfg.SIP.Listen = "127.0.0.1:0", []string{"udp://127.0.0.1:0"}
	cfg.Media.WebRTCUDP, cfg.Media.WebRTCTCP = 0, 0
	cfg.Database.URL = Secret("sqlite:" + filepath.Join(t.TempDir(), "tandem.db"))
	a, err := New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a.phase.Store(ready)
	readyz := func() (int, string) {
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", http.NoBody))
		return w.Code, w.Body.String()
	}
	code, body := readyz()
	require.Equal(t, []any{http.StatusOK, "ready\n"}, []any{code, body})
	require.NoError(t, a.sipConfig().Health(t.Context()))
	require.NoError(t, a.db.Close())
	a.health.asked = time.Time{}
	code, body = readyz()
	require.Equal(t, []any{http.StatusServiceUnavailable, "the database cannot be reached\n"}, []any{code, body})
	require.Error(t, a.sipConfig().Health(t.Context()), "and so is who sends OPTIONS")
	_ = a.Close() // its database is closed already
}
