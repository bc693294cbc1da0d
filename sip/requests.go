package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// initial marks a request that starts something new, in a field that no peer can write and the library does not read
// in requests that came in.
const initial = "initial"

// tagRequest gives a request outside any dialog our tag, so that every answer to it carries the same, also those that
// the transaction layer sends by itself (RFC 3261 §8.2.6.2). It runs in the reader, before anyone else has the message.
func tagRequest(req *sip.Request) {
	if req.IsCancel() || req.To() == nil {
		return
	}
	if to := req.To(); !to.Params.Has("tag") {
		to.Params.Add("tag", sip.GenerateTagN(tagLength))
		req.SetDestination(initial)
	}
}

// bracketVias gives the IPv4-mapped addresses in the Vias of a request the brackets that the library takes off and, where
// it writes an answer, forgets (RFC 3261 §25.1, RFC 5118 §4.9).
func bracketVias(req *sip.Request) {
	for _, h := range req.GetHeaders("Via") {
		if via, ok := h.(*sip.ViaHeader); ok {
			if host, err := netip.ParseAddr(via.Host); err == nil && host.Is4In6() {
				via.Host = "[" + via.Host + "]"
			}
		}
	}
}

// tagCancel gives a CANCEL the tag of the call that it ends, since the transaction layer answers it (RFC 3261 §9.2).
func (a *Agent) tagCancel(req *sip.Request) {
	if wellFormed(req) != nil || req.To().Params.Has("tag") {
		return
	}
	key := callKey{req.CallID().Value(), mergeTag(tagOf(req.From().Params), req.CSeq().SeqNo)}
	if tag := a.tagOfCall(key); tag != "" {
		req.To().Params.Add("tag", tag)
	}
}

// tagOfCall returns our tag in a call, empty if there is none under key.
func (a *Agent) tagOfCall(key callKey) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.calls[key]; c != nil && len(c.keys) > 0 {
		return c.keys[0].tag
	}
	return ""
}

// onRequest is what the library calls, in a goroutine of its own, for every new transaction.
func (a *Agent) onRequest(req *sip.Request, tx *sip.ServerTx) {
	defer tx.TerminateGracefully()
	run, ok := a.enter()
	if !ok {
		if a.stopped.isSet() {
			_ = tx.Connection().Close() // the library opens one for an answer where it finds none
		}
		return
	}
	defer a.work.Done()
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("sip: request failed", "method", req.Method.String(), "panic", p, "stack", string(debug.Stack()))
			a.respond(req, tx, 500)
		}
	}()
	run(func(ctx context.Context) { a.dispatch(ctx, req, tx) })
}

func (a *Agent) dispatch(ctx context.Context, req *sip.Request, tx *sip.ServerTx) {
	if req.IsAck() {
		return // ackArrived was quicker
	}
	if err := wellFormed(req); err != nil {
		a.respond(req, tx, 400, a.warning(err.Error()))
		return
	}
	switch {
	case req.Destination() != initial:
		a.within(req, tx)
	case req.Method == sip.INVITE:
		a.invited(ctx, req, tx)
	case req.Method == sip.OPTIONS:
		a.pinged(ctx, req, tx)
	case slices.Contains(withinOnly, req.Method):
		a.respond(req, tx, 481)
	case req.Method == sip.REFER:
		a.respond(req, tx, sip.StatusForbidden, a.warning("a transfer is asked for within its call"))
	default:
		if req.Method == sip.REGISTER {
			a.failedBy(req, "refused registrations")
		}
		a.respond(req, tx, refusedMethod(req.Method))
	}
}

// pinged answers an OPTIONS outside every call as an INVITE would be answered (RFC 3261 §11.2).
func (a *Agent) pinged(ctx context.Context, req *sip.Request, tx *sip.ServerTx) {
	if extensions := unsupported(req); extensions != "" {
		a.respond(req, tx, sip.StatusBadExtension, sip.NewHeader("Unsupported", extensions))
		return
	}
	if a.closed() {
		a.respond(req, tx, 503)
		return
	}
	if a.cfg.Health != nil {
		if err := a.cfg.Health(ctx); err != nil {
			a.log.Debug("sip: OPTIONS is answered 503: no call can be taken", "error", err)
			a.respond(req, tx, 503)
			return
		}
	}
	a.respond(req, tx, 200)
}

// within hands a request to its call and waits until that has dealt with it.
func (a *Agent) within(req *sip.Request, tx *sip.ServerTx) {
	tag, _ := req.To().Params.Get("tag")
	c := a.find(callKey{req.CallID().Value(), tag})
	if c == nil || req.IsCancel() {
		a.respond(req, tx, 481)
		return
	}
	if source, err := netip.ParseAddrPort(req.Source()); err == nil {
		a.guard.befriend(source.Addr(), false) // it knows both tags of a call
	}
	r := request{Request: req, tx: tx, handled: make(chan struct{})}
	mine := c.order.take(req)
	defer mine.pass()
	mine.wait(c.done)
	select {
	case c.requests <- r:
		mine.pass()
	default:
		a.respond(req, tx, 503, sip.NewHeader("Retry-After", "1"))
		return
	}
	select {
	case <-r.handled:
	case <-c.done:
		select {
		case <-r.handled:
		default:
			a.respond(req, tx, 481)
		}
	}
}

