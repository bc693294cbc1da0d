package sessions_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
)

// TestMediaFollows walks one conversation through everything that changes who hears whom.
func TestMediaFollows(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s := h.session(t)
	ann, bob := h.participant(t), h.participant(t)
	annDevice, annHears := h.device(t, ann, "laptop")
	bobDevice, bobHears := h.device(t, bob, "desk")
	_, bobPhone := h.phone(t, bob)
	put := func(p sessions.Participant, subs sessions.Subscriptions) {
		t.Helper()
		require.NoError(t, h.SetSubscriptions(t.Context(), account, s, p.ID, subs))
	}
	bobGets := func(why string, want ...string) {
		t.Helper()
		require.ElementsMatch(t, want, bobHears.hears(t), why)
		require.ElementsMatch(t, want, bobPhone.hears(t), "%s (phone)", why)
		require.Empty(t, annHears.hears(t), "ann subscribes to nothing")
	}

	mic, screen := voice(ann.ID, "mic", "mic"), picture(ann.ID, "screen")
	annDevice.Publish(mic)
	bobGets("both are in no session")
	require.NoError(t, h.Join(t.Context(), account, s, ann.ID, sessions.Subscriptions{}))
	bobGets("bob is in no session")
	require.NoError(t, h.Join(t.Context(), account, s, bob.ID, everybody(s)))
	bobGets("bob came", "mic")
	annDevice.Publish(mic)
	bobGets("published twice is published once", "mic")
	annDevice.Publish(screen)
	bobGets("a new stream", "mic", "screen")
	annDevice.Unpublish(mic)
	bobGets("a stream ended", "screen")
	annDevice.Unpublish(mic)
	annDevice.Publish(mic)
	bobGets("and came again", "mic", "screen")
	put(bob, sessions.Subscriptions{Participants: []sessions.Subscription{{Participant: ann.ID, StreamAliases: []string{"mic"}}}})
	bobGets("one stream by its alias", "mic")
	put(bob, these(bob.ID))
	bobGets("a list that names himself only")
	put(bob, these(ann.ID))
	bobGets("ann by name", "mic", "screen")
	put(bob, sessions.Subscriptions{})
	bobGets("an empty body removes all")
	put(bob, everybody(s))
	bobGets("the whole session", "mic", "screen")

	require.NoError(t, h.Leave(t.Context(), account, s, ann.ID))
	bobGets("ann left")
	require.NoError(t, h.Join(t.Context(), account, s, ann.ID, sessions.Subscriptions{}))
	bobGets("ann came back", "mic", "screen")
	require.NoError(t, h.Leave(t.Context(), account, s, bob.ID))
	bobGets("bob left")
	require.NoError(t, h.Join(t.Context(), account, s, bob.ID, everybody(s)))
	bobGets("bob came back", "mic", "screen")

	bobMic := voice(bob.ID, "bob", "")
	bobDevice.Publish(bobMic)
	bobGets("nobody hears himself, on his other leg neither", "mic", "screen")

	require.NoError(t, h.DeleteSession(t.Context(), account, s))
	bobGets("the session is over")
	require.Nil(t, bobHears.closeCause(), "devices stay")
	require.Nil(t, bobPhone.closeCause(), "calls stay, off the air")
	s = h.session(t)
	for _, p := range []sessions.Participant{ann, bob} {
		require.NoError(t, h.Join(t.Context(), account, s, p.ID, these(p.ID)))
	}
	put(bob, these(ann.ID))
	bobGets("another session", "mic", "screen")

	require.NoError(t, h.DeleteParticipant(t.Context(), account, ann.ID))
	bobGets("ann was deleted")
	require.Error(t, annHears.closeCause())
	annDevice.Publish(voice(ann.ID, "late", ""))
	bobGets("a deleted participant's stream")
	require.NoError(t, annDevice.Leave(t.Context()))
	annDevice.Publish(voice(ann.ID, "later", ""))
	bobGets("a stream of a device that left")
	require.False(t, h.Online(ann.ID))
	require.True(t, h.Online(bob.ID))
	require.Equal(t, 1, h.Live())
}

// TestRemovedPhone is a call that is taken off the air and put into another session.
func TestRemovedPhone(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	first, second := h.session(t), h.session(t)
	caller := h.member(t, first, everybody(first))
	agent, boss := h.member(t, first, everybody(first)), h.member(t, second, everybody(second))
	leg, callerHears := h.phone(t, caller)
	agentDevice, agentHears := h.device(t, agent, "a")
	bossDevice, bossHears := h.device(t, boss, "b")
	leg.Publish(voice(caller.ID, "caller", ""))
	agentDevice.Publish(voice(agent.ID, "agent", ""))
	bossDevice.Publish(voice(boss.ID, "boss", ""))
	hear := func(callerWants, agentWants, bossWants []string) {
		t.Helper()
		require.Equal(t, callerWants, callerHears.hears(t))
		require.Equal(t, agentWants, agentHears.hears(t))
		require.Equal(t, bossWants, bossHears.hears(t))
	}
	nobody := []string{}
	hear([]string{"agent"}, []string{"caller"}, nobody)
	require.NoError(t, h.Leave(t.Context(), account, first, caller.ID))
	hear(nobody, nobody, nobody)
	require.True(t, h.OnThePhone(caller.ID))
	require.NoError(t, h.Join(t.Context(), account, second, caller.ID, everybody(second)))
	hear([]string{"boss"}, nobody, []string{"caller"})

	require.NoError(t, h.DeleteParticipant(t.Context(), account, caller.ID))
	<-callerHears.closed
	requireCode(t, errs.NotFound, callerHears.closeCause(), "deleted")
	hear(nobody, nobody, nobody)
	leg.Detach()
	leg.Detach()
	require.False(t, h.OnThePhone(caller.ID))
}

