package sip

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
)

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
	c.emit(&dialogs.LegEvent{Kind: dialogs.LegRefer, Refer: refer})
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
