package dialogs_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/trunks"
	"tandem/webhooks"
)

const (
	target = "+15550105"
	upOut  = "CALLING, ANSWERED, onConnect"
)

// transfers returns what was called back of transfers.
func (h *house) transfers(t *testing.T, participant string) []event {
	t.Helper()
	var all []event
	for _, e := range h.drain(t, participant) {
		if e.Event == string(webhooks.OnTransfer) {
			all = append(all, e)
		}
	}
	return all
}

// up makes a call that is answered.
func (h *house) up(t *testing.T, more ...func(*dialogs.Create)) (dialogs.Ref, *leg) {
	t.Helper()
	ref, l := h.dial(t, more...)
	l.happens(dialogs.LegCalling, dialogs.LegAnswered)
	synctest.Wait()
	return ref, l
}

func (h *house) transfer(t *testing.T, ref dialogs.Ref, req dialogs.TransferRequest) {
	t.Helper()
	d, err := h.Transfer(t.Context(), ref, req)
	require.NoError(t, err)
	require.Equal(t, dialogs.Answered, d.State)
	require.Equal(t, req.To, d.Transfer.To)
	saved, err := h.Get(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, d.Transfer, saved.Transfer, "a crash from now on leaves it to the next start")
}

func (l *leg) reports(status int, final bool, words ...string) {
	l.events <- &dialogs.LegEvent{
		Kind: dialogs.LegReferred, Cause: dialogs.Cause{SIPCode: status, Details: strings.Join(words, " ")}, Final: final,
	}
}

// wants is a REFER of the far end.
func (l *leg) wants(to string) {
	l.events <- &dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: dialogs.Refer{To: to, Trunk: "pbx", ReferredBy: "<sip:a@b>"}}
}

func all[T any](from chan T) []T {
	var list []T
	for {
		select {
		case v := <-from:
			list = append(list, v)
		default:
			return list
		}
	}
}

// outcome is what a transfer must come to, of which there is one.
type outcome struct {
	words   string // after the call was answered
	state   string
	code    int
	details string
	hangups int // of the leg that was transferred
}

func (h *house) comesTo(t *testing.T, participant string, l *leg, want outcome) {
	t.Helper()
	h.settle(t, participant, upOut+want.words)
	told := h.transfers(t, participant)
	require.Len(t, told, 1, "one terminal event")
	require.Equal(t, want.state, told[0].State)
	require.Equal(t, want.code, told[0].SIPCode)
	require.Equal(t, want.details, told[0].Details)
	require.Equal(t, target, told[0].To)
	require.NotEmpty(t, told[0].DialogID)
	require.Len(t, l.hangups, want.hangups)
}

// ways are those in which a call with a transfer under way can end, whatever the transfer is.
func ways() map[string]struct {
	do            func(t *testing.T, h *house, ref dialogs.Ref)
	details, last string
} {
	type way = struct {
		do            func(t *testing.T, h *house, ref dialogs.Ref)
		details, last string
	}
	return map[string]way{
		"we hang up": {func(t *testing.T, h *house, ref dialogs.Ref) {
			t.Helper()
			h.patch(t, ref, dialogs.Terminated)
		}, "hung up by the application", "onLeave"},
		"the dialog is deleted": {func(t *testing.T, h *house, ref dialogs.Ref) {
			t.Helper()
			require.NoError(t, h.Delete(t.Context(), ref))
		}, "hung up by the application", "onLeave"},
		"the participant is deleted": {func(t *testing.T, h *house, ref dialogs.Ref) {
			t.Helper()
			require.NoError(t, h.people.DeleteParticipant(t.Context(), account, ref.Participant))
		}, "the participant was deleted", "onLeave"},
		"the gateway stops": {func(_ *testing.T, h *house, _ dialogs.Ref) { h.stop() }, "the gateway was stopped", "onDisconnect"},
		"its longest duration is over": {
			func(*testing.T, *house, dialogs.Ref) { time.Sleep(time.Minute) },
			"the longest duration, 50s, is over", "onLeave",
		},
	}
}

func short(c *dialogs.Create) { c.MaxDuration = 50 * time.Second }

