package sip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/emiago/sipgo/sip"
)

// maxProbed is how many addresses of a trunk one round of probing asks.
const maxProbed = 8

// probe asks a trunk again and again whether it takes calls, until ctx ends, and tells the book.
func (a *Agent) probe(ctx context.Context, t *trunk) {
	log := a.log.With("trunk", t.Name)
	alive := true
	for {
		err := a.probeOnce(ctx, t)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			a.book.Worked(t.Key())
		} else {
			a.book.Failed(t.Key(), "OPTIONS: "+err.Error())
		}
		if alive != (err == nil) {
			alive = err == nil
			log.Info("sip: trunk probed", "alive", alive, "why", fmt.Sprint(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(jittered(t.Probe)):
		}
	}
}

// jittered is d, or up to a tenth less: what begins together does not stay together.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// probeOnce asks every address of a trunk. No error: at least one takes calls. Any answer but 503 and 408 says so
// (RFC 3261 §11.2): a trunk that has no use for OPTIONS is up all the same.
func (a *Agent) probeOnce(ctx context.Context, t *trunk) error {
	hops, err := a.locateTrunk(ctx, t)
	if err != nil {
		return err
	}
	works := false
	for _, h := range hops[:min(len(hops), maxProbed)] {
		res, failure := a.ask(ctx, a.outside(sip.OPTIONS, t, h, sip.GenerateTagN(2*tagLength), sip.GenerateTagN(tagLength), 1), t.shows())
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case failure != nil:
			failure = fmt.Errorf("%s: %s", h.addr, describe(failure))
		case res.StatusCode == sip.StatusServiceUnavailable || res.StatusCode == sip.StatusRequestTimeout:
			failure = fmt.Errorf("%s: %d %s", h.addr, res.StatusCode, printable(res.Reason, 60))
		}
		if failure != nil {
			a.resolver.fail(h)
			err = failure
			continue
		}
		a.resolver.work(h)
		works = true
	}
	if works {
		return nil
	}
	return err
}

// outside builds a request to the trunk itself, outside any dialog.
func (a *Agent) outside(method sip.RequestMethod, t *trunk, h hop, callID, tag string, seq uint32) *sip.Request {
	recipient := *t.uri.Clone()
	recipient.User, recipient.Headers = "", nil
	req := sip.NewRequest(method, recipient)
	a.direct(req, h.network, h.addr)
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	us := sip.Uri{Scheme: recipient.Scheme, User: t.Username, Host: t.uri.Host}
	from := &sip.FromHeader{Address: us, Params: sip.NewParams()}
	from.Params.Add("tag", tag)
	req.AppendHeader(from)
	to := &sip.ToHeader{Address: us, Params: sip.NewParams()}
	if method != sip.REGISTER {
		to.Address = recipient
	}
	req.AppendHeader(to)
	id := sip.CallIDHeader(callID)
	req.AppendHeader(&id)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: seq, MethodName: method})
	if method == sip.OPTIONS {
		req.AppendHeader(a.contact(h.network, h.addr))
		req.AppendHeader(sip.NewHeader("Accept", sdpType))
	}
	req.SetBody(nil)
	return req
}
