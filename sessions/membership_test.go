package sessions_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/sessions"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	here, there := h.session(t), h.session(t)
	alone, member, elsewhere := h.participant(t).ID, h.member(t, here, everybody(here)).ID, h.member(t, there, everybody(there)).ID
	gone := h.participant(t).ID
	require.NoError(t, h.DeleteParticipant(t.Context(), account, gone))
	over := h.session(t)
	require.NoError(t, h.DeleteSession(t.Context(), account, over))
	aliases := func(names ...string) sessions.Subscriptions {
		return sessions.Subscriptions{Participants: []sessions.Subscription{{Participant: member, StreamAliases: names}}}
	}

	create := func(n sessions.NewParticipant) error {
		_, _, err := h.CreateParticipant(t.Context(), account, n)
		return err
	}
	open := func(tag string) error {
		_, err := h.CreateSession(t.Context(), account, sessions.NewSession{Tag: tag})
		return err
	}
	join := func(who, session string, subs sessions.Subscriptions) error {
		return h.Join(t.Context(), who, session, alone, subs)
	}
	put := func(session, participant string, subs sessions.Subscriptions) error {
		return h.SetSubscriptions(t.Context(), account, session, participant, subs)
	}
	get := func(who, session, participant string) error {
		_, err := h.Subscriptions(t.Context(), who, session, participant)
		return err
	}
	members := func(who, session string) error {
		_, err := h.Members(t.Context(), who, session)
		return err
	}
	none := sessions.Subscriptions{}
	cases := []struct {
		name  string
		err   error
		code  errs.Code
		words string
	}{
		{"tag too long", create(sessions.NewParticipant{Tag: strings.Repeat("é", 51)}), errs.Invalid, "tag: has 51 characters"},
		{"tag with NUL", create(sessions.NewParticipant{Tag: "a\x00b"}), errs.Invalid, "tag: "},
		{"tag that is not UTF-8", create(sessions.NewParticipant{Tag: "\xff"}), errs.Invalid, "tag: "},
		{"session's tag too long", open(strings.Repeat("x", 51)), errs.Invalid, "tag: has 51 characters"},
		{"callback by ftp", create(sessions.NewParticipant{CallbackURL: "ftp://example.com/"}), errs.Invalid, "callbackUrl: "},
		{"callback without a host", create(sessions.NewParticipant{CallbackURL: "https:///x"}), errs.Invalid, "callbackUrl: "},
		{"callback with a port only", create(sessions.NewParticipant{CallbackURL: "http://:80/"}), errs.Invalid, "callbackUrl: "},
		{"callback that is a path", create(sessions.NewParticipant{CallbackURL: "/callback"}), errs.Invalid, "callbackUrl: "},
		{"callback too long", create(sessions.NewParticipant{CallbackURL: "http://a/" + strings.Repeat("x", 2048)}), errs.Invalid, "callbackUrl: has 2057 bytes"},

		{"join a session that never was", join(account, "nothing", none), errs.NotFound, "session nothing"},
		{"join a session that is over", join(account, over, none), errs.NotFound, over},
		{"join without a session", join(account, "", none), errs.NotFound, ""},
		{"join with another account", join("1234567", here, none), errs.NotFound, "session"},
		{"join as somebody deleted", h.Join(t.Context(), account, here, gone, none), errs.NotFound, gone},
		{"join a second session", h.Join(t.Context(), account, here, elsewhere, none), errs.Conflict, there},
		{"join and hear a stranger", join(account, here, these(elsewhere)), errs.Invalid, "participants[0].participantId: "},
		{"join and hear nobody in particular", join(account, here, these("")), errs.Invalid, "participants[0].participantId: is missing"},
		{"join and hear another session", join(account, here, everybody(there)), errs.Invalid, "sessionId: "},
		{"join and hear a nameless stream", join(account, here, aliases("mic", "")), errs.Invalid, "participants[0].streamAliases: "},

		{"leave where one is not", h.Leave(t.Context(), account, there, member), errs.NotFound, member},
		{"leave when in none", h.Leave(t.Context(), account, here, alone), errs.NotFound, alone},
		{"leave as somebody deleted", h.Leave(t.Context(), account, here, gone), errs.NotFound, gone},
		{"leave with another account", h.Leave(t.Context(), "1234567", here, member), errs.NotFound, "session"},

		{"hear a stranger", put(here, member, these(alone)), errs.Invalid, alone},
		{"hear a known one and a stranger", put(here, member, these(member, elsewhere)), errs.Invalid, "participants[1].participantId: "},
		{"hear a deleted one", put(here, member, these(gone)), errs.Invalid, gone},
		{"hear another session", put(here, member, everybody(there)), errs.Invalid, "sessionId: "},
		{"subscribe from outside", put(here, elsewhere, everybody(here)), errs.NotFound, elsewhere},
		{"subscribe when in none", put(here, alone, everybody(here)), errs.NotFound, alone},
		{"subscribe in a session that is over", put(over, member, none), errs.NotFound, over},

		{"read subscriptions in another session", get(account, there, member), errs.NotFound, member},
		{"read subscriptions of another account", get("1234567", here, member), errs.NotFound, "session"},
		{"read subscriptions of nobody", get(account, here, "nobody"), errs.NotFound, "nobody"},
		{"members of another account's session", members("1234567", here), errs.NotFound, "session"},
		{"members of a session that is over", members(account, over), errs.NotFound, over},
		{"delete a session twice", h.DeleteSession(t.Context(), account, over), errs.NotFound, over},
		{"delete another account's session", h.DeleteSession(t.Context(), "1234567", here), errs.NotFound, here},
		{"delete a participant twice", h.DeleteParticipant(t.Context(), account, gone), errs.NotFound, gone},
		{"delete another account's participant", h.DeleteParticipant(t.Context(), "1234567", member), errs.NotFound, member},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { requireCode(t, c.code, c.err, c.words) })
	}

	subs, err := h.Subscriptions(t.Context(), account, here, member)
	require.NoError(t, err)
	require.Equal(t, everybody(here), subs, "what is refused changes nothing")
	left, err := h.Participant(t.Context(), account, alone)
	require.NoError(t, err)
	require.Empty(t, left.Session)
	list, err := h.Members(t.Context(), account, here)
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestTheLongestThatIsAllowed(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	p, token, err := h.CreateParticipant(t.Context(), account, sessions.NewParticipant{
		Tag: strings.Repeat("é", 50), CallbackURL: "http://a/" + strings.Repeat("x", 2039),
		Permissions: []sessions.Permission{sessions.PublishVideo, sessions.PublishAudio, sessions.PublishVideo},
	})
	require.NoError(t, err)
	require.Equal(t, []sessions.Permission{sessions.PublishAudio, sessions.PublishVideo}, p.Permissions, "each once")
	known, err := h.Authenticate(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, p.ID, known.ID)
	require.NoError(t, h.DeleteParticipant(t.Context(), account, p.ID))
	_, err = h.Authenticate(t.Context(), token)
	requireCode(t, errs.NotFound, err, p.ID)
	_, err = h.Authenticate(t.Context(), "forged")
	requireCode(t, errs.Forbidden, err, "token")
}