// TestReferOutcomes: every end that a REFER of ours can come to, each with one event.
func TestReferOutcomes(t *testing.T) {
	t.Parallel()
	const gone = ", FAILED, TERMINATED, onLeave"
	cases := []struct {
		name string
		then func(l *leg)
		want outcome
	}{
		{"it succeeds", func(l *leg) {
			l.reports(202, false)
			l.reports(180, false)
			l.reports(200, true, "200 OK")
		}, outcome{", SUCCEEDED, TERMINATED, onLeave", "SUCCEEDED", 200, "200 OK", 1}},
		{"the far end reports nothing", func(l *leg) { l.reports(202, true, "202 Accepted; no report") }, outcome{
			", SUCCEEDED, TERMINATED, onLeave", "SUCCEEDED", 202, "202 Accepted; no report", 1,
		}},
		{"the target is busy", func(l *leg) {
			l.reports(202, false)
			l.reports(100, false)
			l.reports(486, true, "486 Busy Here")
		}, outcome{", FAILED", "FAILED", 486, "486 Busy Here", 0}},
		{"the target declines", func(l *leg) {
			l.reports(202, false)
			l.reports(603, true, "603 Decline")
		}, outcome{", FAILED", "FAILED", 603, "603 Decline", 0}},
		{"redirected", func(l *leg) { l.reports(302, true, "302 Moved") }, outcome{", FAILED", "FAILED", 302, "302 Moved", 0}},
		{"refused with 405", func(l *leg) { l.reports(405, true, "405 Not Allowed") }, outcome{", FAILED", "FAILED", 405, "405 Not Allowed", 0}},
		{"refused with 603", func(l *leg) { l.reports(603, true, "603 Decline") }, outcome{", FAILED", "FAILED", 603, "603 Decline", 0}},
		{"refused with 403", func(l *leg) { l.reports(403, true, "403 Forbidden") }, outcome{", FAILED", "FAILED", 403, "403 Forbidden", 0}},
		{"not even an answer", func(l *leg) { l.reports(0, true, "no answer to the REFER") }, outcome{", FAILED", "FAILED", 0, "no answer to the REFER", 0}},
		{"no word at all", func(*leg) { time.Sleep(time.Minute) }, outcome{", FAILED", "FAILED", 0, "no outcome within 1m0s", 0}},
		{"no NOTIFY", func(l *leg) {
			l.reports(202, false)
			time.Sleep(time.Minute)
			l.reports(200, true, "too late")
		}, outcome{", FAILED", "FAILED", 0, "no outcome within 1m0s after the far end's last news, 202", 0}},
		{"news renew the wait", func(l *leg) {
			l.reports(202, false)
			time.Sleep(50 * time.Second)
			l.reports(180, false)
			time.Sleep(50 * time.Second)
			l.reports(200, true, "200 OK")
		}, outcome{", SUCCEEDED, TERMINATED, onLeave", "SUCCEEDED", 200, "200 OK", 1}},
		{"but not for ever", func(l *leg) {
			for range 30 {
				l.reports(180, false)
				time.Sleep(30 * time.Second)
			}
		}, outcome{", FAILED", "FAILED", 0, "no outcome within 1m0s after the far end's last news, 180", 0}},
		{"BYE right after 202", func(l *leg) {
			l.reports(202, false)
			l.end(byeBye())
		}, outcome{", SUCCEEDED, TERMINATED, onLeave", "SUCCEEDED", 202, "the far end accepted the transfer and hung up without reporting its outcome", 0}},
		{"BYE after the NOTIFY of 100", func(l *leg) {
			l.reports(202, false)
			l.reports(100, false)
			l.end(byeBye())
		}, outcome{", SUCCEEDED, TERMINATED, onLeave", "SUCCEEDED", 202, "the far end accepted the transfer and hung up without reporting its outcome", 0}},
		{"the far end gives up while the target rings", func(l *leg) {
			l.reports(202, false)
			l.reports(180, false)
			l.end(byeBye())
		}, outcome{gone, "FAILED", 0, "hung up by the far end", 0}},
		{"BYE before 202", func(l *leg) { l.end(byeBye()) }, outcome{gone, "FAILED", 0, "hung up by the far end", 0}},
		{"the leg breaks", func(l *leg) {
			l.reports(202, false)
			l.end(dialogs.Cause{Reason: dialogs.Error, Details: "no answer"})
		}, outcome{", FAILED, TERMINATED, onDisconnect", "FAILED", 0, "no answer", 0}},
		{"told twice", func(l *leg) {
			l.reports(486, true, "486 Busy Here")
			l.reports(200, true, "200 OK")
			l.reports(180, false)
		}, outcome{", FAILED", "FAILED", 486, "486 Busy Here", 0}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.up(t)
				h.transfer(t, ref, dialogs.TransferRequest{To: target})
				require.Equal(t, dialogs.Refer{To: target}, <-l.refers)
				c.then(l)
				h.comesTo(t, ref.Participant, l, c.want)
				time.Sleep(time.Hour)
				h.comesTo(t, ref.Participant, l, c.want)
				told := h.transfers(t, ref.Participant)[0]
				require.Equal(t, []string{"refer", "APPLICATION", ref.Dialog}, []string{told.Mode, told.By, told.DialogID})
				d, err := h.Get(t.Context(), ref)
				require.NoError(t, err)
				require.Zero(t, d.Transfer)
				switch {
				case !strings.Contains(c.want.words, "TERMINATED"):
					require.Equal(t, dialogs.Answered, d.State)
					h.transfer(t, ref, dialogs.TransferRequest{To: "+15550106"}) // and it may be tried again
				case c.want.state == "SUCCEEDED":
					require.Equal(t, "transferred to "+target, d.Cause.Details)
				}
			})
		})
	}
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.up(t, short)
				h.transfer(t, ref, dialogs.TransferRequest{To: target})
				l.reports(202, false)
				synctest.Wait()
				way.do(t, h, ref)
				h.comesTo(t, ref.Participant, l, outcome{", FAILED, TERMINATED, " + way.last, "FAILED", 0, way.details, 1})
			})
		})
	}
}

func TestTransferIsRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dial(t)
		l.happens(dialogs.LegCalling, dialogs.LegRinging)
		synctest.Wait()
		_, err := h.Transfer(t.Context(), ref, dialogs.TransferRequest{To: target})
		requireCode(t, errs.Conflict, err, "the dialog is RINGING")
		l.happens(dialogs.LegAnswered)
		synctest.Wait()
		h.phone.err = errs.New(errs.Unavailable, "no trunk takes calls to it")
		_, err = h.Transfer(t.Context(), ref, dialogs.TransferRequest{To: target, Mode: dialogs.ModeBridge})
		requireCode(t, errs.Unavailable, err, "no trunk")
		_, err = h.Transfer(t.Context(), ref, dialogs.TransferRequest{To: target, Mode: dialogs.ModeReplaces})
		requireCode(t, errs.Invalid, err, "mode")
		h.phone.err = nil

		h.db.set(1, 0) // nothing has begun that a crash would leave without an end
		_, err = h.Transfer(t.Context(), ref, dialogs.TransferRequest{To: target, Mode: dialogs.ModeBridge})
		requireCode(t, errs.Unavailable, err, "try again")
		require.Len(t, (<-h.phone.legs).hangups, 1)
		time.Sleep(time.Minute)
		h.transfer(t, ref, dialogs.TransferRequest{To: target})
		_, err = h.Transfer(t.Context(), ref, dialogs.TransferRequest{To: target})
		requireCode(t, errs.Conflict, err, "a transfer to "+target+" is under way")
		_, err = h.Hold(t.Context(), ref, true)
		requireCode(t, errs.Conflict, err, "a transfer")
		l.end(byeBye())
		synctest.Wait()
		_, err = h.Transfer(t.Context(), ref, dialogs.TransferRequest{To: target})
		requireCode(t, errs.Conflict, err, "the dialog is TERMINATED")
		require.Len(t, h.transfers(t, ref.Participant), 1)
	})
}

