package sip

import (
	"strings"

	"github.com/emiago/sipgo/sip"

	"tandem/errs"
	"tandem/trunks"
)

// trunk is a trunk, as it was when the call began, with its address read.
type trunk struct {
	Trunk
	uri sip.Uri
}

// readTrunk reads the address of a trunk. Nil stays nil.
func readTrunk(t *trunks.Trunk) (*trunk, error) {
	if t == nil {
		return nil, nil //nolint:nilnil // no trunk is no failure
	}
	read := &trunk{Trunk: *t}
	if t.URI == "" {
		return read, nil
	}
	var err error
	if read.uri, err = parseTrunkURI(t.URI); err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, "trunk %q has an address that can't be used", t.Name)
	}
	return read, nil
}

// target returns the Request-URI of a call to to, and where the trunk is when that is elsewhere (a preloaded route).
func (t *trunk) target(to string) (target sip.Uri, route *sip.Uri, err error) {
	if !isURI(to) {
		target = *t.uri.Clone()
		target.User = t.Format(to)
		return target, nil, nil
	}
	if err := sip.ParseUri(to, &target); err != nil || target.Host == "" || target.Scheme != "sip" {
		return sip.Uri{}, nil, errs.New(errs.Invalid, "to: %q is no sip: URI", printable(to, 100))
	}
	target.Headers = nil // they would become headers of the INVITE (RFC 3261 §19.1.5)
	if strings.EqualFold(target.Host, t.uri.Host) && target.Port == t.uri.Port {
		return target, nil, nil
	}
	route = t.uri.Clone()
	route.UriParams.Add("lr", "")
	return target, route, nil
}

func isURI(to string) bool { return strings.HasPrefix(strings.ToLower(to), "sip:") }

// breaksURI says whether a rune would end a URI where it is written (RFC 3261 §25.1), in a request line or in brackets.
func breaksURI(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"`, r) }
