package trunks

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// isURI says whether a call goes to a URI and not to a number.
func isURI(to string) bool {
	lower := strings.ToLower(to)
	return strings.HasPrefix(lower, "sip:") || strings.HasPrefix(lower, "sips:")
}

// address is what choosing needs of a sip: URI.
type address struct {
	host      string // in lower case, without the brackets of an IPv6 address
	port      int    // 0: none is given
	transport string // in lower case; empty: none is given
	secure    bool   // sips:
}

// readAddress reads sip:[user@]host[:port][;params][?headers]; ok is false when s is something else.
func readAddress(s string) (a address, ok bool) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !isURI(s) {
		return address{}, false
	}
	a.secure = strings.EqualFold(scheme, "sips")
	// What two readers could read differently is refused: who judges a call must not see another host or user than who
	// sends it.
	if user, host, ok := strings.Cut(rest, "@"); ok {
		if user == "" || strings.ContainsAny(user[:1], ":;/") || strings.ContainsAny(user, "[]?") || strings.Contains(host, "@") {
			return address{}, false
		}
		if _, err := url.PathUnescape(user); err != nil {
			return address{}, false
		}
		rest = host
	}
	rest, _, _ = strings.Cut(rest, "?")
	hostport, params, _ := strings.Cut(rest, ";")
	for param := range strings.SplitSeq(params, ";") {
		if name, value, _ := strings.Cut(param, "="); strings.EqualFold(name, "transport") {
			a.transport = strings.ToLower(value)
		}
	}
	a.host = hostport
	if i := strings.LastIndexByte(hostport, ':'); i > strings.LastIndexByte(hostport, ']') {
		port, err := strconv.ParseUint(hostport[i+1:], 10, 16)
		if err != nil || port == 0 {
			return address{}, false
		}
		a.host, a.port = hostport[:i], int(port)
	}
	if inner, ok := strings.CutPrefix(a.host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		if !closed || net.ParseIP(inner) == nil {
			return address{}, false
		}
		a.host = inner
	} else if !isHost(a.host) {
		return address{}, false
	}
	a.host = strings.ToLower(a.host)
	return a, true
}

// userOf returns the user part of a sip: URI, without its parameters and its password.
func userOf(s string) string {
	_, rest, _ := strings.Cut(s, ":")
	user, _, ok := strings.Cut(rest, "@")
	if !ok {
		return ""
	}
	if i := strings.IndexAny(user, ";:"); i >= 0 {
		user = user[:i]
	}
	if plain, err := url.PathUnescape(user); err == nil {
		return plain
	}
	return user
}

// isHost says whether s is a host name or an IPv4 address.
func isHost(s string) bool {
	if s == "" || len(s) > 253 || strings.HasPrefix(s, "-") || strings.HasPrefix(s, ".") {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}) < 0
}
