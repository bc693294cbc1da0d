package sip

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// maxEcho is how long an answer of the front may be, in bytes.
const maxEcho = 8192

// front stands between the sockets and the library's parser. What the library would drop or read wrongly, the front
// answers, drops or writes anew, so that nothing behind it sees a message that is not what it looks like.
type front struct {
	parser *sip.Parser
	guard  *guard
	log    *slog.Logger
	tags   maphash.Seed // makes the To tags of stateless answers, the same for every repeat
}

func newFront(g *guard, log *slog.Logger) *front {
	return &front{parser: sip.NewParser(), guard: g, log: log, tags: maphash.MakeSeed()}
}

// verdict is what becomes of a message.
type verdict struct {
	pass   []byte // what the library reads; nil: nothing
	answer []byte // what is sent back; nil: nothing
	port   int    // where over UDP, at the address it came from
}

// judge decides about one whole message. What passes may be a part of text; nothing else of it is kept. A message that we
// fail at is dropped: those who read it serve everybody.
func (f *front) judge(text []byte, from netip.AddrPort) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			f.log.Error("sip: message failed", "source", from.String(), "panic", p, "stack", string(debug.Stack()))
			v = verdict{}
		}
	}()
	return f.look(text, from)
}

func (f *front) look(text []byte, from netip.AddrPort) verdict {
	head, body, whole := bytes.Cut(text, []byte("\r\n\r\n"))
	m := scanMessage(string(head))
	switch {
	case !whole:
		return f.reject(m, &fault{400, "no empty line ends the headers"}, from)
	case m.length > len(body):
		return f.reject(m, &fault{400, "Content-Length is larger than what came"}, from)
	case m.length >= 0: // what stands behind the body of a datagram is no part of the message (RFC 3261 §18.3)
		body = body[:m.length]
	}
	if m.request && f.scanned(m, from) {
		return verdict{}
	}
	m.check(from)
	if m.fault == nil {
		pass := text[:len(head)+4+len(body)]
		if m.changed {
			pass = m.write(body)
		}
		if f.readable(pass, m) {
			return verdict{pass: pass}
		}
		m.fail(400, "the message cannot be read")
	}
	return f.reject(m, m.fault, from)
}

// reject refuses a message for a fault: a request is answered, unless it is an ACK.
func (f *front) reject(m *message, why *fault, from netip.AddrPort) verdict {
	m.fault = why
	if m.request && f.scanned(m, from) {
		return verdict{}
	}
	if why.malformed() {
		f.guard.count(func(s *GuardStats) { s.Malformed++ })
	}
	f.log.Debug("sip: message refused", "source", from.String(), "status", why.status, "why", why.why)
	if !m.request || m.method == "ACK" || why.status == 0 {
		return verdict{}
	}
	answer, port := f.refusal(m, from)
	return verdict{answer: answer, port: port}
}

// broken refuses what came over a stream and has no end; head is what could be read, as far as its empty line.
func (f *front) broken(head []byte, why string, from netip.AddrPort) verdict {
	if len(head) == 0 {
		return verdict{}
	}
	return f.reject(scanMessage(strings.TrimSuffix(string(head), "\r\n\r\n")), &fault{400, why}, from)
}

// scanned drops what a known scanner sends: an answer would tell it that somebody is here.
func (f *front) scanned(m *message, from netip.AddrPort) bool {
	if !isScanner(m.first("User-Agent")) && !isScanner(displayOf(m.first("From"))) {
		return false
	}
	if f.guard.known(from.Addr().Unmap()) {
		return false // a trunk may call itself what it likes
	}
	f.guard.count(func(s *GuardStats) { s.Scanners++ })
	f.guard.failed(from.Addr(), "a scanner's User-Agent")
	return true
}

// displayOf returns what stands before the URI of an address.
func displayOf(address string) string {
	display, _, ok := strings.Cut(address, "<")
	if !ok {
		return ""
	}
	return display
}

