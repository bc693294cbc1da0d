package sip

import (
	"sync"

	"tandem/dialogs"
	"tandem/media"
)

const (
	eventBuffer = 16 // events that wait for a reader
	// eventReserve keeps room for what may come once: LegRinging, a LegMedia that was held back, LegAnswered, LegEnded.
	eventReserve = 5
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

// emit tells what happened, without waiting. Of what may come any number of times the last is kept.
func (c *call) emit(e dialogs.LegEvent) {
	once := e.Kind != dialogs.LegMedia
	if once || (c.held == nil && len(c.events) < eventBuffer-eventReserve) {
		c.post(&e)
		return
	}
	c.held = &e
}

func (c *call) post(e *dialogs.LegEvent) {
	if e == nil {
		return
	}
	select {
	case c.events <- *e:
	default: // cannot be: the reserve is for the few kinds that come once
		c.log.Error("sip: an event of the call found no room", "kind", int(e.Kind))
	}
}

// outlet is where a held event goes once there is room: a nil channel while nothing is held.
func (c *call) outlet() (chan<- dialogs.LegEvent, dialogs.LegEvent) {
	if c.held == nil || len(c.events) >= eventBuffer-eventReserve {
		return nil, dialogs.LegEvent{}
	}
	return c.events, *c.held
}

// agree takes what was negotiated and tells it when it is new.
func (c *call) agree(m media.PortMedia) {
	if c.hasMedia && m == c.media {
		return
	}
	c.media, c.hasMedia = m, true
	c.emit(dialogs.LegEvent{Kind: dialogs.LegMedia, Port: c.port, Media: m})
}
