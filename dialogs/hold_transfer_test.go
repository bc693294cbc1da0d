package dialogs_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
)

// holdNews are the details of the events since the answer: what was told of holds.
func (h *house) holdNews(t *testing.T, participant string) []string {
	t.Helper()
	got := []string{}
	for _, e := range h.drain(t, participant) {
		if e.State == "ANSWERED" && e.EventData.Reason == "" {
			got = append(got, e.EventData.Details)
		}
	}
	return got
}

// TestHoldThenBridge: whom the application put on hold and then transferred hears the target.
func TestHoldThenBridge(t *testing.T) {
	h, phone, _, _, _, ref, l := talking(t)
	_, err := h.Hold(t.Context(), ref, true)
	require.NoError(t, err)
	require.True(t, next(t, l.holds))
	waits := phone.media
	waits.Receive = false
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: phone.port, Media: waits}
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: true}}
	h.eventually(t, ref.Participant, upOut+", ANSWERED")

	h.transfer(t, ref, dialogs.TransferRequest{To: target, Mode: dialogs.ModeBridge})
	second := next(t, h.phone.legs)
	second.happens(dialogs.LegCalling)
	guest := newHandset(t)
	second.withMedia(guest)
	require.False(t, next(t, l.holds), "it is taken back")
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: phone.port, Media: phone.media}
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegHold}
	h.eventually(t, ref.Participant, upOut+", ANSWERED, SUCCEEDED, ANSWERED")
	require.Equal(t, "RESUMED", h.end(t, ref.Participant).EventData.Details)
	require.Zero(t, must(h.Get(t.Context(), ref)).Hold)

	silent := guest.speaks()
	phone.hears()
	silent()
	silent = phone.speaks()
	guest.hears()
	silent()
	require.Empty(t, l.holds)
	l.end(byeBye())
}

// TestHoldUnderWayMeetsBridge: a hold that the far end has not answered when it is joined with the target is taken back
// too, and when it does not agree to that, the application may ask again.
func TestHoldUnderWayMeetsBridge(t *testing.T) {
	held := dialogs.Hold{ByUs: true}
	for name, c := range map[string]struct {
		before  []dialogs.LegEvent // in answer to the hold, before the target answers
		resume  bool               // the application does not wait for the transfer
		answers []dialogs.LegEvent // then
		want    []string
		held    bool
	}{
		"the hold is agreed to late": {answers: []dialogs.LegEvent{{Hold: held}, {}}, want: []string{"HELD", "RESUMED"}},
		"the hold is refused":        {answers: []dialogs.LegEvent{{Cause: dialogs.Cause{SIPCode: 488}}, {}}, want: []string{"HOLD FAILED"}},
		"the hold had not left":      {answers: []dialogs.LegEvent{{}}, want: []string{"RESUMED"}},
		"the resume is refused": {
			answers: []dialogs.LegEvent{{Hold: held}, {Hold: held, Cause: dialogs.Cause{SIPCode: 488}}},
			want:    []string{"HELD", "RESUME FAILED"}, held: true,
		},
		"the resume of a hold that stands is refused": {
			before: []dialogs.LegEvent{{Hold: held}}, answers: []dialogs.LegEvent{{Hold: held, Cause: dialogs.Cause{SIPCode: 488}}},
			want: []string{"HELD", "RESUME FAILED"}, held: true,
		},
		"it is being resumed": {
			before: []dialogs.LegEvent{{Hold: held}}, resume: true, answers: []dialogs.LegEvent{{}, {}},
			want: []string{"HELD", "RESUMED"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, _, _, _, _, ref, l := talking(t)
			wish := func(on bool) {
				t.Helper()
				_, err := h.Hold(t.Context(), ref, on)
				require.NoError(t, err)
				require.Equal(t, on, next(t, l.holds))
			}
			tells := func(events []dialogs.LegEvent, want ...string) {
				t.Helper()
				for _, e := range events {
					e.Kind = dialogs.LegHold
					l.events <- &e
				}
				require.Eventually(t, func() bool { return slices.Equal(want, h.holdNews(t, ref.Participant)) }, patience, 5*time.Millisecond, "want %q", want)
			}
			wish(true)
			tells(c.before, c.want[:len(c.before)]...)
			if c.resume {
				wish(false)
			}
			h.transfer(t, ref, dialogs.TransferRequest{To: target, Mode: dialogs.ModeBridge})
			next(t, h.phone.legs).withMedia(newHandset(t))
			require.False(t, next(t, l.holds), "the far end is to hear the target")
			tells(c.answers, c.want...)
			require.Equal(t, c.held, must(h.Get(t.Context(), ref)).Hold.ByUs)

			_, err := h.Hold(t.Context(), ref, true)
			requireCode(t, errs.Conflict, err, "its far end talks with the target")
			if c.held {
				wish(false)
				tells([]dialogs.LegEvent{{}}, append(c.want, "RESUMED")...)
				require.Zero(t, must(h.Get(t.Context(), ref)).Hold)
			}
			_, err = h.Hold(t.Context(), ref, false)
			requireCode(t, errs.Conflict, err, "not put on hold")
			l.end(byeBye())
		})
	}
}

// TestHoldUnderWayMeetsAnotherPhone: a hold that the far end has not answered ends with it. The phone in its place is in
// the session, and can be held.
func TestHoldUnderWayMeetsAnotherPhone(t *testing.T) {
	h, _, _, voice, _, ref, l := talking(t)
	_, err := h.Hold(t.Context(), ref, true)
	require.NoError(t, err)
	require.False(t, voice.Tracks[0].Wanted())
	l.wants(target)
	second := next(t, h.phone.legs)
	second.withMedia(newHandset(t))
	h.eventually(t, ref.Participant, upOut+", SUCCEEDED, ANSWERED")
	require.Equal(t, "RESUMED", h.end(t, ref.Participant).EventData.Details)
	require.True(t, voice.Tracks[0].Wanted())
	second.events <- &dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByFarEnd: true}}
	h.eventually(t, ref.Participant, upOut+", SUCCEEDED, ANSWERED, ANSWERED")
	require.True(t, voice.Tracks[0].Wanted(), "nobody here wants it held")
	_, err = h.Hold(t.Context(), ref, true)
	require.NoError(t, err)
	require.True(t, next(t, second.holds))
	second.end(byeBye())
}
