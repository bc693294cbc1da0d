package sip

import (
	"cmp"
	"context"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// start sends a request in a transaction of its own, over a connection that shows a certificate. The caller reads its
// responses until it is done.
func (a *Agent) start(ctx context.Context, req *sip.Request, shows certFiles) (*sip.ClientTx, error) {
	ctx, cancel := context.WithTimeout(ctx, socketTimeout)
	defer cancel()
	if err := a.reach(ctx, req, shows); err != nil {
		return nil, err
	}
	tx, err := a.txl.Request(ctx, req)
	if err != nil && strings.EqualFold(req.Transport(), networkTCP) {
		a.streams.unwritable(req.Destination(), req.Laddr)
	}
	return tx, err
}

// exchange sends a request other than INVITE and returns its final answer, nil if none came.
func (a *Agent) exchange(ctx context.Context, req *sip.Request, shows certFiles) *sip.Response {
	res, _ := a.ask(ctx, req, shows)
	return res
}

// ask is exchange with the reason why no answer came.
func (a *Agent) ask(ctx context.Context, req *sip.Request, shows certFiles) (*sip.Response, error) {
	progress, forget, err := a.invites.expect(req)
	if err != nil {
		return nil, err
	}
	defer forget()
	tx, err := a.start(ctx, req, shows)
	if err != nil {
		return nil, err
	}
	defer tx.Terminate()
	gone := goneOf(tx.Connection())
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-gone:
			if gone = nil; !progress.final.isSet() {
				return nil, errConnectionLost
			}
		case <-tx.Done():
			a.mistrust(req, tx.Err())
			return nil, cmp.Or(tx.Err(), sip.ErrTransactionTerminated)
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return res, nil
			}
		}
	}
}

// authorized repeats a request with credentials: another transaction, one CSeq later (RFC 3261 §22.2).
func (a *Agent) authorized(req *sip.Request, authorization sip.Header) *sip.Request {
	again := req.Clone()
	network := strings.ToLower(again.Via().Transport) // to the library every stream is one over TCP
	for again.RemoveHeader("Via") {
	}
	again.CSeq().SeqNo++
	again.AppendHeader(authorization)
	a.direct(again, network, req.Destination())
	return again
}

// bye hangs up. It returns with the answer, and without one when Timer F is over (64*T1, RFC 3261 §17.1.2.2).
func (c *call) bye(ctx context.Context) {
	creds := c.credentials()
	var authorization sip.Header
	broken := 0
	for {
		req, err := c.agent.request(&c.peer, sip.BYE)
		if err != nil {
			c.log.Info("sip: hanging up failed", "error", err)
			return
		}
		if authorization != nil {
			req.AppendHeader(authorization)
		}
		res, broke := c.sendBye(ctx, req)
		if broke && broken < maxBroken {
			broken++ // over another connection
			continue
		}
		if res == nil || (res.StatusCode != sip.StatusUnauthorized && res.StatusCode != sip.StatusProxyAuthRequired) {
			return
		}
		if authorization, err = creds.answer(req, res); err != nil {
			c.log.Info("sip: hanging up was refused", "status", res.StatusCode, "error", err)
			return
		}
	}
}

// sendBye returns the final answer, nil if none came, and whether its connection broke before. Meanwhile it goes on to
// serve the far end, whose BYE may cross.
func (c *call) sendBye(ctx context.Context, bye *sip.Request) (res *sip.Response, broke bool) {
	progress, forget, err := c.agent.invites.expect(bye)
	if err != nil {
		return nil, false
	}
	defer forget()
	tx, err := c.depart(ctx, bye, c.peer.shows, c.left, make(chan struct{}))
	if err != nil {
		c.log.Info("sip: hanging up failed", "error", err)
		return nil, ctx.Err() == nil
	}
	defer tx.Terminate()
	gone := goneOf(tx.Connection())
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case <-gone:
			if gone = nil; !progress.final.isSet() {
				return nil, true
			}
		case <-tx.Done():
			c.agent.mistrust(bye, tx.Err())
			return nil, false
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return res, false
			}
		case r := <-c.requests:
			c.handleLate(r)
		case res := <-c.answers:
			c.answeredAgain(ctx, res)
		case <-c.acks:
		}
	}
}

// handleLate serves the far end after the end.
func (c *call) handleLate(r request) {
	defer close(r.handled)
	switch r.Method {
	case sip.ACK:
	case sip.BYE:
		c.agent.respond(r.Request, r.tx, 200)
	default:
		c.agent.respond(r.Request, r.tx, 481)
	}
}
