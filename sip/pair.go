package sip

import (
	"errors"
	"sync"
	"time"

	"tandem/dialogs"
	"tandem/media"
)

// pairEvents is room for what a leg of a pair tells; the last is kept for LegEnded.
const pairEvents = 16

// pair is a call of the gateway with itself, of two calls whose far end has left them to each other: no SIP, but two
// media ports that send to one another.
type pair struct {
	mu    sync.Mutex
	sides [2]*side
	up    bool
	over  bool
}

// side is one leg of a pair; the second one answers.
type side struct {
	pair   *pair
	index  int
	agreed media.PortMedia
	port   *media.Port
	events chan *dialogs.LegEvent
}

// Watched is part of dialogs.Leg.
func (s *side) Watched() bool { return false }

// Pair is part of dialogs.Phone.
func (a *Agent) Pair() (calls, answers dialogs.Leg, err error) {
	p := &pair{}
	for i := range p.sides {
		port, err := a.ports.Open()
		if err != nil {
			if i > 0 {
				err = errors.Join(err, p.sides[0].port.Close())
			}
			return nil, nil, err
		}
		p.sides[i] = &side{pair: p, index: i, port: port, events: make(chan *dialogs.LegEvent, pairEvents)}
	}
	return p.sides[0], p.sides[1], nil
}

// Events is part of dialogs.Leg.
func (s *side) Events() <-chan *dialogs.LegEvent { return s.events }

// Answer is part of dialogs.Leg.
func (s *side) Answer() {
	p := s.pair
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up || p.over || s.index == 0 {
		return
	}
	p.up = true
	for i, side := range p.sides {
		side.agreed = media.PortMedia{
			Remote: p.sides[1-i].port.Bound(), Speech: media.PCMU, EventType: ownEventType, Send: true, Receive: true,
		}
		side.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: side.port, Media: side.agreed}
		side.events <- &dialogs.LegEvent{Kind: dialogs.LegAnswered}
	}
}

// Hangup is part of dialogs.Leg.
func (s *side) Hangup(status int) {
	p := s.pair
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.over = true
	for _, side := range p.sides {
		cause := dialogs.Cause{Details: byFarEnd}
		switch {
		case side == s:
			cause.Details = byThisEnd
		case !p.up && s.index == 1:
			cause = causeOf(refusal(status), "")
		}
		side.events <- &dialogs.LegEvent{Kind: dialogs.LegEnded, Cause: cause}
		close(side.events)
		_ = side.port.Close() // nothing can be done about it
	}
}

// Progress is part of dialogs.Leg.
func (s *side) Progress(bool) {}

// Hold is part of dialogs.Leg. The other side is not asked: it hears silence, and is not heard.
func (s *side) Hold(on bool) {
	p := s.pair
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up && !p.over && len(s.events) < pairEvents-2 {
		s.agreed.Receive = !on
		s.events <- &dialogs.LegEvent{Kind: dialogs.LegMedia, Port: s.port, Media: s.agreed}
		s.events <- &dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: on}}
	}
}

// SendKey is part of dialogs.Leg.
func (s *side) SendKey(byte, time.Duration) {}

// Refer is part of dialogs.Leg.
func (s *side) Refer(dialogs.Refer) {
	p := s.pair
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over && len(s.events) < pairEvents-3 { // Answer may still need two
		cause := dialogs.Cause{Reason: dialogs.Error, Details: "the far end is another call of this gateway; it can't be asked"}
		s.events <- &dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: cause, Final: true}
	}
}

// Referred is part of dialogs.Leg.
func (s *side) Referred(int) {}
