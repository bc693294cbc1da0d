package dialogs_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// TestNoMedia answers calls of which no sound comes: it is told once, with what came instead, and the call ends when
// it stays so. A phone that speaks is never told of, nor is one on hold.
func TestNoMedia(t *testing.T) {
	quick := func(c *dialogs.Config) { c.NoMediaAfter, c.SilenceTimeout = 100*time.Millisecond, time.Second }
	const up = "CALLING, ANSWERED, onConnect"
	answer := func(l *leg, phone *handset) {
		l.happens(dialogs.LegCalling)
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: phone.port, Media: phone.media}
		l.happens(dialogs.LegAnswered)
	}

	t.Run("nothing", func(t *testing.T) {
		h, phone, _, _, ref, l := conversation(t, quick)
		answer(l, phone)
		h.eventually(t, ref.Participant, up+", onNoMedia, TERMINATED, onDisconnect")
		told := h.drain(t, ref.Participant)[3]
		require.Equal(t, ref.Dialog, told.DialogID)
		require.Equal(t, phone.media.Remote.String(), told.Expected)
		require.Equal(t, "nothing", told.Seen)
		require.Equal(t, "no RTP within 100ms of the answer", told.Details)
		end := h.end(t, ref.Participant)
		require.Equal(t, "ERROR", end.EventData.Reason)
		require.Equal(t, "no RTP or RTCP from the far end for 1s: expected from "+phone.media.Remote.String()+
			", last RTP never, seen nothing", end.EventData.Details)
	})

	t.Run("another payload type", func(t *testing.T) {
		h, phone, _, _, ref, l := conversation(t, quick)
		phone.payloadType = 9
		phone.speaks()
		answer(l, phone)
		h.eventually(t, ref.Participant, up+", onNoMedia, TERMINATED, onDisconnect")
		require.Regexp(t, `^\d+ packets not taken, the last of payload type 9, which was not agreed$`, h.drain(t, ref.Participant)[3].Seen)
	})

	t.Run("on hold", func(t *testing.T) {
		h, phone, _, _, ref, l := conversation(t, quick)
		held := phone.media
		held.Send = false
		phone.media = held
		answer(l, phone)
		h.eventually(t, ref.Participant, up)
		other, otherLeg := h.dial(t) // it goes quiet after this one, and ends: so long nothing was told of this one
		second := newHandset(t)
		answer(otherLeg, second)
		h.eventually(t, other.Participant, up+", onNoMedia, TERMINATED, onDisconnect")
		require.Equal(t, up, h.words(t, ref.Participant))
		held.Send = true
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: phone.port, Media: held}
		h.eventually(t, ref.Participant, up+", onNoMedia, TERMINATED, onDisconnect")
	})

	t.Run("it speaks", func(t *testing.T) {
		h, phone, _, _, ref, l := conversation(t, quick)
		stop := phone.speaks()
		answer(l, phone)
		h.eventually(t, ref.Participant, up)
		other, otherLeg := h.dial(t)
		second := newHandset(t)
		answer(otherLeg, second)
		h.eventually(t, other.Participant, up+", onNoMedia, TERMINATED, onDisconnect")
		require.Equal(t, up, h.words(t, ref.Participant))
		stop()
		h.eventually(t, ref.Participant, up+", TERMINATED, onDisconnect")
		require.Regexp(t, `last RTP at \d{4}-\d\d-\d\dT.*, seen nothing$`, h.end(t, ref.Participant).EventData.Details)
	})

	t.Run("it is silent by right", func(t *testing.T) {
		h, phone, _, _, ref, l := conversation(t, quick)
		stop := phone.speaks()
		l.setWatched(true)
		answer(l, phone)
		h.eventually(t, ref.Participant, up)
		other, otherLeg := h.dial(t)
		answer(otherLeg, newHandset(t))
		h.eventually(t, other.Participant, up+", onNoMedia, TERMINATED, onDisconnect")
		stop()
		h.eventually(t, ref.Participant, up+", onNoMedia")
		told := h.drain(t, ref.Participant)[3]
		require.Equal(t, "no RTP or RTCP from the far end for 1s; its session timer says that it is there", told.Details)
		for range 2 { // each goes quiet after this one, and ends
			other, otherLeg := h.dial(t)
			answer(otherLeg, newHandset(t))
			h.eventually(t, other.Participant, up+", onNoMedia, TERMINATED, onDisconnect")
		}
		require.Equal(t, up+", onNoMedia", h.words(t, ref.Participant), "once")
		l.setWatched(false) // nothing says so any more
		h.eventually(t, ref.Participant, up+", onNoMedia, TERMINATED, onDisconnect")
	})

	t.Run("for ever", func(t *testing.T) {
		h, phone, _, _, ref, l := conversation(t, func(c *dialogs.Config) { c.NoMediaAfter = 100 * time.Millisecond })
		answer(l, phone)
		h.eventually(t, ref.Participant, up+", onNoMedia")
		l.end(byeBye())
		h.eventually(t, ref.Participant, up+", onNoMedia, TERMINATED, onLeave")
	})
}
