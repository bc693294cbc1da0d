package sip

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

// asked is a request of ours within the dialog, with what is needed to send it again.
type asked struct {
	method        sip.RequestMethod
	fill          func(*sip.Request)
	then          func(*sip.Response)
	creds         *credentials
	authorization sip.Header
	again         bool // it was sent again because its connection broke
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
	at := c.peer // the dialog as it is now; the call's goroutine goes on with its own
	started := c.agent.spawn(func(ctx context.Context) {
		res, broke := c.transact(ctx, &at, req)
		c.inbox.post(func() {
			if broke && !q.again && repeatable(q.method) {
				q.again = true
				c.send(q)
				return
			}
			c.concluded(q, req, res)
		})
	})
	if !started {
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

// transact runs one transaction within the dialog in a goroutine of its own and returns the final answer, nil if none
// came, and whether its connection broke before. A 2xx to an INVITE is acknowledged here, at once and as often as it comes.
func (c *call) transact(ctx context.Context, at *peer, req *sip.Request) (final *sip.Response, broke bool) {
	progress, forget, err := c.agent.invites.expect(req)
	if err != nil {
		return nil, false
	}
	defer forget()
	tx, err := c.startInCall(ctx, req)
	if err != nil {
		c.log.Info("sip: request not sent", "method", req.Method.String(), "error", err)
		return nil, false
	}
	gone := goneOf(tx.Connection())
	var ack atomic.Pointer[sip.Request]
	if req.IsInvite() {
		tx.OnRetransmission(func(*sip.Response) { c.write(ctx, ack.Load()) })
	}
	over := c.done
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
			if res.IsProvisional() {
				if req.IsInvite() && giveUp == nil { // Timer B has ended with it
					giveUp = time.After(64 * sip.T1)
				}
				continue
			}
			if req.IsInvite() && res.IsSuccess() {
				ack.Store(c.acknowledge(at, res))
				c.write(ctx, ack.Load())
			}
			if !req.IsInvite() {
				tx.Terminate()
			}
			return res, false
		}
		tx.Terminate()
		return nil, broke
	}
}

// startInCall is start for a request of a call that is up. Who can't be reached over a stream is tried for as long as
// over UDP: a proxy that is started again ends no call.
func (c *call) startInCall(ctx context.Context, req *sip.Request) (*sip.ClientTx, error) {
	deadline := time.After(64 * sip.T1)
	for {
		tx, err := c.agent.start(ctx, req)
		if err == nil || req.Via().Transport == "UDP" {
			return tx, err
		}
		pause := time.NewTimer(sip.T2)
		select {
		case <-pause.C:
			continue
		case <-deadline:
		case <-c.done:
		case <-ctx.Done():
		}
		pause.Stop()
		return nil, err
	}
}

// repeatable says whether a request that the far end may have got already does no harm when it comes again.
func repeatable(method sip.RequestMethod) bool {
	return method == sip.INVITE || method == sip.UPDATE || method == sip.NOTIFY
}

// acknowledge builds the ACK to a 2xx to the last INVITE of at, nil when its Contact is of no use.
func (c *call) acknowledge(at *peer, res *sip.Response) *sip.Request {
	if err := at.retarget(res.Contact()); err != nil {
		c.log.Info("sip: the answer cannot be acknowledged", "error", err)
		return nil
	}
	ack, err := c.agent.request(at, sip.ACK)
	if err != nil {
		c.log.Info("sip: the answer cannot be acknowledged", "error", err)
		return nil
	}
	return ack
}

// lost says whether the answer to a request of ours means that the far end knows the call no more (RFC 5057 §5.1):
// the call is then to be hung up. Nil is no answer at all, which ends a call only where its method says so.
func lost(res *sip.Response) bool {
	return res != nil && (res.StatusCode == sip.StatusCallTransactionDoesNotExists || res.StatusCode == sip.StatusRequestTimeout)
}
