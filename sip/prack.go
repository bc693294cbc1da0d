package sip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/errs"
)

// rack says which provisional answer a PRACK acknowledges (RFC 3262 §7.2).
type rack struct {
	rseq, cseq uint32
	method     string
}

// parseRAck reads the value of a RAck header.
func parseRAck(s string) (rack, error) {
	fields := strings.Fields(s)
	if len(fields) != 3 {
		return rack{}, errs.New(errs.Invalid, "RAck: %q is not RSeq, CSeq and method", printable(s, 60))
	}
	rseq, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil || rseq == 0 {
		return rack{}, errs.New(errs.Invalid, "RAck: %q is no RSeq", printable(fields[0], 60))
	}
	cseq, err := strconv.ParseUint(fields[1], 10, 32)
	if err != nil {
		return rack{}, errs.New(errs.Invalid, "RAck: %q is no CSeq", printable(fields[1], 60))
	}
	return rack{uint32(rseq), uint32(cseq), fields[2]}, nil
}

func (r rack) String() string { return fmt.Sprintf("%d %d %s", r.rseq, r.cseq, r.method) }

// rseqOf returns the number of a provisional answer that wants a PRACK; ok is false for one that does not.
func rseqOf(res *sip.Response) (rseq uint32, ok bool) {
	h := res.GetHeader("RSeq")
	if h == nil || res.StatusCode <= sip.StatusTrying || !res.IsProvisional() || !requires(res, reliable1xx) {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(h.Value()), 10, 32)
	return uint32(n), err == nil && n > 0
}

// reliable are the provisional answers of ours that the caller acknowledges, one after the other (RFC 3262 §3). It is
// owned by the call's goroutine.
type reliable struct {
	rseq    uint32 // of the last that was sent; 0: none was
	cseq    uint32 // of the INVITE
	waiting *provisional
	settled bool  // offer and answer were exchanged in them: an UPDATE may change the session, the 200 has no SDP
	broken  error // the SDP in a PRACK was no answer: the call cannot be
}

// provisional is an answer that waits for its PRACK.
type provisional struct {
	res       *sip.Response
	described bool // it carries SDP: no 2xx before the PRACK
	offered   bool // that SDP is an offer: the PRACK brings the answer
	interval  time.Duration
	again     *time.Timer
	deadline  <-chan time.Time
}

// send numbers an answer and sends it until it is acknowledged.
func (r *reliable) send(tx *sip.ServerTx, res *sip.Response, described, offered bool) error {
	if r.rseq == 0 {
		r.rseq = rand.Uint32N(1 << 30) // anything up to 2^31-1 (RFC 3262 §3)
	}
	r.rseq++
	r.cseq = res.CSeq().SeqNo
	res.AppendHeader(sip.NewHeader("Require", reliable1xx))
	res.AppendHeader(sip.NewHeader("RSeq", strconv.FormatUint(uint64(r.rseq), 10)))
	if err := tx.Respond(res); err != nil {
		return err
	}
	r.waiting = &provisional{
		res: res, described: described, offered: offered,
		interval: sip.T1, again: time.NewTimer(sip.T1), deadline: time.After(64 * sip.T1),
	}
	return nil
}

// timers are the channels on which the repetition and its end come; nil while nothing waits.
func (r *reliable) timers() (again, deadline <-chan time.Time) {
	if r.waiting == nil {
		return nil, nil
	}
	return r.waiting.again.C, r.waiting.deadline
}

// repeat sends what waits once more; the interval doubles without a limit (RFC 3262 §3).
func (r *reliable) repeat(tx *sip.ServerTx) error {
	w := r.waiting
	w.interval *= 2
	w.again.Reset(w.interval)
	return tx.Respond(w.res)
}

// stop ends the repetition. What was sent may still be acknowledged.
func (r *reliable) stop() {
	if r.waiting != nil {
		r.waiting.again.Stop()
	}
}

