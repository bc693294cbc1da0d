package dialogs_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
)

func TestInbound(t *testing.T) {
	t.Parallel()
	const talked = "RINGING, ANSWERED, onConnect, TERMINATED"
	cases := []struct {
		name    string
		then    func(t *testing.T, h *house, ref dialogs.Ref, l *leg)
		words   string
		details string
		hangups int
	}{
		{
			"the caller hangs up", func(_ *testing.T, _ *house, _ dialogs.Ref, l *leg) { l.end(byeBye()) },
			talked + ", onLeave", "hung up by the far end", 0,
		},
		{
			"the caller hangs up after its ACK", func(_ *testing.T, _ *house, _ dialogs.Ref, l *leg) { l.happens(dialogs.LegAnswered); l.end(byeBye()) },
			talked + ", onLeave", "hung up by the far end", 0,
		},
		{"no ACK comes", func(_ *testing.T, _ *house, _ dialogs.Ref, l *leg) {
			l.end(dialogs.Cause{Reason: dialogs.Error, Details: "no ACK"})
		}, talked + ", onDisconnect", "no ACK", 0},
		{
			"the leg vanishes", func(_ *testing.T, _ *house, _ dialogs.Ref, l *leg) { l.vanish() },
			talked + ", onDisconnect", "the leg ended without saying why", 0,
		},
		{
			"PATCH", func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) { h.patch(t, ref, dialogs.Terminated) },
			talked + ", onLeave", "hung up by the application", 1,
		},
		{
			"DELETE", func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) { require.NoError(t, h.Delete(t.Context(), ref)) },
			talked + ", onLeave", "hung up by the application", 1,
		},
		{"DELETE of the participant", func(t *testing.T, h *house, ref dialogs.Ref, _ *leg) {
			require.NoError(t, h.people.DeleteParticipant(t.Context(), account, ref.Participant))
		}, talked + ", onLeave", "the participant was deleted", 1},
		{
			"the gateway stops", func(_ *testing.T, h *house, _ dialogs.Ref, _ *leg) { h.stop() },
			talked + ", onDisconnect", "the gateway was stopped", 1,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				_, token := h.participant(t)
				ref, l := h.incoming(t, token)
				d, err := h.Get(t.Context(), ref)
				require.NoError(t, err)
				require.True(t, d.Inbound)
				require.Equal(t, dialogs.Answered, d.State)
				require.Equal(t, []string{number, "+15550123"}, []string{d.To, d.From})
				require.Len(t, l.answers, 1)
				_, err = h.Update(t.Context(), ref, dialogs.Answered)
				requireCode(t, errs.Conflict, err, "the dialog is ANSWERED")
				time.Sleep(time.Hour) // no timer is running
				h.settle(t, ref.Participant, "RINGING, ANSWERED, onConnect")
				c.then(t, h, ref, l)
				h.settle(t, ref.Participant, c.words)
				require.Equal(t, c.details, h.end(t, ref.Participant).EventData.Details)
				require.Len(t, l.hangups, c.hangups)
				require.Len(t, l.answers, 1)
			})
		})
	}
}

func TestInboundRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		p, token := h.participant(t)
		sign := func(key string, life time.Duration) string {
			token, err := sessions.NewSigner([]byte(strings.Repeat(key, 32)), life).Sign(account, p)
			require.NoError(t, err)
			return token + ";encoding=jwt"
		}
		busy, busyToken := h.participant(t)
		h.dialAs(t, busy)
		cases := []struct {
			name, userToUser, account string
			code                      errs.Code
			words                     string
		}{
			{"no token", "", "", errs.NotFound, "no participant token"},
			{"something else", "cafe;encoding=hex", "", errs.NotFound, "no participant token"},
			{"not a token", "hello;encoding=jwt", "", errs.Forbidden, "malformed"},
			{"forged", sign("x", time.Hour), "", errs.Forbidden, "not signed"},
			{"expired", sign("k", -time.Hour), "", errs.Unauthenticated, "expired"},
			{"over another account's trunk", token + ";encoding=jwt", "1234567", errs.Forbidden, "another account"},
			{"while it is on the phone", busyToken + ";encoding=jwt", account, errs.Conflict, "has a call already"},
		}
		for _, c := range cases {
			_, err := h.Incoming(t.Context(), dialogs.Incoming{UserToUser: c.userToUser, Account: c.account, Trunk: "carrier"})
			require.Error(t, err, c.name)
			require.Equal(t, c.code, errs.CodeOf(err), c.name)
			require.ErrorContains(t, err, c.words, c.name)
		}
		h.settle(t, p, "")
		require.Equal(t, 1, h.Live())
		_, err := h.Incoming(t.Context(), dialogs.Incoming{UserToUser: token + ";encoding=jwt", Account: account})
		require.NoError(t, err, "over its own account's trunk")
	})
}

