package media

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/errs"
)

var (
	loopback = netip.MustParseAddr("127.0.0.1")
	both     = []netip.Addr{loopback, netip.IPv6Loopback()}
)

func TestNewPortsJudgesItsRange(t *testing.T) {
	cases := []struct {
		name string
		cfg  PortsConfig
		want string // part of the message; empty: accepted
	}{
		{"one pair", PortsConfig{Listen: []netip.Addr{loopback}, From: 20000, To: 20001}, ""},
		{"odd start", PortsConfig{Listen: []netip.Addr{loopback}, From: 20001, To: 20003}, ""},
		{"last pair of all", PortsConfig{Listen: []netip.Addr{loopback}, From: 65534, To: 65535}, ""},
		{"no listen", PortsConfig{From: 20000, To: 20001}, "media.listen"},
		{"no range", PortsConfig{Listen: []netip.Addr{loopback}}, "media.rtpPorts"},
		{"backwards", PortsConfig{Listen: []netip.Addr{loopback}, From: 20010, To: 20000}, "media.rtpPorts"},
		{"no even port with its odd one", PortsConfig{Listen: []netip.Addr{loopback}, From: 20001, To: 20002}, "media.rtpPorts"},
		{"both families", PortsConfig{Listen: both, Public: []netip.Addr{netip.MustParseAddr("2001:db8::1")}, From: 20000, To: 20001}, ""},
		{"an address that is none", PortsConfig{Listen: []netip.Addr{loopback, {}}, From: 20000, To: 20001}, "media.listen must be"},
		{"two of one family", PortsConfig{Listen: append(both, netip.MustParseAddr("127.0.0.2")), From: 20000, To: 20001}, "media.listen must have one IPv4 address"},
		{"one of the other family for SDP", PortsConfig{Listen: []netip.Addr{loopback}, Public: []netip.Addr{netip.MustParseAddr("2001:db8::1")}, From: 20000, To: 20001}, "media.publicIP 2001:db8::1 is IPv6"},
		{"two of one family for SDP", PortsConfig{Listen: both, Public: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}, From: 20000, To: 20001}, "media.publicIP must have one IPv4 address"},
		{"any address, and one of the other family for SDP", PortsConfig{
			Listen: []netip.Addr{loopback, netip.IPv6Unspecified()}, Public: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, From: 20000, To: 20001,
		}, "media.publicIP must be set when media.listen is ::"},
		{"any address, none for SDP", PortsConfig{Listen: []netip.Addr{netip.MustParseAddr("0.0.0.0")}, From: 20000, To: 20001}, "media.publicIP"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ps, err := NewPorts(c.cfg)
			if c.want == "" {
				require.NoError(t, err)
				require.NotNil(t, ps)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.Equal(t, errs.Invalid, errs.CodeOf(err))
		})
	}
}

func TestOpenTakesEvenPortsAndTellsWhenNoneIsFree(t *testing.T) {
	ps, err := NewPorts(PortsConfig{
		Listen: []netip.Addr{loopback}, Public: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, From: 31001, To: 31006, Quarantine: time.Hour,
	})
	require.NoError(t, err)

	seen := map[uint16]bool{}
	var open []*Port
	for range 2 { // 31002 and 31004
		p, err := ps.Open()
		require.NoError(t, err)
		t.Cleanup(func() { _ = p.Close() })
		require.Equal(t, netip.MustParseAddr("192.0.2.1"), p.Local().Addr())
		require.Zero(t, p.Local().Port()%2)
		require.False(t, seen[p.Local().Port()])
		seen[p.Local().Port()] = true
		open = append(open, p)
	}
	_, err = ps.Open()
	require.Equal(t, errs.Unavailable, errs.CodeOf(err))
	require.ErrorContains(t, err, "media.rtpPorts")

	// A closed port rests.
	require.NoError(t, open[0].Close())
	require.NoError(t, open[0].Close())
	_, err = ps.Open()
	require.Equal(t, errs.Unavailable, errs.CodeOf(err))
	opened, resting := ps.InUse()
	require.Equal(t, [2]int{1, 1}, [2]int{opened, resting})
}

