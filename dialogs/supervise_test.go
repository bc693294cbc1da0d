package dialogs_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
)

// failed requires that so many failures of a call are logged, with the stack of function.
func (h *house) failed(t *testing.T, ref dialogs.Ref, times int, function string) {
	t.Helper()
	count := 0
	for line := range strings.Lines(h.log.text()) {
		if strings.Contains(line, "level=ERROR") && strings.Contains(line, "dialog="+ref.Dialog) && strings.Contains(line, "panic=injected") {
			require.Contains(t, line, "stack=")
			require.Contains(t, line, function+"(")
			count++
		}
	}
	require.Equal(t, times, count)
}

// TestPanicEndsOneCall lets one of two calls fail, in its goroutine and in its media: it ends with one terminal event,
// and the other goes on.
func TestPanicEndsOneCall(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*house, string){
		"goroutine": func(h *house, id string) { h.Break(id) },
		"media":     func(h *house, id string) { h.BreakMedia(id) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *house) {
				ref, l, words := reach(t, h, dialogs.Answered)
				other, survivor, _ := reach(t, h, dialogs.Answered)
				fail(h, ref.Dialog)
				synctest.Wait()
				h.settle(t, ref.Participant, words+"TERMINATED, onDisconnect")
				d, err := h.Get(t.Context(), ref)
				require.NoError(t, err)
				require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: "internal error"}, d.Cause)
				require.Len(t, l.hangups, 1, "the far end is told")
				if name == "goroutine" { // what fails in the media is logged there
					h.failed(t, ref, 1, "tandem/dialogs.fails")
				}

				d, err = h.Get(t.Context(), other)
				require.NoError(t, err)
				require.Equal(t, dialogs.Answered, d.State)
				survivor.end(byeBye())
				synctest.Wait()
				h.settle(t, other.Participant, words+"TERMINATED, onLeave")
			})
		})
	}
}

// mine is a leg that fails when it is told something, the first times.
type mine struct {
	*leg

	mu    sync.Mutex
	holds bool // it fails for Hold
	fails int  // how often it fails for Hangup
}

func (m *mine) Hold(on bool) {
	if m.holds {
		panic("injected")
	}
	m.leg.Hold(on)
}

func (m *mine) Hangup(status int) {
	m.mu.Lock()
	fail := m.fails > 0
	m.fails--
	m.mu.Unlock()
	if fail {
		panic("injected")
	}
	m.leg.Hangup(status)
}

// TestPanicInTheEnd lets the end of a call fail halfway: its one terminal event comes all the same, and the participant
// may call again.
func TestPanicInTheEnd(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]int{"once": 1, "twice": 2} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *house) {
				h.phone.wrap = func(l *leg) dialogs.Leg { return &mine{leg: l, fails: fails} }
				ref, l := h.up(t)
				h.transfer(t, ref, dialogs.TransferRequest{To: target})
				_, err := h.Update(t.Context(), ref, dialogs.Terminated)
				requireCode(t, errs.Internal, err, "failed")
				if fails > 1 {
					l.end(byeBye())
				}
				synctest.Wait()
				require.Equal(t, upOut+", FAILED, TERMINATED, onLeave", h.words(t, ref.Participant))
				require.Equal(t, dialogs.Terminated, must(h.Get(t.Context(), ref)).State)
				require.Zero(t, h.Live())
				h.failed(t, ref, fails, "dialogs_test.(*mine).Hangup")
				h.phone.wrap = nil
				_, again := h.dialAs(t, ref.Participant)
				again.end(byeBye())
			})
		})
	}
}

// TestPanicInARequest: who asked gets an answer, and the call ends.
func TestPanicInARequest(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		h.phone.wrap = func(l *leg) dialogs.Leg { return &mine{leg: l, holds: true} }
		ref, _ := h.up(t)
		_, err := h.Hold(t.Context(), ref, true)
		requireCode(t, errs.Internal, err, "failed")
		h.settle(t, ref.Participant, upOut+", TERMINATED, onDisconnect")
		h.failed(t, ref, 1, "dialogs_test.(*mine).Hold")
	})
}

// TestPanicInASound: a file that breaks its reader breaks nothing else.
func TestPanicInASound(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.up(t)
		_, err := h.Instruct(t.Context(), ref, dialogs.Instruction{Play: &dialogs.Play{Sound: "broken.wav"}})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, dialogs.Answered, must(h.Get(t.Context(), ref)).State)
		h.failed(t, ref, 1, "dialogs_test.(*library).Sound")
		l.end(byeBye())
		h.settle(t, ref.Participant, upOut+", TERMINATED, onLeave")
	})
}
