package trunks

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/errs"
)

// shelf is a Store in memory.
type shelf struct {
	trunks  []Trunk
	numbers []Number
}

func (s *shelf) Trunks(context.Context) ([]Trunk, error)   { return slices.Clone(s.trunks), nil }
func (s *shelf) Numbers(context.Context) ([]Number, error) { return slices.Clone(s.numbers), nil }

func (s *shelf) CreateTrunk(_ context.Context, t Trunk) error {
	s.trunks = append(s.trunks, t)
	return nil
}

func (s *shelf) SaveTrunk(_ context.Context, t Trunk) error {
	s.trunks[slices.IndexFunc(s.trunks, func(other Trunk) bool { return other.Key() == t.Key() })] = t
	return nil
}

func (s *shelf) DeleteTrunk(_ context.Context, key Key) error {
	s.trunks = slices.DeleteFunc(s.trunks, func(t Trunk) bool { return t.Key() == key })
	return nil
}

func (s *shelf) CreateNumber(_ context.Context, n Number) error {
	s.numbers = append(s.numbers, n)
	return nil
}

func (s *shelf) SaveNumber(context.Context, Number) error           { return nil }
func (s *shelf) DeleteNumber(context.Context, string, string) error { return nil }

func (s *shelf) Seed(_ context.Context, list []Trunk, numbers []Number) error {
	s.trunks = append(list, slices.DeleteFunc(s.trunks, func(t Trunk) bool { return t.Origin == OriginFile })...)
	s.numbers = append(numbers, slices.DeleteFunc(s.numbers, func(n Number) bool { return n.Origin == OriginFile })...)
	return nil
}

// operator is a gateway with a carrier of the configuration file for two accounts, which may call Germany.
func operator(t *testing.T, edit ...func(carrier *Trunk, mallory *Account)) (*Service, *Book) {
	t.Helper()
	carrier := Trunk{Name: "carrier", Account: "operator", URI: "sip:carrier.example", CountryCode: "49", NumberFormat: FormatNational}
	address := Trunk{Name: "by address", Account: "operator", URI: "sip:192.0.2.1:5080;transport=tcp", Prefixes: []string{"+49"}}
	own := Trunk{Name: "own", Account: "mallory", URI: "sip:own.example", CountryCode: "49", Username: "u", Password: "secret", MaxCalls: 2}
	mallory := Account{ID: "mallory", AllowedPrefixes: []string{"+49"}}
	for _, e := range edit {
		e(&carrier, &mallory)
	}
	b := NewBook()
	s := NewService(b, &shelf{}, slog.New(slog.DiscardHandler))
	require.NoError(t, s.Seed(t.Context(), []Trunk{carrier, address, own}, nil, []Account{{ID: "operator"}, mallory}))
	return s, b
}

// sent places a call and returns the number that goes out.
func sent(b *Book, r Request) (string, error) {
	p, err := b.Place(r)
	if err != nil {
		return "", err
	}
	defer p.Release()
	return p.Trunk().Format(r.To), nil
}

// TestNoTrunkOfOnesOwnToTheOperatorsCarrier: who may make trunks makes one to a carrier that the operator pays.
func TestNoTrunkOfOnesOwnToTheOperatorsCarrier(t *testing.T) {
	s, _ := operator(t)
	for _, uri := range []string{
		"sip:carrier.example", "sip:CARRIER.example.", "sips:carrier.example:5091", "sip:x@carrier.example;transport=tcp", "sip:192.0.2.1",
		"sip:[::ffff:192.0.2.1]", "sip:own.example:5070",
	} {
		_, err := s.CreateTrunk(t.Context(), Trunk{Name: "mine", Account: "mallory", URI: uri})
		require.Equal(t, errs.Conflict, errs.CodeOf(err), uri)
		require.Contains(t, errs.MessageOf(err), "uri: ", uri)
	}
	_, err := s.CreateTrunk(t.Context(), Trunk{Name: "mine", Account: "mallory", URI: "sip:elsewhere.example"})
	require.NoError(t, err)
	_, err = s.ChangeTrunk(t.Context(), Key{"mallory", "mine"}, func(t *Trunk) error {
		t.URI = "sip:carrier.example"
		return nil
	})
	require.Equal(t, errs.Conflict, errs.CodeOf(err), "nor by a change")
	require.NoError(t, s.DeleteTrunk(t.Context(), Key{"mallory", "own"}))
	_, err = s.CreateTrunk(t.Context(), Trunk{Name: "own", Account: "mallory", URI: "sip:own.example", CountryCode: "49"})
	require.Equal(t, errs.Conflict, errs.CodeOf(err), "nor in the place of the file's")
}

