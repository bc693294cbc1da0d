package sip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pion/sdp/v3"

	"tandem/media"
)

// streamLine is an m-line of the far end's last offer.
type streamLine struct {
	media   string
	proto   string
	formats []string
}

// ours says whether a stream may be one that we can take. Its attributes are read only then.
func (l streamLine) ours() bool {
	return l.media == "audio" && (l.proto == plainProfile || l.proto == secureProfile)
}

// secure says whether the stream is SRTP by its profile.
func (l streamLine) secure() bool { return l.proto == secureProfile }

// eventType returns the payload type of telephone-event, that with the clock of G.711 before any other; -1 if there is
// none. Rate is its clock in Hz, 0 for 8000.
func eventType(m *sdp.MediaDescription) (payload, rate int) {
	payload = -1
	for _, format := range m.MediaName.Formats {
		encoding, _ := rtpmap(m, format)
		name, clock, _ := strings.Cut(encoding, "/")
		hz, err := strconv.ParseUint(strings.TrimSuffix(clock, "/1"), 10, 17)
		n, e := strconv.Atoi(format)
		if err != nil || e != nil || !strings.EqualFold(name, "telephone-event") || hz < 8000 || hz > 48000 || n < 96 || n > 127 {
			continue
		}
		if hz == 8000 {
			return n, 0
		}
		if payload < 0 {
			payload, rate = n, int(hz)
		}
	}
	return payload, rate
}

// readPacketTime reads how much sound the far end wants in a packet (RFC 4566 §6): 10, 20, 30, 40 or 60 ms, the longest
// that is not more than it says.
func readPacketTime(m *sdp.MediaDescription, agreed *media.PortMedia) {
	read := func(key string, otherwise int) int {
		value, _ := m.Attribute(key)
		if ms, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && ms >= 1 && ms < 1000 {
			return int(ms)
		}
		return otherwise
	}
	want, most := read("ptime", 20), read("maxptime", 1000)
	packet := 10
	for _, ms := range []int{20, 30, 40, 60} {
		if ms <= want && ms <= most {
			packet = ms
		}
	}
	if packet != 20 { // 20 ms is what 0 means
		agreed.PacketTime = time.Duration(packet) * time.Millisecond
	}
}

// packetTimeOf is what we ask for in return.
func packetTimeOf(agreed media.PortMedia) time.Duration {
	if agreed.PacketTime == 0 {
		return ownPacketTime
	}
	return agreed.PacketTime
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

// connectionOf returns the c= line that counts for a stream; nil if there is none.
func connectionOf(parsed *sdp.SessionDescription, m *sdp.MediaDescription) *sdp.ConnectionInformation {
	if m.ConnectionInformation != nil {
		return m.ConnectionInformation
	}
	return parsed.ConnectionInformation
}

// readAddresses finds where the far end wants RTP and RTCP (RFC 3605). 0.0.0.0 is the hold of RFC 2543: nowhere.
func readAddresses(parsed *sdp.SessionDescription, m *sdp.MediaDescription, agreed *media.PortMedia) error {
	connection := connectionOf(parsed, m)
	if connection == nil || connection.Address == nil {
		return errors.New("the audio stream has no c= line")
	}
	addr := netip.IPv4Unspecified()
	if !strings.HasSuffix(strings.ToLower(connection.Address.Address), ".invalid") { // hold, too (RFC 6157 §5.1)
		var err error
		if addr, err = readIP(connection.Address.Address); err != nil {
			return err
		}
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
