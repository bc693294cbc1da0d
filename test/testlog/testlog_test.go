package testlog_test

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/test/testlog"
)

// ending is a test that may end before the one that looks at it.
type ending struct {
	testing.TB
	log      strings.Builder
	cleanups []func()
}

func (e *ending) Helper()           {}
func (e *ending) Output() io.Writer { return &e.log }
func (e *ending) Cleanup(do func()) { e.cleanups = append(e.cleanups, do) }

// TestWriter: what is written while a test ends is in its log, what comes after that is not.
func TestWriter(t *testing.T) {
	e := &ending{TB: t}
	w := testlog.Writer(e)
	write := func(text string) {
		n, err := fmt.Fprintln(w, text)
		require.NoError(t, err)
		require.Equal(t, len(text)+1, n)
	}
	e.Cleanup(func() { write("stopping") })
	write("running")
	for _, do := range slices.Backward(e.cleanups) {
		do()
	}
	write("late")
	require.Equal(t, "running\nstopping\n", e.log.String())
}

// TestLateWriter: who goes on writing when the test is over is no race, and fails nothing; see it with -race.
func TestLateWriter(t *testing.T) {
	var written atomic.Int64 // it orders nothing that the writer does after something of this test's
	over, ended := make(chan struct{}), make(chan struct{})
	t.Run("short", func(t *testing.T) {
		t.Run("part", func(*testing.T) {}) // the end of a test that has none is seldom told from what comes after it
		w := testlog.Writer(t)
		go func() {
			defer close(ended)
			for {
				_, _ = fmt.Fprintln(w, "still here")
				written.Add(1)
				select {
				case <-over:
					return
				default:
				}
			}
		}()
	})
	for before := written.Load(); written.Load() < before+2; {
		runtime.Gosched()
	}
	close(over)
	<-ended
}
