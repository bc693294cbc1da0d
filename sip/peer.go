package sip

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"
)

const (
	sdpType = "application/sdp"

	tagLength = 16
)

// peer is the far end of a call: the dialog of RFC 3261 §12, owned by the call's goroutine.
type peer struct {
	callID  string
	local   sip.FromHeader // ours, with our tag
	remote  sip.ToHeader   // its, with its tag
	target  sip.Uri        // its Contact
	routes  []sip.Uri
	network string    // udp, tcp, tls, ws or wss
	shows   certFiles // the certificate of our connections to it
	source  string    // where its messages come from
	seq     uint32    // CSeq of our last request
	theirs  uint32    // CSeq of its last request
	placed  bool      // the call is ours, and so its Call-ID
	allows  []string  // the methods that it takes; nil: it did not say
}

// learn notes what a message of the far end says about it.
func (p *peer) learn(msg sip.Message) {
	var allows []string
	for _, h := range msg.GetHeaders("Allow") {
		for _, method := range splitList(h.Value()) {
			allows = append(allows, strings.ToUpper(method))
		}
	}
	if allows != nil {
		p.allows = allows
	}
}

var errNoContact = errors.New("no usable Contact")

// answeredBy makes the peer out of the response to our INVITE.
func answeredBy(invite *sip.Request, res *sip.Response, network string, shows certFiles) (peer, error) {
	p := peer{
		callID: invite.CallID().Value(), local: *invite.From(), target: invite.Recipient, network: network, shows: shows,
		source: res.Source(), seq: invite.CSeq().SeqNo, placed: true,
	}
	p.learn(res)
	to := res.To()
	if to == nil {
		return p, errors.New("no To in the answer")
	}
	p.remote = *to
	for _, h := range res.GetHeaders("Record-Route") {
		if r, ok := h.(*sip.RecordRouteHeader); ok {
			p.routes = append(p.routes, r.Address)
		}
	}
	slices.Reverse(p.routes)
	return p, p.retarget(res.Contact())
}

// calledBy makes the peer out of an INVITE that has our tag in its To already.
func calledBy(invite *sip.Request, network string) (peer, error) {
	p := peer{
		callID: invite.CallID().Value(), local: invite.To().AsFrom(), remote: invite.From().AsTo(), network: network,
		source: invite.Source(), theirs: invite.CSeq().SeqNo,
	}
	p.learn(invite)
	for _, h := range invite.GetHeaders("Record-Route") {
		if r, ok := h.(*sip.RecordRouteHeader); ok {
			p.routes = append(p.routes, r.Address)
		}
	}
	if invite.Contact() == nil {
		if invite.From().Params.Has("tag") {
			return p, errNoContact
		}
		return p, p.retarget(&sip.ContactHeader{Address: invite.From().Address}) // a sender of RFC 2543, which names none
	}
	return p, p.retarget(invite.Contact())
}

// retarget takes a new Contact (RFC 3261 §12.2.1.2); nil leaves the target as it is.
func (p *peer) retarget(contact *sip.ContactHeader) error {
	if contact == nil {
		return nil
	}
	uri := *contact.Address.Clone()
	if uri.Wildcard || uri.Host == "" || (uri.Scheme != "sip" && uri.Scheme != "sips") {
		return errNoContact
	}
	uri.Headers = nil
	p.target = uri
	return nil
}

// behindNAT says whether a phone over UDP, with no proxy that wants to stay in between, gives an address that is reached
// from within its network alone, while its messages come from outside: it is reached where they come from (RFC 3581).
func (p *peer) behindNAT() bool {
	if p.network != networkUDP || len(p.routes) > 0 {
		return false
	}
	given, err := netip.ParseAddr(hostOf(p.target))
	if err != nil {
		return false
	}
	source, err := netip.ParseAddrPort(p.source)
	return err == nil && isInner(given.Unmap()) && !isInner(source.Addr().Unmap())
}

// isInner says whether an address means something within one network only (RFC 1918, 3927, 4193, 6598).
func isInner(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedByCarriers.Contains(a)
}

var sharedByCarriers = netip.MustParsePrefix("100.64.0.0/10") //nolint:gochecknoglobals // a constant

func (p *peer) remoteTag() string {
	tag, _ := p.remote.Params.Get("tag")
	return tag
}