// pracked answers the PRACK of the caller: 200 to what was waiting for it, 481 to any other (RFC 3262 §3).
func (c *call) pracked(r request) {
	w := c.reliable.waiting
	h := r.GetHeader("RAck")
	if h == nil {
		c.agent.respond(r.Request, r.tx, 400, c.agent.warning("a PRACK needs a RAck"))
		return
	}
	ack, err := parseRAck(h.Value())
	if err != nil {
		c.agent.respond(r.Request, r.tx, 400, c.agent.warning(errs.MessageOf(err)))
		return
	}
	if w == nil || ack != (rack{c.reliable.rseq, c.reliable.cseq, sip.INVITE.String()}) {
		c.agent.respond(r.Request, r.tx, 481)
		return
	}
	if extensions := unsupported(r.Request); extensions != "" {
		c.agent.respond(r.Request, r.tx, 420, sip.NewHeader("Unsupported", extensions))
		return
	}
	if status := bodyStatus(r.Request); status != 0 {
		c.agent.respond(r.Request, r.tx, status)
		return
	}
	c.reliable.stop()
	c.reliable.waiting = nil
	switch {
	case w.offered:
		agreed, err := c.sdp.accept(r.Body())
		if err != nil {
			c.reliable.broken = fmt.Errorf("no usable SDP in the PRACK: %w", err)
			break
		}
		c.reliable.settled = true
		c.agree(agreed)
	case w.described:
		c.reliable.settled = true
	}
	if !w.offered && len(r.Body()) > 0 {
		if !c.reliable.settled { // it may offer again once the first exchange is complete, no sooner (RFC 3262 §5)
			c.agent.respond(r.Request, r.tx, 491)
			return
		}
		c.reoffered(r)
		return
	}
	c.agent.respond(r.Request, r.tx, 200)
}

// updated answers an UPDATE before the final answer to the INVITE (RFC 3311 §5.2).
func (c *call) updated(r request) {
	w := c.reliable.waiting
	switch {
	case len(r.Body()) == 0:
		if err := c.peer.retarget(r.Contact()); err != nil {
			c.agent.respond(r.Request, r.tx, 400, c.agent.warning(err.Error()))
			return
		}
		c.agent.respond(r.Request, r.tx, 200, c.agent.contactIn(c.peer.network, r.Request))
	case bodyStatus(r.Request) != 0:
		c.agent.respond(r.Request, r.tx, bodyStatus(r.Request))
	case w != nil && w.offered:
		c.agent.respond(r.Request, r.tx, 491) // our own offer waits for its answer
	case !c.reliable.settled:
		c.agent.respond(r.Request, r.tx, 500, sip.NewHeader("Retry-After", strconv.Itoa(rand.IntN(10))))
	default:
		if err := c.peer.retarget(r.Contact()); err != nil {
			c.agent.respond(r.Request, r.tx, 400, c.agent.warning(err.Error()))
			return
		}
		c.reoffered(r)
	}
}

// reoffered answers an offer in a PRACK or an UPDATE. One that cannot be taken leaves the session as it was.
func (c *call) reoffered(r request) {
	body, agreed, err := c.sdp.answer(r.Body())
	if err != nil {
		c.agent.respond(r.Request, r.tx, offerStatus(err), c.agent.offerWarning(err))
		return
	}
	res := response(r.Request, 200, body)
	if r.Method == sip.UPDATE {
		res.AppendHeader(c.agent.contactIn(c.peer.network, r.Request))
	}
	if err := r.tx.Respond(res); err != nil {
		c.log.Debug("sip: answering failed", "method", r.Method.String(), "error", err)
	}
	c.agree(agreed)
}

// prack acknowledges a provisional answer of the far end, with our SDP when that answer carried its offer. It does not
// wait; credentials answers a challenge, for which it keeps a CSeq.
func (c *call) prack(e *early, ack rack, body []byte) {
	req, err := c.agent.request(&e.peer, sip.PRACK)
	if err != nil {
		c.log.Info("sip: acknowledging a provisional answer failed", "error", err)
		return
	}
	req.AppendHeader(sip.NewHeader("RAck", ack.String()))
	setSDP(req, body)
	creds := c.credentials()
	if creds.username != "" {
		e.peer.seq++ // for the repeat with credentials; a gap is no error (RFC 3261 §12.2.2)
	}
	c.pracks.Add(1)
	shows := e.peer.shows
	started := c.spawn(func(ctx context.Context) {
		defer c.pracks.Add(-1)
		c.agent.confirmed(ctx, req, shows, creds)
	})
	if !started {
		c.pracks.Add(-1)
	}
}

// confirmed sends a request and answers one challenge to it.
func (a *Agent) confirmed(ctx context.Context, req *sip.Request, shows certFiles, creds *credentials) {
	res := a.exchange(ctx, req, shows)
	if res == nil || (res.StatusCode != sip.StatusUnauthorized && res.StatusCode != sip.StatusProxyAuthRequired) {
		return
	}
	authorization, err := creds.answer(req, res)
	if err != nil {
		a.log.Info("sip: challenge not answered", "method", req.Method.String(), "error", err)
		return
	}
	a.exchange(ctx, a.authorized(req, authorization), shows)
}

// setSDP gives a message its SDP; nil is none.
func setSDP(msg *sip.Request, body []byte) {
	if body == nil {
		return
	}
	contentType := sip.ContentTypeHeader(sdpType)
	msg.AppendHeader(&contentType)
	msg.SetBody(body)
}