// TestAttendedTransfer: the far end takes our place in another call, whose own far end hangs up by itself, or is hung up.
func TestAttendedTransfer(t *testing.T) {
	t.Parallel()
	for _, byItself := range []bool{true, false} {
		inBubble(t, func(t *testing.T, h *house) {
			ref, l := h.up(t)
			consulted, other := h.up(t, func(c *dialogs.Create) { c.To = target })
			d, err := h.Transfer(t.Context(), ref, dialogs.TransferRequest{Replaces: consulted.Dialog})
			require.NoError(t, err)
			require.Equal(t, dialogs.Transfer{To: target, Mode: dialogs.ModeRefer}, d.Transfer, "whom the other call is with")
			require.Equal(t, dialogs.Refer{Other: other}, <-l.refers)
			l.reports(202, false)
			l.reports(200, true, "200 OK")
			h.comesTo(t, ref.Participant, l, outcome{", SUCCEEDED, TERMINATED, onLeave", "SUCCEEDED", 200, "200 OK", 1})
			if byItself {
				other.end(byeBye())
			} else {
				time.Sleep(5 * time.Second)
			}
			h.settle(t, consulted.Participant, upOut+", TERMINATED, onLeave")
			require.Len(t, other.hangups, map[bool]int{true: 0, false: 1}[byItself])
		})
	}
}

func TestAttendedTransferFails(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.up(t)
		consulted, other := h.up(t)
		_, err := h.Transfer(t.Context(), ref, dialogs.TransferRequest{Replaces: consulted.Dialog})
		require.NoError(t, err)
		_, err = h.Transfer(t.Context(), consulted, dialogs.TransferRequest{Replaces: ref.Dialog})
		requireCode(t, errs.Conflict, err, "being transferred")
		l.reports(481, true, "481 gone")
		time.Sleep(time.Minute)
		h.settle(t, ref.Participant, upOut+", FAILED")
		h.settle(t, consulted.Participant, upOut)
		require.Empty(t, other.hangups, "both calls are as they were")
	})
}

// TestBridgeOutcomes are those in which the target is never joined.
func TestBridgeOutcomes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		then func(l, target *leg)
		want outcome
		ours int // hang-ups of the target
	}{
		{"busy", func(_, target *leg) {
			target.happens(dialogs.LegCalling, dialogs.LegRinging)
			target.end(busy())
		}, outcome{", FAILED", "FAILED", 486, "486 Busy Here", 0}, 0},
		{"no answer", func(_, target *leg) {
			target.happens(dialogs.LegCalling, dialogs.LegRinging)
			time.Sleep(time.Minute)
		}, outcome{", FAILED", "FAILED", 408, "no answer within 1m0s", 0}, 1},
		{"the target vanishes", func(_, target *leg) { target.vanish() }, outcome{", FAILED", "FAILED", 0, "the leg ended without saying why", 0}, 0},
		{"it answers when it is too late", func(_, target *leg) {
			target.beStubborn()
			time.Sleep(time.Minute)
			target.happens(dialogs.LegAnswered)
		}, outcome{", FAILED", "FAILED", 408, "no answer within 1m0s", 0}, 1},
		{"the far end hangs up", func(l, target *leg) {
			target.happens(dialogs.LegCalling, dialogs.LegRinging)
			l.end(byeBye())
		}, outcome{", FAILED, TERMINATED, onLeave", "FAILED", 0, "hung up by the far end", 0}, 1},
		{"the far end has no sound", func(_, target *leg) {
			target.events <- &dialogs.LegEvent{Kind: dialogs.LegAnswered}
			time.Sleep(time.Minute)
		}, outcome{", FAILED", "FAILED", 408, "no answer within 1m0s", 0}, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.up(t)
				h.transfer(t, ref, dialogs.TransferRequest{To: target, Mode: dialogs.ModeBridge})
				second := <-h.phone.legs
				require.Equal(t, dialogs.Dial{Dialog: ref.Dialog, Account: account, To: target, From: dialogs.FromUnknown}, h.phone.last)
				c.then(l, second)
				h.comesTo(t, ref.Participant, l, c.want)
				time.Sleep(time.Hour)
				h.comesTo(t, ref.Participant, l, c.want)
				require.Len(t, second.hangups, c.ours)
				require.Empty(t, l.refers)
			})
		})
	}
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.up(t, short)
				h.transfer(t, ref, dialogs.TransferRequest{To: target, Mode: dialogs.ModeBridge})
				second := <-h.phone.legs
				second.happens(dialogs.LegCalling, dialogs.LegRinging)
				synctest.Wait()
				way.do(t, h, ref)
				h.comesTo(t, ref.Participant, l, outcome{", FAILED, TERMINATED, " + way.last, "FAILED", 0, way.details, 1})
				require.Len(t, second.hangups, 1)
			})
		})
	}
}