func TestJoin(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s := h.session(t)
	other := h.member(t, s, sessions.Subscriptions{})
	p := h.participant(t)
	subsOf := func() sessions.Subscriptions {
		subs, err := h.Subscriptions(t.Context(), account, s, p.ID)
		require.NoError(t, err)
		return subs
	}

	require.NoError(t, h.Join(t.Context(), account, s, p.ID, these(p.ID, other.ID)), "who joins is a member already when it names itself")
	require.Equal(t, these(p.ID, other.ID), subsOf())
	require.NoError(t, h.Join(t.Context(), account, s, p.ID, sessions.Subscriptions{}), "joining where it is")
	require.Equal(t, these(p.ID, other.ID), subsOf(), "without subscriptions keeps them")
	require.NoError(t, h.Join(t.Context(), account, s, p.ID, everybody(s)))
	require.Equal(t, everybody(s), subsOf(), "with subscriptions replaces them")
	both := these(other.ID)
	both.Session = "whatever is said of the session does not matter then"
	require.NoError(t, h.SetSubscriptions(t.Context(), account, s, p.ID, both))
	require.Equal(t, both, subsOf())

	require.NoError(t, h.Leave(t.Context(), account, s, p.ID))
	left, err := h.Participant(t.Context(), account, p.ID)
	require.NoError(t, err)
	require.Empty(t, left.Session)
	require.True(t, left.Subscriptions.Empty(), "leaving forgets the subscriptions")
	require.NoError(t, h.Join(t.Context(), account, h.session(t), p.ID, sessions.Subscriptions{}), "then it may go elsewhere")
}

