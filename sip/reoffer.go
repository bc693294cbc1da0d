package sip

import (
	"math/rand/v2"
	"time"

	"github.com/emiago/sipgo/sip"
	"golang.org/x/time/rate"

	"tandem/dialogs"
)

const (
	// changeRate and changeBurst bound how often the far end may change the session: a machine that does not like our
	// answer and asks again at once would ask for ever. No person holds and resumes as often.
	changeRate  = 2 // a second
	changeBurst = 30
	// maxGlares is how often a wish of ours that crosses the far end's is tried again.
	maxGlares = 10
	// glareUnit is what the waits after a 491 are multiples of (RFC 3261 §14.1).
	glareUnit = 10 * time.Millisecond
)

// change is what this end wants of the session, and whether it may ask now. It belongs to the call's goroutine.
type change struct {
	hold   *bool // a wish that is not fulfilled yet; nil: none
	busy   bool  // a re-INVITE or UPDATE of ours is not answered yet
	glares int   // how often the wish met a 491
	wait   alarm // after one

	exchange exchange // the last re-INVITE or UPDATE of ours

	pace *rate.Limiter // of the far end's changes; nil: there was none
}

// exchange is how far a request of ours has come. The zero value is none.
type exchange struct {
	final *latch        // its final answer has arrived
	told  chan struct{} // closed when the outcome is in the inbox
}

// settle takes the outcome of a change of ours whose final answer has arrived, though the transaction layer, which has
// acknowledged it if it was a refusal, may not have passed it on: what the far end sends behind the ACK meets no glare.
func (c *call) settle() {
	if x := c.change.exchange; x.final != nil && x.final.isSet() {
		<-x.told
	}
	c.inbox.run()
}

// hurried says whether the far end changes the session faster than anybody has a reason to.
func (c *change) hurried(now time.Time) bool {
	if c.pace == nil {
		c.pace = rate.NewLimiter(changeRate, changeBurst)
	}
	return !c.pace.AllowN(now, 1)
}

// pursue asks for what this end wants as soon as nothing else is under way. It is called whenever something happened.
func (c *call) pursue() {
	if c.change.busy || c.change.wait.pending() || c.unacked != nil || c.sdp == nil || !c.sdp.up {
		return
	}
	switch {
	case c.change.hold != nil:
		c.pursueHold(*c.change.hold)
	case c.timer.due:
		c.timer.due = false
		c.refresh()
	}
}

// propose sends a re-INVITE or an UPDATE. Done is told the final answer, nil when the call is to end for want of one, and
// whether the same is to be tried again, after a 491 for one. Meanwhile an offer of the far end meets a 491 of ours.
func (c *call) propose(method sip.RequestMethod, body []byte, done func(res *sip.Response, again bool)) {
	c.change.busy = true
	fill := func(req *sip.Request) {
		req.AppendHeader(c.agent.contact(c.peer.network, c.peer.source))
		req.AppendHeader(sip.NewHeader("Allow", allowed))
		req.AppendHeader(sip.NewHeader("Supported", supported))
		c.timer.ask(req)
		setSDP(req, body)
	}
	c.ask(method, fill, func(res *sip.Response) {
		c.change.busy = false
		done(res, c.proposed(method, res, body != nil))
	})
}

// proposed takes the final answer to a re-INVITE or UPDATE of ours (RFC 3261 §14.1, RFC 3311 §5.3). It is true when the
// same is to be tried again.
func (c *call) proposed(method sip.RequestMethod, res *sip.Response, offer bool) (again bool) {
	if res != nil && res.IsSuccess() {
		c.change.glares = 0
		c.peer.learn(res)
		if err := c.peer.retarget(res.Contact()); err != nil {
			c.log.Info("sip: Contact not taken", "error", err)
		}
		c.timer.answered(res)
		c.timed()
		if offer {
			c.takeAnswer(res)
		}
		return false
	}
	if offer {
		c.sdp.refused()
	}
	switch {
	case res == nil:
		c.fault = failed("the far end does not answer any more")
	case lost(res):
		c.fault = failed("the far end knows the call no more: " + causeOf(res.StatusCode, res.Reason).Details)
	case res.StatusCode == sip.StatusRequestPending && c.change.glares < maxGlares:
		c.change.glares++
		c.change.wait.set(c.inbox, c.glareWait(), func() {})
		return true
	case res.StatusCode == statusIntervalTooSmall && c.timer.refused(res):
		return true
	default:
		c.change.glares = 0
		c.log.Info("sip: request refused", "method", method.String(), "status", res.StatusCode)
	}
	return false
}

