package trunks

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/errs"
)

func names(list []candidate) []string {
	var all []string
	for _, c := range list {
		all = append(all, c.trunk.Name)
	}
	return all
}

func TestTrunkIsChosen(t *testing.T) {
	b := BookOf(
		Trunk{Name: "world", Account: "1", URI: "sip:world.example"},
		Trunk{Name: "us", Account: "1", URI: "sip:us.example", Prefixes: []string{"+1", "sip:"}, Priority: 2},
		Trunk{Name: "us cheap", Account: "1", URI: "sip:cheap.example", Prefixes: []string{"+1"}, Priority: 1, Weight: 1},
		Trunk{Name: "us cheaper", Account: "1", URI: "sip:cheaper.example", Prefixes: []string{"+1"}, Priority: 1, Weight: 3, Headers: []string{"X-Case"}},
		Trunk{Name: "in only", Account: "1", Prefixes: []string{"+1555"}},
		Trunk{Name: "several", Account: "4", URI: "sip:several.example", Prefixes: []string{"+44", "+4420", "+"}},
		Trunk{Name: "one", Account: "4", URI: "sip:one.example", Prefixes: []string{"+442"}},
		Trunk{Name: "other", Account: "2", URI: "sip:other.example:5070", Prefixes: []string{"+1555"}},
	)
	headers := map[string]string{"x-case": "7"}
	for _, c := range []struct {
		name string
		Request
		draw int
		want []string
		code errs.Code
		why  string
	}{
		{"the longest prefix, then the priority, then the weight", Request{Account: "1", To: "+15550100"}, 0, []string{"us cheap", "us cheaper", "us", "world"}, 0, ""},
		{"the next draw", Request{Account: "1", To: "+15550100"}, 1, []string{"us cheaper", "us cheap", "us", "world"}, 0, ""},
		{"the last draw", Request{Account: "1", To: "+15550100"}, 3, []string{"us cheaper", "us cheap", "us", "world"}, 0, ""},
		{"the longest of several", Request{Account: "4", To: "+442012345"}, 0, []string{"several", "one"}, 0, ""},
		{"a shorter one of several", Request{Account: "4", To: "+442112345"}, 0, []string{"one", "several"}, 0, ""},
		{"one prefix", Request{Account: "1", To: "+49301"}, 0, []string{"world"}, 0, ""},
		{"a URI by its scheme", Request{Account: "1", To: "sip:a@somewhere"}, 0, []string{"us"}, 0, ""},
		{"a URI by its host too", Request{Account: "1", To: "SIP:a@world.example"}, 0, []string{"us", "world"}, 0, ""},
		{"host and port", Request{Account: "2", To: "sip:a@other.example:5070"}, 0, []string{"other"}, 0, ""},
		{"another port", Request{Account: "2", To: "sip:a@other.example"}, 0, nil, errs.Unavailable, "no trunk takes calls to sip:a@other.example"},
		{"no prefix", Request{Account: "2", To: "+49301"}, 0, nil, errs.Unavailable, "no trunk takes calls to +49301"},
		{"no account", Request{Account: "3", To: "+15550100"}, 0, nil, errs.Unavailable, "no trunk takes calls to +15550100"},
		{"named", Request{Account: "1", To: "+49301", Trunk: "us"}, 0, []string{"us"}, 0, ""},
		{"named, of another account", Request{Account: "1", To: "+15550100", Trunk: "other"}, 0, nil, errs.Invalid, `trunk: there is no trunk "other"`},
		{"named, only calls in", Request{Account: "1", To: "+15550100", Trunk: "in only"}, 0, nil, errs.Invalid, `trunk: "in only" takes no calls: it has no uri: it only calls in`},
		{"a header that one lets pass", Request{Account: "1", To: "+15550100", Headers: headers}, 0, []string{"us cheaper"}, 0, ""},
		{"a header that none lets pass", Request{Account: "1", To: "+49301", Headers: headers}, 0, nil, errs.Invalid, `headers.x-case: trunk "world" does not let it pass`},
		{"a header that the named one does not let pass", Request{Account: "1", To: "+15550100", Trunk: "us", Headers: headers}, 0, nil, errs.Invalid, `headers.x-case: trunk "us" does not let it pass`},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := b.now.Load().consider(&Account{}, c.Request)
			got := inOrder(all, func(n int) int { return min(c.draw, n-1) })
			require.Equal(t, c.want, names(got))
			if c.want == nil {
				why := nobody(all, c.Request)
				require.Equal(t, c.code, why.Code)
				require.Equal(t, c.why, why.Message)
			}
		})
	}
}

