package gateway

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMemoryIsGivenBackOnceItIsCalm(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		name  string
		looks []heap
		due   []bool
	}{
		{"what the start left", []heap{{40 * mb, 10 * mb}, {41 * mb, 10 * mb}, {42 * mb, 10 * mb}}, []bool{false, true, false}},
		{
			"a wave, and another one",
			[]heap{{1 * mb, 1 * mb}, {30 * mb, 9 * mb}, {60 * mb, 9 * mb}, {61 * mb, 9 * mb}, {62 * mb, 9 * mb}, {90 * mb, 9 * mb}, {91 * mb, 9 * mb}},
			[]bool{false, false, false, true, false, false, true},
		},
		{"too little to be worth it", []heap{{1 * mb, 1 * mb}, {10 * mb, 5 * mb}, {11 * mb, 5 * mb}}, []bool{false, false, false}},
		{"little beside what is in use", []heap{{30 * mb, 100 * mb}, {31 * mb, 100 * mb}, {60 * mb, 100 * mb}, {61 * mb, 100 * mb}}, []bool{false, false, false, true}},
		{"calm for what is in use", []heap{{60 * mb, 100 * mb}, {72 * mb, 100 * mb}}, []bool{false, true}},
		{"never calm", []heap{{30 * mb, 9 * mb}, {60 * mb, 9 * mb}, {90 * mb, 9 * mb}, {120 * mb, 9 * mb}}, []bool{false, false, false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r returning
			var due []bool
			for _, look := range c.looks {
				due = append(due, r.due(look))
			}
			require.Equal(t, c.due, due)
		})
	}
}

// TestGarbageMayGatherInAWave: much in a wave of calls, little once it is calm, and as before in between.
func TestGarbageMayGatherInAWave(t *testing.T) {
	const mb = 1 << 20
	var r returning
	var percent []int
	for _, allocated := range []uint64{40 * mb, 41 * mb, 80 * mb, 600 * mb, 700 * mb, 701 * mb} {
		now := heap{allocated, 9 * mb}
		percent = append(percent, r.garbage(now))
		r.due(now)
	}
	require.Equal(t, []int{0, littleGarbage, 0, muchGarbage, 0, littleGarbage}, percent)
}

// TestGarbageIsTheEnvironments: who sets GOGC is obeyed; who does not finds what was set before when the gateway has ended.
func TestGarbageIsTheEnvironments(t *testing.T) {
	now := func() int {
		percent := debug.SetGCPercent(77)
		debug.SetGCPercent(percent)
		return percent
	}
	before := now()
	for _, of := range []string{"", "77"} {
		t.Setenv("GOGC", of)
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- giveBack(ctx) }()
			synctest.Wait()
			if of == "" {
				require.Equal(t, muchGarbage, now())
				time.Sleep(3 * lookAtMemory)
				synctest.Wait()
				require.Equal(t, littleGarbage, now())
			} else {
				require.Equal(t, before, now())
			}
			cancel()
			require.NoError(t, <-done)
		})
		require.Equal(t, before, now())
	}
}

// TestMemoryIsLookedAt counts the collections that giving memory back forces.
func TestMemoryIsLookedAt(t *testing.T) {
	forced := func() uint64 {
		samples := []metrics.Sample{{Name: "/gc/cycles/forced:gc-cycles"}}
		metrics.Read(samples)
		return samples[0].Value.Uint64()
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- giveBack(ctx) }()
		time.Sleep(3 * lookAtMemory) // what there was before
		synctest.Wait()
		before := forced()
		wave := make([]byte, 256<<20) // more than what a calm time has, however much is in use here
		runtime.KeepAlive(wave)
		time.Sleep(lookAtMemory)
		synctest.Wait()
		require.Equal(t, before, forced(), "there is much to do")
		time.Sleep(2 * lookAtMemory)
		synctest.Wait()
		require.Equal(t, before+1, forced(), "once, when it is calm")
		cancel()
		require.NoError(t, <-done)
	})
}

func TestHeapIsRead(t *testing.T) {
	before := readHeap()
	kept := make([]byte, 8<<20)
	after := readHeap()
	require.GreaterOrEqual(t, after.allocated-before.allocated, uint64(len(kept)))
	runtime.GC()
	require.NotZero(t, readHeap().live)
}