func TestFullSession(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s := h.session(t)
	const many = 30
	ids := make([]string, many)
	for i := range ids {
		ids[i] = h.participant(t).ID
	}
	var in, full atomic.Int32
	var other atomic.Value
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			switch err := h.Join(t.Context(), account, s, id, everybody(s)); {
			case err == nil:
				in.Add(1)
			case errs.CodeOf(err) == errs.Conflict:
				full.Add(1)
			default:
				other.Store(err)
			}
		})
	}
	wg.Wait()
	require.Nil(t, other.Load())
	require.EqualValues(t, 20, in.Load())
	require.EqualValues(t, many-20, full.Load())
	list, err := h.Members(t.Context(), account, s)
	require.NoError(t, err)
	require.Len(t, list, 20)

	late := h.participant(t)
	requireCode(t, errs.Conflict, h.Join(t.Context(), account, s, late.ID, sessions.Subscriptions{}), "20")
	require.NoError(t, h.Join(t.Context(), account, s, list[0].ID, everybody(s)), "who is in may say so again")
	require.NoError(t, h.Leave(t.Context(), account, s, list[0].ID))
	require.NoError(t, h.Join(t.Context(), account, s, late.ID, sessions.Subscriptions{}), "a place that is free again")
	require.NoError(t, h.DeleteParticipant(t.Context(), account, list[1].ID))
	require.NoError(t, h.Join(t.Context(), account, s, h.participant(t).ID, sessions.Subscriptions{}), "and one of a deleted participant")
}

// TestBusyRow lets another writer win every time: the change is given up in words, and after a few wins it is made.
func TestBusyRow(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s := h.session(t)
	p := h.participant(t)
	busy := &stale{Store: h.db}
	service := serve(sessions.Config{}, busy)
	busy.left = 1000
	requireCode(t, errs.Conflict, service.Join(t.Context(), account, s, p.ID, everybody(s)), "try again")
	busy.left = 5
	require.NoError(t, service.Join(t.Context(), account, s, p.ID, everybody(s)))
	require.Zero(t, busy.left)
}

// stale is a database in which somebody else writes first, left times.
type stale struct {
	sessions.Store
	left int
}

func (s *stale) SaveMembership(ctx context.Context, p sessions.Participant, limit int) (sessions.Participant, error) {
	if s.left > 0 {
		s.left--
		return p, fmt.Errorf("save: %w", sessions.ErrStale)
	}
	return s.Store.SaveMembership(ctx, p, limit)
}

// TestLateAnswer lets the answer to an older change come after a newer one was made: media stay with the newer one.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	slow := &late{Store: h.db, saved: make(chan struct{}), answer: make(chan struct{})}
	h.Service = serve(sessions.Config{}, slow)
	s := h.session(t)
	speaker, p := h.member(t, s, sessions.Subscriptions{}), h.member(t, s, sessions.Subscriptions{})
	device, _ := h.device(t, speaker, "x")
	device.Publish(voice(speaker.ID, "secret", ""))
	_, r := h.device(t, p, "y")

	slow.hold.Store(true)
	older := make(chan error, 1)
	go func() { older <- h.SetSubscriptions(t.Context(), account, s, p.ID, everybody(s)) }()
	<-slow.saved
	require.NoError(t, h.SetSubscriptions(t.Context(), account, s, p.ID, sessions.Subscriptions{}))
	close(slow.answer)
	require.NoError(t, <-older)
	require.Empty(t, r.given())
}

// late is a database that holds back the answer to one write.
type late struct {
	sessions.Store
	hold          atomic.Bool
	saved, answer chan struct{}
}

func (l *late) SaveMembership(ctx context.Context, p sessions.Participant, limit int) (sessions.Participant, error) {
	saved, err := l.Store.SaveMembership(ctx, p, limit)
	if l.hold.CompareAndSwap(true, false) {
		close(l.saved)
		<-l.answer
	}
	return saved, err
}
