package sip

import (
	"testing"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"
)

// TestPhoneBehindNATIsReached: requests within a call go where the phone's INVITE came from when its Contact means something
// at its home only, and nowhere else than to the Contact otherwise (RFC 3261 §12.2.1.1).
func TestPhoneBehindNATIsReached(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{}, newCallers(nil))
	for _, c := range []struct{ contact, source, route, goes string }{
		{"sip:a@192.168.1.5:5062", "198.51.100.7:1024", "", "198.51.100.7:1024"},
		{"sip:a@10.0.0.1", "[2001:db8::7]:1024", "", "[2001:db8::7]:1024"},
		{"sip:a@100.64.3.4:5062", "198.51.100.7:1024", "", "198.51.100.7:1024"},
		{"sip:a@[fd00::5]:5062", "[2001:db8::7]:1024", "", "[2001:db8::7]:1024"},
		{"sip:a@192.168.1.5:5062", "192.168.1.1:5060", "", "192.168.1.5:5062"},  // a proxy at home that has let go
		{"sip:a@203.0.113.5:5062", "198.51.100.7:5060", "", "203.0.113.5:5062"}, // or elsewhere
		{"sip:a@pbx.example.com:5062", "198.51.100.7:5060", "", "pbx.example.com:5062"},
		{"sip:a@192.168.1.5:5062", "198.51.100.7:1024", "sip:203.0.113.9:5070;lr", "203.0.113.9:5070"},
	} {
		p := peer{network: networkUDP, source: c.source, callID: "x"}
		require.NoError(t, sip.ParseUri(c.contact, &p.target))
		if c.route != "" {
			var route sip.Uri
			require.NoError(t, sip.ParseUri(c.route, &route))
			p.routes = []sip.Uri{route}
		}
		req, err := g.request(&p, sip.BYE)
		require.NoError(t, err)
		require.Equal(t, c.goes, req.Destination(), c)
		require.Equal(t, c.contact, req.Recipient.String(), "the Request-URI is its Contact all the same")
	}
}
