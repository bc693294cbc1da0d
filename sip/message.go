package sip

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

const (
	maxFields  = 256 // header lines of a message that is read
	maxVias    = 100
	maxForward = 255 // RFC 3261 §20.22
)

// message is a SIP message before the library's parser: read line by line, judged by RFC 3261 §25, and written anew
// where the library would read it wrongly. Whatever is wrong with it, what could be read stays, to be echoed.
type message struct {
	start   string
	fields  []field // as they came, or canonical once check has passed
	request bool
	method  string
	uri     string
	via     via // the topmost
	length  int // of the body as Content-Length says; -1: it does not
	size    int // of the head, in bytes
	changed bool
	fault   *fault // the first thing that is wrong
}

// field is a header line, unfolded, by its long name.
type field struct{ name, value string }

// fault is why a message is not let through, and the status that says so.
type fault struct {
	status int
	why    string
}

// fail notes a fault unless one is known.
func (m *message) fail(status int, why string) {
	if m.fault == nil {
		m.fault = &fault{status, why}
	}
}

// scanMessage reads the head of a message: all before its empty line. It never fails; m.fault says what is wrong.
func scanMessage(head string) *message {
	line, rest, _ := strings.Cut(head, "\r\n")
	m := &message{start: line, fields: make([]field, 0, 16), length: -1, size: len(head) + 4}
	m.readStart()
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		m.readLine(line)
	}
	if hasLineBreak(head) {
		m.fail(400, "a line ends with something other than CRLF")
	}
	m.readLength()
	return m
}

// hasLineBreak says whether head has a CR or LF that is no part of a CRLF.
func hasLineBreak(head string) bool {
	for i := 0; i < len(head); i++ {
		switch head[i] {
		case '\n':
			return true
		case '\r':
			if i+1 >= len(head) || head[i+1] != '\n' {
				return true
			}
			i++
		}
	}
	return false
}

// readStart reads the start line (RFC 3261 §7.1, §7.2).
func (m *message) readStart() {
	if len(m.start) >= 4 && strings.EqualFold(m.start[:4], "SIP/") {
		version, rest, _ := strings.Cut(m.start, " ")
		code, _, _ := strings.Cut(rest, " ")
		if !strings.EqualFold(version, "SIP/2.0") || len(code) != 3 || code < "100" || code > "699" || !isDigits(code) {
			m.fail(0, "no status line")
		}
		return
	}
	m.request = true
	if words := strings.Fields(m.start); len(words) > 0 {
		m.method = words[0]
	}
	method, rest, _ := strings.Cut(m.start, " ")
	uri, version, ok := strings.Cut(rest, " ")
	m.uri = uri
	switch {
	case !ok || !isToken(method):
		m.fail(400, "the request line is not method, URI and version")
	case !isVersion(version):
		m.fail(400, "the request line does not end with SIP/2.0")
	case !strings.EqualFold(version, "SIP/2.0"):
		m.fail(505, "only SIP/2.0 is spoken here")
	}
}

// isVersion says whether s is SIP/ and two numbers.
func isVersion(s string) bool {
	if len(s) < 4 || !strings.EqualFold(s[:4], "SIP/") {
		return false
	}
	major, minor, ok := strings.Cut(s[4:], ".")
	return ok && isDigits(major) && isDigits(minor)
}

func (m *message) readLine(line string) {
	if line != "" && (line[0] == ' ' || line[0] == '\t') { // folded (RFC 3261 §7.3.1)
		if len(m.fields) == 0 {
			m.fail(400, "the first header line is indented")
			return
		}
		last := &m.fields[len(m.fields)-1]
		last.value = strings.TrimSpace(last.value + " " + strings.Trim(line, " \t"))
		m.changed = true
		return
	}
	name, value, ok := strings.Cut(line, ":")
	name = strings.TrimRight(name, " \t")
	if !ok || !isToken(name) {
		m.fail(400, "a header line is not name: value")
		return
	}
	if len(m.fields) == maxFields {
		m.fail(400, "too many header lines")
		return
	}
	long := longName(name)
	if len(long) != len(name) {
		m.changed = true
	}
	m.fields = append(m.fields, field{long, strings.Trim(value, " \t")})
}

