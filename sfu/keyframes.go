package sfu

import (
	"time"
)

// keyframes passes requests for a keyframe on to a publisher, not more often than it could serve them. A request that
// comes in between is kept and sent afterwards.
type keyframes struct {
	want chan struct{}
}

func newKeyframes() *keyframes { return &keyframes{want: make(chan struct{}, 1)} }

// request never blocks. Safe from any goroutine.
func (k *keyframes) request() {
	select {
	case k.want <- struct{}{}:
	default:
	}
}

// run calls ask for requests, at most once per pause, until done is closed.
func (k *keyframes) run(done <-chan struct{}, pause time.Duration, ask func()) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-k.want:
		}
		ask()
		timer.Reset(pause)
		select {
		case <-done:
			return
		case <-timer.C:
		}
	}
}
