package trunks

import (
	"fmt"
	"slices"
	"strings"

	"tandem/errs"
)

// Request is a call that looks for a trunk.
type Request struct {
	Account string
	To      string // E.164 or a sip: URI
	From    string // E.164, or a word for a caller that is not shown
	Trunk   string // the only trunk to try; empty: what the prefixes give
	Headers map[string]string
}

// candidate is what a trunk is to a request.
type candidate struct {
	trunk  *Trunk
	prefix string // of its prefixes the one that matches; empty: it was named, or the URI's host is its own
	why    *errs.Error
}

// consider judges every trunk of the account by what is configured, in the order of the configuration.
func (e *edition) consider(a *Account, r Request) []candidate {
	var list []candidate
	for _, t := range e.trunks {
		if t.Account != r.Account {
			continue
		}
		c := candidate{trunk: t}
		if c.prefix, c.why = t.takes(r); c.why == nil {
			c.why = e.mayUse(a, t, r.To)
		}
		list = append(list, c)
	}
	return list
}

// mayUse returns an errs.Forbidden when the account may not call to over this trunk.
func (e *edition) mayUse(a *Account, t *Trunk, to string) *errs.Error {
	if e.trespasses(t) {
		return errs.New(errs.Forbidden, "trunk: %q goes where a trunk of the configuration file or of another account goes", t.Name)
	}
	return e.mayWrite(a, t, to)
}

// takes says by which prefix the trunk takes a call, or why it does not.
func (t *Trunk) takes(r Request) (prefix string, why *errs.Error) {
	if r.Trunk != "" && t.Name != r.Trunk {
		return "", errs.New(errs.Unavailable, "trunk %q is asked for", r.Trunk)
	}
	if t.URI == "" {
		return "", errs.New(errs.Unavailable, "it has no uri: it only calls in")
	}
	prefix, ok := t.match(r.To)
	if !ok && r.Trunk == "" {
		return "", errs.New(errs.Unavailable, "none of its prefixes (%s) matches", clip(strings.Join(t.Prefixes, " ")))
	}
	for _, name := range sortedNames(r.Headers) {
		if !t.Passes(name) {
			return "", errs.New(errs.Invalid, "headers.%s: trunk %q does not let it pass", clip(name), t.Name)
		}
	}
	return prefix, nil
}

// match returns the longest of the trunk's prefixes that to begins with. A sip: URI that names the trunk's own address
// is taken too, with an empty prefix.
func (t *Trunk) match(to string) (prefix string, ok bool) {
	for _, p := range t.Prefixes {
		if len(p) >= len(prefix) && len(to) >= len(p) && strings.EqualFold(to[:len(p)], p) {
			prefix, ok = p, true
		}
	}
	if ok || !isURI(to) {
		return prefix, ok
	}
	own, okOwn := readAddress(t.URI)
	asked, okAsked := readAddress(to)
	return "", okOwn && okAsked && own.host == asked.host && own.port == asked.port
}

// inOrder sorts those that take the call: the longest prefix first, then the lower priority, then drawn by weight
// (draw gives a number in 0..n-1). Those with a shorter match follow: they are reached when all before them failed.
func inOrder(list []candidate, draw func(n int) int) []candidate {
	found := slices.DeleteFunc(slices.Clone(list), func(c candidate) bool { return c.why != nil })
	slices.SortStableFunc(found, func(a, b candidate) int {
		if len(a.prefix) != len(b.prefix) {
			return len(b.prefix) - len(a.prefix)
		}
		return a.trunk.Priority - b.trunk.Priority
	})
	ordered := make([]candidate, 0, len(found))
	for len(found) > 0 {
		same := alike(found)
		i, n := 0, draw(totalWeight(found[:same]))
		for n >= found[i].trunk.Weight {
			n -= found[i].trunk.Weight
			i++
		}
		ordered = append(ordered, found[i])
		found = slices.Delete(found, i, i+1)
	}
	return ordered
}

// alike counts those at the beginning of a sorted list among which only the weight decides.
func alike(list []candidate) int {
	n := 1
	for n < len(list) && len(list[n].prefix) == len(list[0].prefix) && list[n].trunk.Priority == list[0].trunk.Priority {
		n++
	}
	return n
}

// byWeight sorts equals, the heaviest first.
func byWeight(list []candidate) []candidate {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b candidate) int { return b.trunk.Weight - a.trunk.Weight })
	return list
}

func totalWeight(list []candidate) int {
	total := 0
	for _, c := range list {
		total += c.trunk.Weight
	}
	return total
}

// nobody says why no trunk takes a call.
func nobody(list []candidate, r Request) *errs.Error {
	if r.Trunk != "" && !slices.ContainsFunc(list, func(c candidate) bool { return c.trunk.Name == r.Trunk }) {
		return errs.New(errs.Invalid, "trunk: there is no trunk %q", clip(r.Trunk))
	}
	for _, c := range list {
		if c.why != nil && errs.CodeOf(c.why) == errs.Forbidden {
			return c.why
		}
	}
	for _, c := range list {
		if c.why != nil && (errs.CodeOf(c.why) == errs.Invalid || c.trunk.Name == r.Trunk) {
			if c.trunk.Name == r.Trunk && errs.CodeOf(c.why) != errs.Invalid {
				return errs.New(errs.Invalid, "trunk: %q takes no calls: %s", clip(r.Trunk), c.why.Message)
			}
			return c.why
		}
	}
	return errs.New(errs.Unavailable, "no trunk takes calls to %s", clip(r.To))
}

func sortedNames(headers map[string]string) []string {
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// rule says by which rule a candidate takes a call.
func (c candidate) rule(r Request) string {
	switch {
	case c.prefix != "":
		return "prefix " + c.prefix
	case r.Trunk != "":
		return "the request names it"
	}
	return fmt.Sprintf("the URI has the trunk's own address (%s)", c.trunk.URI)
}
