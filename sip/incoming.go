package sip

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"strconv"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
	"tandem/errs"
)

// invited decides about a new INVITE and lives the call in this goroutine, its handler.
func (a *Agent) invited(ctx context.Context, req *sip.Request, tx *sip.ServerTx) {
	c, accept := a.admit(ctx, req, tx)
	if accept == nil {
		return
	}
	if ok := c.live(ctx, func() *dialogs.Cause {
		accept(c)
		return c.ring(ctx, req, tx)
	}); !ok {
		a.respond(req, tx, 500)
	}
}

// admit makes the call of a new INVITE and returns what hands it on, nil when it is refused: then nothing is left of it.
func (a *Agent) admit(ctx context.Context, req *sip.Request, tx *sip.ServerTx) (*call, func(dialogs.Leg)) {
	source, err := netip.ParseAddrPort(req.Source())
	if err != nil {
		a.log.Error("sip: INVITE from nowhere", "source", req.Source())
		return nil, nil
	}
	t, err := readTrunk(a.book.Inbound(source.Addr(), userOf(req.Recipient)))
	if err != nil {
		a.log.Error("sip: the trunk of a call", "source", req.Source(), "error", err)
	}
	if registered := a.lineCalled(req.Recipient, source.Addr()); registered != nil {
		t = registered
	}
	c := a.newCall(a.callLog(req, t))
	cancelled := c.cancelled // the library keeps the transaction for 32 s after its end, and the call would stay with it
	if !tx.OnCancel(func(*sip.Request) { cancelled.set(func() {}) }) {
		return nil, nil
	}
	if !a.guard.stranger(source.Addr()) { // others get nothing that is not needed
		a.respond(req, tx, sip.StatusTrying)
	}
	callID := req.CallID().Value()
	ours, _ := req.To().Params.Get("tag")
	theirs, _ := req.From().Params.Get("tag")
	if !a.remember(c, callKey{callID, ours}, callKey{callID, mergeTag(theirs, req.CSeq().SeqNo)}) {
		a.reject(c, req, tx, sip.StatusLoopDetected, "the same call came by another way") // RFC 3261 §8.2.2.2
		return nil, nil
	}
	admitted := false
	defer func() {
		if !admitted {
			c.drop()
		}
	}()
	c.trunk = t
	c.peer, err = calledBy(req, a.networkOf(req))
	if err != nil {
		a.refuse(c, req, tx, errs.Wrap(err, errs.Invalid, "no usable Contact"))
		return nil, nil
	}
	accept := a.decide(ctx, c, req, tx, source)
	if accept == nil {
		return nil, nil
	}
	c.hosts = a.callersHosts(ctx, c.trunk, req, source.Addr())
	admitted = true
	return c, accept
}

// decide runs everything that can refuse an INVITE, the cheap things first and before any port is spent. Accept is nil
// when it is refused.
func (a *Agent) decide(ctx context.Context, c *call, req *sip.Request, tx *sip.ServerTx, source netip.AddrPort) (accept func(dialogs.Leg)) {
	select {
	case a.undecided <- struct{}{}:
		defer func() { <-a.undecided }()
	default:
		a.refuse(c, req, tx, errs.New(errs.Unavailable, "too many calls at once"))
		return nil
	}
	if a.closed() {
		a.refuse(c, req, tx, errs.New(errs.Unavailable, "the gateway is stopping"))
		return nil
	}
	if status, why := a.unacceptable(c, req); status != 0 {
		a.reject(c, req, tx, status, why)
		return nil
	}
	if !a.authenticated(c, req, tx, source) {
		return nil
	}
	t := c.trunk // from here on it is known
	if t != nil {
		a.facing.learn(source.Addr(), t)
	}
	if err := c.offered(req); err != nil {
		c.log.Info("sip: call refused", "status", offerStatus(err), "why", printable(err.Error(), 200))
		a.respond(req, tx, offerStatus(err), a.offerWarning(err))
		return nil
	}
	if t == nil && a.cfg.TokenCalls == TokenCallsTrunks {
		a.refuse(c, req, tx, errs.New(errs.Forbidden, "the sender belongs to no trunk"))
		return nil
	}
	replaces, status, why := a.replaced(req, t)
	if status != 0 {
		a.reject(c, req, tx, status, why)
		return nil
	}
	in := dialogs.Incoming{Replaces: replaces, Source: source, To: calledOf(req, t), From: callerOf(req, t), UserToUser: userToUserOf(req)}
	if t != nil {
		in.Trunk, in.Account, in.Headers = t.Name, t.Account, extraHeaders(req, t)
		var err error
		if c.place, err = a.book.Admit(&t.Trunk); err != nil {
			a.refuse(c, req, tx, err)
			return nil
		}
	}
	accept, err := a.callers.Incoming(ctx, in)
	if err != nil && replaces != nil && errs.CodeOf(err) == errs.NotFound {
		a.reject(c, req, tx, sip.StatusCallTransactionDoesNotExists, errs.MessageOf(err)) // RFC 3891 §3
		return nil
	}
	if err != nil {
		a.refuse(c, req, tx, err)
		return nil
	}
	a.guard.befriend(source.Addr(), false)
	return accept
}

