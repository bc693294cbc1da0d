package media

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// sender writes RTP to a socket. It never waits: the kernel takes a packet at once or it is lost, as on the wire.
type sender struct {
	mu      sync.Mutex
	raw     syscall.RawConn
	write   func(fd uintptr) bool // made once, so that a packet costs no closure
	packet  []byte                // what write sends
	buf     []byte                // as long as the longest packet so far, at least
	to      *netip.AddrPort       // the target that addr was made from
	addr    syscall.Sockaddr
	v4      syscall.SockaddrInet4
	v6      syscall.SockaddrInet6
	err     error // of the last write
	ssrc    uint32
	seq     uint16  // of the next packet
	roc     uint32  // how often seq began anew
	index   uint32  // of the last SRTCP packet
	sealer  *sealer // nil: plain RTP
	offset  uint32  // added to the caller's timestamps
	clock   uint32  // timestamp units in a second; 0: 8000
	anew    bool    // another caller: its timestamps have another start
	last    uint32  // timestamp of the last packet on the wire
	lastAt  time.Time
	packets uint32
	octets  uint32
	left    uint32 // sequence numbers that lose left out
	is6     bool   // the socket is IPv6
}

func (s *sender) open(c *net.UDPConn, ssrc uint32, seq uint16, offset uint32) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		s.is6 = a.IP.To4() == nil
	}
	s.raw, s.ssrc, s.seq, s.offset = raw, ssrc, seq, offset
	s.write = func(fd uintptr) bool {
		s.err = syscall.Sendto(int(fd), s.packet, syscall.MSG_DONTWAIT, s.addr)
		return true
	}
	return nil
}

// send writes one packet (RFC 3550 §5.1). It refuses a timestamp before the last one's. That of a key counts on the clock
// of its payload type, since its durations do (RFC 4733 §2.1).
func (s *sender) send(to *netip.AddrPort, payloadType uint8, marker bool, ts uint32, key KeyTime, payload []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.anew && s.packets > 0 {
		s.offset = s.at(now) - ts
	}
	s.anew = false
	ts += s.offset
	if s.packets > 0 && int32(ts-s.last) < 0 {
		return false
	}
	if to != s.to && !s.aim(to) {
		return false
	}
	s.room(12 + len(payload))
	s.buf[0] = 2 << 6
	s.buf[1] = payloadType & 0x7f
	if marker {
		s.buf[1] |= 0x80
	}
	binary.BigEndian.PutUint16(s.buf[2:], s.seq)
	binary.BigEndian.PutUint32(s.buf[4:], key.timestamp(ts, s.rate()))
	binary.BigEndian.PutUint32(s.buf[8:], s.ssrc)
	s.packet = s.buf[:12+copy(s.buf[12:], payload)]
	if s.sealer != nil {
		if s.packet = s.sealer.seal(s.packet); s.packet == nil {
			return false
		}
	}
	if s.seq++; s.seq == 0 {
		s.roc++
	}
	s.last, s.lastAt = ts, now
	s.err = nil
	if err := s.raw.Write(s.write); err != nil || s.err != nil {
		return false // the sequence number stays used: to the far end the packet is lost
	}
	s.packets++
	s.octets += uint32(len(payload))
	return true
}

// room makes buf long enough for a packet of n bytes. Those of G.711 are short.
func (s *sender) room(n int) {
	const step = 256
	if len(s.buf) < n {
		s.buf = make([]byte, (n+step-1)/step*step)
	}
}

// timestamp is what a packet of a key has that began at ts on the clock of the sound.
func (k KeyTime) timestamp(ts, clock uint32) uint32 {
	if k.Clock != 0 && k.Clock != clock {
		ts = uint32(uint64(ts) * uint64(k.Clock) / uint64(clock))
	}
	return ts + k.Past
}

// aim makes the kernel's form of an address.
func (s *sender) aim(to *netip.AddrPort) bool {
	switch {
	case s.is6 && to.Addr().Is6():
		s.v6 = syscall.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		s.addr = &s.v6
	case !s.is6 && to.Addr().Is4():
		s.v4 = syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		s.addr = &s.v4
	default:
		return false
	}
	s.to = to
	return true
}

// sent is what a sender report tells (RFC 3550 §6.4.1).
type sent struct {
	ssrc, timestamp, packets, octets uint32
	left                             uint32 // sequence numbers left out
}

// report returns the state for a sender report at now.
func (s *sender) report(now time.Time) sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := sent{ssrc: s.ssrc, packets: s.packets, octets: s.octets, left: s.left}
	if s.packets > 0 {
		r.timestamp = s.at(now)
	}
	return r
}

// at is the timestamp of a moment after the first packet. s.mu is held.
func (s *sender) at(now time.Time) uint32 {
	return s.last + uint32(now.Sub(s.lastAt).Microseconds()*int64(s.rate()/1000)/1000)
}

// lose leaves sequence numbers out, a few thousand at most: a far end would take more for a new stream.
func (s *sender) lose(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.seq
	n = max(0, min(n, 3000))
	s.left += uint32(n)
	if s.seq += uint16(n); s.seq < before {
		s.roc++
	}
}

// rate is the clock of the sound.
func (s *sender) rate() uint32 {
	if s.clock == 0 {
		return 8000
	}
	return s.clock
}

// count changes the clock of the sound. The timestamps go on from where they are: the caller's have another meaning now.
func (s *sender) count(clock int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rate := uint32(clock); rate != s.rate() {
		s.clock, s.anew = rate, true
	}
}

// begin lets the next packet, whatever its timestamp, follow the last one in real time.
func (s *sender) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.anew = true
}

// secure changes the key of what is sent; nil: plain RTP. The same key goes on.
func (s *sender) secure(key *SRTPKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case key == nil:
		s.sealer = nil
	case s.sealer == nil || !s.sealer.key.Equal(key):
		s.sealer = newSealer(key, s.ssrc, s.roc, s.index)
	}
}

// sealReport returns the form of a compound RTCP packet that goes on the wire; nil: it must not.
func (s *sender) sealReport(b []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealer == nil {
		return b
	}
	if s.sealer.ctx == nil {
		return nil
	}
	sealed, err := s.sealer.ctx.EncryptRTCP(nil, b, nil)
	if err != nil {
		return nil
	}
	s.index, _ = s.sealer.ctx.Index(s.ssrc)
	return sealed
}
