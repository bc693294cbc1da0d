package sip

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"tandem/dialogs"
	"tandem/trunks"
)

// TestOtherNameOfTheOperatorsCarrier: a trunk that an account made goes to a name of its own, which the DNS leads to the
// carrier of the configuration file. Nothing is sent there.
func TestOtherNameOfTheOperatorsCarrier(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{"kept": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sipp := startSIPp(t, "uas_busy", "udp")
			_, port, err := net.SplitHostPort(sipp.addr)
			require.NoError(t, err)
			ns := startNameserver(t, map[string][]dnsmessage.ResourceBody{
				"carrier.example": {&dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}},
				"alias.example":   {&dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}},
			})
			book := trunks.BookOf(
				Trunk{Name: "carrier", Account: "2", URI: "sip:carrier.example:" + port, Origin: trunks.OriginFile, Shared: shared},
				Trunk{Name: "alias", Account: "1", URI: "sip:alias.example:" + port},
			)
			g := startAgent(t, Config{Book: book, nameservers: []string{ns.addr}}, newCallers(nil))
			call := func(account string) dialogs.Cause {
				leg, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: account, To: "+15550100", From: "+15550199"})
				require.NoError(t, err)
				return end(t, leg)
			}
			cause := call("1")
			if shared {
				require.Equal(t, dialogs.FarEndBusy, cause.Reason)
				sipp.passed()
				return
			}
			require.Equal(t, "trunk alias "+errClaimed.Error(), cause.Details)
			g.idle(t)

			require.Equal(t, dialogs.FarEndBusy, call("2").Reason, "the carrier's own trunk, whose call is the only one that arrives")
			sipp.passed()
		})
	}
}
