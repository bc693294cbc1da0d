package sfu

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// batchPair is a port and somebody who hears what it sends.
func batchPair(tb testing.TB, ip string) (*batchConn, *net.UDPConn, netip.AddrPort) {
	tb.Helper()
	ear, to := port(tb, ip)
	require.NoError(tb, ear.SetReadBuffer(4<<20))
	conn, _ := port(tb, ip)
	c, err := newBatchConn(conn)
	require.NoError(tb, err)
	return c, ear, to
}

// numbers reads n packets of two numbers each.
func numbers(t *testing.T, ear *net.UDPConn, n int) (all [][2]uint32) {
	t.Helper()
	require.NoError(t, ear.SetReadDeadline(time.Now().Add(10*time.Second)))
	buf := make([]byte, 2000)
	for range n {
		k, err := ear.Read(buf)
		require.NoError(t, err, "%d of %d came", len(all), n)
		require.GreaterOrEqual(t, k, 8)
		all = append(all, [2]uint32{binary.BigEndian.Uint32(buf), binary.BigEndian.Uint32(buf[4:])})
	}
	return all
}

func numbered(who, i uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, who), i)
}

// What is written while the port is corked goes out when it is not any more, in order; a full batch goes before.
func TestBatchIsSent(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		c, ear, to := batchPair(t, ip)
		write := func(i uint32) {
			n, err := c.WriteToAddrPort(numbered(0, i), to)
			require.NoError(t, err)
			require.Equal(t, 8, n)
		}
		c.Cork()
		for i := range uint32(3) {
			write(i)
		}
		require.Equal(t, 3, c.waiting.n, "they wait")
		c.Uncork()
		write(3)
		require.Zero(t, c.waiting.n, "it does not")
		c.Cork()
		for i := uint32(4); i < 4+2*batchMost+5; i++ {
			write(i)
		}
		require.Equal(t, 5, c.waiting.n, "the full ones are gone")
		c.Cork()
		c.Uncork() // another publisher's
		require.Zero(t, c.waiting.n)
		c.Uncork()
		for i, got := range numbers(t, ear, 4+2*batchMost+5) {
			require.EqualValues(t, i, got[1])
		}
	}
}

// A packet that can't be sent costs no other one.
func TestBatchSurvivesAFault(t *testing.T) {
	c, ear, to := batchPair(t, "127.0.0.1")
	c.Cork()
	for i := range uint32(9) {
		where := to
		if i%3 == 1 {
			where = netip.AddrPortFrom(to.Addr(), 0) // nobody can be sent anything there
		}
		_, err := c.WriteToAddrPort(numbered(0, i), where)
		require.NoError(t, err)
	}
	c.Uncork()
	for i, got := range numbers(t, ear, 6) {
		require.EqualValues(t, []uint32{0, 2, 3, 5, 6, 8}[i], got[1])
	}
	require.NoError(t, c.Close())
	c.Cork()
	_, err := c.WriteToAddrPort(numbered(0, 1), to)
	require.NoError(t, err)
	c.Uncork() // it ends
}

// Many publishers and other writers at once: nothing is lost, nothing stays behind, and each one's order is kept.
func TestBatchOfManyWriters(t *testing.T) {
	const writers, rounds, packets = 8, 4, 60 // of a round no more than a kernel lets wait that nobody told to keep more
	c, ear, to := batchPair(t, "127.0.0.1")
	seen := make(map[uint32]int)
	for round := range uint32(rounds) {
		var all sync.WaitGroup
		for w := range uint32(writers) {
			all.Go(func() {
				for i := range uint32(packets) {
					if w%4 != 0 { // some never cork
						c.Cork()
					}
					_, _ = c.WriteToAddrPort(numbered(w, round*packets+i), to)
					if w%4 != 0 {
						c.Uncork()
					}
				}
			})
		}
		all.Wait()
		require.Zero(t, c.waiting.n)
		require.Zero(t, c.corked.Load())
		for _, got := range numbers(t, ear, writers*packets) {
			if got[0]%4 != 0 {
				require.EqualValues(t, seen[got[0]], got[1], "the order of one who corks")
			}
			seen[got[0]]++
		}
	}
	for w := range uint32(writers) {
		require.Equal(t, rounds*packets, seen[w])
	}
}

func TestBatchAllocatesNothing(t *testing.T) {
	c, _, to := batchPair(t, "127.0.0.1")
	packet := make([]byte, 100)
	allocs := testing.AllocsPerRun(1000, func() {
		c.Cork()
		for range 10 {
			_, _ = c.WriteToAddrPort(packet, to)
		}
		c.Uncork()
	})
	require.LessOrEqual(t, allocs, 1.0, "for ten packets: the race detector lets pools forget")
}

func BenchmarkBatch(b *testing.B) {
	for name, corked := range map[string]bool{"one by one": false, "ten at once": true} {
		b.Run(name, func(b *testing.B) {
			c, _, to := batchPair(b, "127.0.0.1")
			packet := make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				if corked {
					c.Cork()
				}
				for range 10 {
					_, _ = c.WriteToAddrPort(packet, to)
				}
				if corked {
					c.Uncork()
				}
			}
		})
	}
}
