package sip

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
)

// ringing is an inbound call before its final answer.
type ringing struct {
	*call
	req    *sip.Request
	tx     *sip.ServerTx
	late   bool   // the INVITE brought no offer: ours goes into the 200, or into the first reliable answer
	body   []byte // our SDP: the answer to the caller's offer, or our offer
	agreed media.PortMedia
	lost   bool  // the caller's connection broke: only the final answer goes over another one
	waits  *bool // a Progress that has to wait until the answer before it is acknowledged
}

// callerLost is told where an answer can't get to the caller any more.
const callerLost = "the connection to the caller broke"

// ring is an inbound call from its 180 to its 2xx. It returns why there was none; nil: it was answered.
func (c *call) ring(ctx context.Context, req *sip.Request, tx *sip.ServerTx) *dialogs.Cause {
	c.peer.shows = c.agent.streams.showing(c.peer.network, c.peer.source, c.trunk.shows())
	err := c.openPort(c.family)
	if err != nil {
		c.log.Error("sip: call refused", "status", 503, "why", err.Error())
		c.agent.respond(req, tx, 503, c.agent.warning(errs.MessageOf(err)))
		return failed(errs.MessageOf(err))
	}
	c.sdp = newDescription(newSession(), c.local(), termsOf(c.trunk))
	r := &ringing{call: c, req: req, tx: tx, late: len(req.Body()) == 0}
	if r.late {
		r.body, err = c.sdp.offer()
	} else {
		r.body, r.agreed, err = c.sdp.answerTo(c.offer)
		c.offer = theirOffer{}
	}
	if err != nil {
		c.agent.respond(req, tx, offerStatus(err), c.agent.offerWarning(err))
		return failed(err.Error())
	}
	c.introduce(&c.peer, true, true)
	cause := r.wait(ctx)
	c.reliable.stop()
	if cause != nil {
		return cause
	}
	body, offered := r.body, r.late
	if c.reliable.settled {
		body, offered = nil, false // RFC 6337 §3.1.1
	}
	if err := c.confirm(req, tx, body, offered, true); err != nil {
		if r.lost {
			c.log.Info("sip: answering failed", "error", err)
			return failed(callerLost)
		}
		return &dialogs.Cause{Details: byFarEnd} // its CANCEL was quicker
	}
	if body != nil && !offered {
		c.agree(r.agreed)
	}
	return nil
}

// wait sends 180, or what Progress asks for, until this end answers (nil) or the call is over.
func (r *ringing) wait(ctx context.Context) *dialogs.Cause {
	r.tell(false)
	refresh := time.NewTicker(r.agent.cfg.ringInterval)
	defer refresh.Stop()
	tooLong := time.After(r.agent.cfg.maxRinging)
	accepted, gone := r.accepted.ch, goneOf(r.tx.Connection())
	for {
		switch {
		case r.cancelled.isSet():
			return &dialogs.Cause{Details: byFarEnd} // the transaction layer has sent the 487
		case r.reliable.broken != nil:
			return r.end(sip.StatusNotAcceptableHere, failed(r.reliable.broken.Error()))
		case r.accepted.isSet() && !r.leaving():
			if r.reliable.waiting == nil || !r.reliable.waiting.described {
				return nil
			}
			accepted = nil // no 2xx before the SDP is acknowledged (RFC 3262 §3)
		}
		again, unheard := r.reliable.timers()
		select {
		case <-ctx.Done():
			return r.end(sip.StatusServiceUnavailable, failed("gateway stopped"))
		case <-r.agent.draining.ch:
			return r.end(sip.StatusServiceUnavailable, &dialogs.Cause{Details: byThisEnd})
		case <-r.cancelled.ch:
		case <-gone:
			gone, r.lost = nil, true
			if !r.agent.canReturn(r.req) {
				return failed(callerLost)
			}
		case <-r.tx.Done():
			return failed(callerLost)
		case <-tooLong:
			return r.end(sip.StatusTemporarilyUnavailable, failed(ringsTooLong))
		case <-refresh.C:
			r.tell(false)
		case early := <-r.progress:
			r.tell(early)
		case <-again:
			if err := r.reliable.repeat(r.tx); err != nil {
				r.log.Debug("sip: repeating a provisional answer failed", "error", err)
			}
		case <-unheard:
			return r.end(sip.StatusGatewayTimeout, failed("no PRACK came"))
		case <-r.hung.ch:
			return r.end(r.refuseBy, &dialogs.Cause{Details: byThisEnd})
		case <-accepted:
		case q := <-r.requests:
			if r.handleRinging(q) {
				return r.end(sip.StatusRequestTerminated, &dialogs.Cause{Details: byFarEnd})
			}
			if r.waits != nil && r.reliable.waiting == nil {
				r.tell(*r.waits)
			}
		}
	}
}

// end sends the final answer of a call that comes to nothing.
func (r *ringing) end(status int, cause *dialogs.Cause) *dialogs.Cause {
	if r.lost {
		if err := r.agent.deliver(r.req, r.tx, response(r.req, status, nil), r.peer.shows); err != nil {
			r.log.Info("sip: refusing failed", "error", err)
		}
		return cause
	}
	r.agent.respond(r.req, r.tx, status)
	return cause
}

// tell says that it rings: 180, or with early 183 with our SDP, so that it hears us. What carries SDP is
// acknowledged where the caller can do that, everything where it demands it; then the next has to wait (RFC 3262 §3).
func (r *ringing) tell(early bool) {
	if r.lost {
		return
	}
	demanded := requires(r.req, reliable1xx)
	able := demanded || supports(r.req, reliable1xx)
	first := r.reliable.rseq == 0
	described := early && (!r.late || able)
	if r.late && demanded && first {
		described = true // the first reliable answer brings our offer (RFC 3262 §5)
	}
	if r.reliable.settled {
		described = false
	}
	reliably := demanded || able && described
	if reliably && r.reliable.waiting != nil {
		r.waits = &early
		return
	}
	r.waits = nil
	status, body := sip.StatusRinging, []byte(nil)
	if early && (described || r.reliable.settled) {
		status = sip.StatusSessionInProgress
	}
	if described {
		body = r.body
	}
	res := response(r.req, status, body)
	res.AppendHeader(r.agent.contactIn(r.peer.network, r.req))
	res.AppendHeader(sip.NewHeader("Allow", allowed))
	var err error
	if reliably {
		err = r.reliable.send(r.tx, res, described, described && r.late)
	} else {
		err = r.tx.Respond(res)
	}
	if err != nil {
		r.log.Debug("sip: answering failed", "status", status, "error", err)
		return
	}
	if described && !r.late {
		r.agree(r.agreed)
	}
}

// handleRinging deals with a request in the early dialog. It is true when the caller hung up (RFC 3261 §15).
func (r *ringing) handleRinging(q request) (over bool) {
	switch {
	case q.Method == sip.INVITE: // RFC 3261 §14.2
		defer close(q.handled)
		r.agent.respond(q.Request, q.tx, 500, sip.NewHeader("Retry-After", strconv.Itoa(rand.IntN(10))))
		return false
	case q.IsAck():
		close(q.handled)
		return false
	}
	return r.handle(q)
}