// TestAccountThatMayCallEverywhere: the file only seeds its trunks; those of others are not its own for that.
func TestAccountThatMayCallEverywhere(t *testing.T) {
	s, _ := operator(t, func(_ *Trunk, a *Account) { a.AllowedPrefixes = nil })
	_, err := s.ChangeTrunk(t.Context(), Key{"mallory", "own"}, func(t *Trunk) error {
		t.URI, t.NumberFormat, t.MaxCalls = "sip:new.example", FormatPlain, 1
		return nil
	})
	require.NoError(t, err)
	_, err = s.CreateTrunk(t.Context(), Trunk{Name: "second", Account: "mallory", URI: "sip:own.example:5070"})
	require.NoError(t, err)
	_, err = s.CreateTrunk(t.Context(), Trunk{Name: "thief", Account: "mallory", URI: "sip:carrier.example"})
	require.Equal(t, errs.Conflict, errs.CodeOf(err))
}

// TestTrunkFromBeforeTheFile: the file names a carrier to which somebody had made a trunk already.
func TestTrunkFromBeforeTheFile(t *testing.T) {
	s, b := operator(t)
	_, err := s.CreateTrunk(t.Context(), Trunk{Name: "early", Account: "mallory", URI: "sip:new.example", Prefixes: []string{"+4930"}})
	require.NoError(t, err)
	r := Request{Account: "mallory", To: "+493012345", Trunk: "early"}
	_, err = sent(b, r)
	require.NoError(t, err)
	require.NoError(t, s.Seed(t.Context(), []Trunk{{Name: "new", Account: "operator", URI: "sip:new.example"}}, nil,
		[]Account{{ID: "operator"}, {ID: "mallory"}}))
	_, err = sent(b, r)
	require.Equal(t, errs.Forbidden, errs.CodeOf(err))
	require.Equal(t, err, b.Explain(r).Refused)
}

// TestTrunkThatAnotherAccountPays: a carrier that knows us by our address charges whose trunk it is.
func TestTrunkThatAnotherAccountPays(t *testing.T) {
	s, _ := operator(t)
	_, err := s.CreateTrunk(t.Context(), Trunk{Name: "by address", Account: "operator", URI: "sip:paid.example"})
	require.NoError(t, err)
	_, err = s.CreateTrunk(t.Context(), Trunk{Name: "by password", Account: "operator", URI: "sip:public.example", Username: "u", Password: "p"})
	require.NoError(t, err)
	_, err = s.CreateTrunk(t.Context(), Trunk{Name: "thief", Account: "mallory", URI: "sip:paid.example"})
	require.Equal(t, errs.Conflict, errs.CodeOf(err))
	_, err = s.CreateTrunk(t.Context(), Trunk{Name: "customer", Account: "mallory", URI: "sip:public.example", Username: "v", Password: "q"})
	require.NoError(t, err, "two customers of one carrier, each with a password of its own")
	_, err = s.CreateTrunk(t.Context(), Trunk{Name: "second", Account: "operator", URI: "sip:paid.example"})
	require.NoError(t, err, "the account's own")
}

// TestPortsOfThisMachineAreApart: behind the ports of one loopback address are programs that have nothing to do with
// each other.
func TestPortsOfThisMachineAreApart(t *testing.T) {
	s, _ := operator(t, func(c *Trunk, _ *Account) { c.URI = "sip:127.0.0.1" })
	_, err := s.CreateTrunk(t.Context(), Trunk{Name: "pbx", Account: "mallory", URI: "sip:127.0.0.1:5070"})
	require.NoError(t, err)
	_, err = s.CreateTrunk(t.Context(), Trunk{Name: "thief", Account: "mallory", URI: "sip:127.0.0.1:5060"})
	require.Equal(t, errs.Conflict, errs.CodeOf(err))
}