// TestLetInAndThenRefused are calls that could be let in when they were looked at, and not any more when they came.
func TestLetInAndThenRefused(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name      string
		meanwhile func(t *testing.T, h *house, participant, token string)
		status    int
		words     string
	}{
		{"another call of the participant", func(t *testing.T, h *house, p, _ string) { h.dialAs(t, p) }, 486, ""},
		{"another call, of which only the row is left", func(t *testing.T, h *house, p, _ string) {
			require.NoError(t, failure(h.db.DB.CreateDialog(t.Context(), dialogs.Dialog{ID: "left", Account: account, Participant: p, State: dialogs.Ringing})))
		}, 486, ""},
		{"the participant was deleted", func(t *testing.T, h *house, p, _ string) {
			require.NoError(t, h.people.DeleteParticipant(t.Context(), account, p))
		}, 404, ""},
		{"the database is away", func(_ *testing.T, h *house, _, _ string) { h.db.set(1, 0) }, 503, ""},
		{"its answer is lost", func(_ *testing.T, h *house, _, _ string) { h.db.set(0, 1) }, 503, "RINGING, ANSWERED, onConnect, TERMINATED, onDisconnect"}, // as its row had it
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, h *house) {
				p, token := h.participant(t)
				accept, err := h.Incoming(t.Context(), dialogs.Incoming{UserToUser: token + ";encoding=jwt"})
				require.NoError(t, err)
				c.meanwhile(t, h, p, token)
				before := h.Live()
				l := newLeg()
				l.beStubborn()
				accept(l)
				h.settle(t, p, c.words)
				require.Equal(t, c.status, <-l.hangups)
				require.Empty(t, l.answers)
				l.happens(dialogs.LegAnswered, dialogs.LegRinging, dialogs.LegMedia) // far too late
				l.end(dialogs.Cause{})
				h.settle(t, p, c.words)
				require.Equal(t, before, h.Live())
				require.NoError(t, h.Recover(t.Context())) // ends the row that is left, and what it finds of the other call
			})
		})
	}
}

// TestTokenOfAnotherAccount has a call, over no trunk, whose token pairs a participant with an account that is not its own.
func TestTokenOfAnotherAccount(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		p, _ := h.participant(t)
		token, err := sessions.NewSigner([]byte(strings.Repeat("k", 32)), time.Hour).Sign("1234567", p)
		require.NoError(t, err)
		accept, err := h.Incoming(t.Context(), dialogs.Incoming{UserToUser: token + ";encoding=jwt"})
		require.NoError(t, err, "that it is not there is found when its call is saved")
		l := newLeg()
		accept(l)
		require.Equal(t, 404, <-l.hangups)
		require.Empty(t, l.answers)
		l.end(dialogs.Cause{})
		h.settle(t, p, "")
		require.Zero(t, h.Live())
		list, err := h.db.Dialogs(t.Context(), account, p)
		require.NoError(t, err)
		require.Empty(t, list)
	})
}

// TestCallsAtOnce lets many calls for one participant come in together: one is answered, the others are busy.
func TestCallsAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		p, token := h.participant(t)
		legs, accepts := make([]*leg, 10), make([]func(dialogs.Leg), 10)
		for i := range legs {
			var err error
			legs[i] = newLeg()
			accepts[i], err = h.Incoming(t.Context(), dialogs.Incoming{UserToUser: token + ";encoding=jwt"})
			require.NoError(t, err)
		}
		for i, accept := range accepts {
			go accept(legs[i])
		}
		go func() {
			_, _ = h.Create(t.Context(), dialogs.Create{Account: account, Participant: p, To: number, From: dialogs.FromUnknown})
		}()
		synctest.Wait()
		answered, refused := 0, 0
		for _, l := range legs {
			answered += len(l.answers)
			for len(l.hangups) > 0 {
				require.Equal(t, 486, <-l.hangups)
				refused++
			}
		}
		require.Equal(t, 1, h.Live())
		require.Equal(t, 1, answered+len(h.phone.legs), "one has the participant's telephone")
		require.Equal(t, len(legs), answered+refused)
	})
}

func TestRecover(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		want := map[string]string{}
		for _, state := range dialogs.States() {
			p, _ := h.participant(t)
			require.NoError(t, failure(h.db.CreateDialog(t.Context(), dialogs.Dialog{
				ID: "d" + string(state), Account: account, Participant: p, State: state, To: number, From: dialogs.FromUnknown, Created: time.Now(),
			})))
			want[p] = map[dialogs.State]string{dialogs.Answered: "TERMINATED, onDisconnect", dialogs.Terminated: ""}[state]
			if state != dialogs.Answered && state != dialogs.Terminated {
				want[p] = "TERMINATED"
			}
		}
		for range 2 { // a second time finds nothing
			require.NoError(t, h.Recover(t.Context()))
			for p, words := range want {
				h.settle(t, p, words)
				if words != "" {
					require.Equal(t, "gateway restarted", h.end(t, p).EventData.Details)
					require.Equal(t, "ERROR", h.end(t, p).EventData.Reason)
				}
			}
		}
	})
}

// TestAnnounced shows a call's states to a device of its participant.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, h *house) {
		id, _ := h.participant(t)
		p, err := h.people.Participant(t.Context(), account, id)
		require.NoError(t, err)
		w := &watcher{changes: make(chan sessions.DialogChange, 16)}
		device, err := h.people.Connect(t.Context(), p, "d", w)
		require.NoError(t, err)
		ref, l := h.dialAs(t, id)
		l.happens(dialogs.LegCalling, dialogs.LegRinging, dialogs.LegAnswered)
		synctest.Wait()
		h.patch(t, ref, dialogs.Terminated)
		synctest.Wait()
		for _, state := range []string{"CALLING", "RINGING", "ANSWERED", "TERMINATED"} {
			change := <-w.changes
			require.Equal(t, state, change.State)
			require.Equal(t, ref.Dialog, change.Dialog)
		}
		require.NoError(t, device.Leave(t.Context()))
		h.settle(t, id, "onConnect, CALLING, RINGING, ANSWERED, onConnect, TERMINATED, onLeave, onLeave")
	})
}

// watcher is a device that wants to know of dialogs.
type watcher struct{ changes chan sessions.DialogChange }

func (w *watcher) Subscribe(*media.Source)               {}
func (w *watcher) Unsubscribe(*media.Source)             {}
func (w *watcher) Mute(*media.Source, bool)              {}
func (w *watcher) StreamMuted(sessions.MuteChange)       {}
func (w *watcher) Close(error)                           {}
func (w *watcher) DialogChanged(c sessions.DialogChange) { w.changes <- c }