// takeAnswer reads the SDP of a 2xx to an offer of ours. One that cannot be used leaves the session as it was.
func (c *call) takeAnswer(res *sip.Response) {
	agreed, err := c.sdp.accept(res.Body())
	if err != nil {
		c.log.Info("sip: the answer to our offer cannot be used", "error", err)
		c.sdp.refused()
		return
	}
	c.agree(agreed)
}

// glareWait is how long to wait after a 491: whoever owns the Call-ID waits longer, so that the two do not meet again
// (RFC 3261 §14.1).
func (c *call) glareWait() time.Duration {
	if c.peer.placed {
		return 2100*time.Millisecond + time.Duration(rand.IntN(191))*glareUnit
	}
	return time.Duration(rand.IntN(201)) * glareUnit
}

// changed answers a re-INVITE or an UPDATE (RFC 3261 §14.2, RFC 3311 §5.2). When the change cannot be made, the session
// stays as it was.
func (c *call) changed(r request) {
	if status, headers := c.unchangeable(r); status != 0 {
		c.agent.respond(r.Request, r.tx, status, headers...)
		return
	}
	moved := c.peer
	if err := moved.retarget(r.Contact()); err != nil {
		c.agent.respond(r.Request, r.tx, 400, c.agent.warning(err.Error()))
		return
	}
	before, at, timer := *c.sdp, c.peer, c.timer
	var body []byte
	var err error
	agreed, ours := c.media, false
	switch {
	case len(r.Body()) > 0:
		body, agreed, err = c.sdp.answer(r.Body())
	case r.IsInvite():
		ours = true
		body, err = c.sdp.offer()
	}
	if err != nil {
		c.log.Info("sip: change of the session refused", "method", r.Method.String(), "error", err)
		c.agent.respond(r.Request, r.tx, offerStatus(err), c.agent.offerWarning(err))
		return
	}
	c.peer = moved
	c.peer.learn(r.Request)
	if r.IsInvite() {
		err = c.confirm(r.Request, r.tx, body, ours, false)
	} else {
		err = r.tx.Respond(c.accepted2xx(r.Request, body))
	}
	if err != nil { // the far end has taken it back (RFC 3261 §9.2), or is not there: nothing has changed
		*c.sdp, c.peer = before, at
		c.timer.interval, c.timer.ours, c.timer.alone = timer.interval, timer.ours, timer.alone
		c.log.Info("sip: answering failed", "method", r.Method.String(), "error", err)
		return
	}
	c.timed()
	if len(r.Body()) > 0 {
		c.agree(agreed)
	}
}

// unchangeable says why a re-INVITE or UPDATE is refused before its SDP is looked at; 0: it is not.
func (c *call) unchangeable(r request) (status int, headers []sip.Header) {
	if c.change.hurried(time.Now()) {
		return sip.StatusInternalServerError, []sip.Header{sip.NewHeader("Retry-After", "5")} // as RFC 3261 §14.2 slows one down
	}
	if r.IsInvite() && c.unacked != nil { // while an INVITE of ours is under way its offer is open: that is a 491, too
		return sip.StatusRequestPending, nil
	}
	if extensions := unsupported(r.Request); extensions != "" {
		return sip.StatusBadExtension, []sip.Header{sip.NewHeader("Unsupported", extensions)}
	}
	if status := bodyStatus(r.Request); status != 0 {
		return status, nil
	}
	if c.timer.tooShort(r.Request) {
		return statusIntervalTooSmall, []sip.Header{c.timer.minSE()}
	}
	return 0, nil
}

// accepted2xx is a 2xx with what every one to an INVITE or UPDATE tells about us.
func (c *call) accepted2xx(req *sip.Request, body []byte) *sip.Response {
	res := response(req, 200, body)
	res.AppendHeader(c.agent.contactIn(c.peer.network, req))
	res.AppendHeader(sip.NewHeader("Allow", allowed))
	res.AppendHeader(sip.NewHeader("Supported", supported))
	for _, h := range c.timer.answer(req) {
		res.AppendHeader(h)
	}
	return res
}

// holding says how it stands between the two ends.
func (c *call) holding() dialogs.Hold {
	if c.sdp == nil {
		return dialogs.Hold{}
	}
	return dialogs.Hold{ByUs: c.sdp.hold, ByFarEnd: c.sdp.farHold}
}
