package transcode

import (
	"log/slog"
	"runtime/debug"
	"sync/atomic"
)

// fuse takes one bridge out when its code fails, so that the goroutines that serve others go on.
type fuse struct {
	log   *slog.Logger
	tell  func() // nil: nobody
	blown atomic.Bool
}

// blow is deferred around what may fail.
func (f *fuse) blow() {
	p := recover()
	if p == nil {
		return
	}
	f.log.Error("a phone's media failed", "panic", p, "stack", string(debug.Stack()))
	if f.blown.CompareAndSwap(false, true) && f.tell != nil {
		f.tell()
	}
}