// TestFarEndsRefer are the outcomes of the far end's own wish in which the target never takes its place.
func TestFarEndsRefer(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		then func(l, target *leg)
		want outcome
		told []int // to the far end
		ours int   // hang-ups of the target
	}{
		{"busy", func(_, target *leg) {
			target.happens(dialogs.LegCalling)
			target.events <- &dialogs.LegEvent{Kind: dialogs.LegRinging, Cause: dialogs.Cause{SIPCode: 183}}
			target.end(busy())
		}, outcome{", FAILED", "FAILED", 486, "486 Busy Here", 0}, []int{183, 486}, 0},
		{"the target breaks", func(_, target *leg) { target.end(dialogs.Cause{Reason: dialogs.Error, Details: "no trunk"}) }, outcome{
			", FAILED", "FAILED", 0, "no trunk", 0,
		}, []int{503}, 0},
		{"no answer", func(_, _ *leg) { time.Sleep(time.Minute) }, outcome{", FAILED", "FAILED", 408, "no answer within 1m0s", 0}, []int{408}, 1},
		{"another wish meanwhile", func(l, target *leg) {
			l.wants("+15550106")
			synctest.Wait()
			target.end(busy())
		}, outcome{", FAILED", "FAILED", 486, "486 Busy Here", 0}, []int{603, 486}, 0},
		{"the far end hangs up, then the target is busy", func(l, target *leg) {
			l.end(byeBye())
			synctest.Wait()
			target.end(busy())
		}, outcome{", FAILED, TERMINATED, onLeave", "FAILED", 486, "486 Busy Here", 0}, nil, 0},
		{"the far end hangs up, then nobody answers", func(l, _ *leg) {
			l.end(byeBye())
			time.Sleep(time.Minute)
		}, outcome{", FAILED, TERMINATED, onLeave", "FAILED", 408, "no answer within 1m0s", 0}, nil, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.up(t)
				l.wants(target)
				second := <-h.phone.legs
				require.Equal(t, dialogs.Dial{
					Dialog: ref.Dialog, Account: account, To: target, From: dialogs.FromUnknown, Trunk: "pbx", ReferredBy: "<sip:a@b>",
				}, h.phone.last)
				c.then(l, second)
				h.comesTo(t, ref.Participant, l, c.want)
				time.Sleep(time.Hour)
				h.comesTo(t, ref.Participant, l, c.want)
				require.Equal(t, c.told, all(l.referred))
				require.Len(t, second.hangups, c.ours)
				told := h.transfers(t, ref.Participant)[0]
				require.Equal(t, []string{"refer", "FAR END"}, []string{told.Mode, told.By})
			})
		})
	}
	for name, way := range ways() {
		for _, left := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " after the far end", false: ""}[left], func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, h *house) {
					ref, l := h.up(t, short)
					l.wants(target)
					second := <-h.phone.legs
					synctest.Wait()
					if left {
						l.end(byeBye())
						synctest.Wait()
					}
					way.do(t, h, ref)
					h.comesTo(t, ref.Participant, l, outcome{", FAILED, TERMINATED, " + way.last, "FAILED", 0, way.details, 1})
					require.Len(t, second.hangups, 1)
				})
			})
		}
	}
	t.Run("it can't be called", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			err  error
			told int
		}{
			{errs.New(errs.Invalid, "no URI"), 400},
			{errs.New(errs.Forbidden, "no URI"), 403},
			{errs.New(errs.NotFound, "no URI"), 404},
			{errs.New(errs.Unavailable, "no URI"), 503},
		} {
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.up(t)
				h.phone.err = c.err
				l.wants(target)
				h.comesTo(t, ref.Participant, l, outcome{", FAILED", "FAILED", c.told, "no URI", 0})
				require.Equal(t, []int{c.told}, all(l.referred))
			})
		}
	})
}

