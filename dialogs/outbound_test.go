package dialogs_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
)

func busy() dialogs.Cause {
	return dialogs.Cause{Reason: dialogs.FarEndBusy, Details: "486 Busy Here", SIPCode: 486}
}

func byeBye() dialogs.Cause { return dialogs.Cause{Details: "hung up by the far end"} }

// TestOutbound lets the far end and the clock do all that they can do to a call.
func TestOutbound(t *testing.T) {
	t.Parallel()
	up := []dialogs.LegEventKind{dialogs.LegCalling, dialogs.LegRinging, dialogs.LegAnswered}
	cases := []struct {
		name    string
		more    func(*dialogs.Create)
		happens []dialogs.LegEventKind
		then    func(l *leg)
		words   string
		cause   dialogs.Cause
		hangups int
	}{
		{
			"answered, ended by the far end", nil, up, func(l *leg) { l.end(byeBye()) },
			"CALLING, RINGING, ANSWERED, onConnect, TERMINATED, onLeave", byeBye(), 0,
		},
		{
			"answered without ringing", nil,
			[]dialogs.LegEventKind{dialogs.LegCalling, dialogs.LegAnswered},
			func(l *leg) { l.end(byeBye()) },
			"CALLING, ANSWERED, onConnect, TERMINATED, onLeave", byeBye(), 0,
		},
		{
			"rings again and again", nil,
			[]dialogs.LegEventKind{dialogs.LegCalling, dialogs.LegRinging, dialogs.LegRinging, dialogs.LegAnswered, dialogs.LegRinging, dialogs.LegAnswered, dialogs.LegCalling},
			func(l *leg) { l.end(byeBye()) }, "CALLING, RINGING, ANSWERED, onConnect, TERMINATED, onLeave", byeBye(), 0,
		},
		{"busy", nil, up[:1], func(l *leg) { l.end(busy()) }, "CALLING, TERMINATED", busy(), 0},
		{"busy before anything was on the wire", nil, nil, func(l *leg) { l.end(busy()) }, "TERMINATED", busy(), 0},
		{
			"declined", nil, up[:2], func(l *leg) {
				l.end(dialogs.Cause{Reason: dialogs.FarEndDeclined, Details: "603 Decline", SIPCode: 603})
			},
			"CALLING, RINGING, TERMINATED",
			dialogs.Cause{Reason: dialogs.FarEndDeclined, Details: "603 Decline", SIPCode: 603},
			0,
		},
		{
			"the leg broke", nil, up, func(l *leg) { l.end(dialogs.Cause{Reason: dialogs.Error, Details: "no ACK"}) },
			"CALLING, RINGING, ANSWERED, onConnect, TERMINATED, onDisconnect",
			dialogs.Cause{Reason: dialogs.Error, Details: "no ACK"},
			0,
		},
		{
			"the leg vanished", nil, up, (*leg).vanish, "CALLING, RINGING, ANSWERED, onConnect, TERMINATED, onDisconnect",
			dialogs.Cause{Reason: dialogs.Error, Details: "the leg ended without saying why"},
			0,
		},
		{
			"the leg vanished at once", nil, nil, (*leg).vanish, "TERMINATED",
			dialogs.Cause{Reason: dialogs.Error, Details: "the leg ended without saying why"},
			0,
		},
		{"nobody answers", nil, up[:2], nil, "CALLING, RINGING, TERMINATED", dialogs.Cause{Reason: dialogs.Error, Details: "no answer within 1m0s"}, 1},
		{
			"nobody rings", func(c *dialogs.Create) { c.RingTimeout = 7 * time.Second }, up[:1], nil, "CALLING, TERMINATED",
			dialogs.Cause{Reason: dialogs.Error, Details: "no answer within 7s"},
			1,
		},
		{
			"its longest duration is over", func(c *dialogs.Create) { c.MaxDuration = 3 * time.Minute }, up, nil,
			"CALLING, RINGING, ANSWERED, onConnect, TERMINATED, onLeave",
			dialogs.Cause{Details: "the longest duration, 3m0s, is over"},
			1,
		},
		{"no sound can be made for it", nil, append(up[:3:3], dialogs.LegMedia), nil, // a leg without a port
			"CALLING, RINGING, ANSWERED, onConnect, TERMINATED, onDisconnect", dialogs.Cause{Reason: dialogs.Error, Details: "no media could be set up for the phone"}, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				more := c.more
				if more == nil {
					more = func(*dialogs.Create) {}
				}
				ref, l := h.dial(t, more)
				l.happens(c.happens...)
				if c.then != nil {
					c.then(l)
				}
				time.Sleep(time.Hour)
				h.settle(t, ref.Participant, c.words)
				end := h.end(t, ref.Participant)
				require.Equal(t, c.cause, dialogs.Cause{
					Reason: dialogs.Reason(end.EventData.Reason), Details: end.EventData.Details, SIPCode: end.EventData.SIPCode,
				})
				require.Len(t, l.hangups, c.hangups)
				require.Empty(t, l.answers)
				d, err := h.Get(t.Context(), ref)
				require.NoError(t, err)
				require.Equal(t, dialogs.Terminated, d.State)
				require.Equal(t, c.cause, d.Cause)
				require.False(t, d.Ended.IsZero())
				require.Equal(t, strings.Contains(c.words, "ANSWERED"), !d.Answered.IsZero())
				require.Zero(t, h.Live())
				_, again := h.dialAs(t, ref.Participant)
				require.NotNil(t, again, "the participant is free again")
			})
		})
	}
}

