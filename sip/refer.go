package sip

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
	"tandem/trunks"
)

const (
	headerReferTo    = "Refer-To"
	headerReferredBy = "Referred-By"
	headerReferSub   = "Refer-Sub"
	headerEvent      = "Event"
	headerState      = "Subscription-State"

	eventRefer = "refer"
	fragType   = "message/sipfrag"

	// subscriptionTime is how long the far end may wait for the outcome of the transfer that it asked for. Who decides
	// about it (dialogs) is quicker.
	subscriptionTime = 11 * time.Minute

	// lastWord is how long a BYE of ours waits until the far end has taken the report of its transfer.
	lastWord = 2 * time.Second

	maxFrag = 4096 // bytes of a sipfrag that are read
)

// transfers is what a call knows of transfers (RFC 3515), one in each direction. Its goroutine owns it.
type transfers struct {
	waiting *dialogs.Refer // ours, until the call is acknowledged
	ours    *subscription  // what the far end reports; nil: nothing
	theirs  *subscription  // what the far end is told; nil: nothing
	alarm   alarm          // of theirs
	telling *subscription  // whose NOTIFY is on its way; nil: none
	parting alarm          // how long the BYE waits for that
	parted  bool           // it waits no longer
}

// subscription is the one that a REFER makes (RFC 3515 §2.4.4).
type subscription struct {
	ids []uint32 // CSeq of the REFER, and of its repetitions with credentials

	accepted bool  // ours: 202 came, or a NOTIFY that shows it
	pending  []int // theirs: statuses that are not told yet, the final one last
	final    bool  // theirs: the final one is among them, or was told
	busy     bool  // theirs: a NOTIFY is on its way
	mute     bool  // theirs: the far end wants no report (RFC 4488)
}

// Refer is part of dialogs.Leg.
func (c *call) Refer(r dialogs.Refer) { c.inbox.wish(func() { c.refer(r) }) }

// refer sends a REFER, as soon as the call is acknowledged.
func (c *call) refer(r dialogs.Refer) {
	t := &c.transfers
	if c.unacked != nil {
		t.waiting, t.ours = &r, nil
		return
	}
	target, err := c.referTo(r)
	if err != nil {
		t.ours = nil
		c.emit(dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: *failed(err.Error()), Final: true})
		return
	}
	s := &subscription{}
	t.ours = s
	referredBy := "<" + c.peer.local.Address.String() + ">"
	contact := c.agent.contact(c.peer.network, c.peer.source)
	c.ask(sip.REFER, func(req *sip.Request) {
		s.ids = append(s.ids, req.CSeq().SeqNo)
		req.AppendHeader(contact)
		req.AppendHeader(sip.NewHeader(headerReferTo, target))
		req.AppendHeader(sip.NewHeader(headerReferredBy, referredBy))
		req.AppendHeader(sip.NewHeader("Allow", allowed))
	}, func(res *sip.Response) { c.referAnswered(s, res) })
}

// referWaiting sends a REFER that waited for the ACK.
func (c *call) referWaiting() {
	if r := c.transfers.waiting; r != nil {
		c.transfers.waiting = nil
		c.refer(*r)
	}
}

// referTo is the value of the Refer-To header.
func (c *call) referTo(r dialogs.Refer) (string, error) {
	var target sip.Uri
	var other *reference
	if r.Other != nil {
		leg, ok := r.Other.(*call)
		if !ok {
			return "", errors.New("the other call is none of this user agent")
		}
		if other = leg.known.Load(); other == nil || other.early || leg.hung.isSet() {
			return "", errors.New("the other call is not up")
		}
		target = *other.target.Clone()
	}
	switch {
	case trunks.IsE164(r.To):
		target = c.domainOfFarEnd()
		target.User = r.To
	case r.To != "":
		target = sip.Uri{}
		if err := sip.ParseUri(r.To, &target); err != nil || target.Host == "" || strings.ContainsFunc(r.To, breaksURI) {
			return "", errors.New("the target is no sip: URI")
		}
	case other == nil:
		return "", errors.New("there is no target")
	}
	target.Headers = nil
	value := target.String()
	switch {
	case other != nil: // as the other far end knows the call
		value += "?Replaces=" + replaces{callID: other.callID, toTag: other.theirs, fromTag: other.ours}.escaped()
	case r.Replaces != "":
		named, err := parseReplaces(r.Replaces)
		if err != nil {
			return "", err
		}
		value += "?Replaces=" + named.escaped()
	}
	return "<" + value + ">", nil
}

// domainOfFarEnd is where the far end looks for numbers: its trunk, or who it says it is.
func (c *call) domainOfFarEnd() sip.Uri {
	if c.trunk != nil && c.trunk.uri.Host != "" {
		return sip.Uri{Scheme: "sip", Host: c.trunk.uri.Host, Port: c.trunk.uri.Port}
	}
	return sip.Uri{Scheme: "sip", Host: c.peer.remote.Address.Host, Port: c.peer.remote.Address.Port}
}

