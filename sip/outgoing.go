package sip

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
	"tandem/trunks"
)

var errNoFinalAnswer = errors.New("no answer to the CANCEL")

// Dial is part of dialogs.Phone. The leg lives on after ctx.
func (a *Agent) Dial(_ context.Context, d dialogs.Dial) (dialogs.Leg, error) {
	place, err := a.placeOf(d)
	if err != nil {
		d.Place.Release()
		return nil, err
	}
	leg, err := a.dialOn(d, place) //nolint:contextcheck // the leg lives on after ctx
	if err != nil {
		place.Release()
		return nil, err
	}
	return leg, nil
}

// placeOf checks a call and returns the place that it came with, or takes one.
func (a *Agent) placeOf(d dialogs.Dial) (*trunks.Place, error) {
	if err := checkDial(d); err != nil {
		return nil, err
	}
	if a.closed() {
		return nil, errs.New(errs.Unavailable, "the gateway is stopping")
	}
	if d.Place != nil {
		return d.Place, nil
	}
	return a.book.Place(trunks.Request{Account: d.Account, To: d.To, From: d.From, Trunk: d.Trunk, Headers: d.Headers})
}

// dialOn starts a call that has its place, which is the call's then.
func (a *Agent) dialOn(d dialogs.Dial, place *trunks.Place) (dialogs.Leg, error) {
	t, err := readTrunk(place.Trunk())
	if err != nil {
		return nil, err
	}
	if _, _, err := t.target(d.To); err != nil {
		return nil, err
	}
	c := a.newCall(a.log.With("dialog", d.Dialog))
	c.place = place
	started := a.spawn(func(ctx context.Context) {
		c.live(ctx, func() *dialogs.Cause { return c.dial(ctx, d, t) })
	})
	if !started {
		return nil, errs.New(errs.Unavailable, "the SIP user agent is not running")
	}
	return c, nil
}

// checkDial refuses what would break out of a header or mean nothing.
func checkDial(d dialogs.Dial) error {
	switch {
	case !trunks.IsE164(d.To) && !isURI(d.To):
		return errs.New(errs.Invalid, "to: %q is neither E.164 nor a sip: URI", printable(d.To, 60))
	case strings.ContainsFunc(d.To, breaksURI):
		return errs.New(errs.Invalid, "to: blanks, quotes, brackets and control characters are not allowed; write them as %%20 and so on")
	case !trunks.IsE164(d.From) && d.From != dialogs.FromUnknown && d.From != dialogs.FromRestricted:
		return errs.New(errs.Invalid, "from: %q is neither E.164 nor UNKNOWN or RESTRICTED", printable(d.From, 60))
	case hasControl(d.Replaces) || hasControl(d.ReferredBy):
		return errs.New(errs.Invalid, "replaces: control characters are not allowed")
	case hasControl(d.UserToUser):
		return errs.New(errs.Invalid, "userToUser: control characters are not allowed")
	}
	return trunks.CheckHeaders(d.Headers)
}

// dial tries the trunks that the place gives, t first. It returns nil when a 2xx came, and otherwise why the call is over.
func (c *call) dial(ctx context.Context, d dialogs.Dial, t *trunk) *dialogs.Cause {
	for {
		cause, next := c.over(ctx, d, t)
		if !next {
			return cause
		}
		c.log.Warn("sip: trunk failed", "trunk", t.Name, "details", cause.Details)
		if c.leaving() {
			return &dialogs.Cause{Details: byThisEnd}
		}
		another, err := c.place.Next()
		if err == nil {
			t, err = readTrunk(another)
		}
		if err != nil {
			c.log.Info("sip: no further trunk", "why", err)
			return cause
		}
	}
}

// over places the call over one trunk, at each of its addresses. Next asks for the next trunk; a nil cause without it: a
// 2xx came.
func (c *call) over(ctx context.Context, d dialogs.Dial, t *trunk) (cause *dialogs.Cause, next bool) {
	c.rest = 0
	hops, err := c.agent.locateTrunk(ctx, t)
	if err != nil {
		c.log.Warn("sip: trunk not found", "trunk", t.Name, "error", err)
		cause = failed("trunk " + t.Name + " was not found")
		if errors.Is(err, errClaimed) {
			cause = failed("trunk " + t.Name + " " + err.Error())
		}
	}
	c.hosts, c.realm = hostsOf(hops), ""
	for i, hop := range hops {
		if c.leaving() {
			return &dialogs.Cause{Details: byThisEnd}, false
		}
		c.otherHops = i+1 < len(hops)
		if cause, next = c.attempt(ctx, d, t, hop.network, hop.addr); !next {
			c.agent.resolver.work(hop)
			return cause, false
		}
		c.agent.resolver.fail(hop)
		c.log.Info("sip: no call at this address", "trunk", t.Name, "address", hop.addr, "details", cause.Details)
	}
	if ctx.Err() != nil {
		return cause, false
	}
	c.place.Failed(cause.Details, c.rest)
	return cause, true
}