// wellFormed checks what every request must have (RFC 3261 §8.1.1); the library accepts more.
func wellFormed(req *sip.Request) error {
	switch {
	case req.From() == nil || req.To() == nil || req.CallID() == nil || req.CSeq() == nil || req.Via() == nil:
		return errors.New("a request needs From, To, Call-ID, CSeq and Via")
	case req.CSeq().MethodName != req.Method:
		return errors.New("the CSeq names another method")
	}
	return nil
}

// takesSDP says whether the sender of an INVITE takes SDP in the answer (RFC 3261 §20.1); without Accept it does.
func takesSDP(req *sip.Request) bool {
	headers := req.GetHeaders("Accept")
	if len(headers) == 0 {
		return true
	}
	for _, h := range headers {
		for _, value := range splitList(h.Value()) {
			kind, _, _ := strings.Cut(value, ";")
			switch strings.ToLower(strings.TrimSpace(kind)) {
			case sdpType, "application/*", "*/*":
				return true
			}
		}
	}
	return false
}

// respond answers a request without a body; with what a refusal or an OPTIONS tells about us.
func (a *Agent) respond(req *sip.Request, tx *sip.ServerTx, status int, headers ...sip.Header) {
	res := response(req, status, nil)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	if status == sip.StatusMethodNotAllowed || status == sip.StatusNotImplemented || req.Method == sip.OPTIONS {
		res.AppendHeader(sip.NewHeader("Allow", allowed))
	}
	if status == sip.StatusBadExtension || req.Method == sip.OPTIONS {
		res.AppendHeader(sip.NewHeader("Supported", supported))
	}
	if status == sip.StatusUnsupportedMediaType || req.Method == sip.OPTIONS {
		accept := sdpType
		if req.Method == sip.INFO {
			accept = relayType + ", " + keyType
		}
		res.AppendHeader(sip.NewHeader("Accept", accept))
	}
	if status == sip.StatusServiceUnavailable && res.GetHeader("Retry-After") == nil {
		res.AppendHeader(sip.NewHeader("Retry-After", "10"))
	}
	a.shorten(req, res)
	if err := tx.Respond(res); err != nil {
		a.log.Debug("sip: answering failed", "method", req.Method.String(), "status", status, "error", err)
	}
}

// shorten leaves out of an answer over UDP to a stranger, whose address may be forged, what would make it larger than
// the request. One that is still larger is not sent (guard.mayAnswer).
func (a *Agent) shorten(req *sip.Request, res *sip.Response) {
	source, err := netip.ParseAddrPort(req.Source())
	if err != nil || a.networkOf(req) != networkUDP || !a.guard.stranger(source.Addr()) {
		return
	}
	limit := len(req.String())
	if req.Destination() == initial {
		limit -= len(";tag=") + tagLength // the sender did not write that
	}
	if received, ok := req.Via().Params.Get("received"); ok {
		limit -= len(";received=") + len(received)
	}
	for _, name := range []string{"Warning", "Supported", "Accept", "Allow", "WWW-Authenticate"} {
		if len(res.String()) <= limit {
			return
		}
		if name == "WWW-Authenticate" && len(res.GetHeaders(name)) < 2 {
			break // the last of them is what the answer is for
		}
		res.RemoveHeader(name)
	}
	if len(res.String()) > limit {
		res.Reason = "" // RFC 3261 §25.1 lets it be empty
	}
}

// warning says in words why a request is refused (RFC 3261 §20.43).
func (a *Agent) warning(text string) sip.Header { return a.warningOf(399, text) }

// offerWarning is warning for an offer.
func (a *Agent) offerWarning(err error) sip.Header {
	if errors.Is(err, errOtherFamily) {
		return a.warningOf(300, "Incompatible network protocol: "+err.Error())
	}
	return a.warning(err.Error())
}

func (a *Agent) warningOf(code int, text string) sip.Header {
	host, _ := a.address("udp", "192.0.2.1:9")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return sip.NewHeader("Warning", fmt.Sprintf("%d %s %s", code, host, quoted(text)))
}

// bodyStatus returns the refusal of a body that is no SDP; 0 when there is none or it is SDP.
func bodyStatus(req *sip.Request) int {
	if len(req.Body()) == 0 {
		return 0
	}
	if h := req.GetHeader("Content-Encoding"); h != nil && !strings.EqualFold(h.Value(), "identity") {
		return sip.StatusUnsupportedMediaType
	}
	contentType := req.ContentType()
	if contentType == nil {
		return sip.StatusBadRequest
	}
	if kind, _, err := mime.ParseMediaType(contentType.Value()); err != nil || kind != sdpType {
		return sip.StatusUnsupportedMediaType
	}
	return 0
}

// offerStatus is the refusal of an offer.
func offerStatus(err error) int {
	switch {
	case errors.Is(err, errNothingCommon):
		return sip.StatusNotAcceptableHere
	case errors.Is(err, errGlare):
		return sip.StatusRequestPending
	case errors.Is(err, errOwnSDP):
		return sip.StatusInternalServerError
	}
	return sip.StatusBadRequest
}

// callLog names a call in all its lines.
func (a *Agent) callLog(req *sip.Request, t *trunk) *slog.Logger {
	log := a.log.With("callID", printable(req.CallID().Value(), 100), "source", req.Source())
	if t != nil {
		log = log.With("trunk", t.Name)
	}
	return log
}