// TestRulesOfTheFileStay: how numbers are written to a carrier of the file, where it is and what it is asked with is the
// operator's.
func TestRulesOfTheFileStay(t *testing.T) {
	s, _ := operator(t)
	key := Key{"mallory", "own"}
	for field, edit := range map[string]func(*Trunk){
		"uri":                 func(t *Trunk) { t.URI = "sip:thief.example" }, // and with it a hash of the password
		"username":            func(t *Trunk) { t.Username = "x" },
		"password":            func(t *Trunk) { t.Password = "x" },
		"realm":               func(t *Trunk) { t.Realm = "*" },
		"countryCode":         func(t *Trunk) { t.CountryCode = "1" },
		"nationalPrefix":      func(t *Trunk) { t.NationalPrefix = "00881" },
		"internationalPrefix": func(t *Trunk) { t.InternationalPrefix = "00881" },
		"numberFormat":        func(t *Trunk) { t.NumberFormat = FormatPlain },
		"maxCalls":            func(t *Trunk) { t.MaxCalls = 0 },
		"maxCallsPerSecond":   func(t *Trunk) { t.MaxCallsPerSecond = 7 },
	} {
		_, err := s.ChangeTrunk(t.Context(), key, func(t *Trunk) error {
			edit(t)
			return nil
		})
		require.Equal(t, errs.Forbidden, errs.CodeOf(err), field)
		require.Contains(t, errs.MessageOf(err), field+": ", field)
	}
	_, err := s.ChangeTrunk(t.Context(), key, func(t *Trunk) error {
		t.Priority, t.Codecs = 7, []string{"PCMA"}
		return nil
	})
	require.NoError(t, err)
}

// TestNumberAsItGoesOut: what a trunk makes of a number is judged too, as its far end will read it.
func TestNumberAsItGoesOut(t *testing.T) {
	for _, c := range []struct {
		name   string
		trunk  Trunk
		prefix string // that the account may call
		to     string
		want   string // what goes out; empty: it is refused
	}{
		{"a satellite by the national prefix", Trunk{CountryCode: "49", NationalPrefix: "00881", NumberFormat: FormatNational}, "+49", "+4961234567", ""},
		{"a satellite by the international prefix", Trunk{InternationalPrefix: "00881", NumberFormat: FormatInternational}, "+49", "+4961234567", ""},
		{"another country by the international prefix", Trunk{InternationalPrefix: "0044", NumberFormat: FormatInternational}, "+49", "+4961234567", ""},
		{"behind a country without a national prefix", Trunk{CountryCode: "39", NumberFormat: FormatNational}, "+39", "+3900881612345", ""},
		{"behind ten digits", Trunk{CountryCode: "1", NationalPrefix: NoPrefix, NumberFormat: FormatNational}, "+1", "+1011881612345", ""},
		{"behind ten digits, judged by odd rules", Trunk{CountryCode: "1", NationalPrefix: NoPrefix, InternationalPrefix: "99999", NumberFormat: FormatNational}, "+1", "+1011881612345", ""},
		{"behind another country's prefix", Trunk{CountryCode: "1", NationalPrefix: "00881", NumberFormat: FormatNational}, "+1", "+161234567", ""},
		{"a zero too many", Trunk{CountryCode: "49", NumberFormat: FormatNational}, "+49", "+490881612345", ""},
		{"national", Trunk{CountryCode: "49", NumberFormat: FormatNational}, "+49", "+493012345", "03012345"},
		{"national, without a prefix", Trunk{CountryCode: "39", NumberFormat: FormatNational}, "+39", "+390612345", "0612345"},
		{"national, without a prefix, as one abroad begins", Trunk{CountryCode: "34", NumberFormat: FormatNational}, "+34", "+34912345678", "912345678"},
		{"ten digits", Trunk{CountryCode: "1", NationalPrefix: NoPrefix, NumberFormat: FormatNational}, "+1", "+12125550100", "2125550100"},
		{"eleven digits", Trunk{CountryCode: "1", NumberFormat: FormatNational}, "+1", "+12125550100", "12125550100"},
		{"abroad", Trunk{CountryCode: "49", NumberFormat: FormatNational}, "+33", "+33123456789", "0033123456789"},
		{"international", Trunk{NumberFormat: FormatInternational}, "+49", "+493012345", "00493012345"},
		{"plain", Trunk{NumberFormat: FormatPlain}, "+49", "+493012345", "493012345"},
		{"plain, with a country", Trunk{CountryCode: "49", NumberFormat: FormatPlain}, "+33", "+33123456789", "33123456789"},
		{"a service", Trunk{CountryCode: "49", NumberFormat: FormatNational}, "+49", "+49110", "0110"},
		{"Russia", Trunk{CountryCode: "7", NumberFormat: FormatNational}, "+7", "+74951234567", "84951234567"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, origin := range []string{OriginREST, OriginFile} {
				c.trunk.Name, c.trunk.Account, c.trunk.URI, c.trunk.Origin = "t", "1", "sip:t.example", origin
				b := BookOf(c.trunk)
				b.SetAccounts([]Account{{ID: "1", AllowedPrefixes: []string{c.prefix}}})
				r := Request{Account: "1", To: c.to}
				got, err := sent(b, r)
				if c.want == "" && (origin == OriginREST || c.trunk.CountryCode == "39" || c.trunk.NationalPrefix == NoPrefix && c.trunk.InternationalPrefix == "") {
					require.Equal(t, errs.Forbidden, errs.CodeOf(err), origin)
					require.Contains(t, errs.MessageOf(err), "to: trunk \"t\" writes it as ")
					require.Equal(t, err, b.Explain(r).Refused)
					require.Equal(t, errs.Forbidden, errs.CodeOf(b.MayRefer("1", "t", c.to)), "a transfer writes it the same way")
					continue
				}
				if c.want != "" {
					require.NoError(t, err)
					require.Equal(t, c.want, got)
					require.NoError(t, b.MayRefer("1", "t", c.to))
				}
			}
		})
	}
}

