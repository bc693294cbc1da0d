package sfu

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// port is a UDP socket of a test.
func port(tb testing.TB, at string) (*net.UDPConn, netip.AddrPort) {
	tb.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(at), 0)))
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	return conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// What waits at the port is read in one system call, as far as there is room, in order, each packet with the address that it came from:
// as a read of the socket by itself gives it.
func TestArrivals(t *testing.T) {
	for _, c := range []struct{ at, from string }{{"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}, {"::", "127.0.0.1"}, {"::", "::1"}} {
		t.Run(c.from+" to "+c.at, func(t *testing.T) {
			conn, local := port(t, c.at)
			a, err := newArrivals(conn)
			require.NoError(t, err)
			to := netip.AddrPortFrom(netip.MustParseAddr(c.from), local.Port())
			first, second := [2]*net.UDPConn{}, [2]netip.AddrPort{}
			for i := range first {
				first[i], _ = port(t, c.from)
				_, err := first[i].WriteToUDPAddrPort([]byte{1}, to)
				require.NoError(t, err)
				_, second[i], err = conn.ReadFromUDPAddrPort(make([]byte, 10))
				require.NoError(t, err)
			}
			const all = 2*arrivalsMost + 5
			for i := range all {
				_, err := first[i%2].WriteToUDPAddrPort(bytes.Repeat([]byte{byte(i)}, 100*i), to)
				require.NoError(t, err)
			}
			for i := range all {
				packet, from, err := a.next()
				require.NoError(t, err)
				require.Equal(t, bytes.Repeat([]byte{byte(i)}, 100*i), append([]byte{}, packet...))
				require.Equal(t, second[i%2], from)
				require.Equal(t, min(arrivalsMost, all-i/arrivalsMost*arrivalsMost), a.came)
			}
		})
	}
}

// An address of one link alone has the name of its interface, or its number where that is gone, as the net package has it.
func TestArrivalsZone(t *testing.T) {
	conn, _ := port(t, "::1")
	a, err := newArrivals(conn)
	require.NoError(t, err)
	loopback, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	for scope, zone := range map[uint32]string{uint32(loopback.Index): "lo", 1 << 30: "1073741824"} {
		var from address
		binary.NativeEndian.PutUint16(from[:], unix.AF_INET6)
		binary.BigEndian.PutUint16(from[2:], 5004)
		ip := netip.MustParseAddr("fe80::1").As16()
		copy(from[8:], ip[:])
		binary.NativeEndian.PutUint32(from[24:], scope)
		for range 2 {
			require.Equal(t, netip.MustParseAddrPort("[fe80::1%"+zone+"]:5004"), a.source(&from))
		}
	}
}

// Who waits gets what comes then, and that the port is closed.
func TestArrivalsWait(t *testing.T) {
	conn, to := port(t, "127.0.0.1")
	far, from := port(t, "127.0.0.1")
	a, err := newArrivals(conn)
	require.NoError(t, err)
	type arrival struct {
		packet string
		from   netip.AddrPort
	}
	came := make(chan arrival)
	ended := make(chan error)
	go func() {
		for {
			packet, from, err := a.next()
			if err != nil {
				ended <- err
				return
			}
			came <- arrival{string(packet), from}
		}
	}()
	for _, said := range []string{"one", "", "another"} {
		_, err := far.WriteToUDPAddrPort([]byte(said), to)
		require.NoError(t, err)
		require.Equal(t, arrival{said, from}, <-came)
	}
	require.NoError(t, conn.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
}

// A packet that is read costs nothing on the heap.
func TestArrivalsAllocNothing(t *testing.T) {
	conn, to := port(t, "127.0.0.1")
	far, _ := port(t, "127.0.0.1")
	a, err := newArrivals(conn)
	require.NoError(t, err)
	said := make([]byte, 172)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		for range 3 {
			_, _ = far.WriteToUDPAddrPort(said, to)
		}
		for range 3 {
			if packet, _, err := a.next(); err != nil || len(packet) != len(said) {
				t.Error("a packet has not come")
			}
		}
	}))
}