// request builds a request within the dialog. An ACK gets the CSeq of the last request; that is the INVITE's while none
// of ours came after it.
func (a *Agent) request(p *peer, method sip.RequestMethod) (*sip.Request, error) {
	if method != sip.ACK {
		p.seq++
	}
	recipient, routes := p.target, p.routes
	hop := recipient
	if len(routes) > 0 {
		hop = routes[0]
		if !hop.UriParams.Has("lr") { // a strict router (RFC 3261 §12.2.1.1)
			recipient, routes = hop, append(slices.Clone(routes[1:]), p.target)
		}
	}
	network, err := transportOf(hop, p.network)
	if err != nil {
		return nil, err
	}
	req := sip.NewRequest(method, recipient)
	destination := hopOf(hop, network)
	// Behind its NAT it is reached by no other connection; one of ours can be made again.
	same := p.network != networkUDP && len(p.routes) == 0 && (a.streams.connected(p.network, p.source, p.shows) || a.streams.dialledTo(p.network, p.source))
	if same || p.behindNAT() {
		network, destination = p.network, p.source
	}
	a.direct(req, network, destination)
	if same {
		a.pinTo(req, network, destination, p.shows)
	}
	for _, r := range routes {
		req.AppendHeader(&sip.RouteHeader{Address: r})
	}
	maxForwards := sip.MaxForwardsHeader(70)
	callID := sip.CallIDHeader(p.callID)
	local, remote := p.local, p.remote
	req.AppendHeader(&maxForwards)
	req.AppendHeader(&local)
	req.AppendHeader(&remote)
	req.AppendHeader(&callID)
	req.AppendHeader(&sip.CSeqHeader{SeqNo: p.seq, MethodName: method})
	req.SetBody(nil)
	return req, nil
}

// direct gives a request its Via and sends it over network to destination, over UDP from the listener's own port.
func (a *Agent) direct(req *sip.Request, network, destination string) {
	host, port := a.address(network, destination)
	via := &sip.ViaHeader{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: strings.ToUpper(network), Host: host, Port: port, Params: sip.NewParams(),
	}
	via.Params.Add("branch", sip.GenerateBranch())
	via.Params.Add("rport", "")
	req.PrependHeader(via)
	a.aim(req, network, destination)
}

// contact is where the far end at remote sends its requests.
func (a *Agent) contact(network, remote string) *sip.ContactHeader {
	host, port := a.address(network, remote)
	uri := sip.Uri{Scheme: "sip", User: "tandem", Host: host, Port: port}
	if network != networkUDP && a.own(network, remote) != nil {
		transport := network
		if network == networkWSS {
			transport = networkWS // the transport parameter has no other name for it (RFC 7118 §5.2.2)
		}
		uri.UriParams = sip.HeaderParams{{K: "transport", V: transport}}
	}
	return &sip.ContactHeader{Address: uri}
}

// contactIn is the Contact of an answer to req, which came over network: sips: where the request was
// (RFC 3261 §12.1.1).
func (a *Agent) contactIn(network string, req *sip.Request) *sip.ContactHeader {
	contact := a.contact(network, req.Source())
	if req.Recipient.Scheme == "sips" {
		contact.Address = secured(contact.Address)
	}
	return contact
}

// domain is the host of our own URIs.
func (a *Agent) domain(network, remote string) string {
	if a.cfg.Domain != "" {
		return a.cfg.Domain
	}
	host, _ := a.address(network, remote)
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// response builds an answer to req. Its 2xx and 1xx to an INVITE need a Contact: the caller adds it.
func response(req *sip.Request, status int, body []byte) *sip.Response {
	res := sip.NewResponseFromRequest(req, status, reasonPhrase(status), nil)
	if body != nil {
		contentType := sip.ContentTypeHeader(sdpType)
		res.AppendHeader(&contentType)
		res.SetBody(body)
	}
	return res
}

// networkOf returns the transport over which a message came in. The library calls every stream TCP.
func (a *Agent) networkOf(req *sip.Request) string {
	if strings.EqualFold(req.Transport(), networkUDP) {
		return networkUDP
	}
	source, err := netip.ParseAddrPort(req.Source())
	if err != nil {
		return networkTCP
	}
	return a.streams.networkOf(source)
}