// referAnswered takes the final answer to our REFER.
func (c *call) referAnswered(s *subscription, res *sip.Response) {
	if c.transfers.ours != s {
		return // it is over, or another one took its place
	}
	switch {
	case res == nil:
		c.referOver(*failed("no answer to the REFER"))
	case !res.IsSuccess():
		c.referOver(causeOf(res.StatusCode, res.Reason))
	case isFalse(res.GetHeader(headerReferSub)): // no report will come (RFC 4488 §4)
		cause := causeOf(sip.StatusAccepted, "")
		cause.Reason, cause.Details = dialogs.NoReason, "202 Accepted; the far end reports no outcome"
		c.referOver(cause)
	default:
		c.referAccepted(s)
	}
}

// referArrived hands the answer to a REFER to its call before a BYE behind it can get there: whether the far end had
// accepted the transfer when it hung up is what tells the outcome. It runs in the reader; the transaction's own way
// brings the same answer again.
func (a *Agent) referArrived(res *sip.Response) {
	cseq, from := res.CSeq(), res.From()
	if cseq == nil || cseq.MethodName != sip.REFER || from == nil || res.CallID() == nil || res.IsProvisional() ||
		res.StatusCode == sip.StatusUnauthorized || res.StatusCode == sip.StatusProxyAuthRequired {
		return
	}
	tag, _ := from.Params.Get("tag")
	c := a.find(callKey{res.CallID().Value(), tag})
	if c == nil {
		return
	}
	seq := cseq.SeqNo
	c.inbox.wish(func() {
		if s := c.transfers.ours; s != nil && slices.Contains(s.ids, seq) {
			c.referAnswered(s, res)
		}
	})
}

func (c *call) referAccepted(s *subscription) {
	if !s.accepted {
		s.accepted = true
		c.emit(dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: dialogs.Cause{SIPCode: sip.StatusAccepted}})
	}
}

// referOver tells the outcome.
func (c *call) referOver(cause dialogs.Cause) {
	c.transfers.ours = nil
	c.emit(dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: cause, Final: true})
}

func isFalse(h sip.Header) bool {
	if h == nil {
		return false
	}
	value, _, _ := strings.Cut(h.Value(), ";")
	return strings.EqualFold(strings.TrimSpace(value), "false")
}

// notified takes a NOTIFY: the far end's report of our REFER (RFC 3515 §2.4.5).
func (c *call) notified(r request) {
	event, id, ok := eventOf(r.Request)
	if !ok || !strings.EqualFold(event, eventRefer) {
		c.agent.respond(r.Request, r.tx, 489, sip.NewHeader("Allow-Events", eventRefer))
		return
	}
	s := c.transfers.ours
	if s == nil || id != 0 && !slices.Contains(s.ids, id) {
		c.agent.respond(r.Request, r.tx, sip.StatusCallTransactionDoesNotExists)
		return
	}
	if contentType := r.ContentType(); len(r.Body()) > 0 && (contentType == nil || !isFragType(contentType.Value())) {
		c.agent.respond(r.Request, r.tx, sip.StatusUnsupportedMediaType, sip.NewHeader("Accept", fragType))
		return
	}
	status, phrase, ok := parseFrag(r.Body())
	terminated, reason := subscriptionOver(r.Request)
	if !ok && len(r.Body()) > 0 {
		c.agent.respond(r.Request, r.tx, sip.StatusBadRequest, c.agent.warning("the sipfrag does not begin with a status line"))
		return
	}
	c.agent.respond(r.Request, r.tx, 200)
	c.referAccepted(s)
	switch {
	case status >= 200:
		cause := causeOf(status, phrase)
		if status < 300 {
			cause.Reason = dialogs.NoReason
		}
		c.referOver(cause)
	case terminated:
		details := "the far end ended its report without an outcome"
		if reason != "" {
			details += " (" + reason + ")"
		}
		c.referOver(*failed(details))
	case status > 0:
		c.emit(dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: dialogs.Cause{Details: strconv.Itoa(status) + " " + printable(phrase, 80), SIPCode: status}})
	}
}

// eventOf reads an Event header: the package and its id, 0 where there is none.
func eventOf(req *sip.Request) (event string, id uint32, ok bool) {
	h := shortOr(req, headerEvent, "o")
	if h == nil {
		return "", 0, false
	}
	event, params, _ := strings.Cut(h.Value(), ";")
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "id") {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if err != nil || n == 0 {
				return "", 0, false
			}
			id = uint32(n)
		}
	}
	return strings.TrimSpace(event), id, true
}

