package dialogs

import (
	"context"
	"log/slog"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/webhooks"
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

// keeper is a database that takes everything.
type keeper struct{ Store }

func (keeper) SaveDialog(context.Context, Dialog, ...webhooks.Event) error { return nil }

// TestNothingIsKeptOfWhatIsSaved: a change holds the dialog and its events.
func TestNothingIsKeptOfWhatIsSaved(t *testing.T) {
	t.Parallel()
	c := (&Service{store: keeper{}, log: slog.New(slog.DiscardHandler)}).newCall(Dialog{State: Calling})
	c.save(change{d: c.d})
	require.Nil(t, c.backlog)
}
