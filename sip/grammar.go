package sip

import (
	"net/netip"
	"strconv"
	"strings"
)

// param is a parameter of a header value; one without a value has none at all.
type param struct {
	name, value string
	valued      bool
}

// via is one value of Via (RFC 3261 §20.42).
type via struct {
	transport string
	host      string // with the brackets of an IPv6 reference
	port      string
	params    []param
}

func (v *via) get(name string) (string, bool) {
	for _, p := range v.params {
		if strings.EqualFold(p.name, name) {
			return p.value, true
		}
	}
	return "", false
}

// set gives a parameter a value; without one it becomes a flag.
func (v *via) set(name, value string) {
	p := param{name, value, value != ""}
	params := make([]param, 0, len(v.params)+1)
	found := false
	for _, old := range v.params {
		if strings.EqualFold(old.name, name) {
			if !found {
				params = append(params, p)
			}
			found = true
			continue
		}
		params = append(params, old)
	}
	if !found {
		params = append(params, p)
	}
	v.params = params
}

// String renders the value in its canonical form.
func (v *via) String() string {
	var b strings.Builder
	b.Grow(64)
	b.WriteString("SIP/2.0/")
	b.WriteString(v.transport)
	b.WriteByte(' ')
	b.WriteString(v.host)
	if v.port != "" {
		b.WriteByte(':')
		b.WriteString(v.port)
	}
	writeParams(&b, v.params)
	return b.String()
}

// readVia reads one value of Via; err says what is wrong with it.
func readVia(s string) (v via, err string) {
	name, rest, _ := strings.Cut(s, "/")
	version, rest, ok := strings.Cut(rest, "/")
	if !ok || !strings.EqualFold(trim(name), "SIP") || trim(version) != "2.0" {
		return v, "Via is not SIP/2.0/transport"
	}
	rest = strings.TrimLeft(rest, " \t")
	end := strings.IndexAny(rest, " \t")
	if end < 0 || !isToken(rest[:end]) {
		return v, "Via names no transport and host"
	}
	v.transport, rest = rest[:end], trim(rest[end:])
	sentBy, params := cutParams(rest)
	v.host, v.port, ok = splitHostPort(trim(sentBy))
	if !ok {
		return v, "Via names no host"
	}
	list, err := readParams(params)
	if err != "" {
		return v, "Via: " + err
	}
	for _, p := range list {
		if !strings.HasPrefix(p.value, `"`) { // the library would lose what follows it
			v.params = append(v.params, p)
		}
	}
	return v, ""
}

// readAddress reads a name-addr or addr-spec with its parameters and returns its canonical form (RFC 3261 §20.10,
// §25.1); err says what is wrong with it.
func readAddress(s string) (canonical, err string) {
	display, uri, params, err := splitAddress(s)
	if err != "" {
		return s, err
	}
	list, err := readParams(params)
	if err != "" {
		return s, err
	}
	var b strings.Builder
	b.Grow(len(s))
	if uri.bracketed {
		if display != "" {
			b.WriteString(display)
			b.WriteByte(' ')
		}
		b.WriteByte('<')
		b.WriteString(uri.text)
		b.WriteByte('>')
	} else {
		b.WriteString(uri.text)
	}
	writeParams(&b, list)
	return b.String(), ""
}

type addressURI struct {
	text      string
	bracketed bool
}

// splitAddress cuts an address into display name, URI and the text of its parameters.
func splitAddress(s string) (display string, uri addressURI, params, err string) {
	s = trim(s)
	rest := s
	if strings.HasPrefix(s, `"`) {
		end := closingQuote(s)
		if end < 0 {
			return "", uri, "", "a quote is not closed"
		}
		display, rest = s[:end+1], strings.TrimLeft(s[end+1:], " \t")
		if !strings.HasPrefix(rest, "<") {
			return "", uri, "", "a display name needs <> around the URI"
		}
	} else if i := strings.IndexByte(s, '<'); i >= 0 && !strings.Contains(s[:i], ";") {
		display, rest = trim(s[:i]), s[i:]
		if !isDisplayName(display) {
			return "", uri, "", "the display name needs quotes"
		}
	}
	if strings.HasPrefix(rest, "<") {
		end := strings.IndexByte(rest, '>')
		if end < 0 {
			return "", uri, "", "a < is not closed"
		}
		uri = addressURI{rest[1:end], true}
		params = trim(rest[end+1:])
	} else {
		text, after := cutParams(rest)
		uri, params = addressURI{trim(text), false}, after
		if strings.ContainsAny(uri.text, "?,") {
			return "", uri, "", "the URI needs <>"
		}
	}
	if status, why := checkURI(uri.text, false); status != 0 {
		return "", uri, "", why
	}
	if params != "" && params[0] != ';' {
		return "", uri, "", "something stands behind the URI"
	}
	return display, uri, params, ""
}

// closingQuote returns where the quoted string that s begins with ends; -1: nowhere.
func closingQuote(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
			if i < len(s) && (s[i] == '\r' || s[i] == '\n') {
				return -1
			}
		case '"':
			return i
		}
	}
	return -1
}

