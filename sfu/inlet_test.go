package sfu

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func sound(ssrc uint32, sequence uint16) []byte {
	b := []byte{0x80, 111}
	b = binary.BigEndian.AppendUint16(b, sequence)
	b = binary.BigEndian.AppendUint32(b, uint32(sequence)*960)
	return append(binary.BigEndian.AppendUint32(b, ssrc), "voice"...)
}

func sequence(packet []byte) int { return int(binary.BigEndian.Uint16(packet[2:])) }

// An inlet gets the sound of its stream, from where that comes, and nothing else.
func TestInletTakesItsStream(t *testing.T) {
	from, elsewhere := netip.MustParseAddrPort("192.0.2.1:5000"), netip.MustParseAddrPort("192.0.2.1:5001")
	table := newInlets()
	i, other := table.open(from, 70), table.open(elsewhere, 70)
	require.False(t, table.take(sound(70, 1), from), "Pion gets the first too")
	require.False(t, table.take(sound(70, 1), elsewhere))
	for _, i := range []*inlet{i, other} {
		packet, state := i.next()
		require.Equal(t, inletOpen, state)
		require.Equal(t, sound(70, 1), packet)
	}
	rtcp := sound(70, 1)
	rtcp[1] = 200
	stun := append(make([]byte, 8), sound(70, 1)...)
	for name, packet := range map[string][]byte{
		"RTCP": rtcp, "STUN": stun, "DTLS": append([]byte{22}, sound(70, 1)...), "another stream": sound(71, 1), "too short": sound(70, 1)[:11], "nothing": nil,
	} {
		require.False(t, table.take(packet, from), name)
	}
	mapped := netip.AddrPortFrom(netip.AddrFrom16(from.Addr().As16()), from.Port())
	require.True(t, table.take(sound(70, 2), mapped), "as a socket for both families has it")
	require.True(t, table.take(sound(70, 3), from))
	require.True(t, table.take(sound(70, 3), elsewhere))
	for n := 2; n <= 3; n++ {
		packet, state := i.next()
		require.Equal(t, inletOpen, state)
		require.Equal(t, sound(70, uint16(n)), packet)
	}
	packet, _ := other.next()
	require.Equal(t, sound(70, 3), packet)

	require.False(t, table.take(sound(70, turnMask+1), from), "and one of each turn")
	packet, _ = i.next()
	require.Equal(t, turnMask+1, sequence(packet))
}

// A stream whose SSRC nobody else has is known by that alone.
func TestInletOfABrowserBehindANAT(t *testing.T) {
	from, elsewhere, nowhere := netip.MustParseAddrPort("192.0.2.1:5000"), netip.MustParseAddrPort("192.0.2.1:5001"), netip.MustParseAddrPort("192.0.2.1:5002")
	table := newInlets()
	i := table.open(from, 70)
	table.take(sound(70, 1), from)
	require.True(t, table.take(sound(70, 2), nowhere))
	require.False(t, table.take(sound(71, 2), nowhere))
	other := table.open(elsewhere, 70)
	require.False(t, table.take(sound(70, 3), nowhere), "whose?")
	require.True(t, table.take(sound(70, 3), from))
	other.close()
	require.True(t, table.take(sound(70, 4), nowhere))
	for n := range 4 {
		packet, _ := i.next()
		require.Equal(t, n+1, sequence(packet))
	}
	i.close()
	require.False(t, table.take(sound(70, 5), nowhere))
	require.Empty(t, table.alone)
}

// What waits too long goes, the oldest first.
func TestInletIsBounded(t *testing.T) {
	from := netip.MustParseAddrPort("192.0.2.1:5000")
	table := newInlets()
	i := table.open(from, 70)
	for n := range inletMost + 10 {
		require.Equal(t, n > 0, table.take(sound(70, uint16(n+1)), from))
	}
	for n := range inletMost {
		packet, _ := i.next()
		require.Equal(t, n+11, sequence(packet))
	}
	require.Empty(t, i.waiting)
}

// An inlet goes with its browser, and its end leaves nothing behind.
func TestInletMoves(t *testing.T) {
	here, there := netip.MustParseAddrPort("192.0.2.1:5000"), netip.MustParseAddrPort("[2001:db8::1]:5000")
	table := newInlets()
	i := table.open(here, 70)
	require.False(t, table.take(sound(70, 1), here))
	i.move(here)
	i.move(there)
	require.True(t, table.take(sound(70, 2), here), "which was on its way")
	require.True(t, table.take(sound(70, 3), there))
	for _, n := range []int{1, 2, 3} {
		packet, _ := i.next()
		require.Equal(t, n, sequence(packet))
	}
	packet, state := i.next()
	require.Nil(t, packet, "Pion may have had some")
	require.Equal(t, inletOpen, state)

	next := table.open(there, 70) // a stream anew before the old one has ended
	require.False(t, table.take(sound(70, 4), there))
	i.move(netip.AddrPort{})
	require.True(t, table.take(sound(70, 5), there))
	_, state = i.next()
	require.Equal(t, inletLeft, state)
	i.move(here)
	_, state = i.next()
	require.Equal(t, inletLeft, state, "for good")
	i.close()
	_, state = i.next()
	require.Equal(t, inletOver, state)
	require.False(t, i.put(sound(70, 6)))

	next.close()
	_, state = next.next()
	require.Equal(t, inletOver, state, "what waits is nobody's any more")
	require.False(t, table.take(sound(70, 7), there))
	require.Empty(t, table.known)
	require.Empty(t, table.changes)
}

// Packets come while streams begin, move and end; each reader sees its own, in order.
func TestInletsAtOnce(t *testing.T) {
	table := newInlets()
	var reading, moving sync.WaitGroup
	var all []*inlet
	for n := range uint16(8) {
		i := table.open(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 5000+n), uint32(n))
		all = append(all, i)
		reading.Go(func() {
			last := -1
			for {
				packet, state := i.next()
				if state == inletOver {
					return
				}
				if packet != nil {
					if binary.BigEndian.Uint32(packet[8:]) != uint32(n) || sequence(packet) <= last {
						t.Errorf("stream %d: %x after %d", n, packet, last)
					}
					last = sequence(packet)
				}
			}
		})
		moving.Go(func() {
			for k := range uint16(100) {
				i.move(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 5000+n+8*(k%2)))
			}
		})
	}
	for s := range uint16(1000) {
		for n := range uint16(8) {
			table.take(sound(uint32(n), s+1), netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 5000+n))
		}
	}
	moving.Wait()
	for _, i := range all {
		i.close()
	}
	reading.Wait()
	require.False(t, table.take(sound(1, 1), netip.MustParseAddrPort("192.0.2.1:5001")))
	require.Empty(t, table.known)
}

func TestInletAllocatesNothing(t *testing.T) {
	from := netip.MustParseAddrPort("192.0.2.1:5000")
	table := newInlets()
	i := table.open(from, 70)
	packet := sound(70, 1)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		table.take(packet, from)
		table.take(packet, from)
		_, _ = i.next()
		_, _ = i.next()
	}))
}

func TestRollover(t *testing.T) {
	var r rollover
	for _, c := range []struct {
		sequence uint16
		count    uint32
	}{{2, 0}, {65535, 0}, {30000, 0}, {60000, 0}, {5, 1}, {65000, 0}, {6, 1}, {32000, 1}, {64000, 1}, {63000, 1}, {100, 2}} {
		require.Equal(t, c.count, r.of(c.sequence), "at %d", c.sequence)
	}
}