// readable asks the library's own parser, so that no message is lost behind the front.
func (f *front) readable(text []byte, m *message) bool {
	msg, err := f.parser.ParseSIP(text)
	if err != nil || msg.From() == nil || msg.To() == nil || msg.CallID() == nil || msg.CSeq() == nil || msg.Via() == nil {
		return false
	}
	if req, ok := msg.(*sip.Request); ok {
		return m.request && string(req.Method) == m.method && req.CSeq().MethodName == req.Method
	}
	return !m.request
}

// refusal writes a stateless answer out of what could be read, and returns it with the port that it goes to. Nil: there
// is nothing that it could be matched by.
func (f *front) refusal(m *message, from netip.AddrPort) ([]byte, int) {
	if m.first("Via") == "" {
		return nil, 0
	}
	port := int(from.Port())
	if v, err := readVia(firstOf(m.first("Via"))); err == "" {
		if _, ok := v.get("rport"); ok {
			v.set("rport", strconv.Itoa(port))
		} else if port = 5060; v.port != "" {
			port, _ = strconv.Atoi(v.port)
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", m.fault.status, reasonPhrase(m.fault.status))
	top := true
	for _, h := range m.fields {
		switch h.name {
		case "Via":
			value := h.value
			if top {
				value, top = f.marked(value, from), false
			}
			writeField(&b, "Via", value)
		case "From", "Call-ID", "CSeq":
			writeField(&b, h.name, h.value)
		case "To":
			value := h.value
			if _, tagged := tagIn(value); !tagged && !strings.Contains(value, ";tag=") {
				value += ";tag=" + f.tag(m)
			}
			writeField(&b, "To", value)
		}
	}
	const end = "Content-Length: 0\r\n\r\n"
	if m.fault.why == unknownMethod && (b.Len()+len("Allow: \r\n")+len(allowed)+len(end) <= m.size || !f.guard.stranger(from.Addr())) {
		writeField(&b, "Allow", allowed)
	}
	warning := "399 tandem " + quoted(m.fault.why)
	if b.Len()+len("Warning: \r\n")+len(warning)+len(end) <= m.size || !f.guard.stranger(from.Addr()) {
		writeField(&b, "Warning", warning) // not where it makes an answer to a stranger larger than the request
	}
	b.WriteString(end)
	if b.Len() > maxEcho {
		return nil, 0
	}
	return b.Bytes(), port
}

// firstOf returns the first value of a list.
func firstOf(value string) string { return splitList(value)[0] }

// marked notes in the topmost Via where the request came from; one that cannot be read stays as it is.
func (f *front) marked(value string, from netip.AddrPort) string {
	list := splitList(value)
	v, err := readVia(list[0])
	if err != "" {
		return value
	}
	sender := from.Addr().Unmap()
	if host, err := netip.ParseAddr(strings.Trim(v.host, "[]")); err != nil || host.Unmap() != sender {
		v.set("received", sender.String())
	}
	if _, ok := v.get("rport"); ok {
		v.set("received", sender.String())
		v.set("rport", strconv.Itoa(int(from.Port())))
	}
	list[0] = v.String()
	return strings.Join(list, ", ")
}

// tag makes the To tag of a stateless answer: the same for a repeat of the request (RFC 3261 §8.2.7).
func (f *front) tag(m *message) string {
	var sum [8]byte
	binary.BigEndian.PutUint64(sum[:], maphash.String(f.tags, m.first("Call-ID")+"\n"+m.first("Via")+"\n"+m.first("CSeq")))
	return fmt.Sprintf("%x", sum)
}

// writeField writes a header line that cannot become two.
func writeField(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	b.WriteString(": ")
	for i := 0; i < len(value); i++ {
		if value[i] != '\r' && value[i] != '\n' {
			b.WriteByte(value[i])
		}
	}
	b.WriteString("\r\n")
}

// isResponse says whether data begins like a response.
func isResponse(data []byte) bool { return bytes.HasPrefix(data, []byte("SIP/2.0 ")) }