// attempt places the call at one address of a trunk. Next asks for the next one; that is right only for 503, time-out and
// transport error, before the callee rang. A nil cause without it: a 2xx came.
func (c *call) attempt(ctx context.Context, d dialogs.Dial, t *trunk, network, hop string) (cause *dialogs.Cause, next bool) {
	c.trunk = t
	if err := c.openPort(c.agent.familyTowards(hop)); err != nil {
		return failed(errs.MessageOf(err)), false
	}
	c.sdp = newDescription(newSession(), c.local(), termsOf(t))
	invite, err := c.invite(d, t, network, hop)
	if err != nil {
		return failed(err.Error()), false
	}
	creds := c.firstCredentials()
	for {
		res, err := c.try(ctx, invite, network)
		if res != nil && res.IsSuccess() {
			return c.answered(ctx, invite, res, network), false
		}
		if c.leaving() {
			return cmp.Or(c.fault, &dialogs.Cause{Details: byThisEnd}), false
		}
		if err != nil {
			return failed("trunk " + t.Name + ": " + describe(err)), !c.rang && ctx.Err() == nil
		}
		cause = refusedBy(res)
		if res.StatusCode != sip.StatusServiceUnavailable {
			c.place.Worked()
		}
		switch res.StatusCode {
		case sip.StatusServiceUnavailable:
			c.rest = retryAfter(res)
			return cause, !c.rang
		case statusIntervalTooSmall:
			if !c.timer.refused(res) {
				return cause, false
			}
			invite = c.slower(invite, network, hop)
		case sip.StatusUnauthorized, sip.StatusProxyAuthRequired:
			authorization, err := creds.answer(invite, res)
			if err != nil {
				c.log.Warn("sip: challenge not answered", "trunk", t.Name, "error", err)
				return cause, false
			}
			c.realm = creds.realm
			invite = c.authorize(invite, authorization, network, hop)
		case sip.StatusNotAcceptableHere:
			again, err := c.insist(invite, network, hop)
			if err != nil {
				return failed(err.Error()), false
			}
			if again == nil {
				return cause, false
			}
			c.log.Info("sip: the offer of RTP/AVP was refused; RTP/SAVP is tried", "trunk", t.Name)
			invite = again
		default:
			return cause, false
		}
	}
}

// refusedBy is what a final refusal means. A redirection is told with its first choice, and not followed: a callee shall
// not send our account's calls, at its cost, wherever it likes; the application can call that number itself.
func refusedBy(res *sip.Response) *dialogs.Cause {
	cause := causeOf(res.StatusCode, res.Reason)
	if res.StatusCode >= 400 {
		return &cause
	}
	best := -1.0
	for _, h := range res.GetHeaders("Contact") {
		contact, ok := h.(*sip.ContactHeader)
		if !ok || contact.Address.Host == "" {
			continue
		}
		q := 1.0
		if value, ok := contact.Params.Get("q"); ok {
			if n, err := strconv.ParseFloat(value, 64); err == nil {
				q = n
			}
		}
		if q > best {
			best = q
			target := sip.Uri{Scheme: contact.Address.Scheme, User: contact.Address.User, Host: contact.Address.Host, Port: contact.Address.Port}
			cause.Details = printable(strconv.Itoa(res.StatusCode)+" "+reasonPhrase(res.StatusCode)+": "+target.String(), 200)
		}
	}
	return &cause
}

