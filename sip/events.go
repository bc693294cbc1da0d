package sip

import (
	"slices"
	"sync"

	"tandem/dialogs"
	"tandem/media"
)

const (
	eventBuffer = 16 // events that wait for a reader
	// eventReserve keeps room for what may come once: LegCalling, LegRinging, LegAnswered, LegEnded.
	eventReserve = 5
	maxHeld      = 64 // events that wait for room
)

// latch is a signal that stays: set once, from any goroutine.
type latch struct {
	once sync.Once
	ch   chan struct{}
}

func newLatch() *latch { return &latch{ch: make(chan struct{})} }

func (l *latch) set(first func()) { l.once.Do(func() { first(); close(l.ch) }) }

func (l *latch) isSet() bool {
	select {
	case <-l.ch:
		return true
	default:
		return false
	}
}

// emit tells what happened, without waiting. What may come any number of times waits for room in held, in order; of
// the media and of the hold only the last is kept.
func (c *call) emit(e *dialogs.LegEvent) {
	switch e.Kind {
	case dialogs.LegCalling, dialogs.LegRinging, dialogs.LegAnswered, dialogs.LegEnded:
		c.post(e)
		return
	case dialogs.LegMedia, dialogs.LegHold:
		c.held = slices.DeleteFunc(c.held, func(old *dialogs.LegEvent) bool { return old.Kind == e.Kind && old.Cause == e.Cause })
	case dialogs.LegKey, dialogs.LegRefer, dialogs.LegReferred:
	}
	switch {
	case len(c.held) == 0 && len(c.events) < eventBuffer-eventReserve:
		c.post(e)
	case len(c.held) < maxHeld:
		c.held = append(c.held, e)
	default:
		c.log.Warn("sip: nobody reads the events of the call", "lost", int(e.Kind))
	}
}

func (c *call) post(e *dialogs.LegEvent) {
	select {
	case c.events <- e:
	default: // cannot be: the reserve is for the few kinds that come once
		c.log.Error("sip: an event of the call found no room", "kind", int(e.Kind))
	}
}

// outlet is where the first held event goes once there is room: a nil channel while nothing is held.
func (c *call) outlet() chan<- *dialogs.LegEvent {
	if len(c.held) == 0 || len(c.events) >= eventBuffer-eventReserve {
		return nil
	}
	return c.events
}

// firstHeld is the event that goes there; nil while nothing is held.
func (c *call) firstHeld() (first *dialogs.LegEvent) {
	if len(c.held) > 0 {
		first = c.held[0]
	}
	return first
}

// unhold tells at the end what waited, as far as there is room.
func (c *call) unhold() {
	for len(c.held) > 0 && len(c.events) < eventBuffer-1 {
		c.post(c.held[0])
		c.held = c.held[1:]
	}
}

// agree takes what was negotiated and tells it when it is new, and so who keeps whom waiting.
func (c *call) agree(m media.PortMedia) {
	if !c.hasMedia || !m.Equal(c.media) {
		c.media, c.hasMedia = m, true
		c.emit(&dialogs.LegEvent{Kind: dialogs.LegMedia, Port: c.port, Media: m})
	}
	if hold := c.holding(); hold != c.told {
		c.told = hold
		c.emit(&dialogs.LegEvent{Kind: dialogs.LegHold, Hold: hold})
	}
}
