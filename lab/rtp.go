package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
)

const (
	maxBehind    = 200 * time.Millisecond // a sender that is later than this leaves frames out
	maxPlay      = 10 * 60 * sampleRate   // samples that Play keeps at most
	maxFrame     = 6 * frameSamples       // the longest packet we decode: 120 ms
	portAttempts = 50
)

// stream is the RTP of one call: a goroutine that sends and one that receives, once started.
type stream struct {
	conn     *net.UDPConn
	rtcp     *net.UDPConn // held so that nobody else gets the port after ours
	local    netip.AddrPort
	media    atomic.Pointer[agreed]
	recorder *recorder
	keys     chan byte // written and closed by the receiving goroutine

	sent, received atomic.Int64

	mu       sync.Mutex // guards all below; never shared between calls
	source   Source
	play     []int16
	keySend  keySender
	keyStart uint32
	echo     bool // packets are sent back as they come in, instead of audio of our own
	echoing  bool // the first one was
	header   rtp.Header
	next     uint32 // timestamp of the next frame of our own
	inSSRC   uint32
	tsShift  uint32
	seqShift uint16
	packet   [12 + maxFrame]byte
}

func newStream(host netip.Addr, limit time.Duration) (*stream, error) {
	conn, rtcp, err := bindPair(host)
	if err != nil {
		return nil, err
	}
	local, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	return &stream{
		conn: conn, rtcp: rtcp, local: local,
		recorder: newRecorder(limit),
		keys:     make(chan byte, maxKeyQueue),
		header:   rtp.Header{Version: 2, SSRC: rand.Uint32(), SequenceNumber: uint16(rand.Uint32()), Marker: true},
		next:     rand.Uint32(),
	}, nil
}

// bindPair finds an even port whose odd neighbour is free too (RFC 3550 §11).
func bindPair(host netip.Addr) (even, odd *net.UDPConn, err error) {
	for range portAttempts {
		even, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
		if err != nil {
			return nil, nil, fmt.Errorf("lab: bind RTP: %w", err)
		}
		addr, _ := netip.ParseAddrPort(even.LocalAddr().String())
		if addr.Port()%2 == 0 {
			odd, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, addr.Port()+1)))
			if err == nil {
				return even, odd, nil
			}
		}
		_ = even.Close()
	}
	return nil, nil, fmt.Errorf("lab: no free pair of RTP ports in %d attempts", portAttempts)
}

// close frees the ports, which also ends the receiving goroutine.
func (s *stream) close() {
	_ = s.conn.Close()
	_ = s.rtcp.Close()
}

// send paces the frames of our own on absolute deadlines until stop is closed, or the echo has taken over.
func (s *stream) send(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		if behind := time.Since(due); behind > maxBehind {
			skipped := behind / frameTime
			due = due.Add(skipped * frameTime)
			s.skip(uint32(skipped) * frameSamples)
		}
		if !s.sendFrame() {
			return
		}
		due = due.Add(frameTime)
		timer.Reset(time.Until(due))
	}
}

func (s *stream) skip(samples uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next += samples
}

// sendFrame sends the next 20 ms. It returns false once the echo has taken over.
func (s *stream) sendFrame() bool {
	m := s.media.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.echoing {
		return false
	}
	timestamp := s.next
	s.next += frameSamples
	var key [4]byte
	payload := s.packet[12 : 12+frameSamples]
	s.header.PayloadType = uint8(m.law)
	first, isKey := false, false
	if m.events >= 0 {
		first, isKey = s.keySend.next(&key)
	}
	var frame [frameSamples]int16
	switch {
	case len(s.play) > 0:
		s.play = s.play[copy(frame[:], s.play):]
	case s.source != nil:
		s.source(frame[:])
	}
	if isKey {
		if first {
			s.keyStart, s.header.Marker = timestamp, true
		}
		timestamp = s.keyStart
		s.header.PayloadType = uint8(m.events)
		payload = payload[:copy(payload, key[:])]
	} else {
		m.law.encode(payload, frame[:])
	}
	s.header.Timestamp = timestamp
	if m.send {
		s.write(m, payload)
	}
	return true
}

// write sends header and payload, which already lies at s.packet[12:]. The caller holds mu.
func (s *stream) write(m *agreed, payload []byte) {
	if _, err := s.header.MarshalTo(s.packet[:12]); err != nil {
		return
	}
	s.header.SequenceNumber++
	s.header.Marker = false
	// An error here is the far end's port being gone; signalling will tell.
	if _, err := s.conn.WriteToUDPAddrPort(s.packet[:12+len(payload)], m.remote); err == nil {
		s.sent.Add(1)
	}
}

// receive reads packets until close.
func (s *stream) receive() {
	defer close(s.keys)
	var (
		buf     [2048]byte
		samples [maxFrame]int16
		keys    keyReader
		keySSRC uint32
		p       rtp.Packet
	)
	for {
		n, _, err := s.conn.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			return
		}
		if p.Unmarshal(buf[:n]) != nil || p.Version != 2 || len(p.Payload) == 0 || len(p.Payload) > maxFrame {
			continue
		}
		m := s.media.Load()
		isAudio := p.PayloadType == uint8(m.law)
		if !isAudio && int(p.PayloadType) != m.events {
			continue
		}
		s.received.Add(1)
		s.reflect(m, &p)
		if isAudio {
			m.law.decode(samples[:len(p.Payload)], p.Payload)
			s.recorder.write(p.SSRC, p.Timestamp, samples[:len(p.Payload)])
			continue
		}
		if p.SSRC != keySSRC {
			keys, keySSRC = keyReader{}, p.SSRC
		}
		if digit, ok := keys.read(p.Timestamp, p.Payload); ok {
			select {
			case s.keys <- digit:
			default: // nobody listens
			}
		}
	}
}

// reflect sends p back when the call is an echo. Sequence and timestamp are shifted, not made anew, so that what was
// lost or reordered on the way here can still be seen.
func (s *stream) reflect(m *agreed, p *rtp.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.echo || !m.send {
		return
	}
	if !s.echoing || p.SSRC != s.inSSRC {
		if s.echoing {
			s.next = s.header.Timestamp + frameSamples
		}
		s.echoing, s.inSSRC = true, p.SSRC
		s.tsShift, s.seqShift = s.next-p.Timestamp, s.header.SequenceNumber-p.SequenceNumber
	}
	s.header.SequenceNumber = p.SequenceNumber + s.seqShift
	s.header.Timestamp = p.Timestamp + s.tsShift
	s.header.PayloadType, s.header.Marker = p.PayloadType, p.Marker
	payload := s.packet[12 : 12+len(p.Payload)]
	copy(payload, p.Payload)
	s.write(m, payload)
}

func (s *stream) setEcho() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.echo = true
}

func (s *stream) setSource(f Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source = f
}

// queuePlay appends samples; what is over the limit is dropped.
func (s *stream) queuePlay(samples []int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := max(0, maxPlay-len(s.play))
	s.play = append(slices.Clip(s.play), samples[:min(room, len(samples))]...)
}

func (s *stream) queueKeys(events []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keySend.queue)+len(events) > maxKeyQueue {
		return fmt.Errorf("lab: more than %d keys are waiting", maxKeyQueue)
	}
	s.keySend.queue = append(slices.Clip(s.keySend.queue), events...)
	return nil
}
