package sfu

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/sessions"
)

// TestFullInbox: what is posted is done in order; a device for which too much waits is ended, and who posts never waits.
func TestFullInbox(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	d := newDevice(&Server{log: slog.New(slog.DiscardHandler)}, sessions.Participant{}, "d", 0)
	d.cancel = cancel
	done := 0
	for n := range inboxLimit {
		d.post(func() {
			require.Equal(t, n, done)
			done++
		})
	}
	require.NoError(t, ctx.Err())
	d.post(func() { t.Error("nobody waits for this") })
	var end *ending
	require.ErrorAs(t, context.Cause(ctx), &end)
	require.ErrorIs(t, end.cause, errSlow)
	<-d.posted
	d.drain()
	require.Equal(t, inboxLimit, done)
}
