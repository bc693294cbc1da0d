package dialogs_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
	"tandem/webhooks"
)

// lastEvent is the id of a call's newest event of a name.
func (h *house) lastEvent(t *testing.T, ref dialogs.Ref, name webhooks.Name) string {
	t.Helper()
	id := ""
	for _, e := range h.drain(t, ref.Participant) {
		if e.Event == string(name) {
			id = e.ID
		}
	}
	require.NotEmpty(t, id, "no such event")
	return id
}

// TestLateAnswerToAGather: while an application thinks about what was typed, the call goes on. What it answers in the end
// is followed if the call still lives, each gather has one end, and nothing of it outlives the call.
func TestLateAnswerToAGather(t *testing.T) {
	t.Parallel()
	const typed = talks + ", typed 47 by digits"
	two := dialogs.Instruction{Gather: &dialogs.Gather{Digits: 2, Timeout: time.Minute}}
	instruct := func(t *testing.T, h *house, ref dialogs.Ref, i dialogs.Instruction) {
		t.Helper()
		_, err := h.Instruct(t.Context(), ref, i)
		require.NoError(t, err)
		synctest.Wait()
	}
	cases := []struct {
		name      string
		meanwhile func(t *testing.T, h *house, ref dialogs.Ref, l *leg)
		answer    string
		then      string // keys
		words     string
	}{
		{
			"the caller hung up",
			func(_ *testing.T, _ *house, _ dialogs.Ref, l *leg) { l.end(byeBye()) },
			`{"gather":{"digits":2,"prompt":"pin.wav"}}`, "", typed + ", TERMINATED, onLeave",
		},
		{
			"the application hung up, and the far end does not answer that",
			func(t *testing.T, h *house, ref dialogs.Ref, l *leg) {
				t.Helper()
				l.beStubborn()
				h.patch(t, ref, dialogs.Terminated)
				_, err := h.Instruct(t.Context(), ref, two)
				requireCode(t, errs.Conflict, err, "the dialog is TERMINATED")
			},
			`{"state":"ANSWERED","gather":{"digits":2,"prompt":"pin.wav"}}`, "12", typed + ", TERMINATED, onLeave",
		},
		{
			"another gather came, and the answer is empty",
			func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) {
				t.Helper()
				instruct(t, h, ref, two)
				h.Press(ref.Dialog, "1")
			},
			`{}`, "2", typed + ", typed 12 by digits",
		},
		{
			"another gather came, and the answer wants one too",
			func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) {
				t.Helper()
				instruct(t, h, ref, two)
				h.Press(ref.Dialog, "1")
			},
			`{"gather":{"digits":3}}`, "234", typed + ", typed 1 by cancelled, typed 234 by digits",
		},
		{
			"another gather came, and the answer is none",
			func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) {
				t.Helper()
				instruct(t, h, ref, two)
				h.Press(ref.Dialog, "1")
			},
			`{"state":"NONSENSE"}`, "2", typed + ", typed 12 by digits",
		},
		{
			"another gather came, and the answer hangs up",
			func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) {
				t.Helper()
				instruct(t, h, ref, two)
				h.Press(ref.Dialog, "1")
			},
			`{"state":"TERMINATED"}`, "", typed + ", typed 1 by hangup, TERMINATED, onLeave",
		},
		{
			"another gather came, and the answer plays",
			func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) { t.Helper(); instruct(t, h, ref, two) },
			`{"play":"closed.wav"}`, "5", typed + ", typed  by cancelled, key 5",
		},
		{
			"another gather came and went",
			func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) {
				t.Helper()
				instruct(t, h, ref, two)
				time.Sleep(time.Minute)
			},
			`{"gather":{"digits":1}}`, "5", typed + ", typed  by timeout, typed 5 by digits",
		},
		{
			"a sound plays, and the answer puts the call through",
			func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) {
				t.Helper()
				instruct(t, h, ref, dialogs.Instruction{Play: &dialogs.Play{Sound: "tone:ringback", Loop: true}})
			},
			`{"sessionId":"ROOM"}`, "5", typed + ", key 5",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				room := h.session(t)
				ref, l := h.dialIn(t, line)
				h.reply(t, ref, webhooks.OnIncomingCall, `{"gather":{"digits":2}}`)
				h.Press(ref.Dialog, "47")
				h.settle(t, ref.Participant, typed)
				asked := h.lastEvent(t, ref, webhooks.OnDtmf)
				c.meanwhile(t, h, ref, l)
				time.Sleep(20 * time.Second)
				h.Answered(t.Context(), webhooks.Answer{
					Event: asked, Name: webhooks.OnDtmf, Account: account, Participant: ref.Participant,
					Body: bytes.ReplaceAll([]byte(c.answer), []byte("ROOM"), []byte(room)),
				})
				synctest.Wait()
				h.Press(ref.Dialog, c.then)
				time.Sleep(time.Hour)
				h.settle(t, ref.Participant, c.words)
				l.end(byeBye()) // unless it is over
				synctest.Wait()
				require.Zero(t, h.Live())
				if !strings.Contains(c.answer, "NONSENSE") {
					require.NotContains(t, h.log.text(), "can't be followed", "to answer late is no mistake")
				}
				for _, e := range h.drain(t, ref.Participant)[len(h.events[ref.Participant])-1:] {
					require.Equal(t, string(webhooks.OnLeave), e.Event, "nothing after the end")
				}
			})
		})
	}
}

