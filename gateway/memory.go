package gateway

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	lookAtMemory = 2 * time.Second
	calmly       = 4 << 20  // bytes that are allocated between two looks while nothing much goes on
	worthwhile   = 16 << 20 // bytes that are allocated before it is worth to look for what can go
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

// due says whether it is time: a good deal was allocated since the last time, and nothing much goes on now. Each byte that
// is allocated is looked at once at most, so that the price is a small part of what the allocations cost.
func (r *returning) due(now heap) bool {
	calm := now.allocated-r.last.allocated < max(calmly, now.live/8)
	r.last = now
	if !calm || now.allocated-r.given < max(worthwhile, now.live/2) {
		return false
	}
	r.given = now.allocated
	return true
}

// giveBack returns to the system, until ctx ends, what a wave of calls or of devices has left behind, once that is over.
// The runtime would keep it for minutes.
func giveBack(ctx context.Context) error {
	ticker := time.NewTicker(lookAtMemory)
	defer ticker.Stop()
	var r returning
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if r.due(readHeap()) {
				debug.FreeOSMemory()
			}
		}
	}
}
