package dialogs_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
)

// TestDatabaseAway takes the database away before each write of a call, for short and for long, and loses the answer
// of each: the call goes on, and its events come in order, each once.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	const words = "CALLING, RINGING, ANSWERED, onConnect, TERMINATED, onLeave"
	for name, failure := range map[string][2]int{"once": {1, 0}, "for a while": {7, 0}, "its answer is lost": {0, 1}, "its answers are lost": {0, 3}} {
		for step := range 4 {
			t.Run(name+" before "+string(dialogs.States()[step+1]), func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, h *house) {
					ref, l := h.dial(t)
					for i, kind := range []dialogs.LegEventKind{dialogs.LegCalling, dialogs.LegRinging, dialogs.LegAnswered, dialogs.LegEnded} {
						synctest.Wait()
						if i == step {
							h.db.set(failure[0], failure[1])
						}
						if kind == dialogs.LegEnded {
							l.end(byeBye())
						} else {
							l.happens(kind)
						}
					}
					time.Sleep(time.Minute)
					h.settle(t, ref.Participant, words)
					d, err := h.Get(t.Context(), ref)
					require.NoError(t, err)
					require.Equal(t, dialogs.Terminated, d.State)
					require.False(t, d.Answered.IsZero())
					require.Zero(t, h.Live())
				})
			})
		}
	}
}

// TestAnswersWithoutDatabase ends a call by the application while nothing can be saved: it is ended at once.
func TestAnswersWithoutDatabase(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l, words := reach(t, h, dialogs.Ringing)
		h.db.set(5, 0)
		h.patch(t, ref, dialogs.Terminated)
		require.Len(t, l.hangups, 1)
		h.settle(t, ref.Participant, "CALLING, RINGING")
		d, err := h.Get(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, dialogs.Ringing, d.State, "it is not saved yet")
		_, err = h.Update(t.Context(), ref, dialogs.Terminated)
		requireCode(t, errs.Conflict, err, "TERMINATED")
		time.Sleep(time.Minute)
		h.settle(t, ref.Participant, words+"TERMINATED")
	})
}

// TestDatabaseGone gives up to save the end of a call after a long time. The next start reports it.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l, words := reach(t, h, dialogs.Answered)
		h.db.set(1000, 0)
		l.end(byeBye())
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, h.Live(), "nothing is kept for ever")
		require.LessOrEqual(t, h.db.tried(), 60)
		h.db.set(0, 0)
		h.settle(t, ref.Participant, "CALLING, RINGING, ANSWERED, onConnect")
		require.NoError(t, h.Recover(t.Context()))
		h.settle(t, ref.Participant, words+"TERMINATED, onDisconnect")
	})
}

// TestCreateInDoubt loses the answer of the database to the first row of a call: the application hears an error, and
// the participant is not left with a call that nobody makes.
func TestCreateInDoubt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		p, _ := h.participant(t)
		h.db.set(0, 1)
		_, err := h.Create(t.Context(), dialogs.Create{Account: account, Participant: p, To: number, From: dialogs.FromUnknown})
		requireCode(t, errs.Unavailable, err, "the database is away")
		h.settle(t, p, "TERMINATED")
		require.Empty(t, h.phone.legs, "nothing was dialled")
		require.Zero(t, h.Live())
		h.dialAs(t, p)
	})
}

// TestStopWithoutDatabase stops the gateway while nothing can be saved: it does not hang.
func TestStopWithoutDatabase(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, _, words := reach(t, h, dialogs.Answered)
		over, l, _ := reach(t, h, dialogs.Ringing)
		h.db.set(1000, 0)
		l.end(busy()) // this one tries already
		synctest.Wait()
		began := time.Now()
		h.stop()
		require.NoError(t, <-h.done)
		h.done <- nil // for close
		require.LessOrEqual(t, time.Since(began), 5*time.Second)
		h.db.set(0, 0)
		require.NoError(t, h.Recover(t.Context())) // the next start
		h.settle(t, ref.Participant, words+"TERMINATED, onDisconnect")
		h.settle(t, over.Participant, "CALLING, RINGING, TERMINATED")
	})
}
