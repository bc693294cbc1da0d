package load

import (
	"container/heap"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Relay is a bad network between two ends that speak UDP, such as RTP. Each end sends to the relay's socket on its own side;
// an end whose address is not known beforehand is where its first packet comes from.
type Relay struct {
	sides [2]*relaySide
	start time.Time
	once  sync.Once
	done  chan struct{}
	work  sync.WaitGroup
}

// relaySide is one end's socket and the way to that end.
type relaySide struct {
	conn *net.UDPConn
	held chan heldPacket // to this end, not yet due

	mu   sync.Mutex // guards all below
	peer netip.AddrPort
	net  *Network // from this end
	hole [2]time.Duration
}

// heldPacket waits until it is due.
type heldPacket struct {
	due   time.Time
	order int
	data  []byte
}

// mostHeld is how many packets may wait for the one that delivers them; more would be lost uncounted, as a kernel loses them.
const mostHeld = 4096

// NewRelay relays between two ends. The weathers are those of the packets from the first to the second, and back. The zero
// AddrPort stands for an end that speaks first. Close must be called.
func NewRelay(first, second netip.AddrPort, there, back Weather) (*Relay, error) {
	r := &Relay{start: time.Now(), done: make(chan struct{})}
	for i, end := range []struct {
		peer    netip.AddrPort
		weather Weather
	}{{first, there}, {second, back}} {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			if i == 1 {
				_ = r.sides[0].conn.Close()
			}
			return nil, fmt.Errorf("load: relay: %w", err)
		}
		_ = conn.SetReadBuffer(socketBytes) // as much of it as the kernel allows
		r.sides[i] = &relaySide{conn: conn, peer: end.peer, net: NewNetwork(end.weather), held: make(chan heldPacket, mostHeld)}
	}
	for i, from := range r.sides {
		to := r.sides[1-i]
		r.work.Go(func() { r.pump(from, to) })
		r.work.Go(func() { r.deliver(to) })
	}
	return r, nil
}

// First is where the first end sends to, Second where the second does.
func (r *Relay) First() netip.AddrPort { return r.sides[0].addr() }

// Second is where the second end sends to.
func (r *Relay) Second() netip.AddrPort { return r.sides[1].addr() }

// Counts says what became of the packets from the first to the second end, and back.
func (r *Relay) Counts() (there, back Count) { return r.sides[0].counted(), r.sides[1].counted() }

// Hole loses, and counts as lost, all that the first end sends from a time on, since the relay's start, for so long.
func (r *Relay) Hole(from, length time.Duration) {
	s := r.sides[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hole = [2]time.Duration{from, from + length}
}

// Close ends the relay; what is still held back is lost.
func (r *Relay) Close() {
	r.once.Do(func() {
		close(r.done)
		for _, s := range r.sides {
			_ = s.conn.Close()
		}
	})
	r.work.Wait()
}

func (s *relaySide) addr() netip.AddrPort {
	a, _ := netip.ParseAddrPort(s.conn.LocalAddr().String())
	return a
}

func (s *relaySide) counted() Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.net.Count()
}

// draw decides about a packet of this end, and learns where it is.
func (s *relaySide) draw(from netip.AddrPort, at time.Duration) (copies int, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.peer.IsValid() {
		s.peer = from
	}
	copies, delay = s.net.Packet(at)
	if copies > 0 && at >= s.hole[0] && at < s.hole[1] {
		s.net.count.Lost++
		return 0, 0
	}
	return copies, delay
}

// write sends to this end, if it is known.
func (s *relaySide) write(data []byte) {
	s.mu.Lock()
	peer := s.peer
	s.mu.Unlock()
	if peer.IsValid() {
		_, _ = s.conn.WriteToUDPAddrPort(data, peer) // a port that is gone shows as loss
	}
}

// pump reads what one end sends until the relay is closed.
func (r *Relay) pump(from, to *relaySide) {
	buf := make([]byte, 1<<16)
	for order := 0; ; order++ {
		n, source, err := from.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		now := time.Now()
		copies, delay := from.draw(source, now.Sub(r.start))
		for range copies {
			if delay == 0 {
				to.write(buf[:n])
				continue
			}
			select {
			case to.held <- heldPacket{now.Add(delay), order, append([]byte(nil), buf[:n]...)}:
			default:
			}
		}
	}
}

// deliver sends what was held back when it is due.
func (r *Relay) deliver(to *relaySide) {
	var waiting heldPackets
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		for len(waiting) > 0 && !time.Now().Before(waiting[0].due) {
			p, _ := heap.Pop(&waiting).(heldPacket)
			to.write(p.data)
		}
		if len(waiting) > 0 {
			timer.Reset(time.Until(waiting[0].due))
		}
		select {
		case <-r.done:
			return
		case p := <-to.held:
			heap.Push(&waiting, p)
		case <-timer.C:
		}
	}
}

// heldPackets is a heap, the next one due first.
type heldPackets []heldPacket

func (h heldPackets) Len() int { return len(h) }

func (h heldPackets) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].order < h[j].order
}

func (h heldPackets) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is heap.Interface's.
func (h *heldPackets) Push(x any) {
	p, _ := x.(heldPacket)
	*h = append(*h, p)
}

// Pop is heap.Interface's.
func (h *heldPackets) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
