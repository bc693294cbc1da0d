package dialogs_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

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