// retryAfter returns how long the sender of a 503 wants to be left alone (RFC 3261 §20.33); 0: it does not say.
func retryAfter(res *sip.Response) time.Duration {
	h := res.GetHeader("Retry-After")
	if h == nil {
		return 0
	}
	value, _, _ := strings.Cut(h.Value(), ";")
	value, _, _ = strings.Cut(value, "(")
	seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// describe says in a stranger's words why a transaction ended.
func describe(err error) string {
	switch {
	case errors.Is(err, sip.ErrTransactionTimeout), errors.Is(err, errNoFirstAnswer):
		return "no answer"
	case errors.Is(err, errNoFinalAnswer), errors.Is(err, errConnectionLost):
		return err.Error()
	}
	return "cannot be reached"
}

// invite builds the INVITE of a new dialog and makes the call findable by it.
func (c *call) invite(d dialogs.Dial, t *trunk, network, hop string) (*sip.Request, error) {
	target, route, err := t.target(d.To)
	if err != nil {
		return nil, err
	}
	a := c.agent
	req := sip.NewRequest(sip.INVITE, target)
	a.direct(req, network, hop)
	if route != nil {
		req.AppendHeader(&sip.RouteHeader{Address: *route})
	}
	maxForwards := sip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	tag := sip.GenerateTagN(tagLength)
	writeCaller(req, t, d.From, a.domain(network, hop), tag)
	to := target
	to.Port, to.UriParams = 0, nil
	req.AppendHeader(&sip.ToHeader{Address: to, Params: sip.NewParams()})
	callID := sip.CallIDHeader(sip.GenerateTagN(2 * tagLength))
	req.AppendHeader(&callID)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.INVITE})
	req.AppendHeader(a.contact(network, hop))
	req.AppendHeader(sip.NewHeader("Allow", allowed))
	req.AppendHeader(sip.NewHeader("Accept", sdpType))
	if d.UserToUser != "" {
		req.AppendHeader(sip.NewHeader(headerUUI, d.UserToUser))
	}
	if d.Replaces != "" { // without Require, who does not know it takes the call beside the one that it is to replace
		req.AppendHeader(sip.NewHeader(headerReplaces, d.Replaces))
		req.AppendHeader(sip.NewHeader("Require", "replaces"))
	}
	if d.ReferredBy != "" {
		req.AppendHeader(sip.NewHeader(headerReferredBy, d.ReferredBy))
	}
	appendExtra(req, d.Headers)
	req.AppendHeader(sip.NewHeader("Supported", supported))
	c.timer.ask(req)
	req.SetBody(nil)
	if c.offerless = t.DelayedOffer; !c.offerless {
		offer, err := c.sdp.offer()
		if err != nil {
			return nil, err
		}
		setSDP(req, offer)
	}
	a.remember(c, callKey{string(callID), tag})
	return req, nil
}

// slower repeats an INVITE with the session interval that the far end wants (RFC 4028 §7.3).
func (c *call) slower(invite *sip.Request, network, hop string) *sip.Request {
	again := invite.Clone()
	for _, name := range []string{"Via", "Session-Expires", "Min-SE"} {
		for again.RemoveHeader(name) {
		}
	}
	again.CSeq().SeqNo++
	c.timer.ask(again)
	c.agent.direct(again, network, hop)
	return again
}

// insist repeats an INVITE whose offer was refused with one of RTP/SAVP, in another transaction of the same call; nil: it
// would say nothing new, or the callee rang and so refused something else.
func (c *call) insist(invite *sip.Request, network, hop string) (*sip.Request, error) {
	if c.rang || c.offerless {
		return nil, nil //nolint:nilnil // nothing to send is no error
	}
	offer, ok, err := c.sdp.insist()
	if err != nil || !ok {
		return nil, err
	}
	again := invite.Clone()
	for _, name := range []string{"Via", "Content-Type", "Content-Length"} {
		for again.RemoveHeader(name) {
		}
	}
	again.CSeq().SeqNo++
	setSDP(again, offer)
	c.agent.direct(again, network, hop)
	return again, nil
}

// authorize repeats an INVITE with credentials: another transaction of the same call (RFC 3261 §22.2).
func (c *call) authorize(invite *sip.Request, authorization sip.Header, network, hop string) *sip.Request {
	again := invite.Clone()
	for _, name := range []string{"Via", "Authorization", "Proxy-Authorization"} {
		for again.RemoveHeader(name) {
		}
	}
	again.CSeq().SeqNo++
	again.AppendHeader(authorization)
	c.agent.direct(again, network, hop)
	return again
}