// shortOr returns the first header of a name, or of its short form.
func shortOr(req *sip.Request, name, short string) sip.Header {
	if h := req.GetHeader(name); h != nil {
		return h
	}
	return req.GetHeader(short)
}

// subscriptionOver says whether a NOTIFY is the last one, and why.
func subscriptionOver(req *sip.Request) (over bool, reason string) {
	h := req.GetHeader(headerState)
	if h == nil {
		return false, ""
	}
	state, params, _ := strings.Cut(h.Value(), ";")
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "reason") {
			reason = printable(value, 40)
		}
	}
	return strings.EqualFold(strings.TrimSpace(state), "terminated"), reason
}

func isFragType(value string) bool {
	kind, _, _ := strings.Cut(value, ";")
	return strings.EqualFold(strings.TrimSpace(kind), fragType)
}

// parseFrag reads the status line of a sipfrag (RFC 3420).
func parseFrag(body []byte) (status int, phrase string, ok bool) {
	if len(body) > maxFrag {
		return 0, "", false
	}
	line, _, _ := strings.Cut(strings.TrimLeft(string(body), "\r\n"), "\n")
	rest, ok := cutPrefixFold(strings.TrimRight(line, "\r"), "SIP/2.0 ")
	if !ok {
		return 0, "", false
	}
	code, phrase, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || status < 100 || status > 699 {
		return 0, "", false
	}
	return status, printable(phrase, 80), true
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// referred takes a REFER of the far end: only within an answered call, and only of a trunk, since the account pays.
func (c *call) referred(r request) {
	t := &c.transfers
	switch {
	case !c.up:
		c.agent.respond(r.Request, r.tx, sip.StatusForbidden, c.agent.warning("a transfer needs an answered call"))
		return
	case c.trunk == nil:
		c.agent.respond(r.Request, r.tx, sip.StatusForbidden, c.agent.warning("the sender belongs to no trunk"))
		return
	case t.theirs != nil:
		c.agent.respond(r.Request, r.tx, sip.StatusRequestPending, c.agent.warning("a transfer is under way"))
		return
	}
	if extensions := unsupported(r.Request); extensions != "" {
		c.agent.respond(r.Request, r.tx, sip.StatusBadExtension, sip.NewHeader("Unsupported", extensions))
		return
	}
	refer, status, err := c.wanted(r.Request)
	if err != nil {
		c.agent.respond(r.Request, r.tx, status, c.agent.warning(err.Error()))
		return
	}
	s := &subscription{ids: []uint32{r.CSeq().SeqNo}, mute: isFalse(r.GetHeader(headerReferSub))}
	headers := []sip.Header{c.agent.contactIn(c.peer.network, r.Request)}
	if s.mute {
		headers = append(headers, sip.NewHeader(headerReferSub, "false"))
	}
	c.agent.respond(r.Request, r.tx, sip.StatusAccepted, headers...)
	t.theirs = s
	t.alarm.set(c.inbox, subscriptionTime, func() { c.tellOutcome(sip.StatusServiceUnavailable) })
	c.tellOutcome(sip.StatusTrying)
	c.emit(dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: refer})
}

// wanted reads what a REFER wants. An error says why that can't be, status is its refusal.
func (c *call) wanted(req *sip.Request) (refer dialogs.Refer, status int, err error) {
	headers := append(req.GetHeaders(headerReferTo), req.GetHeaders("r")...)
	if len(headers) != 1 {
		return refer, sip.StatusBadRequest, errors.New("a REFER needs one Refer-To")
	}
	uri, named, err := parseReferTo(headers[0].Value())
	if err != nil {
		if errors.Is(err, errReferScheme) {
			return refer, 416, err
		}
		return refer, sip.StatusBadRequest, err
	}
	if h := shortOr(req, headerReferredBy, "b"); h != nil && !hasControl(h.Value()) && len(h.Value()) <= maxReplaces {
		refer.ReferredBy = h.Value()
	}
	if named != nil {
		if other, id := c.agent.named(*named); other != nil && id.account == c.trunk.Account {
			refer.Other = other
		} else {
			refer.Replaces = named.String()
		}
	}
	refer.To, refer.Trunk = c.meant(uri)
	return refer, 0, nil
}

// meant is whom a far end means by a URI: a number, where its host is ours or the trunk's; else who is behind the trunk.
func (c *call) meant(uri sip.Uri) (to, trunkName string) {
	ours, _ := c.agent.address(c.peer.network, c.peer.source)
	here := strings.EqualFold(uri.Host, ours) || c.agent.cfg.Domain != "" && strings.EqualFold(uri.Host, c.agent.cfg.Domain)
	there := c.trunk.uri.Host != "" && strings.EqualFold(uri.Host, c.trunk.uri.Host)
	if number := numberOf(uri, c.trunk); number != "" && (here || there || uri.Scheme == "tel") {
		return number, ""
	}
	if here && !there && c.trunk.uri.Host != "" { // an extension of a PBX, whose phones take us for the PBX
		uri.Host, uri.Port = c.trunk.uri.Host, c.trunk.uri.Port
	}
	return uri.String(), c.trunk.Name
}

