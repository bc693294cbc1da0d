package dialogs_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
)

// hears waits until the phone gets a packet of sound that is not silence.
func (h *handset) hears() {
	h.t.Helper()
	buf := make([]byte, 2048)
	require.NoError(h.t, h.conn.SetReadDeadline(time.Now().Add(patience)))
	for {
		n, err := h.conn.Read(buf)
		require.NoError(h.t, err, "nothing is heard")
		if n >= 12+160 && buf[1]&0x7f == 0 && !bytes.Equal(buf[12:n], bytes.Repeat([]byte{0xff}, n-12)) {
			return
		}
	}
}

// speaks sends 20 ms of something loud, again and again until the test is over or stop is called.
func (h *handset) speaks() (stop func()) {
	h.t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				h.rtp.Timestamp += 160
				h.rtp.PayloadType, h.rtp.Payload = h.payloadType, bytes.Repeat([]byte{0x80, 0x80, 0x00, 0x00}, 40)
				h.rtp.SequenceNumber++
				if b, err := h.rtp.Marshal(); err == nil {
					_, _ = h.conn.WriteToUDPAddrPort(b, h.port.Local())
				}
			}
		}
	}()
	closed := false
	stop = func() {
		if !closed {
			closed = true
			close(done)
			<-ended
		}
	}
	h.t.Cleanup(stop)
	return stop
}

// withMedia lets a leg be answered by a handset.
func (l *leg) withMedia(h *handset) {
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: h.port, Media: h.media}
	l.happens(dialogs.LegAnswered)
}

// talking is a conversation in which the phone has answered.
func talking(t *testing.T) (h *house, phone *handset, browser *ear, voice, called *media.Source, ref dialogs.Ref, l *leg) {
	t.Helper()
	h, phone, browser, voice, ref, l = conversation(t)
	l.happens(dialogs.LegCalling)
	l.withMedia(phone)
	called = next(t, browser.given)
	h.eventually(t, ref.Participant, upOut)
	return h, phone, browser, voice, called, ref, l
}

func (h *house) one(t *testing.T, participant, mode, by string) {
	t.Helper()
	told := h.transfers(t, participant)
	require.Len(t, told, 1, "one terminal event")
	require.Equal(t, "SUCCEEDED", told[0].State)
	require.Equal(t, 200, told[0].SIPCode)
	require.Equal(t, []string{mode, by, target}, []string{told[0].Mode, told[0].By, told[0].To})
}

