package sip

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/media"
)

// office is a trunk from which this machine may call in.
var office = Trunk{Name: "office", Account: "1", Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// callIn starts a scenario of a caller towards g.
func callIn(t *testing.T, g *gateway, scenario, transport string, args ...string) *sipp {
	t.Helper()
	fixed := []string{g.at(transport), "-s", "+15550100", "-key", "caller", "+15550123", "-key", "token", "a.b.c", "-d", "50"}
	return startSIPp(t, scenario, transport, append(fixed, args...)...)
}

func TestIncomingCallIsAnswered(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			in := newCallers(nil)
			g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
			phone := callIn(t, g, "uac_token", transport)
			leg := in.leg(t)
			leg.Answer()
			agreed := next(t, leg)
			require.Equal(t, dialogs.LegMedia, agreed.Kind)
			require.Equal(t, media.PCMU, agreed.Media.Law)
			require.Equal(t, 101, agreed.Media.EventType)
			require.Equal(t, dialogs.LegAnswered, next(t, leg).Kind)
			require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
			phone.passed()
			g.idle(t)

			seen := in.calls()
			require.Len(t, seen, 1)
			require.Equal(t, phone.addr, net.JoinHostPort(seen[0].Source.Addr().String(), portOf(phone.addr)))
			seen[0].Source = netip.AddrPort{}
			require.Equal(t, dialogs.Incoming{
				Trunk: "office", Account: "1", To: "+15550100", From: "+15550123", UserToUser: "a.b.c;encoding=jwt",
			}, seen[0])
		})
	}
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}
