package sfu

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// TestPanicInASocketEndsItsDevice: what a message sets off in the reader ends the device and its socket, and nothing else.
func TestPanicInASocketEndsItsDevice(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	d := &Device{log: slog.New(slog.DiscardHandler), cancel: cancel, messages: make(chan incoming)}
	close(d.messages) // whoever sends there panics
	over := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		conn, err := websocket.Accept(w, r, nil)
		if err == nil {
			d.listen(context.WithoutCancel(ctx), newSocket(conn, time.Hour, time.Hour))
		}
	}))
	defer web.Close()
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), nil) //nolint:bodyclose // the WebSocket has it
	require.NoError(t, err)
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(`{}`)))
	_, _, err = conn.Read(t.Context())
	require.Error(t, err, "it was closed")
	<-over
	require.ErrorContains(t, context.Cause(ctx), "panic")
	require.NoError(t, conn.CloseNow())
}
