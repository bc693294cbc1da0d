package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestChangesShareACommit holds the one writer until many changes wait, and then lets them go together: those that
// fail, panic or have no more time take nothing of the others with them.
func TestChangesShareACommit(t *testing.T) {
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "t.db"), nil, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	set := func(name string) func(*tx) error {
		return func(t *tx) error {
			_, err := t.exec(context.Background(), `INSERT INTO settings (name, value) VALUES ($1, 'x')`, name)
			return err
		}
	}

	held, holding := make(chan struct{}), make(chan struct{})
	var first, others sync.WaitGroup
	first.Go(func() {
		require.NoError(t, db.change(t.Context(), "first", func(t *tx) error {
			close(holding)
			<-held
			return set("first")(t)
		}))
	})
	<-holding
	broken := errors.New("broken")
	gone, cancel := context.WithCancel(t.Context())
	const good = 20
	for i := range good {
		others.Go(func() { require.NoError(t, db.change(t.Context(), "good", set(fmt.Sprint("good", i)))) })
	}
	others.Go(func() {
		require.ErrorIs(t, db.change(t.Context(), "broken", func(t *tx) error { return errors.Join(set("broken")(t), broken) }), broken)
	})
	others.Go(func() {
		require.Panics(t, func() {
			_ = db.change(t.Context(), "panics", func(t *tx) error { _ = set("panics")(t); panic("at once") })
		})
	})
	others.Go(func() { require.Error(t, db.change(gone, "gone", set("gone"))) })
	require.Eventually(t, func() bool {
		db.group.mu.Lock()
		defer db.group.mu.Unlock()
		return len(db.group.waiting) == good+3
	}, 10*time.Second, time.Millisecond)
	cancel()
	close(held)
	first.Wait()
	others.Wait()

	names, err := all(t.Context(), db.reader(), scanString, `SELECT name FROM settings`)
	require.NoError(t, err)
	require.Len(t, names, good+1, "%v", names)
	require.False(t, db.group.led)
	require.NoError(t, db.change(t.Context(), "after", set("after")))
}

// TestCrowdGathers has changes come in a little after one another: where some shared a commit just before, whoever leads
// waits for others; where none did, nobody waits.
func TestCrowdGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "t.db"), nil, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		var changes sync.WaitGroup
		begin := func(name string) {
			changes.Go(func() {
				require.NoError(t, db.change(context.Background(), name, func(t *tx) error {
					_, err := t.exec(context.Background(), `INSERT INTO settings (name, value) VALUES ($1, 'x')`, name)
					return err
				}))
			})
			synctest.Wait()
		}
		look := func() (waiting int, crowded bool) {
			synctest.Wait()
			db.group.mu.Lock()
			defer db.group.mu.Unlock()
			return len(db.group.waiting), db.group.crowded
		}
		start := time.Now()
		begin("alone")
		changes.Wait()
		require.Zero(t, time.Since(start), "nobody waits where nobody came")

		_, crowded := look()
		require.False(t, crowded)
		db.group.crowded = true
		begin("leads")
		time.Sleep(gathering / 2)
		begin("comes later")
		waiting, _ := look()
		require.Equal(t, 2, waiting)
		changes.Wait()
		require.Equal(t, gathering, time.Since(start))
		_, crowded = look()
		require.True(t, crowded, "the two shared a commit")

		begin("leads again")
		changes.Wait()
		require.Equal(t, 2*gathering, time.Since(start))
		_, crowded = look()
		require.False(t, crowded, "nobody came, so that nobody waits the next time")
	})
}

// TestGroupGoesOnAlone has a change that ends the shared transaction behind the group's back, as SQLite itself does
// when the disk is full: the others are run again, each alone.
func TestGroupGoesOnAlone(t *testing.T) {
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "t.db"), nil, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	var group []*member
	for i := range 5 {
		group = append(group, &member{ctx: t.Context(), lead: make(chan struct{}), done: make(chan struct{}), run: func(t *tx) error {
			if _, err := t.exec(context.Background(), `INSERT INTO settings (name, value) VALUES ($1, 'x')`, fmt.Sprint(i)); err != nil || i != 2 {
				return err
			}
			_, err := t.exec(context.Background(), `ROLLBACK`)
			return errors.Join(err, errors.New("disk full"))
		}})
	}
	db.group.waiting, db.group.led = group, true
	db.group.work(db)
	for i, m := range group {
		<-m.done
		if i == 2 {
			require.Error(t, m.err)
			continue
		}
		require.NoError(t, m.err)
	}
	names, err := all(t.Context(), db.reader(), scanString, `SELECT name FROM settings ORDER BY name`)
	require.NoError(t, err)
	require.Equal(t, []string{"0", "1", "3", "4"}, names)
}
