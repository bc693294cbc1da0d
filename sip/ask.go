package sip

import (
	"context"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// reconnectTime is how long a request within a call waits for a far end that takes no connection, in T1.
const reconnectTime = 8

// maxBroken is how often a request is sent again whose connection broke: of several with a peer that was started again,
// each may look alive until it is used.
const maxBroken = 3

// asked is a request of ours within the dialog, with what is needed to send it again.
type asked struct {
	method        sip.RequestMethod
	fill          func(*sip.Request)
	then          func(*sip.Response)
	creds         *credentials
	authorization sip.Header
	broken        int // how often it was sent again because its connection broke
}

// ask sends a request within the dialog and returns at once. Fill adds its headers and body; it may run more than once,
// since a challenge of the trunk is answered by the same request with credentials (RFC 3261 §22.2). Then runs on the
// call's goroutine with the final answer, nil when none came; it does not run when the call is over before. The ACK to
// a 2xx, and its repetition, need nothing of the caller. Ask belongs to the call's goroutine.
func (c *call) ask(method sip.RequestMethod, fill func(*sip.Request), then func(*sip.Response)) {
	c.send(&asked{method: method, fill: fill, then: then, creds: c.credentials()})
}

func (c *call) send(q *asked) {
	req, err := c.agent.request(&c.peer, q.method)
	if err != nil {
		c.log.Info("sip: request not sent", "method", q.method.String(), "error", err)
		c.inbox.post(func() { q.then(nil) })
		return
	}
	if q.authorization != nil {
		req.AppendHeader(q.authorization)
	}
	if q.fill != nil {
		q.fill(req)
	}
	progress, forget, err := c.agent.invites.expect(req)
	if err != nil {
		c.log.Error("sip: request not sent", "method", q.method.String(), "error", err)
		c.inbox.post(func() { q.then(nil) })
		return
	}
	told := make(chan struct{})
	tell := sync.OnceFunc(func() { close(told) })
	if q.method == sip.INVITE || q.method == sip.UPDATE {
		c.change.exchange = exchange{final: progress.final, told: told}
	}
	at := c.peer // the dialog as it is now; the call's goroutine goes on with its own
	before, left := c.left, make(chan struct{})
	c.left = left
	started := c.spawn(func(ctx context.Context) {
		defer forget()
		defer tell() // also when this fails: the call's goroutine may wait for it
		c.transact(ctx, &at, req, progress, before, left, func(o conclusion) {
			defer tell()
			c.inbox.post(func() {
				if o.acked != nil {
					c.left = o.acked // nothing overtakes the ACK
				}
				if o.broke && q.broken < maxBroken && repeatable(q.method) {
					q.broken++
					c.send(q)
					return
				}
				if o.stays {
					o.final = unreachable(req)
				}
				c.concluded(q, req, o.final)
			})
		})
	})
	if !started {
		forget()
		close(left)
		c.inbox.post(func() { q.then(nil) })
	}
}

// concluded takes the final answer to a request of ours.
func (c *call) concluded(q *asked, req *sip.Request, res *sip.Response) {
	if res != nil && (res.StatusCode == sip.StatusUnauthorized || res.StatusCode == sip.StatusProxyAuthRequired) {
		authorization, err := q.creds.answer(req, res)
		if err == nil {
			q.authorization = authorization
			c.send(q)
			return
		}
		c.log.Info("sip: challenge not answered", "method", q.method.String(), "error", err)
	}
	q.then(res)
}

// conclusion is what became of a transaction.
type conclusion struct {
	final *sip.Response   // nil: none came
	broke bool            // its connection broke before
	stays bool            // it could not be sent at all
	acked <-chan struct{} // a 2xx to an INVITE: closed when the ACK has left
}

// transact runs one transaction within the dialog in a goroutine of its own and tells what became of it. A 2xx to an
// INVITE is acknowledged here, at once and as often as it comes. It is told before the ACK leaves, so that what the far
// end sends behind that finds the call ready.
func (c *call) transact(ctx context.Context, at *peer, req *sip.Request, progress *progress, before <-chan struct{}, left chan<- struct{}, tell func(conclusion)) {
	tx, err := c.startInCall(ctx, req, at.shows, before, left)
	if err != nil {
		c.log.Info("sip: request not sent", "method", req.Method.String(), "error", err)
		tell(conclusion{stays: true})
		return
	}
	gone := goneOf(tx.Connection())
	var sending sync.Mutex // one ACK at a time
	var ack *sip.Request
	acknowledge := func() {
		sending.Lock()
		defer sending.Unlock()
		c.write(ctx, ack, at.shows)
	}
	if req.IsInvite() {
		tx.OnRetransmission(func(*sip.Response) { acknowledge() })
	}
	over := c.done
	broke := false
	var giveUp <-chan time.Time
	for {
		select {
		case <-ctx.Done():
		case <-tx.Done():
		case <-giveUp:
		case <-gone:
			gone = nil
			if broke = !progress.final.isSet(); !broke || req.IsInvite() {
				continue // the answer to an INVITE, which wants its ACK, may come over another connection
			}
		case <-over:
			if req.IsInvite() { // whatever is answered still wants its ACK
				over, giveUp = nil, time.After(64*sip.T1)
				continue
			}
		case res := <-tx.Responses():
			switch {
			case res.IsProvisional():
				if req.IsInvite() && giveUp == nil { // Timer B has ended with it
					giveUp = time.After(64 * sip.T1)
				}
				continue
			case req.IsInvite() && res.IsSuccess():
				acked := make(chan struct{})
				defer close(acked)
				sending.Lock()
				ack = c.acknowledge(at, req, res)
				sending.Unlock()
				tell(conclusion{final: res, acked: acked})
				acknowledge()
				return
			case !req.IsInvite():
				tx.Terminate()
			}
			tell(conclusion{final: res})
			return
		}
		tx.Terminate()
		tell(conclusion{broke: broke})
		return
	}
}

// depart sends a request once the one before it has left: their CSeq has to rise on the wire, or the far end refuses the
// one that comes behind (RFC 3261 §12.2.2). Left is closed when that was tried.
func (c *call) depart(ctx context.Context, req *sip.Request, shows certFiles, before <-chan struct{}, left chan<- struct{}) (*sip.ClientTx, error) {
	defer close(left)
	if before != nil {
		select {
		case <-before:
		case <-ctx.Done():
		}
	}
	return c.agent.start(ctx, req, shows)
}

// unreachable is what a request that could not be sent counts as: a 503 (RFC 3261 §8.1.3.1). It ends no call by itself.
func unreachable(req *sip.Request) *sip.Response {
	return sip.NewResponseFromRequest(req, sip.StatusServiceUnavailable, "The far end cannot be reached", nil)
}

// startInCall is depart for a request of a call that is up. Who can't be reached over a stream is tried again for a few
// seconds: a proxy that is started again refuses nothing.
func (c *call) startInCall(ctx context.Context, req *sip.Request, shows certFiles, before <-chan struct{}, left chan<- struct{}) (*sip.ClientTx, error) {
	deadline := time.After(reconnectTime * sip.T1)
	tx, err := c.depart(ctx, req, shows, before, left)
	for wait := sip.T1; err != nil && req.Via().Transport != "UDP"; wait *= 2 {
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
			tx, err = c.agent.start(ctx, req, shows)
			continue
		case <-deadline:
		case <-c.done:
		case <-ctx.Done():
		}
		pause.Stop()
		return nil, err
	}
	return tx, err
}

// repeatable says whether a request that the far end may have got already does no harm when it comes again.
func repeatable(method sip.RequestMethod) bool {
	return method == sip.INVITE || method == sip.UPDATE || method == sip.NOTIFY
}

// acknowledge builds the ACK to a 2xx to invite, the last request of at; nil when its Contact is of no use.
func (c *call) acknowledge(at *peer, invite *sip.Request, res *sip.Response) *sip.Request {
	err := at.retarget(res.Contact())
	if err == nil {
		var ack *sip.Request
		if ack, err = c.ackTo(at, invite, nil); err == nil {
			return ack
		}
	}
	c.log.Info("sip: the answer cannot be acknowledged", "error", err)
	return nil
}

// lost says whether the answer to a request of ours means that the far end knows the call no more (RFC 5057 §5.1):
// the call is then to be hung up. Nil is no answer at all, which ends a call only where its method says so.
func lost(res *sip.Response) bool {
	return res != nil && (res.StatusCode == sip.StatusCallTransactionDoesNotExists || res.StatusCode == sip.StatusRequestTimeout)
}
