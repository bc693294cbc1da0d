package trunks

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/errs"
)

func TestWhomAnAccountMayCall(t *testing.T) {
	book := func(a Account) *Book {
		b := BookOf(
			Trunk{Name: "carrier", Account: "1", URI: "sip:carrier.example;transport=udp", Prefixes: []string{"+", "sip:"}},
			Trunk{Name: "pbx", Account: "1", URI: "sip:pbx.example:5090", Prefixes: []string{"sip:"}, CountryCode: "49"},
			Trunk{Name: "foreign", Account: "2", URI: "sip:foreign.example"},
		)
		a.ID = "1"
		b.SetAccounts([]Account{a})
		return b
	}
	german := Account{AllowedPrefixes: []string{"+49", "+33"}}
	for _, c := range []struct {
		name    string
		account Account
		to      string
		trunk   string
		why     string // empty: it may
	}{
		{"everybody", Account{}, "+15550100", "", ""},
		{"a prefix", german, "+493012345", "", ""},
		{"another prefix", german, "+33123456", "", ""},
		{"no prefix", german, "+15550100", "", "to: the account may not call +15550100: none of its allowedPrefixes matches"},
		{"a satellite", Account{}, "+88161234567", "", "to: the account may not call +881…: its allowedPrefixes do not name that code"},
		{"a satellite, everything allowed", Account{AllowedPrefixes: []string{"+"}}, "+88161234567", "", "to: the account may not call +881…: its allowedPrefixes do not name that code"},
		{"a satellite, named", Account{AllowedPrefixes: []string{"+", "+8816"}}, "+88161234567", "", ""},
		{"premium rate", Account{}, "+97912345678", "", "to: the account may not call +979…: its allowedPrefixes do not name that code"},
		{"a URI anywhere", Account{}, "sip:bob@elsewhere.example", "", "to: the account may not call sip: URIs (its sipURIs is false)"},
		{"a URI anywhere, allowed", Account{SIPURIs: true}, "sip:bob@elsewhere.example", "", ""},
		{"another account's trunk", Account{}, "sip:bob@foreign.example", "", "to: the account may not call sip: URIs (its sipURIs is false)"},
		{"an extension of its PBX", german, "sip:102@PBX.example", "pbx", ""},
		{"an extension, by another trunk", Account{}, "sip:102@pbx.example", "carrier", "to: the account may not call sip: URIs (its sipURIs is false)"},
		{"a number in a URI", german, "sip:+15550100@pbx.example:5090", "", "to: the account may not call +15550100: none of its allowedPrefixes matches"},
		{"an escaped number in a URI", german, "sip:%2B1555-0100;x=y@pbx.example:5090", "", "to: the account may not call +15550100: none of its allowedPrefixes matches"},
		{"a number abroad, as it is dialled", german, "sip:0015550100@pbx.example:5090", "", "to: the account may not call +15550100: none of its allowedPrefixes matches"},
		{"a number abroad, anywhere", Account{SIPURIs: true}, "sip:0088161234567@elsewhere.example", "", "to: the account may not call +881…: its allowedPrefixes do not name that code"},
		{"without the plus", Account{SIPURIs: true}, "sip:88161234567@elsewhere.example", "", "to: the account may not call +881…: its allowedPrefixes do not name that code"},
		{"with digits too many", Account{SIPURIs: true}, "sip:+88161234567000000@elsewhere.example", "", "to: the account may not call +881…: its allowedPrefixes do not name that code"},
		{"with digits too many, abroad", Account{}, "sip:0088161234567000000@pbx.example", "", "to: the account may not call +881…: its allowedPrefixes do not name that code"},
		{"with something behind", Account{SIPURIs: true}, "sip:+88161234567x@elsewhere.example", "", "to: the account may not call +881…: its allowedPrefixes do not name that code"},
		{"a name with digits", german, "sip:1234567bob@pbx.example", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, r := book(c.account), Request{Account: "1", To: c.to, Trunk: c.trunk}
			refused := b.Explain(r).Refused
			p, err := b.Place(r)
			if c.why == "" {
				require.NoError(t, refused)
				if errs.CodeOf(err) != errs.Unavailable { // no trunk, perhaps; but nothing forbids it
					require.NoError(t, err)
				}
				p.Release()
				return
			}
			require.Equal(t, errs.Forbidden, errs.CodeOf(err))
			require.Equal(t, c.why, errs.MessageOf(err))
			require.Equal(t, err, refused)
		})
	}
	_, err := book(Account{}).Place(Request{Account: "2", To: "+15550100"})
	require.Equal(t, errs.Forbidden, errs.CodeOf(err), "an account that is not configured")
}

// TestAmbiguousURI: what two readers of a URI could take for two hosts or two users is nobody.
func TestAmbiguousURI(t *testing.T) {
	b := BookOf(Trunk{Name: "pbx", Account: "1", URI: "sip:pbx.example", Prefixes: []string{"sip:"}})
	b.SetAccounts([]Account{{ID: "1", SIPURIs: true}})
	for _, to := range []string{
		"sip:+88161234567@elsewhere.example;x=@pbx.example", "sip:a@b@pbx.example", "sip:a?b@pbx.example", "sip:[::1]1@pbx.example",
		"sip::+88161234567@pbx.example", "sip:;x+88161234567@pbx.example", "sip://+88161234567@pbx.example", "sip:%zz@pbx.example", "sip:@pbx.example",
		"sip:", "sip:a@", "sip:a@pbx.example:x", "sip:a@pbx.example:99999",
	} {
		_, err := b.Place(Request{Account: "1", To: to})
		require.Equal(t, errs.Invalid, errs.CodeOf(err), to)
		require.Equal(t, errs.Invalid, errs.CodeOf(b.MayRefer("1", "", to)), to)
	}
}

// TestWhomAFarEndIsAskedToCall: a transfer by REFER makes a call that somebody pays for too.
func TestWhomAFarEndIsAskedToCall(t *testing.T) {
	b := BookOf(Trunk{Name: "pbx", Account: "1", URI: "sip:pbx.example", CountryCode: "49"})
	b.SetAccounts([]Account{{ID: "1", AllowedPrefixes: []string{"+49"}}})
	for to, want := range map[string]errs.Code{
		"+493012345": 0, "+15550100": errs.Forbidden, "+88161234567": errs.Forbidden, "0301234": errs.Invalid,
		"sip:bob@anywhere.example": 0, "sip:102@pbx.example": 0, "sip:03012345@pbx.example": 0,
		"sip:0015550100@pbx.example": errs.Forbidden, "sip:+15550100@anywhere.example": errs.Forbidden,
	} {
		err := b.MayRefer("1", "pbx", to)
		if want == 0 {
			require.NoError(t, err, to)
			continue
		}
		require.Equal(t, want, errs.CodeOf(err), to)
	}
	require.Equal(t, errs.Forbidden, errs.CodeOf(b.MayRefer("2", "pbx", "+493012345")))
}