// calledOf returns whom a call is for: E.164 where the trunk's rules give that. Where the Request-URI is the Contact that
// we registered, and so names only us, To says whom the caller dialled.
func calledOf(req *sip.Request, t *trunk) string {
	called := userOf(req.Recipient)
	if t != nil && t.Register && called == t.Username && req.Recipient.UriParams.Has(lineParam) {
		if dialled := userOf(req.To().Address); dialled != "" {
			called = dialled
		}
	}
	number, _ := normalized(called, t)
	return number
}

// unacceptable judges the message itself, but for its offer; 0 means that it is fine.
func (a *Agent) unacceptable(c *call, req *sip.Request) (status int, why string) {
	switch req.Recipient.Scheme {
	case "sip", "sips", "tel", "":
	default:
		return 416, unknownScheme
	}
	if extensions := unsupported(req); extensions != "" {
		return sip.StatusBadExtension, extensions
	}
	if c.timer.tooShort(req) {
		return statusIntervalTooSmall, "the session interval is too short"
	}
	if status := bodyStatus(req); status != 0 {
		return status, "the body is no " + sdpType
	}
	if !takesSDP(req) {
		return sip.StatusNotAcceptable, "the answer to an INVITE is " + sdpType + ", which Accept does not list"
	}
	return 0, ""
}

// offered reads the offer of an INVITE and finds the family of the port that is to answer it; without an offer, that of the
// port that is to make one. It judges by the terms of the call's trunk, and so after the password that tells which one that
// is (RFC 3261 §8.2).
func (c *call) offered(req *sip.Request) error {
	c.family = c.agent.familyTowards(req.Source())
	if len(req.Body()) == 0 {
		return nil
	}
	var err error
	if c.offer, err = readOffer(req.Body()); err != nil {
		return err
	}
	c.family, err = c.familyOfOffer(c.offer)
	return err
}

// refuse answers with the status that err's code maps to, and says why in the log and in the answer.
func (a *Agent) refuse(c *call, req *sip.Request, tx *sip.ServerTx, err error) {
	status := statusOf(err)
	words := errs.MessageOf(err)
	headers := []sip.Header{a.warning(words)}
	if status == sip.StatusUnauthorized { // RFC 8898 §2.1.1
		headers = append(headers, sip.NewHeader("WWW-Authenticate",
			fmt.Sprintf("Bearer realm=%s, error=\"invalid_token\", error_description=%s", quoted(a.challenger.realm), quoted(words))))
	}
	if after := errs.RetryAfterOf(err); after > 0 && status == sip.StatusServiceUnavailable {
		headers = append(headers, sip.NewHeader("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds())))))
	}
	c.log.Warn("sip: call refused", "status", status, "why", err.Error())
	switch status {
	case sip.StatusUnauthorized, sip.StatusForbidden, sip.StatusNotFound:
		a.failedBy(req, "refused calls")
	}
	a.respond(req, tx, status, headers...)
}

// failedBy counts a failure of whoever sent req.
func (a *Agent) failedBy(req *sip.Request, reason string) {
	if source, err := netip.ParseAddrPort(req.Source()); err == nil {
		a.guard.failed(source.Addr(), reason)
	}
}

// reject refuses for what the message is.
func (a *Agent) reject(c *call, req *sip.Request, tx *sip.ServerTx, status int, why string) {
	c.log.Info("sip: call refused", "status", status, "why", printable(why, 200))
	if status == sip.StatusBadExtension {
		a.respond(req, tx, status, sip.NewHeader("Unsupported", why))
		return
	}
	headers := []sip.Header{a.warning(why)}
	if status == statusIntervalTooSmall {
		headers = append(headers, c.timer.minSE())
	}
	a.respond(req, tx, status, headers...)
}