// longName returns a header's name as RFC 3261 writes it where it matters here: compact forms become long, also those
// that the library does not know.
func longName(name string) string {
	if len(name) == 1 {
		switch name[0] | 0x20 {
		case 'a':
			return "Accept-Contact"
		case 'b':
			return "Referred-By"
		case 'c':
			return "Content-Type"
		case 'd':
			return "Request-Disposition"
		case 'e':
			return "Content-Encoding"
		case 'f':
			return "From"
		case 'i':
			return "Call-ID"
		case 'j':
			return "Reject-Contact"
		case 'k':
			return "Supported"
		case 'l':
			return "Content-Length"
		case 'm':
			return "Contact"
		case 'n':
			return "Identity-Info"
		case 'o':
			return "Event"
		case 'r':
			return "Refer-To"
		case 's':
			return "Subject"
		case 't':
			return "To"
		case 'u':
			return "Allow-Events"
		case 'v':
			return "Via"
		case 'x':
			return "Session-Expires"
		case 'y':
			return "Identity"
		}
		return name
	}
	for _, known := range [...]string{
		"Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Content-Length", "Content-Type", "Route",
		"Record-Route", "Refer-To", "Referred-By", "User-Agent",
	} {
		if len(known) == len(name) && strings.EqualFold(known, name) {
			return known
		}
	}
	return name
}

// readLength reads Content-Length, on which framing depends.
func (m *message) readLength() {
	count := 0
	for _, f := range m.fields {
		if f.name != "Content-Length" {
			continue
		}
		count++
		n, err := strconv.ParseUint(f.value, 10, 31)
		if err != nil || count > 1 {
			m.length = -1
			m.fault = &fault{400, "Content-Length is no number, or there are two"}
			return
		}
		m.length = int(n)
	}
}

