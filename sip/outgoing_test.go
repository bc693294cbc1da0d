package sip

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/media"
)

// carrier is a trunk towards a run of SIPp.
func carrier(s *sipp, transport string) Trunk {
	return Trunk{Name: "carrier", Account: "1", URI: "sip:" + s.addr + ";transport=" + transport}
}

func dial(t *testing.T, g *gateway) dialogs.Leg {
	t.Helper()
	leg, err := g.Dial(context.Background(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"})
	require.NoError(t, err)
	require.Equal(t, dialogs.LegCalling, next(t, leg).Kind)
	return leg
}

func TestOutgoingCallIsAnsweredAndHungUp(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			phone := startSIPp(t, "uas_answer", transport)
			if transport == "tcp" {
				awaitTCP(t, phone.addr)
			}
			g := startAgent(t, Config{Trunks: []Trunk{carrier(phone, transport)}}, newCallers(nil))
			leg := dial(t, g)
			ringing := next(t, leg)
			require.Equal(t, dialogs.LegRinging, ringing.Kind)
			require.Equal(t, dialogs.Cause{Reason: dialogs.RingingReason, Details: "180 Ringing", SIPCode: 180}, ringing.Cause)
			agreed := next(t, leg)
			require.Equal(t, dialogs.LegMedia, agreed.Kind)
			require.Equal(t, media.PCMA, agreed.Media.Law)
			require.Equal(t, 101, agreed.Media.EventType)
			require.True(t, agreed.Media.Send && agreed.Media.Receive)
			require.NotNil(t, agreed.Port)
			require.Equal(t, dialogs.LegAnswered, next(t, leg).Kind)
			leg.Hangup(0)
			require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
			phone.passed()
			g.idle(t)
		})
	}
}

// awaitTCP waits until somebody listens at addr.
func awaitTCP(t *testing.T, addr string) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, patience, 10*time.Millisecond)
}
