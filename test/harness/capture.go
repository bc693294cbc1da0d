package harness

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/pion/rtp"
)

// Capture is what a phone sends, as RTP packets with their times. SIPp plays it from a file, as Bytes writes it.
type Capture struct {
	SSRC uint32

	packets []captured
	seq     uint16
	now     time.Duration
}

type captured struct {
	at     time.Duration
	packet []byte
}

// EventType is the payload type of the keys in captures.
const EventType = 101

// step is how often a phone sends a packet.
const step = 20 * time.Millisecond

// Sound appends PCMU in packets of 20 ms.
func (c *Capture) Sound(payload []byte) {
	for len(payload) > 0 {
		n := min(len(payload), Rate/50)
		c.send(0, false, uint32(c.now*Rate/time.Second), payload[:n])
		payload, c.now = payload[n:], c.now+step
	}
}

// Pause lets time pass in which nothing is sent.
func (c *Capture) Pause(d time.Duration) { c.now += d }

// KeyShape is how a phone sends a key, or what of it arrives (RFC 4733).
type KeyShape struct {
	Clock    int  // of telephone-event in Hz
	NoStart  bool // the first three packets are lost
	NoEnd    bool // every packet with the end bit is lost
	NoMarker bool // the marker is never set
	EndsOnly bool // nothing but the ends arrives
}

// keySteps are the packets before the ends of a key: 100 ms.
const keySteps = 5

// Key appends a key of 100 ms: an update each 20 ms, and three ends.
func (c *Capture) Key(code byte, s KeyShape) {
	ts := uint32(c.now * time.Duration(s.Clock) / time.Second)
	payload := func(steps int, end bool) []byte {
		p := []byte{code, 10, 0, 0} // -10 dBm0
		if end {
			p[1] |= 0x80
		}
		binary.BigEndian.PutUint16(p[2:], uint16(steps*s.Clock/50))
		return p
	}
	for n := 1; n <= keySteps; n++ {
		if s.EndsOnly || s.NoStart && n <= 3 {
			c.seq++
		} else {
			c.send(EventType, n == 1 && !s.NoMarker, ts, payload(n, false))
		}
		c.now += step
	}
	for range 3 {
		if s.NoEnd {
			c.seq++
		} else {
			c.send(EventType, false, ts, payload(keySteps, true))
		}
		c.now += step
	}
}

func (c *Capture) send(payloadType uint8, marker bool, ts uint32, payload []byte) {
	p := rtp.Packet{Payload: payload, Header: rtp.Header{
		Version: 2, PayloadType: payloadType, Marker: marker, SequenceNumber: c.seq, Timestamp: 1000 + ts, SSRC: c.SSRC,
	}}
	c.seq++
	raw, err := p.Marshal()
	if err != nil {
		panic(err) // a header without extensions always fits
	}
	c.packets = append(c.packets, captured{c.now, raw})
}

// Bytes is the capture as a pcap file: Ethernet, IPv4, UDP. Who plays it puts in addresses, ports and checksums.
func (c *Capture) Bytes() []byte {
	const port, heads = 4000, 14 + 20 + 8
	var b bytes.Buffer
	write := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v) // a buffer takes everything
		}
	}
	network := func(values ...uint16) {
		for _, v := range values {
			_ = binary.Write(&b, binary.BigEndian, v)
		}
	}
	write(uint32(0xa1b2c3d4), uint16(2), uint16(4), uint32(0), uint32(0), uint32(65535), uint32(1))
	for _, p := range c.packets {
		size := uint32(heads + len(p.packet))
		write(uint32(p.at/time.Second), uint32(p.at%time.Second/time.Microsecond), size, size)
		b.Write(make([]byte, 12))
		network(0x0800)
		network(0x4500, uint16(size-14), 0, 0, 64<<8|17, 0, 127<<8, 1, 127<<8, 1)
		network(port, port, uint16(8+len(p.packet)), 0)
		b.Write(p.packet)
	}
	return b.Bytes()
}
