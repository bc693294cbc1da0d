package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// ptEvents is the payload type that we offer telephone-event with; an answer repeats the offer's.
const ptEvents = 101

var errNoCommonCodec = errors.New("lab: the SDP has no audio in PCMU or PCMA")

// agreed is what an offer and its answer made of the media (RFC 3264). It doesn't change after it was made.
type agreed struct {
	remote  netip.AddrPort
	law     law
	events  int  // payload type of telephone-event; -1: none
	send    bool // the far end wants to hear us
	receive bool // the far end sends
}

// readSDP takes the far end's offer or answer: the first of its codecs that we have.
func readSDP(body []byte) (agreed, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(string(body)); err != nil {
		return agreed{}, fmt.Errorf("lab: read SDP: %w", err)
	}
	for _, m := range d.MediaDescriptions {
		if m.MediaName.Media != "audio" || m.MediaName.Port.Value == 0 {
			continue
		}
		a := agreed{events: eventType(m), send: true, receive: true}
		if !chooseLaw(m, &a) {
			return agreed{}, errNoCommonCodec
		}
		conn := m.ConnectionInformation
		if conn == nil {
			conn = d.ConnectionInformation
		}
		if conn == nil || conn.Address == nil {
			return agreed{}, errors.New("lab: SDP without c=")
		}
		host, _, _ := strings.Cut(conn.Address.Address, "/")
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return agreed{}, fmt.Errorf("lab: c= of SDP: %w", err)
		}
		a.remote = netip.AddrPortFrom(addr, uint16(m.MediaName.Port.Value))
		applyDirection(&d, m, &a)
		if addr.IsUnspecified() { // RFC 2543's way to hold
			a.send = false
		}
		return a, nil
	}
	return agreed{}, errNoCommonCodec
}

func chooseLaw(m *sdp.MediaDescription, a *agreed) bool {
	for _, format := range m.MediaName.Formats {
		switch format {
		case "0":
			a.law = pcmu
			return true
		case "8":
			a.law = pcma
			return true
		}
	}
	return false
}

func eventType(m *sdp.MediaDescription) int {
	for _, attr := range m.Attributes {
		if attr.Key != "rtpmap" {
			continue
		}
		pt, name, ok := strings.Cut(attr.Value, " ")
		if !ok || !strings.EqualFold(strings.TrimSpace(name), "telephone-event/8000") {
			continue
		}
		if n, err := strconv.Atoi(pt); err == nil && n >= 0 && n < 128 {
			return n
		}
	}
	return -1
}

// applyDirection turns the far end's word round: what it sends only, we receive only.
func applyDirection(d *sdp.SessionDescription, m *sdp.MediaDescription, a *agreed) {
	for _, attrs := range [][]sdp.Attribute{m.Attributes, d.Attributes} {
		for _, attr := range attrs {
			switch attr.Key {
			case "sendrecv":
				return
			case "sendonly":
				a.send = false
				return
			case "recvonly":
				a.receive = false
				return
			case "inactive":
				a.send, a.receive = false, false
				return
			}
		}
	}
}

// writeSDP writes our side: an offer when with is nil, else the answer that with was agreed from.
func writeSDP(local netip.AddrPort, id uint32, version int, laws []law, with *agreed) []byte {
	events, direction := ptEvents, "sendrecv"
	if with != nil {
		laws, events = []law{with.law}, with.events
		switch {
		case !with.send && !with.receive:
			direction = "inactive"
		case !with.send:
			direction = "recvonly"
		case !with.receive:
			direction = "sendonly"
		}
	}
	family := "IP4"
	if local.Addr().Is6() {
		family = "IP6"
	}
	var formats, maps strings.Builder
	for _, l := range laws {
		fmt.Fprintf(&formats, " %d", l)
		fmt.Fprintf(&maps, "a=rtpmap:%d %s/8000\r\n", l, l)
	}
	if events >= 0 {
		fmt.Fprintf(&formats, " %d", events)
		fmt.Fprintf(&maps, "a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-15\r\n", events, events)
	}
	return fmt.Appendf(nil, "v=0\r\no=lab %d %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n"+
		"m=audio %d RTP/AVP%s\r\n%sa=ptime:20\r\na=%s\r\n",
		id, version, family, local.Addr(), family, local.Addr(),
		local.Port(), formats.String(), maps.String(), direction)
}
