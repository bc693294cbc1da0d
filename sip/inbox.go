package sip

import (
	"sync"
	"time"
)

// maxWishes is how many wishes of this end wait for a call's goroutine; those beyond are refused.
const maxWishes = 64

// inbox is what a call's goroutine is to do next: wishes of this end, outcomes of its own requests, alarms. Posting
// never waits, and what is posted after the end is never done.
type inbox struct {
	ready chan struct{} // holds one while something may be in it

	mu   sync.Mutex
	todo []func()
}

func newInbox() *inbox { return &inbox{ready: make(chan struct{}, 1)} }

// post is for the few that the call itself has made: they are bounded by what it does.
func (b *inbox) post(do func()) {
	b.mu.Lock()
	b.todo = append(b.todo, do)
	b.mu.Unlock()
	b.wake()
}

// wish is for those outside, who may ask at any time and any number of times. It is false when too much waits already.
func (b *inbox) wish(do func()) bool {
	b.mu.Lock()
	ok := len(b.todo) < maxWishes
	if ok {
		b.todo = append(b.todo, do)
	}
	b.mu.Unlock()
	b.wake()
	return ok
}

func (b *inbox) wake() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// run does what waits. It belongs to the call's goroutine.
func (b *inbox) run() {
	b.mu.Lock()
	todo := b.todo
	b.todo = nil
	b.mu.Unlock()
	for _, do := range todo {
		do()
	}
}

// alarm does something later on the call's goroutine, which owns it. The zero value is ready.
type alarm struct {
	timer *time.Timer
	turn  int // so that an alarm that had gone off when it was stopped does nothing
}

// set replaces what was to be done by do, after d.
func (a *alarm) set(b *inbox, d time.Duration, do func()) {
	a.stop()
	turn := a.turn
	a.timer = time.AfterFunc(d, func() {
		b.post(func() {
			if a.turn == turn {
				a.timer = nil
				do()
			}
		})
	})
}

// stop forgets what was to be done.
func (a *alarm) stop() {
	a.turn++
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// pending says whether something is still to be done.
func (a *alarm) pending() bool { return a.timer != nil }
