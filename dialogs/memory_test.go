package dialogs

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestACallTakesLittleMemory: there may be thousands at once.
func TestACallTakesLittleMemory(t *testing.T) { // what others allocate would count
	var s Service
	calls := make([]*call, 100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range calls {
		calls[i] = s.newCall(Dialog{})
	}
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/uint64(len(calls)), uint64(4<<10))
}
