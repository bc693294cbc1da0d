package sessions_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/sessions"
	"tandem/webhooks"
)

// memory is a database of sessions and their members in memory.
type memory struct {
	sessions.Store // what Run does not need

	mu         sync.Mutex // held by look too: a test and Run take turns
	open       []sessions.Session
	members    map[string][]sessions.Participant
	events     []webhooks.Event
	ended      map[string]time.Time
	failNext   int // so many calls of NextExpiry fail
	failDelete int // and of DeleteSession
	asked      int // calls of NextExpiry
}

func newMemory() *memory {
	return &memory{members: map[string][]sessions.Participant{}, ended: map[string]time.Time{}}
}

// look lets a test see and change what is kept.
func (m *memory) look(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *memory) CreateSession(_ context.Context, s sessions.Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = append(m.open, s)
	return nil
}

func (m *memory) NextExpiry(context.Context) (sessions.Session, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.failNext > 0 {
		m.failNext--
		return sessions.Session{}, false, errors.New("the database is away")
	}
	if len(m.open) == 0 {
		return sessions.Session{}, false, nil
	}
	return slices.MinFunc(m.open, func(a, b sessions.Session) int { return a.Expires.Compare(b.Expires) }), true, nil
}

func (m *memory) DeleteSession(
	_ context.Context, account, id string, event func(sessions.Participant) (webhooks.Event, bool),
) ([]sessions.Participant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failDelete > 0 {
		m.failDelete--
		return nil, errors.New("the database is away")
	}
	i := slices.IndexFunc(m.open, func(s sessions.Session) bool { return s.ID == id && s.Account == account })
	if i < 0 {
		return nil, errs.New(errs.NotFound, "session %s does not exist", id)
	}
	m.open, m.ended[id] = slices.Delete(m.open, i, i+1), time.Now()
	for _, p := range m.members[id] {
		if e, ok := event(p); ok {
			m.events = append(m.events, e)
		}
	}
	return m.members[id], nil
}

// inBubble runs the service beside f.
func inBubble(t *testing.T, cfg sessions.Config, m *memory, f func(t *testing.T, h *sessions.Service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := serve(cfg, m)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()
		synctest.Wait()
		f(t, h)
		cancel()
		require.NoError(t, <-done)
	})
}

// begin opens a session with one member.
func begin(t *testing.T, m *memory, h *sessions.Service, members ...sessions.Participant) sessions.Session {
	t.Helper()
	s, err := h.CreateSession(t.Context(), account, sessions.NewSession{})
	require.NoError(t, err)
	m.look(func() { m.members[s.ID] = members })
	synctest.Wait()
	return s
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	m := newMemory()
	inBubble(t, sessions.Config{}, m, func(t *testing.T, h *sessions.Service) {
		pass(72 * time.Hour) // longer than Run sleeps when there is no session
		first := begin(t, m, h,
			sessions.Participant{ID: "a", Account: account, CallbackURL: "http://a/", Tag: "one"}, sessions.Participant{ID: "b", Account: account})
		require.Equal(t, 9*time.Hour, first.Expires.Sub(first.Created))
		pass(time.Hour)
		second, third := begin(t, m, h), begin(t, m, h)
		require.NoError(t, h.DeleteSession(t.Context(), account, third.ID)) // by the application, before its time

		pass(8*time.Hour - time.Nanosecond)
		m.look(func() { require.NotContains(t, m.ended, first.ID, "not yet") })
		pass(time.Nanosecond)
		m.look(func() {
			require.Equal(t, first.Expires, m.ended[first.ID])
			require.Len(t, m.events, 2, "one for each member")
			for i, e := range m.events {
				require.Equal(t, webhooks.OnSessionExpired, e.Name)
				require.Equal(t, []string{"a", "b"}[i], e.Participant)
				require.Equal(t, first.ID, e.Session)
			}
			require.Equal(t, "http://a/", m.events[0].URL)
			require.Equal(t, "one", m.events[0].Tag)
			require.Equal(t, []sessions.Session{second}, m.open)
		})
		pass(time.Hour)
		m.look(func() {
			require.Equal(t, second.Expires, m.ended[second.ID])
			require.Empty(t, m.open)
		})
	})
}

// TestExpiredWhileWeWereDown begins with sessions whose time is over.
func TestExpiredWhileWeWereDown(t *testing.T) {
	t.Parallel()
	m := newMemory()
	for _, id := range []string{"a", "b", "c"} {
		m.open = append(m.open, sessions.Session{ID: id, Account: account}) // since the year 1
	}
	inBubble(t, sessions.Config{}, m, func(t *testing.T, _ *sessions.Service) {
		m.look(func() { require.Len(t, m.ended, 3) })
	})
}

func TestExpiryIsRetried(t *testing.T) {
	t.Parallel()
	m := newMemory()
	inBubble(t, sessions.Config{SessionLifetime: time.Hour}, m, func(t *testing.T, h *sessions.Service) {
		s := begin(t, m, h)
		pass(time.Hour - time.Second)
		asked := 0
		m.look(func() { m.failNext, asked = 3, m.asked })
		pass(2 * time.Second)
		m.look(func() {
			require.NotContains(t, m.ended, s.ID)
			require.Equal(t, asked+1, m.asked, "it does not hammer a database that is away")
		})
		pass(time.Minute)
		m.look(func() { require.Contains(t, m.ended, s.ID) })

		s = begin(t, m, h, sessions.Participant{ID: "a"})
		m.look(func() { m.failDelete = 2 })
		pass(time.Hour)
		m.look(func() { require.NotContains(t, m.ended, s.ID, "found, but not ended") })
		pass(time.Minute)
		m.look(func() {
			require.Contains(t, m.ended, s.ID)
			require.Len(t, m.events, 1, "told once")
		})
	})
}

// TestExpiredMembers expires a session in a real database: its members are off the air, and told.
func TestExpiredMembers(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{SessionLifetime: time.Nanosecond})
	s := h.session(t)
	ann, bob := h.member(t, s, everybody(s)), h.member(t, s, everybody(s))
	a, _ := h.device(t, ann, "a")
	_, r := h.device(t, bob, "b")
	a.Publish(voice(ann.ID, "voice", ""))
	require.Equal(t, []string{"voice"}, r.hears(t), "nobody looks at the clock yet")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	require.Eventually(t, func() bool {
		_, err := h.Members(t.Context(), account, s)
		return errs.CodeOf(orInvalid(err)) == errs.NotFound
	}, patience, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done) // Run has done all of it
	require.Empty(t, r.hears(t))
	for _, p := range []sessions.Participant{ann, bob} {
		events := h.drain(t, p.ID)
		last := events[len(events)-1]
		require.Equal(t, string(webhooks.OnSessionExpired), last.Event)
		require.Equal(t, s, last.SessionID)
		row, err := h.Participant(t.Context(), account, p.ID)
		require.NoError(t, err)
		require.Empty(t, row.Session)
	}
}