// TestBridge joins the phone with the target, out of the sound of the session, until either hangs up.
func TestBridge(t *testing.T) {
	for name, end := range map[string]struct {
		do      func(t *testing.T, h *house, ref dialogs.Ref, l, target *leg)
		details string
	}{
		"the far end hangs up": {func(_ *testing.T, _ *house, _ dialogs.Ref, l, _ *leg) { l.end(byeBye()) }, "hung up by the far end"},
		"the target hangs up":  {func(_ *testing.T, _ *house, _ dialogs.Ref, _, target *leg) { target.end(byeBye()) }, "hung up by the target of the transfer"},
		"we hang up": {func(t *testing.T, h *house, ref dialogs.Ref, _, _ *leg) {
			t.Helper()
			h.patch(t, ref, dialogs.Terminated)
		}, "hung up by the application"},
		"the participant is deleted": {func(t *testing.T, h *house, ref dialogs.Ref, _, _ *leg) {
			t.Helper()
			require.NoError(t, h.people.DeleteParticipant(t.Context(), account, ref.Participant))
		}, "the participant was deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			h, phone, browser, voice, called, ref, l := talking(t)
			h.transfer(t, ref, dialogs.TransferRequest{To: target, Mode: dialogs.ModeBridge})
			second := next(t, h.phone.legs)
			second.happens(dialogs.LegCalling, dialogs.LegRinging)
			require.True(t, voice.Tracks[0].Wanted(), "until the target answers, the phone is in its session")
			guest := newHandset(t)
			second.withMedia(guest)
			require.Same(t, called, next(t, browser.taken), "the session hears the phone no more")
			h.eventually(t, ref.Participant, upOut+", SUCCEEDED")
			h.one(t, ref.Participant, "bridge", "APPLICATION")
			require.False(t, voice.Tracks[0].Wanted(), "and the phone not the session")
			silent := phone.speaks()
			guest.hears()
			silent()
			silent = guest.speaks()
			phone.hears()
			silent()
			require.Equal(t, dialogs.Answered, must(h.Get(t.Context(), ref)).State)
			_, err := h.Transfer(t.Context(), ref, dialogs.TransferRequest{To: target})
			require.ErrorContains(t, err, "was transferred already")
			_, err = h.Hold(t.Context(), ref, true)
			require.ErrorContains(t, err, "was transferred")

			// Keys cross, each in the way of the other's trunk.
			guest.press('4')
			require.Equal(t, "4", phone.readKeys(1))
			second.events <- &dialogs.LegEvent{Kind: dialogs.LegKey, Key: media.Key{Digit: '5', Duration: 160 * time.Millisecond}}
			require.Equal(t, "5", phone.readKeys(1))
			byInfo := guest.media
			byInfo.KeysByInfo = true
			second.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: guest.port, Media: byInfo}
			second.events <- &dialogs.LegEvent{Kind: dialogs.LegKey, Key: media.Key{Digit: '6', Duration: 160 * time.Millisecond}}
			require.Equal(t, "6", phone.readKeys(1)) // so that what was agreed before it counts
			phone.press('7')
			require.Equal(t, byte('7'), next(t, second.keys).digit)
			l.events <- &dialogs.LegEvent{Kind: dialogs.LegKey, Key: media.Key{Digit: '8', Duration: 160 * time.Millisecond}}
			require.Equal(t, byte('8'), next(t, second.keys).digit)

			moved := guest.media
			moved.Speech = media.PCMA
			second.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: guest.port, Media: moved}
			second.events <- &dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: dialogs.Refer{To: "+15550106"}}
			require.Equal(t, 603, next(t, second.referred))
			end.do(t, h, ref, l, second)
			h.eventually(t, ref.Participant, upOut+", SUCCEEDED, key 7, key 8, TERMINATED, onLeave") // the target's are none of the participant's phone
			require.Equal(t, end.details, h.end(t, ref.Participant).EventData.Details)
			require.Eventually(t, func() bool { return h.Live() == 0 }, patience, time.Millisecond)
			for _, leg := range []*leg{l, second} {
				leg.mu.Lock()
				require.True(t, leg.ended, "both end")
				leg.mu.Unlock()
			}
			require.Len(t, h.transfers(t, ref.Participant), 1)
			require.Empty(t, browser.given)
		})
	}
}

func must(d dialogs.Dialog, err error) dialogs.Dialog {
	if err != nil {
		panic(err)
	}
	return d
}

