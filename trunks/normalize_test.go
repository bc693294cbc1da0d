package trunks

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNumbersAreNormalized(t *testing.T) {
	german := Trunk{CountryCode: "49"}
	american := Trunk{CountryCode: "1"}
	italian := Trunk{CountryCode: "39"}
	plain := Trunk{NumberFormat: FormatPlain}
	plainGerman := Trunk{CountryCode: "49", NumberFormat: FormatPlain}
	own := Trunk{CountryCode: "49", NationalPrefix: "9", InternationalPrefix: "99"}
	for _, c := range []struct {
		name   string
		trunk  Trunk
		number string
		want   string
		ok     bool
	}{
		{"E.164", Trunk{}, "+493012345", "+493012345", true},
		{"with separators", Trunk{}, "+1 (555) 010-0.1", "+15550100" + "1", true},
		{"no rules, no number", Trunk{}, "03012345", "03012345", false},
		{"no rules, not abroad", Trunk{}, "00493012345", "00493012345", false},
		{"national", german, "03012345", "+493012345", true},
		{"national without its prefix", german, "3012345", "+493012345", true},
		{"international", german, "0015550100", "+15550100", true},
		{"an extension", german, "102", "102", false},
		{"an emergency", german, "110", "110", false},
		{"a name", german, "alice", "alice", false},
		{"nothing", german, "", "", false},
		{"American", american, "5550100123", "+15550100123", true},
		{"American with 1", american, "15550100123", "+15550100123", true},
		{"American abroad", american, "011493012345", "+493012345", true},
		{"Italian keeps its 0", italian, "0612345678", "+390612345678", true},
		{"plain", plain, "493012345", "+493012345", true},
		{"plain, and national", plainGerman, "03012345", "+493012345", true},
		{"plain, abroad", plainGerman, "15550100", "+15550100", true},
		{"prefixes of its own", own, "93012345", "+493012345", true},
		{"abroad by a prefix of its own", own, "9915550100", "+15550100", true},
		{"none", Trunk{CountryCode: "49", NationalPrefix: NoPrefix}, "03012345", "+4903012345", true},
		{"too long", german, "0301234567890123456", "0301234567890123456", false},
		{"+0", german, "+03012345", "+03012345", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := c.trunk.Normalize(c.number)
			require.Equal(t, c.want, got)
			require.Equal(t, c.ok, ok)
		})
	}
}

func TestNumbersAreWritten(t *testing.T) {
	for _, c := range []struct {
		trunk        Trunk
		number, want string
	}{
		{Trunk{}, "+493012345", "+493012345"},
		{Trunk{NumberFormat: FormatE164}, "+493012345", "+493012345"},
		{Trunk{NumberFormat: FormatPlain}, "+493012345", "493012345"},
		{Trunk{NumberFormat: FormatNational, CountryCode: "49"}, "+493012345", "03012345"},
		{Trunk{NumberFormat: FormatNational, CountryCode: "49"}, "+15550100", "0015550100"},
		{Trunk{NumberFormat: FormatNational, CountryCode: "1"}, "+493012345", "011493012345"},
		{Trunk{NumberFormat: FormatNational, CountryCode: "39"}, "+390612345", "0612345"},
		{Trunk{NumberFormat: FormatInternational, CountryCode: "49"}, "+493012345", "00493012345"},
		{Trunk{NumberFormat: FormatPlain}, "RESTRICTED", "RESTRICTED"},
		{Trunk{NumberFormat: FormatPlain}, "sip:bob@x", "sip:bob@x"},
	} {
		require.Equal(t, c.want, c.trunk.Format(c.number), "%+v", c)
	}
}

// FuzzNormalize: what is called a number is one, and what a trunk is written it means by that.
func FuzzNormalize(f *testing.F) {
	f.Add("49", FormatNational, "03012345")
	f.Add("1", FormatPlain, "+1 555")
	f.Add("", "", "00")
	f.Fuzz(func(t *testing.T, code, format, number string) {
		tr := Trunk{Name: "a", CountryCode: code, NumberFormat: format}
		if tr.Validate() != nil {
			return
		}
		got, ok := tr.Normalize(number)
		if ok != IsE164(got) && ok {
			t.Fatalf("%q is called a number", got)
		}
		if !ok {
			return
		}
		if again, ok := tr.Normalize(got); !ok || again != got {
			t.Fatalf("%q became %q", got, again)
		}
	})
}

// FuzzAddress: an address that is read has a host that can be one, and a port that can.
func FuzzAddress(f *testing.F) {
	f.Add("sip:alice:pw@[::1]:5060;transport=tcp?x=y")
	f.Add("sips:a%40b@host")
	f.Fuzz(func(t *testing.T, s string) {
		_ = userOf(s)
		a, ok := readAddress(s)
		if ok && (a.host == "" || a.port < 0 || a.port > 65535) {
			t.Fatalf("%q gave %+v", s, a)
		}
	})
}
