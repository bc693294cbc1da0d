package trunks

import (
	"slices"
	"strings"

	"tandem/errs"
)

// Costly lists the codes that belong to no country (satellites, international networks, premium rate): fraud likes them.
// An account may call them only when one of its prefixes begins with the code.
func Costly() []string {
	return []string{"+870", "+878", "+881", "+882", "+883", "+888", "+979"}
}

// mayCall returns an errs.Forbidden when the account may not call to. A sip: URI at the address of one of its own trunks,
// such as an extension of its PBX, it may call always; but a number in one is judged as that number.
func (e *edition) mayCall(a *Account, r Request) error {
	if !isURI(r.To) {
		return a.mayCallNumber(r.To)
	}
	asked, _ := readAddress(r.To)
	var behind *Trunk
	for _, t := range e.trunks {
		own, ok := readAddress(t.URI)
		if t.Account == a.ID && ok && own.host == asked.host && (r.Trunk == "" || r.Trunk == t.Name) {
			behind = t
			break
		}
	}
	if behind == nil && !a.SIPURIs {
		return errs.New(errs.Forbidden, "to: the account may not call sip: URIs (its sipURIs is false)")
	}
	rules := Trunk{InternationalPrefix: "00"}
	if behind != nil {
		rules = *behind
		rules.InternationalPrefix = rules.international()
	}
	if number, ok := rules.Normalize(userOf(r.To)); ok {
		return a.mayCallNumber(number)
	}
	return nil
}

func (a *Account) mayCallNumber(to string) error {
	if !IsE164(to) {
		return errs.New(errs.Invalid, "to: %q is not a number in E.164 format, such as +15550100", clip(to))
	}
	allowed := func(prefix string) bool { return strings.HasPrefix(to, prefix) }
	if i := slices.IndexFunc(Costly(), allowed); i >= 0 {
		code := Costly()[i]
		if !slices.ContainsFunc(a.AllowedPrefixes, func(p string) bool { return strings.HasPrefix(p, code) && allowed(p) }) {
			return errs.New(errs.Forbidden, "to: the account may not call %s…: its allowedPrefixes do not name that code", code)
		}
		return nil
	}
	if len(a.AllowedPrefixes) > 0 && !slices.ContainsFunc(a.AllowedPrefixes, allowed) {
		return errs.New(errs.Forbidden, "to: the account may not call %s: none of its allowedPrefixes matches", clip(to))
	}
	return nil
}
