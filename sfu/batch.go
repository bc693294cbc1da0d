package sfu

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// batchMost is how many packets go out in one system call at most.
const batchMost = 32

// batchConn is the UDP port of all browsers. While it is corked, what is written waits, and goes out in one system call
// (sendmmsg) when the cork is taken out: a packet that many listen to is many packets at once. What has come is read in one, too, and what
// is of streams that have an inlet goes there. It implements ice.AddrPortReaderWriter and media.Batch.
type batchConn struct {
	*net.UDPConn
	writeBatch func([]ipv4.Message, int) (int, error)
	arrivals   *arrivals // of who reads
	inlets     *inlets

	corked atomic.Int32 // changes under mu

	sending sync.Mutex // taken before mu: batches go out in the order in which they were filled
	spare   *batch     // under sending

	mu      sync.Mutex // held for a copy, never for a system call
	waiting *batch
}

// batch is what goes out together.
type batch struct {
	n        int
	messages [batchMost]ipv4.Message
	to       [batchMost]net.UDPAddr
	ip       [batchMost][16]byte
	data     [batchMost][packetSize]byte
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.messages {
		b.messages[i].Buffers = [][]byte{nil}
		b.messages[i].Addr = &b.to[i]
	}
	return b
}

// add takes a packet in; to is not empty and b is not full.
func (b *batch) add(packet []byte, to netip.AddrPort) {
	i := b.n
	b.n++
	b.messages[i].Buffers[0] = b.data[i][:copy(b.data[i][:], packet)]
	addr := to.Addr().Unmap()
	b.ip[i] = addr.As16()
	b.to[i].IP, b.to[i].Port, b.to[i].Zone = b.ip[i][:], int(to.Port()), addr.Zone()
}

func newBatchConn(conn *net.UDPConn) (*batchConn, error) {
	arrivals, err := newArrivals(conn)
	if err != nil {
		return nil, err
	}
	c := &batchConn{UDPConn: conn, arrivals: arrivals, inlets: newInlets(), waiting: newBatch(), spare: newBatch()}
	if local, ok := conn.LocalAddr().(*net.UDPAddr); ok && local.IP.To4() == nil {
		c.writeBatch = ipv6.NewPacketConn(conn).WriteBatch
	} else {
		c.writeBatch = ipv4.NewPacketConn(conn).WriteBatch
	}
	return c, nil
}

// ReadFromAddrPort implements ice.AddrPortReaderWriter. It returns what no inlet takes; one goroutine calls it.
func (c *batchConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	for {
		packet, from, err := c.arrivals.next()
		if err != nil {
			return 0, netip.AddrPort{}, err
		}
		if !c.inlets.take(packet, from) {
			return copy(b, packet), from, nil
		}
	}
}

// WriteToAddrPort implements ice.AddrPortReaderWriter. What fails of a batch is lost, as on the way.
func (c *batchConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if c.corked.Load() == 0 || len(b) > packetSize {
		return c.WriteToUDPAddrPort(b, to)
	}
	c.mu.Lock()
	for c.waiting.n == batchMost {
		c.mu.Unlock()
		c.flush()
		c.mu.Lock()
	}
	if c.corked.Load() == 0 {
		c.mu.Unlock()
		return c.WriteToUDPAddrPort(b, to)
	}
	c.waiting.add(b, to)
	c.mu.Unlock()
	return len(b), nil
}

// Cork lets what is written wait for Uncork.
func (c *batchConn) Cork() {
	c.mu.Lock()
	c.corked.Add(1)
	c.mu.Unlock()
}

// Uncork sends what waits, whoever wrote it.
func (c *batchConn) Uncork() {
	c.mu.Lock()
	c.corked.Add(-1)
	c.mu.Unlock()
	c.flush()
}

// flush sends what waits.
func (c *batchConn) flush() {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	b, n := c.waiting, c.waiting.n
	if n > 0 {
		c.waiting = c.spare
	}
	c.mu.Unlock()
	if n == 0 {
		return
	}
	for rest := b.messages[:n]; len(rest) > 0; {
		n, err := c.writeBatch(rest, 0)
		if err != nil {
			n = max(n, 0) + 1 // the first that was not sent never will be
		}
		rest = rest[min(max(n, 1), len(rest)):]
	}
	b.n = 0
	c.spare = b
}
