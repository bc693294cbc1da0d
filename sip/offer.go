package sip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"tandem/media"
)

// What we offer and accept (RFC 3264): one audio stream of G.711 in 20 ms packets with RFC 4733 telephone-event.
const (
	rtpProfile   = "RTP/AVP"
	packetTime   = "20" // ms
	ownEventType = 101  // payload type of telephone-event in our offers

	maxDescription = 16 << 10 // bytes of SDP that are read
	maxStreams     = 16       // m-lines that are read
)

// errNothingCommon means that a description is well formed but has no stream that we can take: 488, not 400.
var errNothingCommon = errors.New("no G.711 over RTP/AVP in it")

// description is our side of the SDP negotiation of one call.
type description struct {
	session uint64 // o= session id, constant
	version uint64 // o= version, one more in each description that we send
	local   netip.AddrPort
	laws    []media.G711 // in the order of preference
	event   int          // payload type of telephone-event in our offers
	index   int          // which m-line is the audio stream
	// lines is what the m-lines of the negotiation are, since their number and order never change (RFC 3264 §8).
	lines []streamLine
}

// newDescription starts a negotiation. Laws must not be empty.
func newDescription(session uint64, local netip.AddrPort, laws []media.G711) *description {
	return &description{session: session, version: session, local: local, laws: laws, event: ownEventType}
}

// clone returns a negotiation that goes on by itself from here: one INVITE may be answered by several phones.
func (d *description) clone() *description {
	c := *d
	return &c
}

// lawsOf picks the laws out of a trunk's codecs: both when it names none that we know.
func lawsOf(codecs []string) []media.G711 {
	var laws []media.G711
	for _, codec := range codecs {
		for _, law := range []media.G711{media.PCMU, media.PCMA} {
			if strings.EqualFold(codec, nameOf(law)) && !slices.Contains(laws, law) {
				laws = append(laws, law)
			}
		}
	}
	if len(laws) == 0 {
		return []media.G711{media.PCMU, media.PCMA}
	}
	return laws
}

func nameOf(law media.G711) string {
	if law == media.PCMA {
		return "PCMA"
	}
	return "PCMU"
}

// offer returns an offer of all that we have, both ways.
func (d *description) offer() []byte {
	return d.write(d.laws, d.event, "sendrecv")
}

// answer returns our answer to an offer and what both mean for the port. An error that is errNothingCommon asks for a
// 488, any other for a 400.
func (d *description) answer(offer []byte) ([]byte, media.PortMedia, error) {
	parsed, lines, err := parseDescription(offer)
	if err != nil {
		return nil, media.PortMedia{}, err
	}
	index, agreed, err := d.pick(parsed)
	if err != nil {
		return nil, media.PortMedia{}, err
	}
	if agreed.EventType >= 0 {
		d.event = agreed.EventType // a payload type keeps its meaning (RFC 3264 §8.3.2)
	}
	d.index, d.lines = index, lines
	return d.write([]media.G711{agreed.Law}, agreed.EventType, directionOf(agreed)), agreed, nil
}

// accept reads the far end's answer to our offer.
func (d *description) accept(answer []byte) (media.PortMedia, error) {
	parsed, _, err := parseDescription(answer)
	if err != nil {
		return media.PortMedia{}, err
	}
	_, agreed, err := d.pick(parsed)
	return agreed, err
}

// pick finds the first stream that we can take.
func (d *description) pick(parsed *sdp.SessionDescription) (int, media.PortMedia, error) {
	for i, m := range parsed.MediaDescriptions {
		if m.MediaName.Port.Value == 0 {
			continue
		}
		law, ok := d.commonLaw(m)
		if !ok {
			continue
		}
		agreed := media.PortMedia{Law: law, EventType: eventType(m)}
		if err := readAddresses(parsed, m, &agreed); err != nil {
			return 0, media.PortMedia{}, err
		}
		readDirection(parsed, m, &agreed)
		return i, agreed, nil
	}
	return 0, media.PortMedia{}, errNothingCommon
}

// commonLaw returns the far end's first choice among ours. Static payload types need no rtpmap; one that contradicts
// RFC 3551 makes the format another codec.
func (d *description) commonLaw(m *sdp.MediaDescription) (media.G711, bool) {
	for _, format := range m.MediaName.Formats {
		for _, law := range d.laws {
			if format != strconv.Itoa(int(law)) {
				continue
			}
			if encoding, ok := rtpmap(m, format); !ok || strings.EqualFold(encoding, nameOf(law)+"/8000") ||
				strings.EqualFold(encoding, nameOf(law)+"/8000/1") {
				return law, true
			}
		}
	}
	return 0, false
}

// directionOf is what we say in an answer.
func directionOf(agreed media.PortMedia) string {
	switch {
	case agreed.Send && agreed.Receive:
		return "sendrecv"
	case agreed.Send:
		return "sendonly"
	case agreed.Receive:
		return "recvonly"
	}
	return "inactive"
}

// write renders a description with the audio stream at its place; every other m-line of the far end is refused with
// port 0 (RFC 3264 §6).
func (d *description) write(laws []media.G711, event int, direction string) []byte {
	d.version++
	family := "IP4"
	if d.local.Addr().Is6() && !d.local.Addr().Is4In6() {
		family = "IP6"
	}
	addr := d.local.Addr().Unmap().String()
	var b strings.Builder
	fmt.Fprintf(&b, "v=0\r\no=tandem %d %d IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\n", d.session, d.version, family, addr, family, addr)
	for i := range max(len(d.lines), 1) {
		if i == d.index {
			d.writeAudio(&b, laws, event, direction)
			continue
		}
		line := d.lines[i]
		fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", line.media, line.proto, strings.Join(line.formats, " "))
	}
	return []byte(b.String())
}

func (d *description) writeAudio(b *strings.Builder, laws []media.G711, event int, direction string) {
	fmt.Fprintf(b, "m=audio %d %s", d.local.Port(), rtpProfile)
	for _, law := range laws {
		fmt.Fprintf(b, " %d", law)
	}
	if event >= 0 {
		fmt.Fprintf(b, " %d", event)
	}
	b.WriteString("\r\n")
	for _, law := range laws {
		fmt.Fprintf(b, "a=rtpmap:%d %s/8000\r\n", law, nameOf(law))
	}
	if event >= 0 {
		fmt.Fprintf(b, "a=rtpmap:%d telephone-event/8000\r\na=fmtp:%d 0-16\r\n", event, event)
	}
	fmt.Fprintf(b, "a=ptime:%s\r\na=rtcp:%d\r\na=%s\r\n", packetTime, d.local.Port()+1, direction)
}
