package media

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/stretchr/testify/require"
)

// TestPortTellsWhatItHeard sends a port what it takes and what it does not, and asks what it has heard after each.
func TestPortTellsWhatItHeard(t *testing.T) {
	p := openPort(t)
	far, stranger := newEndpoint(t, p.Local()), newEndpoint(t, p.Local())
	got := make(inbox, 100)
	p.Update(agreed(far.addr()))
	p.Start(got)
	require.Equal(t, Heard{Expected: far.addr()}, p.Heard())
	require.Equal(t, "nothing", p.Heard().Seen())
	refused := func(n uint64) Heard {
		t.Helper()
		require.Eventually(t, func() bool { return p.Heard().Refused == n }, 5*time.Second, time.Millisecond)
		return p.Heard()
	}

	far.send(9, 1, 1)
	require.Equal(t, Heard{Expected: far.addr(), Refusal: UnknownType, Type: 9, From: far.addr(), Refused: 1}, refused(1))
	require.Equal(t, "1 packets not taken, the last of payload type 9, which was not agreed", p.Heard().Seen())

	far.send(8, 1, 2)
	got.next(t)
	heard := p.Heard()
	require.WithinDuration(t, time.Now(), heard.RTP, 5*time.Second)
	require.Zero(t, heard.RTCP)

	stranger.send(8, 2, 1)
	require.Equal(t, WrongSource, refused(2).Refusal)
	require.Equal(t, "2 packets not taken, the last from "+stranger.addr().String(), p.Heard().Seen())
	require.Equal(t, heard.RTP, p.Heard().RTP, "a stranger is no sign of life")

	report, err := (&rtcp.ReceiverReport{SSRC: 1}).Marshal()
	require.NoError(t, err)
	far.to = netip.AddrPortFrom(p.Local().Addr(), p.Local().Port()+1)
	far.write(report)
	require.Eventually(t, func() bool { return !p.Heard().RTCP.IsZero() }, 5*time.Second, time.Millisecond)

	p.Update(PortMedia{Remote: far.addr(), Speech: PCMA, EventType: -1, Send: true, Receive: true, Inbound: newKey(t, AEADAES128GCM)})
	stop := p.Heard().Refused
	far.to = p.Local()
	far.send(8, 1, 3)
	require.Equal(t, NotAuthentic, refused(stop+1).Refusal)
	require.Equal(t, "3 packets not taken, the last not authentic (SRTP)", p.Heard().Seen())
}
