package trunks

import (
	"net/netip"
	"slices"
	"strings"

	"tandem/errs"
)

// Whoever may make trunks could make one to a carrier that somebody else pays, with prefixes of its own choice, and so
// have a number go out that it may not call. So a trunk made by REST goes to no address of another's trunk, and a number
// is judged once more as it is written to a trunk. An account whose numbers the operator has bound by allowedPrefixes
// leaves the operator's trunks as they are, its own included; one that may call everywhere does with its own as it likes.

// bound says whether the operator has said which numbers an account may call.
func (e *edition) bound(account string) bool {
	a, ok := e.accounts[account]
	return ok && len(a.AllowedPrefixes) > 0
}

// claims lists the trunks whose addresses t may not go to: those that the configuration file has, but for shared ones, for
// other accounts or for its own where that is bound, and those that other accounts made before and that know us by our
// address. A trunk of the file goes where it likes.
func (e *edition) claims(t *Trunk) []*Trunk {
	if t.Origin == OriginFile {
		return nil
	}
	var list []*Trunk
	add := func(other *Trunk) {
		if other.URI != "" && !other.Shared && (other.Account != t.Account || e.bound(t.Account)) {
			list = append(list, other)
		}
	}
	for _, filed := range e.filed {
		add(filed)
	}
	older := true
	for _, other := range e.trunks {
		older = older && other.Key() != t.Key()
		switch {
		case other.Origin == OriginFile: // it is in filed as the operator wrote it, or there is no file
			add(other)
		case older && other.Account != t.Account && other.Username == "":
			add(other)
		}
	}
	return list
}

// Claims lists the addresses of those to which a trunk may not go, as URIs: whatever names lead there.
func (b *Book) Claims(t *Trunk) []string {
	var uris []string
	for _, other := range b.now.Load().claims(t) {
		if !slices.Contains(uris, other.URI) {
			uris = append(uris, other.URI)
		}
	}
	return uris
}

// trespasses says whether a trunk goes to the host of one that claims it.
func (e *edition) trespasses(t *Trunk) bool {
	own, ok := readAddress(t.URI)
	return ok && slices.ContainsFunc(e.claims(t), func(other *Trunk) bool {
		its, ok := readAddress(other.URI)
		return ok && own.reaches(its)
	})
}

// reaches says whether two URIs lead to one host. The ports of a loopback address are programs of their own.
func (a address) reaches(other address) bool {
	host := canonical(a.host)
	if host != canonical(other.host) {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !addr.IsLoopback()) || a.portOr() == other.portOr()
}

// portOr is the port, or the one that is meant where none is given (RFC 3261 §19.1.2).
func (a address) portOr() int {
	switch {
	case a.port != 0:
		return a.port
	case a.secure || a.transport == "tls":
		return 5061
	}
	return 5060
}

// canonical is the one form of a host that has several.
func canonical(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String()
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// mayWrite returns an errs.Forbidden when what a trunk makes of to is a number that the account may not call, as the far
// end reads it.
func (e *edition) mayWrite(a *Account, t *Trunk, to string) *errs.Error {
	written := t.Format(to)
	if isURI(to) {
		written = userOf(to)
	}
	for _, number := range e.readings(t, written) {
		if err := a.mayCallNumber(number); err != nil {
			return errs.New(errs.Forbidden, "to: trunk %q writes it as %s, which is a call to %s: %s",
				t.Name, clip(written), number, strings.TrimPrefix(errs.MessageOf(err), "to: "))
		}
	}
	return nil
}

// readings lists the numbers that the far end of a trunk may take a user part for: by the trunk's own rules, by those
// that the file has for that host, and, since whoever made a trunk by REST may have written what it liked, by those
// that are usual.
func (e *edition) readings(t *Trunk, written string) []string {
	var numbers []string
	read := func(rules Trunk) {
		rules.InternationalPrefix = rules.international()
		number, ok := rules.Normalize(written)
		if !ok {
			number, ok = dialled(written, rules.InternationalPrefix)
		}
		if ok && !slices.Contains(numbers, number) {
			numbers = append(numbers, number)
		}
	}
	read(*t)
	if t.Origin == OriginFile {
		return numbers
	}
	usual := *t
	usual.NationalPrefix, usual.InternationalPrefix = "", ""
	read(usual)
	if strings.HasPrefix(written, "00") {
		read(Trunk{})
	}
	own, ok := readAddress(t.URI)
	for _, filed := range e.filed {
		if its, okIts := readAddress(filed.URI); ok && okIts && canonical(own.host) == canonical(its.host) {
			read(*filed)
		}
	}
	return numbers
}

// keepsFiled returns an errs.Forbidden when an account that is bound changes a trunk of the configuration file in what is
// the operator's: where it is, with which name and password, how numbers are written to it, and how many calls it takes.
func (e *edition) keepsFiled(t *Trunk) error {
	i := slices.IndexFunc(e.filed, func(filed *Trunk) bool { return filed.Key() == t.Key() })
	if i < 0 || t.Origin != OriginFile || !e.bound(t.Account) {
		return nil
	}
	filed := e.filed[i]
	for _, field := range []struct {
		key  string
		same bool
	}{
		{"uri", t.URI == filed.URI},
		{"username", t.Username == filed.Username},
		{"password", t.Password == filed.Password},
		{"realm", t.Realm == filed.Realm},
		{"countryCode", t.CountryCode == filed.CountryCode},
		{"nationalPrefix", t.NationalPrefix == filed.NationalPrefix},
		{"internationalPrefix", t.InternationalPrefix == filed.InternationalPrefix},
		{"numberFormat", t.NumberFormat == filed.NumberFormat},
		{"maxCalls", t.MaxCalls == filed.MaxCalls},
		{"maxCallsPerSecond", t.MaxCallsPerSecond == filed.MaxCallsPerSecond},
	} {
		if !field.same {
			return errs.New(errs.Forbidden, "%s: is for the configuration file to say, since the account has allowedPrefixes and trunk %q is from there",
				field.key, t.Name)
		}
	}
	return nil
}
