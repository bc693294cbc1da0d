package sip

import (
	"errors"
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
		c.emit(&dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: *failed(err.Error()), Final: true})
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
		c.emit(&dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: dialogs.Cause{SIPCode: sip.StatusAccepted}})
	}
}

// referOver tells the outcome.
func (c *call) referOver(cause dialogs.Cause) {
	c.transfers.ours = nil
	c.emit(&dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: cause, Final: true})
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
		c.emit(&dialogs.LegEvent{Kind: dialogs.LegReferred, Cause: dialogs.Cause{Details: strconv.Itoa(status) + " " + printable(phrase, 80), SIPCode: status}})
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