func TestWeightIsTheShareOfCalls(t *testing.T) {
	b := BookOf(
		Trunk{Name: "a", Account: "1", URI: "sip:a", Weight: 1},
		Trunk{Name: "b", Account: "1", URI: "sip:b", Weight: 3},
	)
	all := b.now.Load().consider(&Account{}, Request{Account: "1", To: "+15550100"})
	first := map[string]int{}
	for n := range 4 { // every outcome of the first draw, once
		draws := []int{n, 0}
		got := inOrder(all, func(int) int { d := draws[0]; draws = draws[1:]; return d })
		first[got[0].trunk.Name]++
	}
	require.Equal(t, map[string]int{"a": 1, "b": 3}, first)
}

func TestTrunkOfASender(t *testing.T) {
	prefix := netip.MustParsePrefix
	b := BookOf(
		Trunk{Name: "net", Account: "1", Allow: []netip.Prefix{prefix("10.0.0.0/8"), prefix("2001:db8::/32")}},
		Trunk{Name: "host", Account: "1", Allow: []netip.Prefix{prefix("10.1.2.3/32")}},
		Trunk{Name: "same net", Account: "2", Allow: []netip.Prefix{prefix("10.0.0.0/8")}, CountryCode: "49"},
	)
	all, _ := b.Trunks()
	b.SetTrunks([]Trunk{*all[0], *all[1], *all[2]}, []Number{{Number: "+493012345", Account: "2"}})
	for _, c := range []struct{ from, called, want string }{
		{"10.1.2.3", "", "host"},
		{"10.1.2.4", "", "net"},
		{"::ffff:10.1.2.3", "", "host"},
		{"2001:db8::1", "", "net"},
		{"192.0.2.1", "", ""},
		{"10.1.2.4", "+493012345", "same net"}, // two accounts at one carrier: the number tells
		{"10.1.2.4", "03012345", "same net"},
		{"10.1.2.3", "+493012345", "host"}, // the narrowest, still
	} {
		got := ""
		if tr := b.Inbound(netip.MustParseAddr(c.from), c.called); tr != nil {
			got = tr.Name
		}
		require.Equal(t, c.want, got, "%+v", c)
	}
}

func TestTrunksThatASenderMayBe(t *testing.T) {
	network := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	b := BookOf(
		Trunk{Name: "net", Account: "1", Allow: network("10.0.0.0/8"), InboundUsername: "net"},
		Trunk{Name: "open", Account: "1", Allow: network("10.0.0.0/8")},
		Trunk{Name: "host", Account: "2", Allow: network("10.1.2.3/32"), InboundUsername: "host"},
		Trunk{Name: "anywhere", Account: "3", InboundUsername: "anywhere"},
		Trunk{Name: "nowhere", Account: "3"},
	)
	for from, want := range map[string][]string{
		"10.1.2.3":         {"net", "host", "anywhere"},
		"::ffff:10.1.2.3":  {"net", "host", "anywhere"},
		"10.1.2.4":         {"net", "anywhere"},
		"192.0.2.1":        {"anywhere"},
		"2001:db8::a01:23": {"anywhere"},
	} {
		var got []string
		for _, tr := range b.Challenged(netip.MustParseAddr(from)) {
			got = append(got, tr.Name)
		}
		require.Equal(t, want, got, from)
	}
}

func TestHeadersThatPass(t *testing.T) {
	tr := Trunk{Headers: []string{"X-Case", "X-Acme-*"}}
	for name, want := range map[string]bool{
		"X-Case": true, "x-case": true, "X-Case-2": false, "X-ACME-Queue": true, "X-Acm": false, "Subject": false,
	} {
		require.Equal(t, want, tr.Passes(name), name)
	}
}
