package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSpareProcessorIsHeldWhileThereIsWork: from a second after work began to a second after it ended, without a pause. All its
// sleeps are of the bubble: they move its clock.
func TestSpareProcessorIsHeldWhileThereIsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const one = holdMillis * time.Millisecond
		var busy atomic.Bool
		var held atomic.Int32
		var more atomic.Bool
		s := spareProcessor{wanted: func(bool) bool { return busy.Load() }, set: more.Store, hold: func() {
			require.True(t, more.Load())
			held.Add(1)
			time.Sleep(one)
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.run(ctx)
		}()
		time.Sleep(10*lookForWork + one)
		require.Zero(t, held.Load(), "nobody is here")
		busy.Store(true)
		time.Sleep(10 * lookForWork)
		least := int32(9 * lookForWork / one)
		require.GreaterOrEqual(t, held.Load(), least)
		busy.Store(false)
		time.Sleep(lookForWork + one)
		synctest.Wait()
		before := held.Load()
		time.Sleep(10 * lookForWork)
		require.Equal(t, before, held.Load(), "they are gone")
		require.False(t, more.Load(), "and so is the processor")
		busy.Store(true)
		time.Sleep(2 * lookForWork)
		require.True(t, more.Load())
		cancel()
		<-done
		require.False(t, more.Load())
	})
}

// TestSpareProcessorIsForLittleWork: under load there is none, and it does not come and go with each second.
func TestSpareProcessorIsForLittleWork(t *testing.T) {
	start := time.Now()
	w := workload{at: start}
	require.InDelta(t, 0.25, w.share(2, start.Add(time.Second), 500*time.Millisecond), 1e-9)
	require.InDelta(t, 0.5, w.share(2, start.Add(2*time.Second), 1500*time.Millisecond), 1e-9)
	for _, c := range []struct {
		share       float64
		held, light bool
	}{{0.1, false, true}, {0.1, true, true}, {0.52, false, false}, {0.52, true, true}, {0.6, true, false}, {0.9, false, false}} {
		require.Equal(t, c.light, light(c.share, c.held), c)
	}
	require.Positive(t, cpuTime())
}

// TestSpareProcessorIsNotInTheWay: the garbage collector, which stops all processors, gets this one too, and what was set
// before is set again at the end.
func TestSpareProcessorIsNotInTheWay(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	before := runtime.GOMAXPROCS(0)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{}, 100)
	done := make(chan error)
	go func() {
		done <- holdSpareProcessor(ctx, func() bool {
			asked <- struct{}{}
			return true
		})
	}()
	<-asked
	<-asked // it was held for a second, unless the tests took all CPU
	for range 20 {
		runtime.GC()
	}
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, before, runtime.GOMAXPROCS(0))
}

// TestSpareProcessorOnOneCore: the collector also gets what it wants where it and the goroutine that holds the processor share a core,
// so that neither ever sees the other run.
func TestSpareProcessorOnOneCore(t *testing.T) {
	if os.Getenv("TANDEM_ONE_CORE") == "" {
		again := exec.CommandContext(t.Context(), "taskset", "-c", "0", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", "1m")
		again.Env = append(os.Environ(), "TANDEM_ONE_CORE=1")
		out, err := again.CombinedOutput()
		require.NoError(t, err, string(out))
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{}, 100)
	done := make(chan error)
	go func() {
		done <- holdSpareProcessor(ctx, func() bool {
			select {
			case asked <- struct{}{}:
			default:
			}
			return true
		})
	}()
	<-asked
	for range 300 {
		runtime.GC()
	}
	cancel()
	require.NoError(t, <-done)
}

// TestProcessorsAreTheEnvironments: who sets GOMAXPROCS gets just that many.
func TestProcessorsAreTheEnvironments(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2")
	before := runtime.GOMAXPROCS(0)
	require.NoError(t, holdSpareProcessor(t.Context(), func() bool { panic("nobody asks") }))
	require.Equal(t, before, runtime.GOMAXPROCS(0))
}