var (
	errReferTo     = errors.New("the Refer-To is no sip: URI of somebody to call")
	errReferScheme = errors.New("only sip: and tel: are called")
)

// parseReferTo reads a Refer-To value: who is to be called, and the call that this is to replace, nil for none.
func parseReferTo(value string) (sip.Uri, *replaces, error) {
	var uri sip.Uri
	var params sip.HeaderParams
	if len(value) > 2*maxReplaces || hasControl(value) {
		return uri, nil, errReferTo
	}
	if _, err := sip.ParseAddressValue(value, &uri, &params); err != nil {
		return uri, nil, errReferTo
	}
	switch uri.Scheme {
	case "sip":
	case "tel":
		if numberOf(uri, nil) == "" {
			return uri, nil, errReferTo
		}
		return uri, nil, nil
	default:
		return uri, nil, errReferScheme
	}
	if uri.Host == "" || uri.Wildcard {
		return uri, nil, errReferTo
	}
	if method, ok := uri.UriParams.Get("method"); ok && !strings.EqualFold(method, "INVITE") {
		return uri, nil, errors.New("a transfer is an INVITE")
	}
	uri.UriParams = slices.DeleteFunc(slices.Clone(uri.UriParams), func(p sip.HeaderKV) bool { return strings.EqualFold(p.K, "method") })
	var named *replaces
	for _, h := range uri.Headers {
		if !strings.EqualFold(h.K, headerReplaces) {
			continue
		}
		text, err := url.PathUnescape(h.V)
		if err != nil || named != nil {
			return uri, nil, errReplaces
		}
		r, err := parseReplaces(text)
		if err != nil {
			return uri, nil, err
		}
		named = &r
	}
	uri.Headers = nil
	if to := uri.String(); len(to) > 255 || strings.ContainsAny(to, " \t<>\"") {
		return uri, nil, errReferTo
	}
	return uri, named, nil
}

// Referred is part of dialogs.Leg.
func (c *call) Referred(status int) { c.inbox.wish(func() { c.tellOutcome(status) }) }

// tellOutcome reports to the far end, in order; what is not told yet of what is not final is left out.
func (c *call) tellOutcome(status int) {
	s := c.transfers.theirs
	if s == nil || s.final {
		return
	}
	s.pending = append(s.pending[:0], status)
	if s.final = status >= 200; s.final {
		c.transfers.alarm.stop()
	}
	c.notifyNext(s)
}

// reporting says that a BYE of ours is to wait: a far end that was promised the outcome of its transfer gets that before
// its dialog, and the subscription in it, is over.
func (c *call) reporting() bool {
	c.inbox.run() // whoever hung up may have told the outcome before
	t := &c.transfers
	if c.fault != nil || t.parted {
		return false
	}
	c.tellOutcome(sip.StatusServiceUnavailable)
	if t.telling == nil {
		return false
	}
	if !t.parting.pending() {
		t.parting.set(c.inbox, lastWord, func() { t.parted = true })
	}
	return true
}

// notifyNext sends the next NOTIFY when none is on its way.
func (c *call) notifyNext(s *subscription) {
	if s.busy || len(s.pending) == 0 {
		return
	}
	status := s.pending[0]
	s.pending = s.pending[1:]
	last := status >= 200
	if last {
		c.transfers.theirs = nil
	}
	if s.mute {
		return
	}
	s.busy, c.transfers.telling = true, s
	contact := c.agent.contact(c.peer.network, c.peer.source)
	c.ask(sip.NOTIFY, func(req *sip.Request) {
		state := "active;expires=" + strconv.Itoa(int(subscriptionTime.Seconds()))
		if last {
			state = "terminated;reason=noresource"
		}
		contentType := sip.ContentTypeHeader(fragType + ";version=2.0")
		req.AppendHeader(contact)
		req.AppendHeader(sip.NewHeader(headerEvent, eventRefer+";id="+strconv.FormatUint(uint64(s.ids[0]), 10)))
		req.AppendHeader(sip.NewHeader(headerState, state))
		req.AppendHeader(&contentType)
		req.SetBody([]byte("SIP/2.0 " + strconv.Itoa(status) + " " + reasonPhrase(status) + "\r\n"))
	}, func(res *sip.Response) {
		s.busy, c.transfers.telling = false, nil
		if res != nil && res.StatusCode == sip.StatusCallTransactionDoesNotExists { // nobody wants to know
			if c.transfers.theirs == s {
				c.transfers.theirs = nil
				c.transfers.alarm.stop()
			}
			return
		}
		c.notifyNext(s)
	})
}
