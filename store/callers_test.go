package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
)

// TestCallers saves who dialled in, all or nothing, and finds those whose calls were over long ago.
func TestCallers(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		ctx := t.Context()
		who := func(id string) sessions.Participant {
			return sessions.Participant{ID: id, Account: account, CallbackURL: "https://app.example.com/" + id, Tag: "+15550199", Created: start}
		}
		call := s.dialog("d1", "c1")
		call.Inbound, call.State = true, dialogs.Ringing
		require.NoError(t, s.db.CreateCaller(ctx, who("c1"), call, s.event("c1")))
		p, err := s.db.Participant(ctx, account, "c1")
		require.NoError(t, err)
		require.Equal(t, "+15550199", p.Tag)
		require.Len(t, s.drain("c1"), 1)
		s.participant("p1") // made by the application

		twice := s.dialog("d1", "c2")
		requireCode(t, s.db.CreateCaller(ctx, who("c2"), twice, s.event("c2")), errs.Conflict, "")
		_, err = s.db.Participant(ctx, account, "c2")
		requireCode(t, err, errs.NotFound, "participant c2 does not exist")

		idle := func(before time.Time) []string {
			list, err := s.db.IdleCallers(ctx, before, 10)
			require.NoError(t, err)
			ids := []string{}
			for _, p := range list {
				ids = append(ids, p.ID)
			}
			return ids
		}
		require.Empty(t, idle(start.Add(time.Hour)), "its call lives")
		call.State, call.Ended = dialogs.Terminated, start.Add(time.Minute)
		require.NoError(t, s.db.SaveDialog(ctx, call))
		require.Empty(t, idle(start.Add(time.Minute)), "it is over, but not for long")
		require.Equal(t, []string{"c1"}, idle(start.Add(2*time.Minute)))
		require.NoError(t, s.db.DeleteParticipant(ctx, account, "c1", start))
		require.Empty(t, idle(start.Add(2*time.Minute)))
	})
}
