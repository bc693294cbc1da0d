package gateway

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	lookAtMemory = 2 * time.Second
	calmly       = 4 << 20   // bytes that are allocated between two looks while nothing much goes on
	stormily     = 256 << 20 // and in a wave of calls
	worthwhile   = 16 << 20  // bytes that are allocated before it is worth to look for what can go

	// Garbage that may gather, in percent of what is in use. At 800 calls a second much of it saves 4 % of a call's CPU beside
	// Go's 100. While calls come one by one it is better little: what they keep lies scattered among it, and its pages stay.
	muchGarbage   = 200
	littleGarbage = 25
)

// heap is what the runtime says of the memory of this process, in bytes.
type heap struct {
	allocated uint64 // since the start
	live      uint64 // found in use by the last collection
}

// readHeap costs microseconds and stops nothing.
func readHeap() heap {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return heap{allocated: samples[0].Value.Uint64(), live: samples[1].Value.Uint64()}
}

// returning decides when memory is given back to the system.
type returning struct {
	last  heap   // at the last look
	given uint64 // what had been allocated when memory was given back last
}

// garbage is how much of it may gather from a look on, of which due is told after; 0: as before.
func (r *returning) garbage(now heap) int {
	switch allocated := now.allocated - r.last.allocated; {
	case allocated >= stormily:
		return muchGarbage
	case r.calm(now):
		return littleGarbage
	}
	return 0
}

// calm says whether nothing much went on since the last look.
func (r *returning) calm(now heap) bool {
	return now.allocated-r.last.allocated < max(calmly, now.live/8)
}

// due says whether it is time: a good deal was allocated since the last time, and nothing much goes on now. Each byte that
// is allocated is looked at once at most, so that the price is a small part of what the allocations cost.
func (r *returning) due(now heap) bool {
	calm := r.calm(now)
	r.last = now
	if !calm || now.allocated-r.given < max(worthwhile, now.live/2) {
		return false
	}
	r.given = now.allocated
	return true
}

// giveBack returns to the system, until ctx ends, what a wave of calls or of devices has left behind, once that is over.
// The runtime would keep it for minutes. It also says how much garbage may gather, unless the environment does.
func giveBack(ctx context.Context) error {
	ours := os.Getenv("GOGC") == ""
	if ours { // until the first calm moment: the first thing may be a wave
		before := debug.SetGCPercent(muchGarbage)
		defer debug.SetGCPercent(before)
	}
	ticker := time.NewTicker(lookAtMemory)
	defer ticker.Stop()
	var r returning
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			now := readHeap()
			if percent := r.garbage(now); ours && percent > 0 {
				debug.SetGCPercent(percent)
			}
			if r.due(now) {
				debug.FreeOSMemory()
			}
		}
	}
}