// comesIn lets a call come in that wants the place of l.
func (h *house) comesIn(t *testing.T, l *leg, account string) (*leg, error) {
	t.Helper()
	accept, err := h.Incoming(t.Context(), dialogs.Incoming{Account: account, From: target, Replaces: l})
	if err != nil {
		return nil, err
	}
	taker := newLeg()
	accept(taker)
	synctest.Wait()
	return taker, nil
}

// TestTakeoverFails: a call that wants another's place and does not come to it.
func TestTakeoverFails(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.up(t)
		_, err := h.comesIn(t, l, "another")
		requireCode(t, errs.Forbidden, err, "another account")
		_, err = h.comesIn(t, newLeg(), account)
		requireCode(t, errs.NotFound, err, "over")

		taker, err := h.comesIn(t, l, account)
		require.NoError(t, err)
		require.Len(t, taker.answers, 1)
		second, err := h.comesIn(t, l, account)
		require.NoError(t, err)
		require.Equal(t, 486, <-second.hangups, "one at a time")
		taker.end(dialogs.Cause{Reason: dialogs.Error, Details: "no ACK came"})
		h.comesTo(t, ref.Participant, l, outcome{", FAILED", "FAILED", 0, "no ACK came", 0})
		told := h.transfers(t, ref.Participant)[0]
		require.Equal(t, []string{"replaces", "FAR END"}, []string{told.Mode, told.By})

		l.end(byeBye())
		synctest.Wait()
		_, err = h.comesIn(t, l, account)
		requireCode(t, errs.NotFound, err, "over")
	})
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.up(t)
		taker, err := h.comesIn(t, l, account)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		h.comesTo(t, ref.Participant, l, outcome{", FAILED", "FAILED", 0, "no ACK within 1m0s", 0})
		require.Len(t, taker.hangups, 1)
	})
	inBubble(t, func(t *testing.T, h *house) { // a call that rings here belongs to whom it calls
		ref, l := h.dial(t)
		synctest.Wait()
		taker, err := h.comesIn(t, l, account)
		require.NoError(t, err)
		require.Equal(t, 486, <-taker.hangups, "nothing was sent yet")
		l.happens(dialogs.LegCalling)
		l.end(busy())
		h.settle(t, ref.Participant, "CALLING, TERMINATED")
	})
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.up(t)
		taker, err := h.comesIn(t, l, account)
		require.NoError(t, err)
		h.stop()
		h.comesTo(t, ref.Participant, l, outcome{", FAILED, TERMINATED, onDisconnect", "FAILED", 0, "the gateway was stopped", 1})
		require.Len(t, taker.hangups, 1)
	})
}

// TestTransferCutByACrash: the next start reports what was under way.
func TestTransferCutByACrash(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		p, _ := h.participant(t)
		ctx := context.WithoutCancel(t.Context())
		d := dialogs.Dialog{
			ID: "d", Account: account, Participant: p, State: dialogs.Answered, To: number, From: dialogs.FromUnknown,
			Created: time.Now(), Transfer: dialogs.Transfer{To: target, Mode: dialogs.ModeBridge},
		}
		require.NoError(t, failure(h.db.CreateDialog(ctx, d)))
		require.NoError(t, h.Recover(ctx))
		require.NoError(t, h.Recover(ctx))
		h.settle(t, p, "FAILED, TERMINATED, onDisconnect")
		told := h.transfers(t, p)[0]
		require.Equal(t, []string{"gateway restarted", "bridge", "APPLICATION", target, "d"},
			[]string{told.Details, told.Mode, told.By, told.To, told.DialogID})
		got, err := h.Get(t.Context(), dialogs.Ref{Account: account, Participant: p, Dialog: "d"})
		require.NoError(t, err)
		require.Zero(t, got.Transfer)
	})
}

