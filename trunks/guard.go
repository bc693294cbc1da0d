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
	asked, ok := readAddress(r.To)
	if !ok {
		return errs.New(errs.Invalid, "to: %q is no sip: URI", clip(r.To))
	}
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
	return a.mayCallUser(userOf(r.To), behind)
}

// MayRefer returns an errs.Forbidden when the account may not have the far end of a call, which came or went over a trunk,
// call to. A carrier charges for that call as for any other. Which host a URI names is up to who calls it.
func (b *Book) MayRefer(account, trunk, to string) error {
	a, ok := b.Account(account)
	if !ok {
		return errs.New(errs.Forbidden, "the account is not configured")
	}
	t := b.Trunk(Key{Account: account, Name: trunk})
	if !isURI(to) {
		if err := a.mayCallNumber(to); err != nil || t == nil {
			return err
		}
	} else {
		if _, ok := readAddress(to); !ok {
			return errs.New(errs.Invalid, "to: %q is no sip: URI", clip(to))
		}
		if err := a.mayCallUser(userOf(to), t); err != nil || t == nil {
			return err
		}
	}
	if err := b.now.Load().mayWrite(&a, t, to); err != nil {
		return err
	}
	return nil
}

// mayCallUser judges the user part of a URI as the number that a switch would dial for it. Behind is the trunk at the
// host of the URI; nil: none of the account's.
func (a *Account) mayCallUser(user string, behind *Trunk) error {
	rules := Trunk{}
	if behind != nil {
		rules = *behind
	}
	rules.InternationalPrefix = rules.international()
	number, ok := rules.Normalize(user)
	if !ok {
		number, ok = dialled(user, rules.InternationalPrefix)
	}
	if !ok {
		return nil
	}
	return a.mayCallNumber(number)
}

// dialled is the number that a switch may make of a user part that is none by the rules: it may do without the plus, and
// pass over digits, or something else, after those that it needs. False: a name, an extension or a service.
func dialled(user, international string) (number string, ok bool) {
	digits := withoutSeparators(user)
	digits, plus := strings.CutPrefix(digits, "+")
	if !plus {
		digits, plus = strings.CutPrefix(digits, international)
	}
	end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		digits = digits[:end]
	}
	number = "+" + digits[:min(len(digits), maxDigits)]
	return number, IsE164(number) && (plus || end < 0 && len(digits) >= minNational)
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
