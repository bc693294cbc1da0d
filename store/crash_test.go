package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/store"
)

// childVariable makes this test binary a program that writes events until it is killed.
const childVariable = "TANDEM_TEST_STORE_CHILD"

// writeForEver writes events with several writers and prints the id of each that is acknowledged.
func writeForEver(dsn string) int {
	ctx := context.Background()
	db, err := store.Open(ctx, dsn, nil, silent)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var out sync.Mutex
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if err := db.WriteEvent(ctx, event("p1", id)); err != nil {
					_, _ = fmt.Fprintln(os.Stderr, err)
					return
				}
				out.Lock()
				_, _ = os.Stdout.WriteString(id + "\n")
				out.Unlock()
			}
		})
	}
	wg.Wait()
	return 1
}

// TestKill: whatever was acknowledged before a kill -9 is there afterwards, and the numbering has no gap.
func TestKill(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		if !s.durable {
			t.Skip("a database in memory ends with the program")
		}
		s.participant("p1")
		require.NoError(t, s.db.Close())
		acknowledged := map[string]bool{}
		for round := range 4 {
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), childVariable+"="+s.url)
			child.Stderr = os.Stderr
			out, err := child.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, child.Start())
			lines := bufio.NewScanner(out)
			for seen := 0; lines.Scan(); seen++ {
				acknowledged[lines.Text()] = true
				if seen == 20+37*round {
					require.NoError(t, child.Process.Kill())
				}
			}
			require.Error(t, child.Wait(), "it was killed")
		}
		s.open()
		require.Greater(t, len(acknowledged), 4*20)
		for i, d := range s.drain("p1") {
			require.EqualValues(t, i+1, d.Sequence)
			delete(acknowledged, d.ID)
		}
		require.Empty(t, acknowledged, "acknowledged, but lost")
	})
}

// TestConnectionLoss: PostgreSQL's connections are cut again and again under writers. They are told so, what was
// acknowledged stays, and the store goes on by itself.
func TestConnectionLoss(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		if !strings.HasPrefix(s.url, "postgres") {
			t.Skip("SQLite has no connection to lose")
		}
		ctx := t.Context()
		s.participant("p1")
		control, _ := raw(t, s.url)
		control.SetMaxOpenConns(1)
		var killed int64
		cut := func() {
			result, err := control.ExecContext(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid()`)
			require.NoError(t, err)
			n, err := result.RowsAffected()
			require.NoError(t, err)
			killed += n
		}
		var mu sync.Mutex
		acknowledged, refused := map[string]bool{}, 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			parallel(t, 4, func(w int) error {
				for i := range 60 {
					id := fmt.Sprintf("%d-%d", w, i)
					err := s.db.WriteEvent(ctx, event("p1", id))
					mu.Lock()
					if err == nil {
						acknowledged[id] = true
					} else {
						refused++
					}
					mu.Unlock()
					if err != nil && errs.CodeOf(err) != errs.Unavailable {
						return errors.Join(fmt.Errorf("code %s", errs.CodeOf(err)), err)
					}
				}
				return nil
			})
		}()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
				cut()
			}
		}
		t.Logf("%d acknowledged, %d refused, %d connections cut", len(acknowledged), refused, killed)
		require.Positive(t, killed)
		require.NoError(t, s.db.WriteEvent(ctx, event("p1", "last")))
		acknowledged["last"] = true
		for i, d := range s.drain("p1") {
			require.EqualValues(t, i+1, d.Sequence)
			delete(acknowledged, d.ID)
		}
		require.Empty(t, acknowledged, "acknowledged, but lost")
	})
}