// TestTransferWithoutDatabase: the outcome is saved once, whatever the database does.
func TestTransferWithoutDatabase(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string][2]int{"away": {3, 0}, "answers lost": {0, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.up(t)
				h.transfer(t, ref, dialogs.TransferRequest{To: target})
				h.db.set(failure[0], failure[1])
				l.reports(200, true, "200 OK")
				time.Sleep(time.Minute)
				h.comesTo(t, ref.Participant, l, outcome{", SUCCEEDED, TERMINATED, onLeave", "SUCCEEDED", 200, "200 OK", 1})
			})
		})
	}
}

// TestHold: each change of who holds is one callback, and the dialog shows it.
func TestHold(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.up(t)
		says := func(byUs, byFarEnd bool, words ...string) {
			t.Helper()
			synctest.Wait()
			d, err := h.Get(t.Context(), ref)
			require.NoError(t, err)
			require.Equal(t, dialogs.Hold{ByUs: byUs, ByFarEnd: byFarEnd}, d.Hold)
			require.Equal(t, dialogs.Answered, d.State)
			require.Equal(t, dialogs.Answer, d.Cause.Reason, "why it is in its state has not changed")
			var got []string
			for _, e := range h.drain(t, ref.Participant)[3:] {
				require.Equal(t, "ANSWERED", e.State)
				got = append(got, e.EventData.Details)
			}
			require.Equal(t, words, got)
		}
		news := func(byUs, byFarEnd bool, cause ...dialogs.Cause) {
			e := dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: byUs, ByFarEnd: byFarEnd}}
			if len(cause) > 0 {
				e.Cause = cause[0]
			}
			l.events <- &e
		}
		wish := func(on bool) {
			t.Helper()
			_, err := h.Hold(t.Context(), ref, on)
			require.NoError(t, err)
			require.Equal(t, on, <-l.holds)
		}
		news(false, true)
		says(false, true, "HELD BY FAR END")
		news(false, true) // a re-INVITE that changes nothing
		says(false, true, "HELD BY FAR END")
		wish(true)
		says(false, true, "HELD BY FAR END")
		news(true, true)
		says(true, true, "HELD BY FAR END", "HELD")
		news(true, false)
		says(true, false, "HELD BY FAR END", "HELD", "RESUMED BY FAR END")
		_, err := h.Hold(t.Context(), ref, true)
		requireCode(t, errs.Conflict, err, "on hold already")
		wish(false)
		news(true, false, dialogs.Cause{SIPCode: 488, Details: "488 Not Acceptable Here"})
		says(true, false, "HELD BY FAR END", "HELD", "RESUMED BY FAR END", "RESUME FAILED: 488 Not Acceptable Here")
		wish(false)
		news(false, false)
		says(false, false, "HELD BY FAR END", "HELD", "RESUMED BY FAR END", "RESUME FAILED: 488 Not Acceptable Here", "RESUMED")
		_, err = h.Hold(t.Context(), ref, false)
		requireCode(t, errs.Conflict, err, "not put on hold")
		l.end(byeBye())
		synctest.Wait()
		_, err = h.Hold(t.Context(), ref, true)
		requireCode(t, errs.Conflict, err, "TERMINATED")
	})
}

