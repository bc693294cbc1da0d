package sip

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"tandem/media"
)

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

// write renders the description of s and checks it before anybody sends it; every m-line of the far end that is not our
// audio stream is refused with port 0 (RFC 3264 §6).
func (d *description) write(s *standing, codecs []media.Speech, event int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "s=-\r\nc=IN %s %s\r\nt=0 0\r\n", addressType(d.local.Addr()), d.local.Addr().Unmap())
	for i := range max(len(s.lines), 1) {
		if i == s.index {
			d.writeAudio(&b, s, codecs, event)
			continue
		}
		line := s.lines[i]
		fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", line.media, line.proto, strings.Join(line.formats, " "))
	}
	s.text = b.String()
	if err := d.check(d.head()+s.text, s); err != nil {
		return fmt.Errorf("%w: %w", errOwnSDP, err)
	}
	return nil
}

// stamp numbers a description that is about to be sent: one more than the last unless it is the same.
func (d *description) stamp(text string) []byte {
	if text != d.sent {
		d.sent, d.version = text, d.version+1
	}
	return []byte(d.head() + text)
}

// head is what comes before text.
func (d *description) head() string {
	return fmt.Sprintf("v=0\r\no=tandem %d %d IN %s %s\r\n", d.session, d.version, addressType(d.local.Addr()), d.local.Addr().Unmap())
}

// addressType is what SDP calls the family of an address.
func addressType(a netip.Addr) string {
	if a.Unmap().Is6() {
		return "IP6"
	}
	return "IP4"
}

func (d *description) writeAudio(b *strings.Builder, s *standing, codecs []media.Speech, event int) {
	fmt.Fprintf(b, "m=audio %d %s", d.local.Port(), s.profile)
	for _, codec := range codecs {
		fmt.Fprintf(b, " %d", s.types[codec])
	}
	if s.comfort {
		fmt.Fprintf(b, " %d", comfortType)
	}
	if event >= 0 {
		fmt.Fprintf(b, " %d", event)
	}
	b.WriteString("\r\n")
	for _, codec := range codecs {
		fmt.Fprintf(b, "a=rtpmap:%d %s\r\n", s.types[codec], encodingOf(codec))
		if codec == media.Opus {
			fmt.Fprintf(b, "a=fmtp:%d useinbandfec=1\r\n", s.types[codec])
		}
	}
	if s.comfort {
		fmt.Fprintf(b, "a=rtpmap:%d %s\r\n", comfortType, comfortEncoding)
	}
	if event >= 0 {
		fmt.Fprintf(b, "a=rtpmap:%d telephone-event/%d\r\na=fmtp:%d 0-16\r\n", event, s.rate, event)
	}
	for _, c := range s.cryptos {
		fmt.Fprintf(b, "a=crypto:%s\r\n", c.value())
	}
	fmt.Fprintf(b, "a=ptime:%d\r\n", s.packet.Milliseconds())
	if s.mux {
		b.WriteString("a=rtcp-mux\r\n")
	} else {
		fmt.Fprintf(b, "a=rtcp:%d\r\n", d.local.Port()+1)
	}
	if s.metrics {
		b.WriteString("a=rtcp-xr:" + voipMetrics + "\r\n")
	}
	fmt.Fprintf(b, "a=%s\r\n", s.said)
}

// check reads what we are about to send as the far end will.
func (d *description) check(body string, s *standing) error {
	parsed, lines, err := parseDescription([]byte(body))
	if err != nil {
		return err
	}
	if len(lines) != max(len(s.lines), 1) {
		return fmt.Errorf("%d streams, not %d", len(lines), max(len(s.lines), 1))
	}
	m, line := parsed.MediaDescriptions[s.index], lines[s.index]
	if m.MediaName.Port.Value != int(d.local.Port()) || line.proto != s.profile {
		return errors.New("the audio stream is not at its place")
	}
	seen := make(map[string]bool)
	for _, format := range line.formats {
		if _, ok := rtpmap(m, format); !ok || seen[format] {
			return fmt.Errorf("payload type %s means nothing, or two things", printable(format, 10))
		}
		seen[format] = true
	}
	if line.secure() && len(s.cryptos) == 0 {
		return errors.New("SRTP without a key")
	}
	return nil
}
