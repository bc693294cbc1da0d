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

// streamLine is an m-line of the far end's last offer.
type streamLine struct {
	media   string
	proto   string
	formats []string
}

// ours says whether a stream may be one that we can take. Its attributes are read only then.
func (l streamLine) ours() bool { return l.media == "audio" && l.proto == rtpProfile }

// newDescription starts a negotiation. Laws must not be empty.
func newDescription(session uint64, local netip.AddrPort, laws []media.G711) *description {
	return &description{session: session, version: session, local: local, laws: laws, event: ownEventType}
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

// eventType returns the payload type of telephone-event/8000, -1 if there is none.
func eventType(m *sdp.MediaDescription) int {
	for _, format := range m.MediaName.Formats {
		encoding, _ := rtpmap(m, format)
		if !strings.EqualFold(encoding, "telephone-event/8000") && !strings.EqualFold(encoding, "telephone-event/8000/1") {
			continue
		}
		if n, err := strconv.Atoi(format); err == nil && n >= 96 && n <= 127 {
			return n
		}
	}
	return -1
}

func rtpmap(m *sdp.MediaDescription, format string) (encoding string, ok bool) {
	for _, a := range m.Attributes {
		if a.Key != "rtpmap" {
			continue
		}
		if f, e, found := strings.Cut(a.Value, " "); found && f == format {
			return strings.TrimSpace(e), true
		}
	}
	return "", false
}

// readAddresses finds where the far end wants RTP and RTCP (RFC 3605). 0.0.0.0 is the hold of RFC 2543: nowhere.
func readAddresses(parsed *sdp.SessionDescription, m *sdp.MediaDescription, agreed *media.PortMedia) error {
	connection := m.ConnectionInformation
	if connection == nil {
		connection = parsed.ConnectionInformation
	}
	if connection == nil || connection.Address == nil {
		return errors.New("the audio stream has no c= line")
	}
	addr, err := readIP(connection.Address.Address)
	if err != nil {
		return err
	}
	port := m.MediaName.Port.Value
	if port < 1 || port > 65535 {
		return fmt.Errorf("port %d of the audio stream is none", port)
	}
	if addr.IsUnspecified() {
		return nil
	}
	agreed.Remote = netip.AddrPortFrom(addr, uint16(port))
	agreed.RemoteRTCP = netip.AddrPortFrom(addr, uint16(min(port+1, 65535)))
	if value, ok := m.Attribute("rtcp"); ok {
		if rtcp, ok := readRTCP(value, addr); ok {
			agreed.RemoteRTCP = rtcp
		}
	}
	return nil
}

// readRTCP reads "53020" and "53020 IN IP4 126.16.64.4".
func readRTCP(value string, addr netip.Addr) (netip.AddrPort, bool) {
	fields := strings.Fields(value)
	if len(fields) != 1 && len(fields) != 4 {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(fields[0], 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}, false
	}
	if len(fields) == 4 {
		if addr, err = readIP(fields[3]); err != nil || addr.IsUnspecified() {
			return netip.AddrPort{}, false
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), true
}

func readIP(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.Addr{}, fmt.Errorf("%q in the c= line is no unicast IP address", printable(s, 60))
	}
	return addr.Unmap(), nil
}

// readDirection turns the far end's direction into ours (RFC 3264 §6.1).
func readDirection(parsed *sdp.SessionDescription, m *sdp.MediaDescription, agreed *media.PortMedia) {
	direction := "sendrecv"
	for _, attributes := range [][]sdp.Attribute{m.Attributes, parsed.Attributes} {
		if i := slices.IndexFunc(attributes, isDirection); i >= 0 {
			direction = attributes[i].Key
			break
		}
	}
	agreed.Send = (direction == "sendrecv" || direction == "recvonly") && agreed.Remote.IsValid()
	agreed.Receive = direction == "sendrecv" || direction == "sendonly"
}

func isDirection(a sdp.Attribute) bool {
	switch a.Key {
	case "sendrecv", "sendonly", "recvonly", "inactive":
		return a.Value == ""
	}
	return false
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

// parseDescription reads what matters of a description: its m-lines, and the c= and a= lines of the streams that may be
// ours. The rest is replaced before the strict parser sees it, so that a session id of more than 64 bits, a missing t=
// line or a fax beside the audio refuses no call; a stream that cannot be ours is one of port 0 there.
func parseDescription(body []byte) (*sdp.SessionDescription, []streamLine, error) {
	if len(body) > maxDescription {
		return nil, nil, fmt.Errorf("the SDP is longer than %d bytes", maxDescription)
	}
	session := []string{"v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=-", "t=0 0"}
	var lines []streamLine
	var streams [][]string
	for line := range strings.FieldsFuncSeq(string(body), func(r rune) bool { return r == '\r' || r == '\n' }) {
		kind, value, ok := strings.Cut(line, "=")
		if !ok || hasControl(strings.ReplaceAll(line, "\t", " ")) {
			return nil, nil, fmt.Errorf("%q is no SDP line", printable(line, 60))
		}
		if kind == "m" {
			fields := strings.Fields(value)
			if len(fields) < 4 || len(streams) == maxStreams {
				return nil, nil, fmt.Errorf("%q is no stream, or one of more than %d", printable(line, 60), maxStreams)
			}
			l := streamLine{fields[0], fields[2], fields[3:]}
			if !l.ours() {
				line = "m=audio 0 RTP/AVP 0"
			}
			lines, streams = append(lines, l), append(streams, []string{line})
			continue
		}
		into, at := &session, 3 // c= comes before t= in a session and before a= in a stream
		if len(streams) > 0 {
			if !lines[len(lines)-1].ours() {
				continue
			}
			into, at = &streams[len(streams)-1], 1
		}
		switch kind {
		case "c":
			*into = slices.Insert(*into, at, line)
		case "a":
			*into = append(*into, line)
		}
	}
	text := strings.Join(slices.Concat(session, slices.Concat(streams...)), "\r\n") + "\r\n"
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(text); err != nil {
		return nil, nil, fmt.Errorf("the SDP cannot be read: %w", err)
	}
	return &parsed, lines, nil
}