// TestLongCall is a call that rings just short of too long and then lasts.
func TestLongCall(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l := h.dial(t)
		l.happens(dialogs.LegCalling, dialogs.LegRinging)
		time.Sleep(time.Minute - time.Second)
		l.happens(dialogs.LegAnswered)
		time.Sleep(20 * time.Hour)
		h.settle(t, ref.Participant, "CALLING, RINGING, ANSWERED, onConnect")
		d, err := h.Get(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, time.Minute-time.Second, d.Answered.Sub(d.Created))
	})
}

// reach brings a call to a state.
func reach(t *testing.T, h *house, state dialogs.State) (dialogs.Ref, *leg, string) {
	t.Helper()
	ref, l := h.dial(t)
	words := ""
	switch state {
	case dialogs.StateNew:
	case dialogs.Calling:
		l.happens(dialogs.LegCalling)
		words = "CALLING, "
	case dialogs.Ringing:
		l.happens(dialogs.LegCalling, dialogs.LegRinging)
		words = "CALLING, RINGING, "
	case dialogs.Answered, dialogs.Terminated:
		l.happens(dialogs.LegCalling, dialogs.LegRinging, dialogs.LegAnswered)
		words = "CALLING, RINGING, ANSWERED, onConnect, "
	}
	if state == dialogs.Terminated {
		l.end(byeBye())
	}
	synctest.Wait()
	return ref, l, words
}

// TestTheApplicationEnds ends a call in each of its states in each way that the application has.
func TestTheApplicationEnds(t *testing.T) {
	t.Parallel()
	ways := map[string]struct {
		end     func(t *testing.T, h *house, ref dialogs.Ref) error
		details string
	}{
		"PATCH": {func(t *testing.T, h *house, ref dialogs.Ref) error {
			d, err := h.Update(t.Context(), ref, dialogs.Terminated)
			if err == nil {
				require.Equal(t, dialogs.Terminated, d.State, "at once")
			}
			return err
		}, "hung up by the application"},
		"DELETE": {func(t *testing.T, h *house, ref dialogs.Ref) error {
			return h.Delete(t.Context(), ref)
		}, "hung up by the application"},
		"DELETE of the participant": {func(t *testing.T, h *house, ref dialogs.Ref) error {
			return h.people.DeleteParticipant(t.Context(), ref.Account, ref.Participant)
		}, "the participant was deleted"},
		"stop of the gateway": {func(_ *testing.T, h *house, _ dialogs.Ref) error {
			h.stop()
			return nil
		}, "the gateway was stopped"},
	}
	for name, way := range ways {
		for _, state := range dialogs.States() {
			t.Run(fmt.Sprintf("%s when %s", name, state), func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T, h *house) {
					ref, l, words := reach(t, h, state)
					err := way.end(t, h, ref)
					if state == dialogs.Terminated {
						if name == "PATCH" {
							requireCode(t, errs.Conflict, err, "TERMINATED")
						} else {
							require.NoError(t, err)
						}
						h.settle(t, ref.Participant, words+"TERMINATED, onLeave")
						require.Empty(t, l.hangups)
						return
					}
					require.NoError(t, err)
					words += "TERMINATED"
					if state == dialogs.Answered {
						if name == "stop of the gateway" {
							words += ", onDisconnect"
						} else {
							words += ", onLeave"
						}
					}
					h.settle(t, ref.Participant, words)
					require.Equal(t, way.details, h.end(t, ref.Participant).EventData.Details)
					require.Len(t, l.hangups, 1)
					_, err = h.Get(t.Context(), ref)
					if name == "DELETE" || name == "DELETE of the participant" {
						requireCode(t, errs.NotFound, err, "")
					} else {
						require.NoError(t, err)
					}
				})
			})
		}
	}
}