// TestRulesOfOnesOwnJudgeNothing: an odd prefix of a trunk that the account made does not hide a number in a URI.
func TestRulesOfOnesOwnJudgeNothing(t *testing.T) {
	s, b := operator(t, func(c *Trunk, a *Account) { c.Shared, a.SIPURIs = true, true })
	_, err := s.CreateTrunk(t.Context(), Trunk{
		Name: "blind", Account: "mallory", URI: "sip:blind.example", CountryCode: "49", InternationalPrefix: "99999", Prefixes: []string{"sip:"},
	})
	require.NoError(t, err)
	for _, to := range []string{"sip:0088161234567@blind.example", "sip:0088161234567@elsewhere.example"} {
		_, err = sent(b, Request{Account: "mallory", To: to, Trunk: "blind"})
		require.Equal(t, errs.Forbidden, errs.CodeOf(err), to)
		require.Equal(t, errs.Forbidden, errs.CodeOf(b.MayRefer("mallory", "blind", to)), to)
	}
	_, err = sent(b, Request{Account: "mallory", To: "sip:03012345@blind.example", Trunk: "blind"})
	require.NoError(t, err)
}

// TestSharedCarrier: where the file lets others go to its carrier, its own rules read what they send.
func TestSharedCarrier(t *testing.T) {
	s, b := operator(t, func(c *Trunk, a *Account) {
		c.Shared, c.InternationalPrefix = true, "0021"
		a.AllowedPrefixes = append(a.AllowedPrefixes, "+218") // what it is without the carrier's rules
	})
	_, err := s.CreateTrunk(t.Context(), Trunk{
		Name: "mine", Account: "mallory", URI: "sip:carrier.example", CountryCode: "49", NationalPrefix: "00218", NumberFormat: FormatNational, Prefixes: []string{"+496"},
	})
	require.NoError(t, err)
	_, err = sent(b, Request{Account: "mallory", To: "+4981612345", Trunk: "mine"})
	require.Equal(t, errs.Forbidden, errs.CodeOf(err), "the carrier reads 0021 88161…, a satellite")
}
