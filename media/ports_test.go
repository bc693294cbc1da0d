package media

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/errs"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func TestNewPortsJudgesItsRange(t *testing.T) {
	cases := []struct {
		name string
		cfg  PortsConfig
		want string // part of the message; empty: accepted
	}{
		{"one pair", PortsConfig{Listen: loopback, From: 20000, To: 20001}, ""},
		{"odd start", PortsConfig{Listen: loopback, From: 20001, To: 20003}, ""},
		{"last pair of all", PortsConfig{Listen: loopback, From: 65534, To: 65535}, ""},
		{"no listen", PortsConfig{From: 20000, To: 20001}, "media.listen"},
		{"no range", PortsConfig{Listen: loopback}, "media.rtpPorts"},
		{"backwards", PortsConfig{Listen: loopback, From: 20010, To: 20000}, "media.rtpPorts"},
		{"no even port with its odd one", PortsConfig{Listen: loopback, From: 20001, To: 20002}, "media.rtpPorts"},
		{"any address, none for SDP", PortsConfig{Listen: netip.MustParseAddr("0.0.0.0"), From: 20000, To: 20001}, "media.publicIP"},
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
		Listen: loopback, Public: netip.MustParseAddr("192.0.2.1"), From: 31001, To: 31006, Quarantine: time.Hour,
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
	ps, err := NewPorts(PortsConfig{Listen: loopback, From: 31010, To: 31011, Quarantine: time.Nanosecond})
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
	ps, err := NewPorts(PortsConfig{Listen: loopback, From: 31020, To: 31023})
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
