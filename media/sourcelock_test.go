package media

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSourceLock(t *testing.T) {
	var (
		sdp      = netip.MustParseAddrPort("10.0.0.1:4000") // what the phone's SDP says
		sdp2     = netip.MustParseAddrPort("10.0.0.1:4002")
		nat      = netip.MustParseAddrPort("192.0.2.1:5000") // where its packets come from
		nat2     = netip.MustParseAddrPort("192.0.2.1:5001")
		stranger = netip.MustParseAddrPort("203.0.113.9:6666")
	)
	// A step is a new SDP address or a packet.
	type step struct {
		signal netip.AddrPort
		resume bool // a hold ends
		from   netip.AddrPort
		ssrc   uint32
		seq    uint16
		n      int // packets in sequence; 0: 1
		ok     bool
		target netip.AddrPort
	}
	cases := []struct {
		name  string
		steps []step
	}{
		{"before the first packet the SDP is believed", []step{{signal: sdp, target: sdp}}},
		{"the first source is kept", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, n: newSourceRun, ok: true, target: nat},
			{from: stranger, ssrc: 2, n: 100, target: nat},
			{from: nat2, ssrc: 1, n: 100, target: nat},
			{from: nat, ssrc: 1, ok: true, target: nat},
		}},
		{"a new SSRC from the source is the far end's own affair", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{from: nat, ssrc: 2, ok: true, target: nat},
		}},
		{"one packet of a stranger before the far end's first is not enough", []step{
			{signal: sdp, target: sdp},
			{from: stranger, ssrc: 66, ok: true, target: stranger},
			{from: nat, ssrc: 1, n: newSourceRun - 1, target: stranger},
			{from: nat, ssrc: 1, seq: newSourceRun - 1, ok: true, target: nat},
			{from: stranger, ssrc: 66, seq: 1, n: 50, target: nat},
		}},
		{"nor are some, while the far end is there", []step{
			{signal: sdp, target: sdp},
			{from: stranger, ssrc: 66, n: 2, ok: true, target: stranger},
			{from: nat, ssrc: 1, n: 3, target: stranger},
			{from: stranger, ssrc: 66, seq: 2, ok: true, target: stranger},
			{from: nat, ssrc: 1, seq: 3, target: stranger},
			{from: nat, ssrc: 1, seq: 4, ok: true, target: nat},
		}},
		{"a re-offer of the same address changes nothing for a source that is there", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, n: newSourceRun, ok: true, target: nat},
			{signal: sdp, target: nat},
			{from: stranger, ssrc: 2, n: newSourceRun - 1, target: nat},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{from: stranger, ssrc: 2, seq: newSourceRun - 1, n: 100, target: nat},
		}},
		{"a far end that a NAT forgot says the same again, and is elsewhere", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, n: newSourceRun, ok: true, target: nat},
			{from: nat2, ssrc: 1, n: 100, target: nat},
			{signal: sdp, target: nat},
			{from: nat2, ssrc: 1, seq: 100, n: newSourceRun - 1, target: nat},
			{from: nat2, ssrc: 1, seq: 100 + newSourceRun - 1, ok: true, target: nat2},
			{from: nat, ssrc: 1, n: 100, target: nat2},
		}},
		{"a new address is learned anew", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{signal: sdp2, target: sdp2},
			{from: nat, ssrc: 1, n: 3, ok: true, target: sdp2}, // was on the way
			{from: nat2, ssrc: 5, n: newSourceRun - 1, target: sdp2},
			{from: stranger, ssrc: 6, n: newSourceRun - 1, target: sdp2},
			{from: nat2, ssrc: 5, seq: newSourceRun - 1, n: newSourceRun - 1, target: sdp2},
			{from: nat2, ssrc: 5, seq: 2*newSourceRun - 2, ok: true, target: nat2},
			{from: nat, ssrc: 1, target: nat2},
		}},
		{"the new address itself is believed at once", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{signal: sdp2, target: sdp2},
			{from: stranger, ssrc: 6, target: sdp2},
			{from: sdp2, ssrc: 5, ok: true, target: sdp2},
		}},
		{"SDP names the source, and a stranger is faster", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{signal: nat, target: nat},
			{from: stranger, ssrc: 3, n: newSourceRun - 1, target: nat},
			{from: nat, ssrc: 1, ok: true, target: nat},
		}},
		{"the far end's machine begins anew at another port", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{from: nat2, ssrc: 2, n: newSourceRun - 1, target: nat},
			{from: nat2, ssrc: 2, seq: newSourceRun - 1, ok: true, target: nat2},
		}},
		{"but not while its old port is heard", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, n: newSourceRun, ok: true, target: nat},
			{from: nat2, ssrc: 2, n: newSourceRun - 1, target: nat},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{from: nat2, ssrc: 2, seq: newSourceRun - 1, n: newSourceRun - 1, target: nat},
		}},
		{"a new address in SDP, the old one on the wire", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{signal: sdp2, target: sdp2},
			{from: nat, ssrc: 1, n: oldSourceRun - 1, ok: true, target: sdp2},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{from: stranger, ssrc: 3, n: 9, target: nat},
		}},
		{"SDP names the source that is locked already", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{signal: nat, target: nat},
			{from: nat, ssrc: 1, ok: true, target: nat},
		}},
		{"a stranger who was faster loses to the signalled address", []step{
			{signal: sdp, target: sdp},
			{from: stranger, ssrc: 66, ok: true, target: stranger},
			{from: sdp, ssrc: 1, seq: 10, n: newSourceRun - 1, target: stranger},
			{from: stranger, ssrc: 66, seq: 1, ok: true, target: stranger},
			{from: sdp, ssrc: 1, seq: 10 + newSourceRun - 1, ok: true, target: sdp},
			{from: stranger, ssrc: 66, seq: 2, n: 50, target: sdp},
		}},
		{"after a hold the source is where it was", []step{
			{resume: true},
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{resume: true, target: nat},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{from: stranger, ssrc: 2, target: nat},
		}},
		{"or elsewhere, when a NAT forgot it", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{resume: true, target: nat},
			{from: nat2, ssrc: 1, n: newSourceRun - 1, target: nat},
			{from: nat2, ssrc: 1, seq: newSourceRun - 1, ok: true, target: nat2},
			{from: nat, ssrc: 1, target: nat2},
		}},
		{"or where a new address says", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{resume: true, target: nat},
			{signal: sdp2, target: sdp2},
			{from: nat, ssrc: 1, ok: true, target: sdp2},
			{from: nat2, ssrc: 2, n: newSourceRun - 1, target: sdp2},
			{from: nat2, ssrc: 2, seq: newSourceRun - 1, ok: true, target: nat2},
		}},
		{"a run with holes is none", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, ok: true, target: nat},
			{from: sdp, ssrc: 2, seq: 10, n: newSourceRun - 1, target: nat},
			{from: sdp, ssrc: 2, seq: 100, n: newSourceRun - 1, target: nat},
			{from: sdp, ssrc: 3, seq: 200, n: newSourceRun - 1, target: nat},
		}},
		{"the same SSRC from the signalled address is no newcomer", []step{
			{signal: sdp, target: sdp},
			{from: nat, ssrc: 1, n: newSourceRun, ok: true, target: nat},
			{from: sdp, ssrc: 1, seq: 10, n: 50, target: nat},
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var l sourceLock
			for i, s := range c.steps {
				switch {
				case s.signal.IsValid():
					l.signal(s.signal)
				case s.resume:
					l.resume()
				default:
					for k := range max(1, s.n) {
						require.Equal(t, s.ok, l.admit(s.from, s.ssrc, s.seq+uint16(k)), "step %d packet %d", i, k)
					}
				}
				require.Equal(t, s.target, l.target(), "step %d", i)
			}
		})
	}
}
