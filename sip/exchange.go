package sip

import (
	"cmp"
	"context"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// start sends a request in a transaction of its own. The caller reads its responses until it is done.
func (a *Agent) start(ctx context.Context, req *sip.Request) (*sip.ClientTx, error) {
	ctx, cancel := context.WithTimeout(ctx, socketTimeout)
	defer cancel()
	if err := a.reach(ctx, req); err != nil {
		return nil, err
	}
	return a.txl.Request(ctx, req)
}

// exchange sends a request other than INVITE and returns its final answer, nil if none came.
func (a *Agent) exchange(ctx context.Context, req *sip.Request) *sip.Response {
	res, _ := a.ask(ctx, req)
	return res
}

// ask is exchange with the reason why no answer came.
func (a *Agent) ask(ctx context.Context, req *sip.Request) (*sip.Response, error) {
	tx, err := a.start(ctx, req)
	if err != nil {
		return nil, err
	}
	defer tx.Terminate()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
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
	for {
		req, err := c.agent.request(&c.peer, sip.BYE)
		if err != nil {
			c.log.Info("sip: hanging up failed", "error", err)
			return
		}
		if authorization != nil {
			req.AppendHeader(authorization)
		}
		res := c.sendBye(ctx, req)
		if res == nil || (res.StatusCode != sip.StatusUnauthorized && res.StatusCode != sip.StatusProxyAuthRequired) {
			return
		}
		if authorization, err = creds.answer(req, res); err != nil {
			c.log.Info("sip: hanging up was refused", "status", res.StatusCode, "error", err)
			return
		}
	}
}

// sendBye returns the final answer, nil if none came. Meanwhile it goes on to serve the far end, whose BYE may cross.
func (c *call) sendBye(ctx context.Context, bye *sip.Request) *sip.Response {
	tx, err := c.agent.start(ctx, bye)
	if err != nil {
		c.log.Info("sip: hanging up failed", "error", err)
		return nil
	}
	defer tx.Terminate()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tx.Done():
			c.agent.mistrust(bye, tx.Err())
			return nil
		case res := <-tx.Responses():
			if !res.IsProvisional() {
				return res
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
