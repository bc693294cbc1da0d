package sip

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"

	"tandem/errs"
)

// trunk is a configured Trunk with its address read.
type trunk struct {
	Trunk
	uri sip.Uri
}

// trunks answers which trunk a call takes. It never changes.
type trunks []*trunk

func newTrunks(configured []Trunk) (trunks, error) {
	all := make(trunks, 0, len(configured))
	for _, c := range configured {
		t := &trunk{Trunk: c}
		if len(t.Prefixes) == 0 {
			t.Prefixes = []string{"+"}
		}
		if t.Identity == "" {
			t.Identity = IdentityPAI
		}
		t.Weight = max(t.Weight, 1)
		if t.URI != "" {
			var err error
			if t.uri, err = parseTrunkURI(t.URI); err != nil {
				return nil, err
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// inbound returns the trunk that a sender belongs to: the narrowest network that holds its address wins, then the
// order of the configuration. Nil: none.
func (ts trunks) inbound(from netip.Addr) *trunk {
	var best *trunk
	bits := -1
	for _, t := range ts {
		for _, network := range t.Allow {
			if network.Contains(from.Unmap()) && network.Bits() > bits {
				best, bits = t, network.Bits()
			}
		}
	}
	return best
}

// outbound lists the trunks of an account that take to, in the order in which they are tried: those of the longest
// prefix, then by priority, then drawn by weight (random draws are in 0..n-1). Trunks with a shorter match follow:
// they are only reached when all before them failed.
func (ts trunks) outbound(account, to string, draw func(n int) int) []*trunk {
	type match struct {
		trunk  *trunk
		length int
	}
	var found []match
	for _, t := range ts {
		if t.Account != account || t.URI == "" {
			continue
		}
		if length := t.matches(to); length >= 0 {
			found = append(found, match{t, length})
		}
	}
	slices.SortStableFunc(found, func(a, b match) int {
		if a.length != b.length {
			return b.length - a.length
		}
		return a.trunk.Priority - b.trunk.Priority
	})
	ordered := make([]*trunk, 0, len(found))
	for len(found) > 0 {
		same := 1
		for same < len(found) && found[same].length == found[0].length && found[same].trunk.Priority == found[0].trunk.Priority {
			same++
		}
		total := 0
		for _, m := range found[:same] {
			total += m.trunk.Weight
		}
		i, n := 0, draw(total)
		for n >= found[i].trunk.Weight {
			n -= found[i].trunk.Weight
			i++
		}
		ordered = append(ordered, found[i].trunk)
		found = slices.Delete(found, i, i+1)
	}
	return ordered
}

// matches returns the length of the longest prefix of to that the trunk takes, -1 for none. A sip: URI that names the
// trunk's own address is taken too.
func (t *trunk) matches(to string) int {
	length := -1
	for _, prefix := range t.Prefixes {
		if strings.HasPrefix(strings.ToLower(to), strings.ToLower(prefix)) {
			length = max(length, len(prefix))
		}
	}
	if length < 0 && isURI(to) {
		var uri sip.Uri
		if sip.ParseUri(to, &uri) == nil && strings.EqualFold(uri.Host, t.uri.Host) && uri.Port == t.uri.Port {
			return 0
		}
	}
	return length
}

// target returns the Request-URI of a call to to, and where the trunk is when that is elsewhere (a preloaded route).
func (t *trunk) target(to string) (target sip.Uri, route *sip.Uri, err error) {
	if !isURI(to) {
		target = *t.uri.Clone()
		target.User = to
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

// draw is the die of outbound.
func draw(n int) int { return rand.IntN(n) }
