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

// MayCall returns an errs.Forbidden when the account may not call to.
func (a *Account) MayCall(to string) error {
	if isURI(to) {
		if !a.SIPURIs {
			return errs.New(errs.Forbidden, "to: the account may not call sip: URIs (its sipURIs is false)")
		}
		return nil
	}
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