// try sends one INVITE and returns its final answer. An error means that none came.
func (c *call) try(ctx context.Context, invite *sip.Request, network string) (*sip.Response, error) {
	progress, forget, err := c.agent.invites.expect(invite)
	if err != nil {
		return nil, err
	}
	defer forget()
	tx, err := c.agent.start(ctx, invite, c.trunk.shows())
	if err != nil {
		return nil, err
	}
	c.emitCalling()
	c.phones = nil
	t := &trying{call: c, invite: invite, tx: tx, network: network, shows: c.trunk.shows(), progress: progress}
	creds := c.credentials()
	tx.OnRetransmission(func(res *sip.Response) {
		select {
		case <-c.done:
			c.answeredTooLate(t, res, creds)
			return
		default:
		}
		select {
		case c.answers <- res:
		default: // it comes again
		}
	})
	over := false
	defer func() {
		if !over { // it failed: whoever rings is not left ringing
			c.abandon(invite, tx, network, t.heard)
		}
	}()
	res, err := t.wait(ctx)
	over = true
	switch {
	case errors.Is(err, errNoFirstAnswer), errors.Is(err, errConnectionLost):
		c.agent.mistrust(invite, err)
		c.abandon(invite, tx, network, t.heard)
	case err != nil:
		c.agent.mistrust(invite, err)
		tx.Terminate()
	}
	return res, err
}

func (c *call) emitCalling() {
	if !c.called {
		c.called = true
		c.emit(&dialogs.LegEvent{Kind: dialogs.LegCalling})
	}
}

// answered acknowledges the 2xx. What is wrong with it is the fault for which talk hangs up; a cause is why there is nothing
// to hang up.
func (c *call) answered(ctx context.Context, invite *sip.Request, res *sip.Response, network string) *dialogs.Cause {
	c.place.Worked()
	p, err := answeredBy(invite, res, network, c.trunk.shows()) // the route set is that of the 2xx (RFC 3261 §13.2.2.4)
	if err != nil {                                             // where the INVITE went, the call can be hung up
		c.fault = failed("the answer cannot be used: " + err.Error())
	}
	e := c.phones.with(p.remoteTag())
	if e != nil {
		p.seq, p.theirs, c.sdp = e.peer.seq, e.peer.theirs, e.sdp
	}
	c.peer = p
	c.timer.answered(res)
	agreed, answer, sdpErr := c.finalSDP(e, res)
	ack, err := c.ackTo(&c.peer, invite, answer)
	if err != nil {
		return failed("the answer cannot be acknowledged: " + err.Error())
	}
	c.ack, c.invitation = ack, invite
	c.write(ctx, ack, c.peer.shows)
	if c.leaving() || c.fault != nil {
		return nil
	}
	if sdpErr != nil {
		c.fault = failed(sdpErr.Error())
		return nil
	}
	c.agree(agreed)
	c.place.Answered()
	c.emit(&dialogs.LegEvent{Kind: dialogs.LegAnswered})
	if e != nil && e.hungUp { // its BYE was quicker than its 2xx
		return &dialogs.Cause{Details: byFarEnd}
	}
	return nil
}

// finalSDP is what the SDP of a 2xx means: the answer to our offer, or the offer that the ACK answers. Where that was
// settled before, it is neither.
func (c *call) finalSDP(e *early, res *sip.Response) (agreed media.PortMedia, answer []byte, err error) {
	switch {
	case e != nil && e.settled:
		return e.media, nil, nil
	case len(res.Body()) > 0 && c.offerless:
		answer, agreed, err = c.answerOffer(c.sdp, res.Body())
		return agreed, answer, err
	case len(res.Body()) > 0:
		agreed, err = c.sdp.accept(res.Body())
		return agreed, nil, err
	case e != nil && e.hasMedia:
		return e.media, nil, nil
	case len(c.phones) == 0 && c.hasMedia: // a far end that gave no tag before
		return c.media, nil, nil
	}
	return agreed, nil, errors.New("no SDP in the answer")
}

// ackTo builds the ACK to a 2xx to invite.
func (c *call) ackTo(p *peer, invite *sip.Request, answer []byte) (*sip.Request, error) {
	ack, err := c.agent.request(p, sip.ACK)
	if err != nil {
		return nil, err
	}
	ack.CSeq().SeqNo = invite.CSeq().SeqNo                     // whatever was sent in the early dialog since
	if c.firstCredentials().atHome(ack.Destination()) == nil { // a callee who is called by its own address gets none
		for _, name := range []string{"Authorization", "Proxy-Authorization"} {
			sip.CopyHeaders(name, invite, ack) // RFC 3261 §22.1
		}
	}
	setSDP(ack, answer)
	return ack, nil
}
