package sip

import (
	"log/slog"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestACallTakesLittleMemory: there may be thousands at once, and hardly any of them ever has much to tell.
func TestACallTakesLittleMemory(t *testing.T) { // what others allocate would count
	var a Agent
	log := slog.New(slog.DiscardHandler)
	calls := make([]*call, 100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range calls {
		calls[i] = a.newCall(log)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/uint64(len(calls)), uint64(4<<10))
}