// TestPhoneIsReplaced: another phone takes the far end's place, and the session notices nothing but its voice.
func TestPhoneIsReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		begin func(t *testing.T, h *house, l *leg) *leg
		mode  string
		told  []int // to the far end that asked
	}{
		"by a REFER": {func(t *testing.T, h *house, l *leg) *leg {
			t.Helper()
			l.wants(target)
			second := next(t, h.phone.legs)
			second.happens(dialogs.LegCalling, dialogs.LegRinging)
			return second
		}, "refer", []int{180, 200}},
		"by a REFER, and it has gone before": {func(t *testing.T, h *house, l *leg) *leg {
			t.Helper()
			l.wants(target)
			second := next(t, h.phone.legs)
			l.end(byeBye())
			// Only once the call has taken that up is it first: of two events that wait, it takes either.
			require.Eventually(t, func() bool { return len(l.events) == 0 }, patience, time.Millisecond)
			return second
		}, "refer", nil},
		"by a REFER with a Replaces": {func(t *testing.T, h *house, l *leg) *leg {
			t.Helper()
			l.events <- &dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: dialogs.Refer{To: target, Replaces: "a;to-tag=t;from-tag=f"}}
			second := next(t, h.phone.legs)
			h.phone.mu.Lock()
			defer h.phone.mu.Unlock()
			require.Equal(t, "a;to-tag=t;from-tag=f", h.phone.last.Replaces)
			return second
		}, "refer", []int{200}},
		"by an INVITE with Replaces": {func(t *testing.T, h *house, l *leg) *leg {
			t.Helper()
			accept, err := h.Incoming(t.Context(), dialogs.Incoming{Account: account, From: target, Replaces: l})
			require.NoError(t, err)
			taker := newLeg()
			accept(taker)
			next(t, taker.answers)
			return taker
		}, "replaces", nil},
	} {
		t.Run(name, func(t *testing.T) {
			h, phone, browser, voice, called, ref, l := talking(t)
			l.events <- &dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByFarEnd: true}} // as phones do before a transfer
			heard := make(keys, 16)
			called.AddKeys(heard)
			second := c.begin(t, h, l)
			guest := newHandset(t)
			guest.rtp.SSRC = 8
			second.withMedia(guest)
			words := upOut + ", ANSWERED, SUCCEEDED, ANSWERED"
			h.eventually(t, ref.Participant, words)
			require.Equal(t, "RESUMED BY FAR END", h.end(t, ref.Participant).EventData.Details)
			h.one(t, ref.Participant, c.mode, "FAR END")
			require.Equal(t, c.told, all(l.referred))
			d := must(h.Get(t.Context(), ref))
			require.Equal(t, dialogs.Answered, d.State)
			require.Zero(t, d.Hold)
			require.Equal(t, target, d.To, "it shows who is on the phone now")
			data := h.end(t, ref.Participant).Data
			require.Equal(t, []any{target, d.From}, []any{data["to"], data["from"]}, "and so do its callbacks")

			guest.press('7')
			require.Equal(t, byte('7'), next(t, heard), "the same stream, another phone")
			phone.press('1') // nobody listens to the old one
			guest.press('8')
			require.Equal(t, byte('8'), next(t, heard))
			h.eventually(t, ref.Participant, words+", key 7, key 8")
			require.Empty(t, browser.taken, "the stream was never taken away")
			require.True(t, voice.Tracks[0].Wanted())

			if c.mode == "replaces" {
				require.Equal(t, 0, next(t, l.hangups))
			} else {
				l.end(byeBye()) // the transferor leaves: its leg only
			}
			require.Equal(t, dialogs.Answered, must(h.Get(t.Context(), ref)).State)
			second.end(byeBye())
			h.eventually(t, ref.Participant, words+", key 7, key 8, TERMINATED, onLeave")
			require.Same(t, called, next(t, browser.taken))
			require.Eventually(t, func() bool { return h.Live() == 0 }, patience, time.Millisecond)
		})
	}
}

// TestTransferorStays: a far end that does not hang up after its transfer is hung up.
func TestTransferorStays(t *testing.T) {
	h, _, _, _, _, ref, l := talking(t)
	l.wants(target)
	second := next(t, h.phone.legs)
	second.withMedia(newHandset(t))
	h.eventually(t, ref.Participant, upOut+", SUCCEEDED")
	require.Equal(t, 0, next(t, l.hangups), "after a few seconds")
	require.Equal(t, dialogs.Answered, must(h.Get(t.Context(), ref)).State)
	second.end(byeBye())
	h.eventually(t, ref.Participant, upOut+", SUCCEEDED, TERMINATED, onLeave")
}

// TestPickup: somebody else takes a call of ours that rings (RFC 3891 §4).
func TestPickup(t *testing.T) {
	h, _, browser, _, ref, l := conversation(t)
	l.happens(dialogs.LegCalling, dialogs.LegRinging)
	h.eventually(t, ref.Participant, "CALLING, RINGING")
	accept, err := h.Incoming(t.Context(), dialogs.Incoming{Account: account, From: target, Replaces: l})
	require.NoError(t, err)
	taker := newLeg()
	accept(taker)
	next(t, taker.answers)
	taker.withMedia(newHandset(t))
	next(t, browser.given)
	h.eventually(t, ref.Participant, "CALLING, RINGING, SUCCEEDED, ANSWERED, onConnect")
	require.Equal(t, 0, next(t, l.hangups), "cancelled")
	taker.end(byeBye())
	h.eventually(t, ref.Participant, "CALLING, RINGING, SUCCEEDED, ANSWERED, onConnect, TERMINATED, onLeave")
}