func TestPermissionIsKept(t *testing.T) {
	t.Parallel()
	both := &media.Source{Stream: "both", Tracks: append(voice("", "", "").Tracks, picture("", "").Tracks...)}
	cases := []struct {
		name  string
		may   []sessions.Permission
		wants []string
	}{
		{"nothing", nil, []string{}},
		{"audio", []sessions.Permission{sessions.PublishAudio}, []string{"voice"}},
		{"video", []sessions.Permission{sessions.PublishVideo}, []string{"picture"}},
		{"both", []sessions.Permission{sessions.PublishAudio, sessions.PublishVideo}, []string{"both", "picture", "voice"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := open(t, sessions.Config{})
			s := h.session(t)
			speaker, _, err := h.CreateParticipant(t.Context(), account, sessions.NewParticipant{Permissions: c.may})
			require.NoError(t, err)
			require.NoError(t, h.Join(t.Context(), account, s, speaker.ID, sessions.Subscriptions{}))
			_, listener := h.device(t, h.member(t, s, everybody(s)), "x")
			device, _ := h.device(t, speaker, "y")
			leg, _ := h.phone(t, speaker)
			for _, a := range []*sessions.Attachment{device, leg} {
				sources := []*media.Source{voice(speaker.ID, "voice", ""), picture(speaker.ID, "picture"), both}
				for _, src := range sources {
					a.Publish(src)
				}
				require.Equal(t, c.wants, listener.hears(t))
				for _, src := range sources {
					a.Unpublish(src)
				}
				require.Empty(t, listener.hears(t))
			}
		})
	}
}

// TestOldRow attaches with what was read before the participant was taken out of its session: not even for a moment
// may it hear what goes on there.
func TestOldRow(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s := h.session(t)
	speaker := h.member(t, s, sessions.Subscriptions{})
	device, _ := h.device(t, speaker, "x")
	device.Publish(voice(speaker.ID, "secret", ""))
	p := h.member(t, s, everybody(s))
	old, err := h.Participant(t.Context(), account, p.ID)
	require.NoError(t, err)
	require.Equal(t, s, old.Session)
	require.NoError(t, h.Leave(t.Context(), account, s, p.ID))

	_, r := h.device(t, old, "y")
	require.Empty(t, r.given())
	_, r = h.phone(t, old)
	require.Empty(t, r.given())

	require.NoError(t, h.Join(t.Context(), account, s, p.ID, everybody(s)))
	require.Equal(t, []string{"secret"}, r.hears(t))
	newcomer := h.participant(t)
	require.NoError(t, h.Join(t.Context(), account, s, newcomer.ID, everybody(s)))
	_, r = h.device(t, newcomer, "z")
	require.Equal(t, []string{"secret"}, r.hears(t), "an old row that knows no session does not keep it out either")
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s := h.session(t)
	caller := h.member(t, s, these())
	listener := func(subs sessions.Subscriptions) *recorder {
		_, r := h.device(t, h.member(t, s, subs), "x")
		return r
	}
	follower := listener(everybody(s))
	named := listener(sessions.Subscriptions{Participants: []sessions.Subscription{{Participant: caller.ID, StreamAliases: []string{"none of these"}}}})
	stranger, other := listener(these()), h.participant(t)
	_, outside := h.device(t, other, "x")
	_, phone := h.phone(t, h.member(t, s, everybody(s)))
	_, deaf := h.phone(t, other)
	h.Announce(sessions.DialogChange{Dialog: "0", Participant: caller.ID})
	require.Empty(t, follower.told(), "the caller has nothing here")

	_, own := h.device(t, caller, "own")
	leg, onThePhone := h.phone(t, caller)
	change := sessions.DialogChange{Dialog: "1", Participant: caller.ID, State: "RINGING"}
	h.Announce(change)
	for name, r := range map[string]*recorder{"its own device": own, "who hears the session": follower, "who names it": named} {
		require.Equal(t, []sessions.DialogChange{change}, r.told(), name)
	}
	for name, r := range map[string]*recorder{
		"who hears nobody": stranger, "who is elsewhere": outside, "a phone": phone, "a phone elsewhere": deaf, "its own phone": onThePhone,
	} {
		require.Empty(t, r.told(), name)
	}
	leg.Detach()

	// an endpoint that is no Observer is left alone
	plain := h.member(t, s, everybody(s))
	_, err := h.Connect(t.Context(), plain, "plain", struct{ sessions.Endpoint }{newRecorder()})
	require.NoError(t, err)
	h.Announce(change)
	require.Len(t, follower.told(), 2)
}
