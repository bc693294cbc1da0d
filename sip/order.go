package sip

import (
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	maxTurns = 64 // requests of one call on their way through the transaction layer
	// turnTime is how long a request waits for the one before it, which may have got stuck on its way.
	turnTime = time.Second
)

// order keeps the requests of the far end in the order in which they were read: the transaction layer hands each to a
// goroutine of its own, and there a BYE may overtake the re-INVITE before it. Only a CSeq above all before takes a turn:
// a repetition, and one that comes too late, wait for nobody and let nobody wait.
type order struct {
	mu    sync.Mutex
	last  uint32
	turns map[uint32]*turn
	tail  *turn
}

// turn is a request's place in the row; nil is no place.
type turn struct {
	before *turn
	passed chan struct{}
	once   sync.Once
}

// arrived runs in the reader.
func (o *order) arrived(req *sip.Request) {
	seq := req.CSeq().SeqNo
	o.mu.Lock()
	defer o.mu.Unlock()
	if seq <= o.last || len(o.turns) >= maxTurns {
		return
	}
	if o.turns == nil {
		o.turns = make(map[uint32]*turn)
	}
	t := &turn{before: o.tail, passed: make(chan struct{})}
	o.last, o.tail, o.turns[seq] = seq, t, t
}

// take hands a request's turn to its handler.
func (o *order) take(req *sip.Request) *turn {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.turns[req.CSeq().SeqNo]
	delete(o.turns, req.CSeq().SeqNo)
	return t
}

// wait returns when the request before has reached the call, which is over when done is closed.
func (t *turn) wait(done <-chan struct{}) {
	if t == nil || t.before == nil {
		return
	}
	timer := time.NewTimer(turnTime)
	defer timer.Stop()
	select {
	case <-t.before.passed:
	case <-done:
	case <-timer.C:
	}
	t.before = nil // the row is not kept
}

// pass lets the next one go on.
func (t *turn) pass() {
	if t != nil {
		t.once.Do(func() { close(t.passed) })
	}
}
