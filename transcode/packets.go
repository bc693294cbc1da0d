package transcode

import "tandem/media"

// longestPacket is 60 ms of G.711, the longest packet that a phone is sent.
const longestPacket = 3 * frameSamples

// packets makes packets of the length that a phone asks for out of whatever is 20 ms or not. It belongs to a downlink
// and its lock. What begins with a gap begins a packet: no packet tells less time than it holds.
type packets struct {
	payload [longestPacket]byte
	n       int   // bytes in it
	pos     int64 // of its first sample
	marker  bool
}

// packetSamples is how many samples make a packet: 10, 20, 30, 40 or 60 ms.
func packetSamples(m media.PortMedia) int {
	switch ms := m.PacketTime.Milliseconds(); ms {
	case 10, 30, 40, 60:
		return int(ms) * frameSamples / 20
	}
	return frameSamples
}

// packet encodes 20 ms and sends what makes whole packets. It implements timelineOut.
func (d *downlink) packet(pos int64, marker bool, pcm []int16) {
	if !d.media.Send {
		return // on hold: the clock goes on, so that nothing goes back when the hold ends
	}
	p, size := &d.packets, packetSamples(d.media)
	if p.n > 0 && (marker || pos != p.pos+int64(p.n)) {
		d.flush()
	}
	for len(pcm) > 0 {
		if p.n == 0 {
			p.pos, p.marker, marker = pos, marker, false
		}
		n := min(len(pcm), size-p.n)
		compress(d.media.Law, p.payload[p.n:p.n+n], pcm[:n])
		p.n += n
		pos += int64(n)
		pcm = pcm[n:]
		if p.n == size {
			d.flush()
		}
	}
}

// flush sends what has begun: whatever comes next has another time, law or length.
func (d *downlink) flush() {
	p := &d.packets
	if p.n > 0 {
		d.phone.Send(d.media.Audio(), p.marker, uint32(p.pos), p.payload[:p.n])
		p.n = 0
	}
}