// TestAnswerCrossesHangup is a 200 that comes when the call was given up: the leg is hung up again, and nothing else.
func TestAnswerCrossesHangup(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l, words := reach(t, h, dialogs.Ringing)
		l.beStubborn()
		h.patch(t, ref, dialogs.Terminated)
		h.settle(t, ref.Participant, words+"TERMINATED")
		require.Len(t, l.hangups, 1)
		l.happens(dialogs.LegAnswered, dialogs.LegMedia)
		h.settle(t, ref.Participant, words+"TERMINATED")
		require.Len(t, l.hangups, 2, "the 200 is answered with a BYE")
		require.Equal(t, 1, h.Live(), "the leg still holds something")
		_, err := h.Update(t.Context(), ref, dialogs.Terminated)
		requireCode(t, errs.Conflict, err, "the dialog is TERMINATED")
		require.NoError(t, h.Delete(t.Context(), ref), "deleting a call that is over just hides it")
		l.end(byeBye())
		h.settle(t, ref.Participant, words+"TERMINATED")
		require.Zero(t, h.Live())
	})
}

// TestFreeAtOnce calls again as soon as the end is written, while the old leg still closes.
func TestFreeAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		ref, l, _ := reach(t, h, dialogs.Answered)
		l.beStubborn()
		_, err := h.Create(t.Context(), dialogs.Create{Account: account, Participant: ref.Participant, To: number, From: dialogs.FromUnknown})
		requireCode(t, errs.Conflict, err, "has a call already")
		h.patch(t, ref, dialogs.Terminated)
		second, _ := h.dialAs(t, ref.Participant)
		require.NotEqual(t, ref, second)
		require.Equal(t, 2, h.Live())
		l.end(byeBye())
		list, err := h.List(t.Context(), dialogs.Ref{Account: account, Participant: ref.Participant})
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, ref.Dialog, list[0].ID)
	})
}

func TestNothingCanBeDialled(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		p, _ := h.participant(t)
		h.phone.err = errs.New(errs.Unavailable, "no trunk takes calls to +1")
		d, err := h.Create(t.Context(), dialogs.Create{Account: account, Participant: p, To: number, From: "+15550123", UserToUser: "x;encoding=hex"})
		require.NoError(t, err, "what becomes of it is an event")
		h.settle(t, p, "TERMINATED")
		end := h.end(t, p)
		require.Equal(t, "ERROR", end.EventData.Reason)
		require.Equal(t, "no trunk takes calls to +1", end.EventData.Details)
		require.Equal(t, dialogs.Dial{Dialog: d.ID, Account: account, To: number, From: "+15550123", UserToUser: "x;encoding=hex"}, h.phone.last)
	})
}

func TestCreateRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		p, _ := h.participant(t)
		cases := []struct {
			name  string
			edit  func(*dialogs.Create)
			code  errs.Code
			words string
		}{
			{"to is a word", func(c *dialogs.Create) { c.To = "anna" }, errs.Invalid, "to: "},
			{"to is empty", func(c *dialogs.Create) { c.To = "" }, errs.Invalid, "to: "},
			{"to begins with 0", func(c *dialogs.Create) { c.To = "+05550100" }, errs.Invalid, "to: "},
			{"to has 16 digits", func(c *dialogs.Create) { c.To = "+1234567890123456" }, errs.Invalid, "to: "},
			{"to has other digits", func(c *dialogs.Create) { c.To = "+1555٠١٠٠" }, errs.Invalid, "to: "},
			{"to with a header in it", func(c *dialogs.Create) { c.To = "+15550100\r\nX: y" }, errs.Invalid, "to: "},
			{"from is empty", func(c *dialogs.Create) { c.From = "" }, errs.Invalid, "from: "},
			{"from is small", func(c *dialogs.Create) { c.From = "unknown" }, errs.Invalid, "from: "},
			{"userToUser with a line break", func(c *dialogs.Create) { c.UserToUser = "a\nb" }, errs.Invalid, "userToUser: "},
			{"userToUser that is no text", func(c *dialogs.Create) { c.UserToUser = "\xff" }, errs.Invalid, "userToUser: "},
			{"userToUser too long", func(c *dialogs.Create) { c.UserToUser = strings.Repeat("x", 1025) }, errs.Invalid, "userToUser: has 1025 bytes"},
			{"ringTimeout negative", func(c *dialogs.Create) { c.RingTimeout = -1 }, errs.Invalid, "ringTimeout: "},
			{"ringTimeout too long", func(c *dialogs.Create) { c.RingTimeout = time.Hour }, errs.Invalid, "ringTimeout: "},
			{"maxDuration negative", func(c *dialogs.Create) { c.MaxDuration = -1 }, errs.Invalid, "maxDuration: "},
			{"maxDuration too long", func(c *dialogs.Create) { c.MaxDuration = 25 * time.Hour }, errs.Invalid, "maxDuration: "},
			{"participant unknown", func(c *dialogs.Create) { c.Participant = "x" }, errs.NotFound, "participant x"},
			{"account of somebody else", func(c *dialogs.Create) { c.Account = "1234567" }, errs.NotFound, p},
			{"session where it is not", func(c *dialogs.Create) { c.Session = "s" }, errs.NotFound, `not in session "s"`},
		}
		for _, c := range cases {
			req := dialogs.Create{Account: account, Participant: p, To: number, From: dialogs.FromRestricted}
			c.edit(&req)
			_, err := h.Create(t.Context(), req)
			require.Error(t, err, c.name)
			require.Equal(t, c.code, errs.CodeOf(err), c.name)
			require.ErrorContains(t, err, c.words, c.name)
		}
		h.db.set(1, 0)
		_, err := h.Create(t.Context(), dialogs.Create{Account: account, Participant: p, To: number, From: dialogs.FromUnknown})
		requireCode(t, errs.Unavailable, err, "the database is away")
		h.settle(t, p, "")
		require.Empty(t, h.phone.legs)
		require.Zero(t, h.people.Live())

		s, err := h.people.CreateSession(t.Context(), account, sessions.NewSession{})
		require.NoError(t, err)
		require.NoError(t, h.people.Join(t.Context(), account, s.ID, p, sessions.Subscriptions{}))
		ref, _ := h.dialAs(t, p, func(c *dialogs.Create) { c.Session = s.ID })
		ref.Session = s.ID
		_, err = h.Get(t.Context(), ref)
		require.NoError(t, err)
		for _, wrong := range []func(*dialogs.Ref){
			func(r *dialogs.Ref) { r.Session = "x" }, func(r *dialogs.Ref) { r.Account = "x" },
			func(r *dialogs.Ref) { r.Participant = "x" }, func(r *dialogs.Ref) { r.Dialog = "x" },
		} {
			bad := ref
			wrong(&bad)
			_, err := h.Get(t.Context(), bad)
			requireCode(t, errs.NotFound, err, "")
			_, err = h.Update(t.Context(), bad, dialogs.Terminated)
			requireCode(t, errs.NotFound, err, "")
			requireCode(t, errs.NotFound, h.Delete(t.Context(), bad), "")
			if bad.Dialog == ref.Dialog {
				_, err = h.List(t.Context(), bad)
				requireCode(t, errs.NotFound, err, "")
			}
		}
		for _, state := range []dialogs.State{dialogs.StateNew, dialogs.Calling, dialogs.Ringing, dialogs.Answered} {
			_, err := h.Update(t.Context(), ref, state)
			requireCode(t, errs.Conflict, err, "state: ")
		}
		require.Equal(t, 1, h.Live())
	})
}

// A gateway that drains lets calls that are up go on, and takes no new one.
func TestDrainBeginsNoCall(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		p, _ := h.participant(t)
		idle := h.Drain()
		_, err := h.Create(t.Context(), dialogs.Create{Account: account, Participant: p, To: number, From: dialogs.FromUnknown})
		requireCode(t, errs.Unavailable, err, "it is being stopped")
		require.Equal(t, 10*time.Second, errs.RetryAfterOf(err))
		<-idle
		h.settle(t, p, "")
	})
}

// TestStopped asks for calls when the gateway has stopped: nothing of them is left.
func TestStopped(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		p, token := h.participant(t)
		accept, err := h.Incoming(t.Context(), dialogs.Incoming{UserToUser: token + ";encoding=jwt"})
		require.NoError(t, err)
		h.stop()
		h.settle(t, p, "")
		_, err = h.Create(t.Context(), dialogs.Create{Account: account, Participant: p, To: number, From: dialogs.FromUnknown})
		requireCode(t, errs.Unavailable, err, "stopping")
		l := newLeg()
		accept(l)
		h.settle(t, p, "")
		require.Equal(t, 503, <-l.hangups)
	})
}