// TestHoldIsSilent: while we hold, the phone hears nothing of its session; then it does again.
func TestHoldIsSilent(t *testing.T) {
	h, _, _, voice, _, ref, l := talking(t)
	require.True(t, voice.Tracks[0].Wanted())
	_, err := h.Hold(t.Context(), ref, true)
	require.NoError(t, err)
	require.False(t, voice.Tracks[0].Wanted(), "at once")
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: true}}
	h.eventually(t, ref.Participant, upOut+", ANSWERED")
	_, err = h.Hold(t.Context(), ref, false)
	require.NoError(t, err)
	require.False(t, voice.Tracks[0].Wanted(), "until the far end has agreed")
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegHold}
	h.eventually(t, ref.Participant, upOut+", ANSWERED, ANSWERED")
	require.True(t, voice.Tracks[0].Wanted())

	_, err = h.Hold(t.Context(), ref, true)
	require.NoError(t, err)
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegHold, Cause: dialogs.Cause{SIPCode: 488, Details: "488 Not Acceptable Here"}}
	h.eventually(t, ref.Participant, upOut+", ANSWERED, ANSWERED, ANSWERED")
	require.True(t, voice.Tracks[0].Wanted(), "a hold that was refused is none")
	l.end(byeBye())
}

// TestFarEndJoinsItsCalls: a phone that has two calls here leaves them to each other (REFER with a Replaces that names a
// call of ours).
func TestFarEndJoinsItsCalls(t *testing.T) {
	h, _, browser, voice, _, ref, l := talking(t)
	consulted, other := h.dial(t)
	other.happens(dialogs.LegCalling)
	other.withMedia(newHandset(t))
	h.eventually(t, consulted.Participant, upOut)

	l.events <- &dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: dialogs.Refer{To: target, Other: other}}
	calls, answers := next(t, h.phone.legs), next(t, h.phone.legs)
	next(t, answers.answers)
	one, two := newHandset(t), newHandset(t)
	one.media.Remote, two.media.Remote = two.port.Bound(), one.port.Bound()
	answers.withMedia(two)
	calls.withMedia(one)
	h.eventually(t, ref.Participant, upOut+", SUCCEEDED")
	h.eventually(t, consulted.Participant, upOut+", SUCCEEDED")
	h.one(t, ref.Participant, "refer", "FAR END")
	require.Equal(t, "replaces", h.transfers(t, consulted.Participant)[0].Mode)
	require.Equal(t, []int{200}, all(l.referred))
	require.Equal(t, 0, next(t, other.hangups))
	l.end(byeBye())
	require.Equal(t, dialogs.Answered, must(h.Get(t.Context(), ref)).State)
	require.Empty(t, browser.taken, "the agent has the same stream still")
	require.True(t, voice.Tracks[0].Wanted())
	require.Empty(t, browser.given)

	calls.end(byeBye())
	answers.end(byeBye())
	h.eventually(t, ref.Participant, upOut+", SUCCEEDED, TERMINATED, onLeave")
	h.eventually(t, consulted.Participant, upOut+", SUCCEEDED, TERMINATED, onLeave")
}

// TestFarEndCannotJoin: there is nothing to join with.
func TestFarEndCannotJoin(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.up(t)
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: dialogs.Refer{To: target, Other: newLeg()}}
		h.comesTo(t, ref.Participant, l, outcome{", FAILED", "FAILED", 404, "the call to be replaced is over", 0})
		require.Equal(t, []int{404}, all(l.referred))
	})
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.up(t)
		_, other := h.up(t)
		h.phone.err = errs.New(errs.Unavailable, "no media port is free")
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: dialogs.Refer{To: target, Other: other}}
		h.comesTo(t, ref.Participant, l, outcome{", FAILED", "FAILED", 503, "no media port is free", 0})
	})
	inBubble(t, func(t *testing.T, h *house) { // the other is being transferred itself
		ref, l := h.up(t)
		consulted, other := h.up(t)
		h.transfer(t, consulted, dialogs.TransferRequest{To: target})
		l.events <- &dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: dialogs.Refer{To: target, Other: other}}
		calls, answers := <-h.phone.legs, <-h.phone.legs
		require.Equal(t, 486, <-answers.hangups)
		calls.end(busy())
		h.comesTo(t, ref.Participant, l, outcome{", FAILED", "FAILED", 486, "486 Busy Here", 0})
	})
}