// TestCancelledGatherAsksNothing: what a cancelled gather tells is no question, since what comes next is known.
func TestCancelledGatherAsksNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dialIn(t, line)
		h.reply(t, ref, webhooks.OnIncomingCall, `{"gather":{"digits":2}}`)
		_, err := h.Instruct(t.Context(), ref, dialogs.Instruction{Gather: &dialogs.Gather{Digits: 3, Timeout: time.Minute}})
		require.NoError(t, err)
		h.settle(t, ref.Participant, talks+", typed  by cancelled")
		h.reply(t, ref, webhooks.OnDtmf, `{"state":"TERMINATED"}`)
		h.Press(ref.Dialog, "123")
		h.settle(t, ref.Participant, talks+", typed  by cancelled, typed 123 by digits")
		l.end(byeBye())
		synctest.Wait()
	})
}

// TestPromptIsNoTimeToThink: the time of a gather that is over does not end the next one, while its prompt is played.
func TestPromptIsNoTimeToThink(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dialIn(t, line)
		h.reply(t, ref, webhooks.OnIncomingCall, `{"gather":{"digits":2,"timeout":10}}`)
		h.Press(ref.Dialog, "47")
		synctest.Wait()
		h.reply(t, ref, webhooks.OnDtmf, `{"gather":{"digits":2,"timeout":10,"prompt":"pin.wav"}}`)
		time.Sleep(time.Minute) // it is still played: the phone has no media here
		h.Press(ref.Dialog, "12")
		h.settle(t, ref.Participant, talks+", typed 47 by digits, typed 12 by digits")
		l.end(byeBye())
		synctest.Wait()
	})
}

// hearsNothing waits for a while of silence.
func (h *handset) hearsNothing() {
	h.t.Helper()
	buf := make([]byte, 2048)
	require.NoError(h.t, h.conn.SetReadDeadline(time.Now().Add(patience)))
	for quiet := 0; quiet < 10; {
		n, err := h.conn.Read(buf)
		require.NoError(h.t, err, "something is heard on and on")
		if n < 12 || buf[1]&0x7f != 0 {
			continue
		}
		quiet++
		if !bytes.Equal(buf[12:n], bytes.Repeat([]byte{0xff}, n-12)) {
			quiet = 0
		}
	}
}

// TestPromptStops: the phone hears the prompt of a gather until its first key, whichever that is, and no longer than the
// gather lasts.
func TestPromptStops(t *testing.T) {
	gather := dialogs.Instruction{Gather: &dialogs.Gather{Digits: 2, Timeout: 2 * time.Minute, Prompt: "long.wav", Terminator: "#"}}
	for name, c := range map[string]struct {
		stop  func(t *testing.T, h *house, phone *handset, ref dialogs.Ref)
		words string
		then  string
		after string
	}{
		"at the first key": {
			func(_ *testing.T, _ *house, phone *handset, _ dialogs.Ref) { phone.press('1') },
			"", "2", ", typed 12 by digits",
		},
		"at the terminator": {
			func(_ *testing.T, _ *house, phone *handset, _ dialogs.Ref) { phone.press('#') },
			", typed  by terminator", "3", ", typed  by terminator, key 3",
		},
		"when the call is put through": {
			func(t *testing.T, h *house, _ *handset, ref dialogs.Ref) {
				t.Helper()
				_, err := h.Instruct(t.Context(), ref, dialogs.Instruction{
					Session: ref.Session, Subscriptions: sessions.Subscriptions{Session: ref.Session},
				})
				require.NoError(t, err)
			}, ", typed  by cancelled", "3", ", typed  by cancelled, key 3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, phone, _, _, _, ref, _ := talking(t)
			_, err := h.Instruct(t.Context(), ref, gather)
			require.NoError(t, err)
			phone.hears()
			c.stop(t, h, phone, ref)
			phone.hearsNothing()
			require.Equal(t, upOut+c.words, h.words(t, ref.Participant))
			phone.press(c.then[0])
			h.eventually(t, ref.Participant, upOut+c.after)
		})
	}
}