// first returns the value of the first header of a name.
func (m *message) first(name string) string {
	for _, f := range m.fields {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

func (m *message) count(name string) int {
	n := 0
	for _, f := range m.fields {
		if f.name == name {
			n++
		}
	}
	return n
}

// check judges a message that could be split into lines and makes its fields canonical. From is where it came from.
func (m *message) check(from netip.AddrPort) {
	for _, name := range [...]string{"From", "To", "Call-ID", "CSeq"} {
		if m.count(name) != 1 {
			m.fail(400, "a request needs Via, and one From, To, Call-ID and CSeq")
		}
	}
	if m.count("Max-Forwards") > 1 || m.count("Content-Type") > 1 {
		m.fail(400, "Max-Forwards or Content-Type is there twice")
	}
	if m.request {
		m.checkMethod()
		if status, why := checkURI(m.uri, true); status != 0 {
			m.fail(status, why)
		}
	}
	m.canonical()
	vias := m.count("Via")
	if vias == 0 || vias > maxVias {
		m.fail(400, "a message needs Via")
	}
	if m.fault != nil {
		return
	}
	if !m.request {
		if vias > 1 {
			m.fail(0, notForUs)
		}
		return
	}
	m.stamp(from)
}

// The faults of a message that is right by the grammar: nobody can do what it wants, or it is not for us.
const (
	unknownMethod = "an unknown method"
	unknownScheme = "only sip: and tel: are called here"                // RFC 4475 §3.3.2
	notForUs      = "a response with a second Via is for somebody else" // RFC 3261 §8.1.3.3, RFC 4475 §3.3.10
)

// malformed says whether a message with this fault is wrong by the grammar.
func (f *fault) malformed() bool {
	return f.why != unknownMethod && f.why != unknownScheme && f.why != notForUs
}

// checkMethod compares the method with that of CSeq and refuses one that the library would take for another.
func (m *message) checkMethod() {
	number, method := splitCSeq(m.first("CSeq"))
	switch {
	case m.first("CSeq") == "":
	case number == "":
		m.fail(400, "CSeq is not a number below 2^31 and a method")
	case method != m.method && isKnownMethod(m.method):
		m.fail(400, "the CSeq names another method")
	case method != m.method:
		m.fail(501, "the method is unknown, and the CSeq names another") // RFC 4475 §3.1.2.18
	}
	if m.method != strings.ToUpper(m.method) { // the library takes "invite" for INVITE (RFC 3261 §7.1)
		m.fail(501, unknownMethod)
	}
}

func isKnownMethod(method string) bool {
	switch method {
	case "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY", "SUBSCRIBE",
		"PUBLISH", "MESSAGE":
		return true
	}
	return false
}

// splitCSeq returns the parts of CSeq; the number is empty when it is none, or beyond 2^31-1 (RFC 3261 §8.1.1.5).
func splitCSeq(value string) (number, method string) {
	number, method, _ = strings.Cut(strings.ReplaceAll(value, "\t", " "), " ")
	method = strings.TrimLeft(method, " ")
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil || !isToken(method) {
		return "", method
	}
	return strconv.FormatUint(n, 10), method
}

// canonical rewrites the fields that the library parses, one value a line, so that it reads what RFC 3261 says.
func (m *message) canonical() {
	fields := make([]field, 0, len(m.fields)+2)
	for _, f := range m.fields {
		switch f.name {
		case "Via":
			for _, element := range splitList(f.value) {
				v, err := readVia(element)
				if err != "" {
					m.fail(400, err)
					continue
				}
				if m.via.host == "" {
					m.via = v
				}
				fields = m.add(fields, f, v.String())
			}
		case "From", "To", "Refer-To", "Referred-By":
			a, err := readAddress(f.value)
			if err != "" {
				m.fail(400, f.name+": "+err)
			}
			fields = m.add(fields, f, a)
		case "Contact", "Route", "Record-Route":
			for _, element := range splitList(f.value) {
				a, err := readAddress(element)
				switch {
				case f.name == "Contact" && element == "*":
					a, err = "*", ""
				case f.name != "Contact" && !strings.Contains(element, "<"):
					err = "a route needs <>"
				}
				if err != "" {
					m.fail(400, f.name+": "+err)
				}
				fields = m.add(fields, f, a)
			}
		case "CSeq":
			number, method := splitCSeq(f.value)
			if number == "" {
				m.fail(400, "CSeq is not a number below 2^31 and a method")
			}
			fields = m.add(fields, f, number+" "+method)
		case "Max-Forwards":
			if n, err := strconv.ParseUint(f.value, 10, 32); err != nil || n > maxForward {
				m.changed = true // as if it were absent (RFC 4475 §3.1.2.4)
				continue
			}
			fields = append(fields, f)
		case "Call-ID":
			if f.value == "" || strings.ContainsAny(f.value, " \t") {
				m.fail(400, "Call-ID is empty or has blanks")
			}
			fields = append(fields, f)
		case "Content-Type":
			if f.value == "" {
				m.fail(400, "Content-Type is empty")
			}
			fields = append(fields, f)
		default:
			fields = append(fields, f)
		}
	}
	if m.fault == nil {
		m.fields = fields
	}
}

// add appends one value of f. A field that is split or looks different makes the message changed.
func (m *message) add(fields []field, f field, value string) []field {
	if value != f.value {
		m.changed = true
	}
	return append(fields, field{f.name, value})
}

// stamp notes in the topmost Via where the request came from (RFC 3261 §18.2.1) and gives the transaction of a sender
// of RFC 2543, which names none, an identifier made of what that RFC matches by.
func (m *message) stamp(from netip.AddrPort) {
	v := m.via
	branch, _ := v.get("branch")
	if branch == sip.RFC3261BranchMagicCookie {
		m.fail(400, "the branch is the magic cookie and nothing else") // RFC 4475 §3.2.1
		return
	}
	old := !strings.HasPrefix(branch, sip.RFC3261BranchMagicCookie)
	if _, tagged := tagIn(m.first("From")); !tagged {
		if !old || branch != "" {
			m.fail(400, "the From has no tag")
			return
		}
		v.set("branch", sip.RFC3261BranchMagicCookie+m.identity())
	}
	sender := from.Addr().Unmap()
	if host, err := netip.ParseAddr(strings.Trim(v.host, "[]")); err != nil || host.Unmap() != sender {
		v.set("received", sender.String())
	}
	if value, ok := v.get("rport"); ok && value != "" {
		v.set("rport", "")
	}
	for i := range m.fields {
		if m.fields[i].name == "Via" {
			if text := v.String(); text != m.fields[i].value {
				m.fields[i].value, m.changed = text, true
			}
			break
		}
	}
	m.via = v
}

// identity names the transaction of a request as RFC 3261 §17.2.3 tells those of RFC 2543 apart: the same for an INVITE,
// its repeats, its ACK and its CANCEL.
func (m *message) identity() string {
	number, _, _ := strings.Cut(m.first("CSeq"), " ")
	to, _, _ := strings.Cut(m.first("To"), ";tag=")
	sum := sha256.Sum256([]byte(strings.Join([]string{m.first("From"), to, m.first("Call-ID"), number, m.first("Via")}, "\r\n")))
	return hex.EncodeToString(sum[:12])
}

// write renders the message with its body.
func (m *message) write(body []byte) []byte {
	size := len(m.start) + len(body) + 4
	for _, f := range m.fields {
		size += len(f.name) + len(f.value) + 4
	}
	b := make([]byte, 0, size)
	b = append(append(b, m.start...), '\r', '\n')
	for _, f := range m.fields {
		b = append(append(append(append(b, f.name...), ": "...), f.value...), '\r', '\n')
	}
	return append(append(b, '\r', '\n'), body...)
}