// TestResumeBeforeTheFarEndAgreed: who changes its mind need not wait for the far end.
func TestResumeBeforeTheFarEndAgreed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers []dialogs.LegEvent
		want    []string
	}{
		"the hold was on its way":  {[]dialogs.LegEvent{{Hold: dialogs.Hold{ByUs: true}}, {}}, []string{"HELD", "RESUMED"}},
		"the hold had not left":    {[]dialogs.LegEvent{{}}, []string{"RESUMED"}},
		"the hold is refused":      {[]dialogs.LegEvent{{Cause: dialogs.Cause{SIPCode: 488}}, {}}, []string{"HOLD FAILED"}},
		"the far end holds itself": {[]dialogs.LegEvent{{Hold: dialogs.Hold{ByFarEnd: true}}, {Hold: dialogs.Hold{ByUs: true, ByFarEnd: true}}, {Hold: dialogs.Hold{ByFarEnd: true}}}, []string{"HELD BY FAR END", "HELD", "RESUMED"}},
		"the resume is refused":    {[]dialogs.LegEvent{{Hold: dialogs.Hold{ByUs: true}}, {Hold: dialogs.Hold{ByUs: true}, Cause: dialogs.Cause{SIPCode: 488}}}, []string{"HELD", "RESUME FAILED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				ref, l := h.dial(t)
				l.happens(dialogs.LegCalling, dialogs.LegRinging)
				synctest.Wait()
				for _, on := range []bool{true, false} {
					_, err := h.Hold(t.Context(), ref, on)
					requireCode(t, errs.Conflict, err, "state: the dialog is RINGING; only one that is ANSWERED can be held")
				}
				l.happens(dialogs.LegAnswered)
				synctest.Wait()
				for _, on := range []bool{true, false} {
					_, err := h.Hold(t.Context(), ref, on)
					require.NoError(t, err)
					require.Equal(t, on, <-l.holds)
					_, err = h.Hold(t.Context(), ref, on)
					requireCode(t, errs.Conflict, err, "state: ")
				}
				for _, e := range c.answers {
					e.Kind = dialogs.LegHold
					l.events <- &e
				}
				synctest.Wait()
				var got []string
				for _, e := range h.drain(t, ref.Participant)[3:] {
					got = append(got, e.EventData.Details)
				}
				require.Equal(t, c.want, got[1:], "after the answer")
				held := must(h.Get(t.Context(), ref)).Hold.ByUs
				require.Equal(t, name == "the resume is refused", held)
				_, err := h.Hold(t.Context(), ref, !held)
				require.NoError(t, err, "nothing is waited for any more")
				l.end(byeBye())
			})
		})
	}
}

// TestPlaceIsFreeBeforeTheEndIsTold: whoever reads that a call is over may place the next, though the far end has not
// answered the BYE.
func TestPlaceIsFreeBeforeTheEndIsTold(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		h.routes.SetTrunks([]trunks.Trunk{{Name: "carrier", Account: account, URI: "sip:carrier.example"}}, nil)
		h.routes.SetAccounts([]trunks.Account{{ID: account, MaxCalls: 1, AllowedPrefixes: []string{"+"}}})
		ref, l := h.up(t)
		other, _ := h.participant(t)
		_, err := h.Create(t.Context(), dialogs.Create{Account: account, Participant: other, To: number, From: dialogs.FromUnknown})
		requireCode(t, errs.TooMany, err, "maxCalls")
		l.beStubborn()
		h.patch(t, ref, dialogs.Terminated)
		require.Equal(t, "TERMINATED", h.end(t, ref.Participant).State)
		require.Len(t, l.hangups, 1)
		_, second := h.dialAs(t, other)
		l.end(byeBye())
		second.end(byeBye())
		synctest.Wait()
		require.Zero(t, h.routes.State(trunks.Key{Account: account, Name: "carrier"}).Calls, "each was given back once")
	})
}

// TestTransferIsGuarded: whom the account may not call, the far end is not asked to call either.
func TestTransferIsGuarded(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.up(t)
		h.routes.SetAccounts([]trunks.Account{{ID: account, AllowedPrefixes: []string{"+1555"}}})
		for _, to := range []string{"+493012345", "sip:+493012345@carrier.example.com", "sip:00493012345@carrier.example.com"} {
			_, err := h.Transfer(t.Context(), ref, dialogs.TransferRequest{To: to})
			requireCode(t, errs.Forbidden, err, "may not call")
		}
		_, err := h.Transfer(t.Context(), ref, dialogs.TransferRequest{To: "sip:a@b@carrier.example.com"})
		requireCode(t, errs.Invalid, err, "to: ")
		require.Empty(t, l.refers)
		require.Zero(t, must(h.Get(t.Context(), ref)).Transfer)
		h.transfer(t, ref, dialogs.TransferRequest{To: "sip:102@pbx.example.com"})
		require.Len(t, l.refers, 1)
	})
}