func TestOpenUsesAPortThatHasRested(t *testing.T) {
	ps, err := NewPorts(PortsConfig{Listen: []netip.Addr{loopback}, From: 31010, To: 31011, Quarantine: time.Nanosecond})
	require.NoError(t, err)
	for range 3 {
		p, err := ps.Open()
		require.NoError(t, err)
		require.NoError(t, p.Close())
		opened, _ := ps.InUse()
		require.Zero(t, opened)
	}
}

func TestOpenPassesOverPortsOfOthers(t *testing.T) {
	foreign, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 31023}) // an RTCP port
	require.NoError(t, err)
	t.Cleanup(func() { _ = foreign.Close() })
	ps, err := NewPorts(PortsConfig{Listen: []netip.Addr{loopback}, From: 31020, To: 31023})
	require.NoError(t, err)
	for range 4 {
		p, err := ps.Open()
		require.NoError(t, err)
		require.EqualValues(t, 31020, p.Local().Port())
		_, err = ps.Open()
		require.Equal(t, errs.Unavailable, errs.CodeOf(err), "the pair is half taken")
		require.NoError(t, p.Close())
		ps.mu.Lock()
		clear(ps.closed) // as if it had rested
		ps.mu.Unlock()
	}
}

// TestEachFamilyHasTheRange: the ports of one family take none of the other's, are bound on its address and show its own.
func TestEachFamilyHasTheRange(t *testing.T) {
	public := netip.MustParseAddr("2001:db8::7")
	ps, err := NewPorts(PortsConfig{Listen: both, Public: []netip.Addr{public}, From: 31030, To: 31031, Quarantine: time.Hour})
	require.NoError(t, err)
	require.Equal(t, []Family{IPv4, IPv6, IPv4}, []Family{ps.Family(IPv4), ps.Family(IPv6), ps.Family(0)})
	require.Equal(t, []netip.Addr{loopback, public}, []netip.Addr{ps.Public(IPv4), ps.Public(IPv6)})

	six, err := ps.OpenFamily(IPv6)
	require.NoError(t, err)
	t.Cleanup(func() { _ = six.Close() })
	require.Equal(t, netip.AddrPortFrom(public, 31030), six.Local())
	require.Equal(t, netip.AddrPortFrom(netip.IPv6Loopback(), 31030), six.Bound())
	_, err = ps.OpenFamily(IPv6)
	require.Equal(t, errs.Unavailable, errs.CodeOf(err))
	require.ErrorContains(t, err, "every IPv6 port of media.rtpPorts")

	four, err := ps.OpenFamily(IPv4)
	require.NoError(t, err)
	t.Cleanup(func() { _ = four.Close() })
	require.Equal(t, netip.AddrPortFrom(loopback, 31030), four.Local())
	require.Equal(t, four.Local(), four.Bound())
	opened, resting := ps.InUse()
	require.Equal(t, [2]int{2, 0}, [2]int{opened, resting})

	require.NoError(t, six.Close())
	opened, resting = ps.InUse()
	require.Equal(t, [2]int{1, 1}, [2]int{opened, resting})
	_, err = ps.OpenFamily(IPv6)
	require.Equal(t, errs.Unavailable, errs.CodeOf(err), "it rests")
	require.NoError(t, four.Close())

	only, err := NewPorts(PortsConfig{Listen: []netip.Addr{loopback}, From: 31032, To: 31033})
	require.NoError(t, err)
	_, err = only.OpenFamily(IPv6)
	require.Equal(t, errs.Unavailable, errs.CodeOf(err))
	require.ErrorContains(t, err, "media.listen has no IPv6 address")
	require.Equal(t, IPv4, only.Family(IPv6))
	require.False(t, only.Public(IPv6).IsValid())
}
