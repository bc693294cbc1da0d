package sip

import (
	"cmp"
	"context"
	"time"

	"github.com/emiago/sipgo/sip"
)

// trying is one INVITE on its way.
type trying struct {
	*call
	invite  *sip.Request
	tx      *sip.ClientTx
	network string
	shows   certFiles
	heard   bool // a provisional answer came
	cancel  *sip.ClientTx
	again   <-chan time.Time // when the CANCEL is tried again that could not be sent; nil: it was, or is not wanted
	pause   time.Duration    // before that

	progress *progress // its provisional answers
}

// wait reads the answers until the final one. Before it returns, it has told what came before that one.
func (t *trying) wait(ctx context.Context) (*sip.Response, error) {
	defer func() {
		if t.cancel != nil {
			t.cancel.Terminate()
		}
	}()
	hung, draining, requests := t.hung.ch, t.agent.draining.ch, t.requests
	tooLong := time.After(t.agent.cfg.maxRinging)
	var giveUp <-chan time.Time
	first, gone := t.firstAnswer(), goneOf(t.tx.Connection())
	for {
		if t.leaving() {
			hung, draining = nil, nil
			// No CANCEL before a provisional answer (RFC 3261 §9.1): Timer B ends the wait for one.
			if t.heard && giveUp == nil {
				giveUp = time.After(64 * sip.T1)
				t.sendCancel(ctx)
			}
		}
		var cancelled <-chan *sip.Response
		if t.cancel != nil {
			cancelled = t.cancel.Responses()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-hung:
		case <-draining:
		case <-tooLong:
			if !t.leaving() {
				t.fault = failed(ringsTooLong)
			}
			t.Hangup(0)
		case <-giveUp:
			return nil, errNoFinalAnswer
		case <-gone:
			gone = nil
			if t.catchUp(); !t.rang && !t.progress.final.isSet() {
				return nil, errConnectionLost
			}
			// Who rings answers over a connection of its own (RFC 3261 §18.2.2).
			if t.cancel != nil && !t.progress.final.isSet() { // it was lost
				t.cancel.Terminate()
				t.cancel = nil
				t.sendCancel(ctx)
			}
		case <-first:
			if !t.heard && !t.leaving() {
				return nil, errNoFirstAnswer
			}
		case <-t.tx.Done():
			t.catchUp()
			return nil, cmp.Or(t.tx.Err(), sip.ErrTransactionTerminated)
		case <-t.again:
			t.sendCancel(ctx)
		case <-cancelled:
		case r := <-requests:
			if t.progress.final.isSet() { // it came behind the answer, which is to be dealt with first
				t.putBack(r)
				requests = nil
				continue
			}
			t.handleEarly(r)
		case res := <-t.progress.provisional:
			t.progressed(res)
		case res := <-t.tx.Responses():
			if !res.IsProvisional() {
				t.catchUp()
				return res, nil
			}
			t.heard = true // what it says is read above, in order
		}
	}
}

// catchUp tells what came before the final answer.
func (t *trying) catchUp() {
	for {
		select {
		case res := <-t.progress.provisional:
			t.progressed(res)
		default:
			return
		}
	}
}

// putBack leaves a request for later.
func (c *call) putBack(r request) {
	select {
	case c.requests <- r:
	default:
		if !r.IsAck() {
			c.agent.respond(r.Request, r.tx, 503, sip.NewHeader("Retry-After", "1"))
		}
		close(r.handled)
	}
}

// sendCancel sends the CANCEL, or says when to try again: the phone would ring on whose connection broke just now.
func (t *trying) sendCancel(ctx context.Context) {
	invite := t.invite
	req := sip.NewRequest(sip.CANCEL, invite.Recipient)
	req.AppendHeader(sip.HeaderClone(invite.Via())) // the same branch (RFC 3261 §9.1)
	sip.CopyHeaders("Route", invite, req)
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	req.AppendHeader(sip.HeaderClone(invite.From()))
	req.AppendHeader(sip.HeaderClone(invite.To()))
	req.AppendHeader(sip.HeaderClone(invite.CallID()))
	req.AppendHeader(&sip.CSeqHeader{SeqNo: invite.CSeq().SeqNo, MethodName: sip.CANCEL})
	req.SetBody(nil)
	req.SetTransport(invite.Transport())
	req.SetDestination(invite.Destination())
	req.Laddr = invite.Laddr
	tx, err := t.agent.start(ctx, req, t.shows)
	if err != nil {
		t.log.Info("sip: sending the CANCEL failed", "error", err)
		t.pause = min(max(sip.T1, 2*t.pause), sip.T2)
		t.again = time.After(t.pause)
		return
	}
	t.cancel, t.again = tx, nil
}
