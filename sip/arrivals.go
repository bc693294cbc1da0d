package sip

import (
	"sync"

	"github.com/emiago/sipgo/sip"
)

// maxProvisional is how many provisional answers wait for the call's goroutine; those beyond are lost, as on the way.
const maxProvisional = 16

// onMessage sees every message in the reader, in the order of arrival and before the transaction layer. That layer
// handles each message in a goroutine of its own, so there a 200 may overtake the 180 before it, and a BYE the ACK:
// where order matters it is taken from here. It must not wait, and must not write to what it is given.
func (a *Agent) onMessage(msg sip.Message) {
	switch msg := msg.(type) {
	case *sip.Response:
		a.invites.arrived(msg)
		a.referArrived(msg)
	case *sip.Request:
		if msg.IsAck() {
			a.ackArrived(msg)
			return
		}
		if msg.IsCancel() {
			a.tagCancel(msg)
			return
		}
		a.queueUp(msg)
		bracketVias(msg)
		tagRequest(msg)
	}
}

// queueUp gives a request within a call its turn: its handler waits until those before it have reached the call.
func (a *Agent) queueUp(req *sip.Request) {
	if wellFormed(req) != nil {
		return
	}
	tag, ok := req.To().Params.Get("tag")
	if !ok {
		return
	}
	if c := a.find(callKey{req.CallID().Value(), tag}); c != nil {
		c.order.arrived(req)
	}
}

// ackArrived hands an ACK to its call before a request behind it can get there. An ACK that finds no room comes again,
// as the 2xx does.
func (a *Agent) ackArrived(ack *sip.Request) {
	if wellFormed(ack) != nil {
		return
	}
	tag, _ := ack.To().Params.Get("tag")
	c := a.find(callKey{ack.CallID().Value(), tag})
	if c == nil {
		return
	}
	select {
	case c.requests <- request{Request: ack, handled: make(chan struct{})}:
	default:
	}
}

// invites are the requests of ours that wait for their final answer, by the key of their transaction.
type invites struct {
	mu  sync.Mutex
	all map[string]*progress
}

// progress is what was answered to one request, in the order of arrival.
type progress struct {
	provisional chan *sip.Response // beyond 100, and before the final answer
	final       *latch             // the final answer came
}

// expect notes the answers to a request from now on; forget ends that.
func (i *invites) expect(invite *sip.Request) (p *progress, forget func(), err error) {
	key, err := sip.ClientTxKeyMake(invite)
	if err != nil {
		return nil, nil, err
	}
	p = &progress{provisional: make(chan *sip.Response, maxProvisional), final: newLatch()}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.all == nil {
		i.all = make(map[string]*progress)
	}
	i.all[key] = p
	return p, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.all, key)
	}, nil
}

// arrived notes an answer if anybody waits for it.
func (i *invites) arrived(res *sip.Response) {
	if res.CSeq() == nil || res.StatusCode == sip.StatusTrying {
		return
	}
	key, err := sip.ClientTxKeyMake(res)
	if err != nil {
		return
	}
	i.mu.Lock()
	p := i.all[key]
	i.mu.Unlock()
	switch {
	case p == nil || p.final.isSet():
	case !res.IsProvisional():
		p.final.set(func() {})
	default:
		select {
		case p.provisional <- res:
		default:
		}
	}
}