// cutParams cuts s before its first semicolon.
func cutParams(s string) (value, params string) {
	if i := strings.IndexByte(s, ';'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// readParams reads ;name[=value]… The library takes what is in quotes for structure, so a parameter whose quotes hold
// any is left out: nobody here reads it.
func readParams(s string) (list []param, err string) {
	s = trim(s)
	for s != "" {
		if s[0] != ';' {
			return nil, "parameters are not separated by ;"
		}
		s = strings.TrimLeft(s[1:], " \t")
		end := strings.IndexAny(s, ";= \t")
		if end < 0 {
			end = len(s)
		}
		p := param{name: paramName(s[:end])}
		if !isToken(p.name) {
			return nil, "a parameter has no name"
		}
		s = strings.TrimLeft(s[end:], " \t")
		if strings.HasPrefix(s, "=") {
			s = strings.TrimLeft(s[1:], " \t")
			end = valueEnd(s)
			if end <= 0 {
				return nil, "a parameter has no value behind its ="
			}
			p.value, p.valued = s[:end], true
			s = strings.TrimLeft(s[end:], " \t")
		}
		if p.valued && p.value[0] == '"' && strings.ContainsAny(p.value[1:len(p.value)-1], `;=,"\`) {
			continue
		}
		list = append(list, p)
	}
	return list, ""
}

// paramName writes the names that are looked for in lower case, as the library wants them.
func paramName(s string) string {
	for _, known := range [...]string{"tag", "branch", "received", "rport", "maddr", "ttl"} {
		if strings.EqualFold(s, known) {
			return known
		}
	}
	return s
}

// valueEnd returns the length of the parameter value that s begins with; -1: it has a character that none may have.
func valueEnd(s string) int {
	if strings.HasPrefix(s, `"`) {
		return closingQuote(s) + 1
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ';' || c == ' ' || c == '\t':
			return i
		case c < ' ' || c == 0x7f || strings.IndexByte(`"<>,=`, c) >= 0:
			return -1
		}
	}
	return len(s)
}

func writeParams(b *strings.Builder, params []param) {
	for _, p := range params {
		b.WriteByte(';')
		b.WriteString(p.name)
		if p.valued {
			b.WriteByte('=')
			b.WriteString(p.value)
		}
	}
}

// tagIn returns the tag in a canonical address.
func tagIn(address string) (tag string, ok bool) {
	if i := strings.LastIndexByte(address, '>'); i >= 0 {
		address = address[i+1:]
	}
	_, params := cutParams(address)
	list, _ := readParams(params)
	for _, p := range list {
		if strings.EqualFold(p.name, "tag") {
			return p.value, true
		}
	}
	return "", false
}

// checkURI judges a URI: 0 when it is well formed. A Request-URI has a scheme that is called here and no headers.
func checkURI(s string, request bool) (status int, why string) {
	scheme, rest, ok := strings.Cut(s, ":")
	switch {
	case !ok || !isScheme(scheme):
		return 400, "a URI has no scheme"
	case strings.ContainsAny(rest, " \t<>\"") || hasControl(rest):
		return 400, "a URI has a character that none may have"
	}
	switch strings.ToLower(scheme) {
	case "sip", "sips":
	case "tel":
		return 0, ""
	default:
		if request {
			return 416, unknownScheme
		}
		return 0, ""
	}
	if i := strings.IndexByte(rest, '@'); i >= 0 {
		if i == 0 || strings.ContainsAny(rest[:i], "[]") || strings.IndexByte(rest[i+1:], '@') >= 0 {
			return 400, "a URI has no user before its @, or two @"
		}
		rest = rest[i+1:]
	}
	if request && strings.IndexByte(rest, '?') >= 0 {
		return 400, "the Request-URI has headers"
	}
	host := rest
	if i := strings.IndexAny(rest, ";?"); i >= 0 {
		host = rest[:i]
	}
	if _, _, ok := splitHostPort(host); !ok {
		return 400, "a URI has no host"
	}
	return 0, ""
}

// splitHostPort cuts host[:port]; the host keeps the brackets of an IPv6 reference. Ok says that both are well formed.
func splitHostPort(s string) (host, port string, ok bool) {
	end := strings.IndexByte(s, ':')
	if strings.HasPrefix(s, "[") {
		closing := strings.IndexByte(s, ']')
		if closing < 0 {
			return "", "", false
		}
		end = closing + 1
		if end == len(s) {
			end = -1
		}
	}
	host = s
	if end >= 0 {
		host = strings.TrimRight(s[:end], " \t")
		port = strings.TrimLeft(s[end:], " \t")
		if !strings.HasPrefix(port, ":") {
			return "", "", false
		}
		port = strings.TrimLeft(port[1:], " \t")
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", "", false
		}
	}
	return host, port, isHost(host)
}

// isHost says whether s is a host name, an IPv4 address or an IPv6 reference. RFC 3261's grammar lets an IPv6 address
// have a colon too many before an IPv4 part (RFC 5118 §4.10); names may have underscores, as they do in the field.
func isHost(s string) bool {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		addr, err := netip.ParseAddr(strings.Replace(s[1:len(s)-1], ":::", "::", 1))
		return err == nil && addr.Is6() && addr.Zone() == "" && len(s) <= 47
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && (i == 0 || strings.IndexByte("+-.", c) < 0) {
			return false
		}
	}
	return s != ""
}

// isToken says whether s is a token (RFC 3261 §25.1).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && strings.IndexByte("-.!%*_+`'~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isDisplayName says whether s may stand before < without quotes: tokens and blanks. Letters beyond ASCII may too,
// since nothing else can be meant.
func isDisplayName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x80 && c != ' ' && c != '\t' && !isToken(s[i:i+1]) {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func trim(s string) string { return strings.Trim(s, " \t") }
