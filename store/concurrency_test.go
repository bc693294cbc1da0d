package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
	"tandem/webhooks"
)

// parallel runs f n times at once and fails on any error.
func parallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	gate := make(chan struct{})
	failures := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-gate
			failures[i] = f(i)
		})
	}
	close(gate)
	wg.Wait()
	require.NoError(t, errors.Join(failures...))
}

func TestLastPlace(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		const limit, knocking = 20, 40
		s.session("s1")
		for i := range knocking {
			s.participant(fmt.Sprint("p", i))
		}
		var joined, refused atomic.Int64
		parallel(t, knocking, func(i int) error {
			p, err := s.db.Participant(t.Context(), account, fmt.Sprint("p", i))
			if err != nil {
				return err
			}
			p.Session = "s1"
			switch _, err = s.db.SaveMembership(t.Context(), p, limit); {
			case err == nil:
				joined.Add(1)
			case errs.CodeOf(err) == errs.Conflict:
				refused.Add(1)
				err = nil
			}
			return err
		})
		require.EqualValues(t, limit, joined.Load())
		require.EqualValues(t, knocking-limit, refused.Load())
		members, err := s.db.Members(t.Context(), "s1")
		require.NoError(t, err)
		require.Len(t, members, limit)
	})
}

func TestSameVersion(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		s.session("s1")
		p := s.join(s.participant("p1").ID, "s1")
		for range 5 {
			var won, stale atomic.Int64
			parallel(t, 8, func(i int) error {
				mine := p
				mine.Subscriptions.Participants = []sessions.Subscription{{Participant: fmt.Sprint(i)}}
				_, err := s.db.SaveMembership(t.Context(), mine, 20)
				if errors.Is(err, sessions.ErrStale) {
					stale.Add(1)
					return nil
				}
				won.Add(1)
				return err
			})
			require.EqualValues(t, 1, won.Load())
			require.EqualValues(t, 7, stale.Load())
			var err error
			p, err = s.db.Participant(t.Context(), account, "p1")
			require.NoError(t, err)
		}
	})
}

func TestOneLiveDialog(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		s.participant("p1")
		var won atomic.Int64
		parallel(t, 8, func(i int) error {
			err := failure(s.db.CreateDialog(t.Context(), s.dialog(fmt.Sprint("d", i), "p1"), event("p1", fmt.Sprint("e", i))))
			if errs.CodeOf(err) == errs.Conflict {
				return nil
			}
			won.Add(1)
			return err
		})
		require.EqualValues(t, 1, won.Load())
		unfinished, err := s.db.Unfinished(t.Context())
		require.NoError(t, err)
		require.Len(t, unfinished, 1)
		require.Len(t, s.drain("p1"), 1)
	})
}

// TestSequences: writers of every kind at once, some of which fail; each participant's events are numbered 1, 2, 3 …
// and Next never shows a later one before an earlier one.
func TestSequences(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		const writers, rounds = 8, 12
		people := []string{"p0", "p1", "p2"}
		for _, id := range people {
			s.participant(id)
		}
		refused := errors.New("refused")
		parallel(t, writers, func(w int) error {
			for r := range rounds {
				id := people[(w+r)%len(people)]
				other := people[(w+r+1)%len(people)]
				name := fmt.Sprintf("%d-%d", w, r)
				var err error
				switch r % 4 {
				case 0:
					err = s.db.WriteEvent(ctx, event(id, name))
				case 1: // fails in the database after the sequence was taken
					if err := s.db.WriteEvent(ctx, event(id, fmt.Sprintf("%d-%d", w, r-1))); errs.CodeOf(err) != errs.Conflict {
						return errors.Join(refused, err)
					}
				case 2:
					c := sessions.Connection{ID: name, Account: account, Participant: id}
					err = errors.Join(s.db.Connected(ctx, c, event(id, name+"+")), s.db.Disconnected(ctx, name, event(id, name+"-")))
				case 3: // two participants in one transaction, in both orders: PostgreSQL finds deadlocks
					d := s.dialog(name, id)
					d.State = dialogs.Terminated
					err = failure(s.db.CreateDialog(ctx, d, event(id, name+"a"), event(other, name+"b"), event(id, name+"c")))
					if errs.CodeOf(err) == errs.Conflict {
						return errors.Join(refused, err)
					}
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		total := 0
		for _, id := range people {
			list := s.drain(id)
			total += len(list)
			for i, d := range list {
				require.EqualValues(t, i+1, d.Sequence, "of %s", id)
			}
		}
		require.Equal(t, writers*rounds/4*(1+2+3), total)
	})
}

// TestDeleteWhileJoining: after a session is deleted nobody is in it, whoever was just joining.
func TestDeleteWhileJoining(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		for round := range 5 {
			session := fmt.Sprint("s", round)
			s.session(session)
			ids := make([]string, 6)
			for i := range ids {
				ids[i] = fmt.Sprintf("p%d-%d", round, i)
				s.participant(ids[i])
			}
			var told atomic.Int64
			var joined atomic.Int64
			parallel(t, len(ids)+1, func(i int) error {
				if i == len(ids) {
					members, err := s.db.DeleteSession(ctx, account, session, func(p sessions.Participant) (webhooks.Event, bool) {
						return event(p.ID, ""), true
					})
					told.Store(int64(len(members)))
					return err
				}
				p, err := s.db.Participant(ctx, account, ids[i])
				if err != nil {
					return err
				}
				p.Session = session
				if _, err = s.db.SaveMembership(ctx, p, 20); errs.CodeOf(err) == errs.NotFound {
					return nil
				}
				joined.Add(1)
				return err
			})
			require.Equal(t, joined.Load(), told.Load())
			members, err := s.db.Members(ctx, session)
			require.NoError(t, err)
			require.Empty(t, members)
			events := 0
			for _, id := range ids {
				events += len(s.drain(id))
			}
			require.EqualValues(t, told.Load(), events)
		}
	})
}
