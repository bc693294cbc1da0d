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
	f.broke(p)
}

// broke is blow for a panic that others have recovered.
func (f *fuse) broke(p any) {
	f.trip("a phone's media failed", "panic", p, "stack", string(debug.Stack()))
}

// trip takes the bridge out for a fault that its code has met.
func (f *fuse) trip(what string, args ...any) {
	f.log.Error(what, args...)
	if f.blown.CompareAndSwap(false, true) && f.tell != nil {
		f.tell()
	}
}
