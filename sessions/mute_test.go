package sessions_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/sessions"
)

// TestMute takes a voice from everybody, and from one, through all that may come between.
func TestMute(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s := h.session(t)
	ann, bob, eve := h.member(t, s, everybody(s)), h.member(t, s, everybody(s)), h.member(t, s, everybody(s))
	annDevice, annHears := h.device(t, ann, "laptop")
	_, bobHears := h.device(t, bob, "desk")
	_, bobPhone := h.phone(t, bob)
	_, eveHears := h.device(t, eve, "mobile")
	mic := voice(ann.ID, "mic", "mic")
	annDevice.Publish(mic)
	set := func(muted bool, subscriber string) sessions.Participant {
		t.Helper()
		p, err := h.SetMuted(t.Context(), account, s, ann.ID, subscriber, muted)
		require.NoError(t, err)
		return p
	}
	silent := func(why string, bobs, eves bool) {
		t.Helper()
		for _, c := range []struct {
			who    *recorder
			silent bool
		}{{bobHears, bobs}, {bobPhone, bobs}, {eveHears, eves}} {
			require.Equal(t, []string{"mic"}, c.who.hears(t), "%s: the subscription stays", why)
			require.Equal(t, c.silent, len(c.who.silent()) == 1, why)
		}
	}
	all, only := sessions.MuteChange{Participant: ann.ID, Muted: true}, sessions.MuteChange{Participant: ann.ID, Muted: true, Subscriber: bob.ID}
	silent("at first", false, false)

	p := set(true, "")
	require.True(t, p.Muted)
	silent("for everybody", true, true)
	for _, r := range []*recorder{annHears, bobHears, eveHears} {
		require.Equal(t, []sessions.MuteChange{all}, r.toldMutes())
	}
	set(true, "")
	require.Empty(t, bobHears.toldMutes(), "muted already")
	require.NoError(t, h.Leave(t.Context(), account, s, bob.ID))
	require.NoError(t, h.Join(t.Context(), account, s, bob.ID, everybody(s)))
	silent("after bob was away", true, true)
	begins := all
	begins.Source = mic
	require.Equal(t, []sessions.MuteChange{begins}, bobHears.toldMutes(), "what he begins to hear is silent")
	annDevice.Unpublish(mic)
	annDevice.Publish(mic)
	silent("published anew", true, true)
	set(false, "")
	silent("heard again", false, false)

	bobHears.toldMutes()
	eveHears.toldMutes()
	annHears.toldMutes()
	p = set(true, bob.ID)
	require.False(t, p.Muted)
	require.Equal(t, []string{bob.ID}, p.MutedFor)
	silent("for bob", true, false)
	require.Equal(t, []sessions.MuteChange{only}, annHears.toldMutes())
	require.Equal(t, []sessions.MuteChange{only}, bobHears.toldMutes())
	require.Empty(t, eveHears.toldMutes())
	set(true, "")
	silent("for all, bob among them", true, true)
	set(false, bob.ID)
	silent("bob is one of all", true, true)
	set(false, "")
	silent("heard by all", false, false)
	set(true, bob.ID)
	p = set(false, "")
	require.Empty(t, p.MutedFor)
	silent("bob is one of those who hear again", false, false)

	// A service that begins anew on the same database goes on where the one before was.
	set(true, eve.ID)
	again := serve(sessions.Config{}, h.db)
	eveAgain := newRecorder()
	a, err := attach(t.Context(), again, eve, eveAgain)
	require.NoError(t, err)
	b, err := attach(t.Context(), again, ann, newRecorder())
	require.NoError(t, err)
	b.Publish(voice(ann.ID, "phone", ""))
	require.Equal(t, []string{"phone"}, eveAgain.silent())
	a.Detach()
	b.Detach()
}

func TestMuteRefusals(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s, other := h.session(t), h.session(t)
	ann := h.member(t, s, sessions.Subscriptions{})
	bob := h.participant(t)
	for _, c := range []struct {
		session, participant, subscriber string
		code                             errs.Code
	}{
		{"", "nobody", "", errs.NotFound},
		{"nowhere", ann.ID, "", errs.NotFound},
		{other, ann.ID, "", errs.NotFound},
		{s, bob.ID, "", errs.NotFound},
		{s, ann.ID, ann.ID, errs.Invalid},
		{s, ann.ID, "nobody", errs.Invalid},
	} {
		_, err := h.SetMuted(t.Context(), account, c.session, c.participant, c.subscriber, true)
		require.Equal(t, c.code, errs.CodeOf(err), "%+v", c)
	}
	_, err := h.SetMuted(t.Context(), "other account", "", ann.ID, "", true)
	require.Equal(t, errs.NotFound, errs.CodeOf(err))
	for range 100 {
		_, err := h.SetMuted(t.Context(), account, "", bob.ID, h.participant(t).ID, true)
		require.NoError(t, err)
	}
	_, err = h.SetMuted(t.Context(), account, "", bob.ID, ann.ID, true)
	require.Equal(t, errs.Conflict, errs.CodeOf(err))
}
