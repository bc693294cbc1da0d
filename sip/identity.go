package sip

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
	"tandem/trunks"
)

// Who calls when nobody may know, and when nobody knows (RFC 3323 §4.1, RFC 3325).
const (
	anonymousHost   = "anonymous.invalid"
	unknownHost     = "unknown.invalid"
	anonymousUser   = "anonymous"
	unavailableUser = "unavailable"

	headerPAI     = "P-Asserted-Identity"
	headerRPID    = "Remote-Party-ID"
	headerPrivacy = "Privacy"
	headerUUI     = "User-to-User"
)

// callerOf reads the caller's number: what the trunk asserts, else From. A sender that belongs to no trunk can assert
// nothing (RFC 3325 §4).
func callerOf(req *sip.Request, t *trunk) string {
	if t != nil {
		for _, h := range req.GetHeaders(headerPrivacy) {
			for value := range strings.FieldsFuncSeq(strings.ToLower(h.Value()), func(r rune) bool { return r == ';' || r == ' ' || r == ',' }) {
				if value == "id" || value == "user" || value == "header" {
					return dialogs.FromRestricted
				}
			}
		}
		if number := assertedNumber(req, t); number != "" {
			return number
		}
	}
	from := req.From()
	if from == nil {
		return dialogs.FromUnknown
	}
	if strings.EqualFold(from.Address.Host, anonymousHost) || strings.EqualFold(from.Address.User, anonymousUser) {
		return dialogs.FromRestricted
	}
	if number := numberOf(from.Address, t); number != "" {
		return number
	}
	return dialogs.FromUnknown
}

// assertedNumber reads the header that this trunk asserts the caller with.
func assertedNumber(req *sip.Request, t *trunk) string {
	name, identity := headerPAI, t.Identity
	switch identity {
	case IdentityFrom:
		return ""
	case IdentityRPID:
		name = headerRPID
	}
	for _, h := range req.GetHeaders(name) {
		for _, value := range splitList(h.Value()) {
			var uri sip.Uri
			var params sip.HeaderParams
			if _, err := sip.ParseAddressValue(value, &uri, &params); err != nil {
				continue
			}
			if privacy, _ := params.Get("privacy"); identity == IdentityRPID && privacy != "" && !strings.EqualFold(privacy, "off") {
				return dialogs.FromRestricted
			}
			if number := numberOf(uri, t); number != "" {
				return number
			}
		}
	}
	return ""
}

// splitList cuts a header's value at the commas that are in no quotes and no brackets.
func splitList(value string) []string {
	var list []string
	quotes, brackets, start := false, false, 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quotes && c == '\\':
			i++
		case c == '"':
			quotes = !quotes
		case quotes:
		case c == '<' || c == '>':
			brackets = c == '<'
		case c == ',' && !brackets:
			list = append(list, strings.TrimSpace(value[start:i]))
			start = i + 1
		}
	}
	return append(list, strings.TrimSpace(value[start:]))
}

// userOf returns whom a URI calls: its user part, or a tel: number, with what is escaped in it read (RFC 3261 §19.1.2,
// RFC 4475 §3.1.1.3). The parameters of a telephone number are left out; in every other name a semicolon is a character
// like any (RFC 4475 §3.1.1.9). It may be empty.
func userOf(uri sip.Uri) string {
	user := uri.User
	if uri.Scheme == "tel" {
		user = uri.Raw()
	}
	number, _, _ := strings.Cut(user, ";")
	if number = unescaped(number); uri.Scheme == "tel" || isTelephone(number) {
		return printable(number, 200)
	}
	return printable(unescaped(user), 200)
}

// unescaped reads %XX. What would become no text stays escaped: nobody is called by a part of a name that holds a NUL
// (RFC 4475 §3.1.1.4).
func unescaped(s string) string {
	text, err := url.PathUnescape(s)
	if err != nil || hasControl(text) || !utf8.ValidString(text) {
		return s
	}
	return text
}

// isTelephone says whether s is written like a telephone number (RFC 3966 §3).
func isTelephone(s string) bool {
	return strings.ContainsAny(s, "0123456789") && strings.Trim(s, "0123456789ABCDEFabcdef*#+-.()") == ""
}

// numberOf returns the E.164 number in a URI that came over a trunk (nil: none), empty if there is none.
func numberOf(uri sip.Uri, t *trunk) string {
	if number, ok := normalized(userOf(uri), t); ok {
		return number
	}
	return ""
}

// normalized returns a number that came over a trunk as E.164. What is none comes back as it is, and ok is false.
func normalized(number string, t *trunk) (e164 string, ok bool) {
	var rules trunks.Trunk // a stranger's numbers are E.164 or none
	if t != nil {
		rules = t.Trunk
	}
	return rules.Normalize(number)
}

// writeCaller sets From and what the trunk wants beside it. Domain is the host of our own URIs.
func writeCaller(req *sip.Request, t *trunk, number, domain, tag string) {
	from := &sip.FromHeader{Params: sip.NewParams()}
	from.Params.Add("tag", tag)
	switch number {
	case dialogs.FromRestricted:
		from.DisplayName = "Anonymous"
		from.Address = sip.Uri{Scheme: "sip", User: anonymousUser, Host: anonymousHost}
	case dialogs.FromUnknown:
		from.Address = sip.Uri{Scheme: "sip", User: unavailableUser, Host: unknownHost}
	default:
		number = t.Format(number)
		from.Address = sip.Uri{Scheme: "sip", User: number, Host: domain}
	}
	req.AppendHeader(from)
	if number == dialogs.FromRestricted {
		req.AppendHeader(sip.NewHeader(headerPrivacy, "id"))
		return
	}
	if number == dialogs.FromUnknown {
		return
	}
	identity := "<sip:" + number + "@" + domain + ">"
	switch t.Identity {
	case IdentityPAI:
		req.AppendHeader(sip.NewHeader(headerPAI, identity))
	case IdentityRPID:
		req.AppendHeader(sip.NewHeader(headerRPID, identity+";party=calling;privacy=off"))
	}
}

// userToUserOf joins all User-to-User headers as one comma list.
func userToUserOf(req *sip.Request) string {
	headers := req.GetHeaders(headerUUI)
	values := make([]string, 0, len(headers))
	for _, h := range headers {
		values = append(values, h.Value())
	}
	return strings.Join(values, ",")
}
