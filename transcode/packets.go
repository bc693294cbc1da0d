package transcode

import "tandem/media"

const (
	// longestPacket is how many samples of sound a phone is sent in one packet at most: 60 ms.
	longestPacket = 3 * frameMost
	// longestPayload is how many bytes they become.
	longestPayload = 1275 // the largest frame of Opus (RFC 6716 §3.2.1); those of the others are smaller
)

// packets makes packets of the length that a phone asks for out of whatever is 20 ms or not. It belongs to a downlink
// and its lock. What begins with a gap begins a packet: no packet tells less time than it holds.
type packets struct {
	pcm     []int16 // longestPacket, once a packet is not 20 ms
	n       int     // samples in it
	pos     int64   // of its first sample
	marker  bool
	payload []byte // as long as the longest so far
}

// packetSamples is how many samples make a packet: 10, 20, 30, 40 or 60 ms. Opus has no frame of 30.
func packetSamples(m media.PortMedia) int {
	rate := m.Speech.Rate()
	switch ms := int(m.PacketTime.Milliseconds()); {
	case ms == 10 || ms == 40 || ms == 60, ms == 30 && m.Speech != media.Opus:
		return ms * rate / 1000
	}
	return rate / 50
}

// timestamp is a position on the RTP clock.
func timestamp(m media.PortMedia, pos int64) uint32 {
	return uint32(pos * int64(m.Speech.Clock()) / int64(m.Speech.Rate()))
}

// packet sends what makes whole packets of 20 ms. It implements timelineOut.
func (d *downlink) packet(pos int64, marker bool, pcm []int16) {
	if !d.media.Send {
		return // on hold: the clock goes on, so that nothing goes back when the hold ends
	}
	quiet, begins := d.quiet(pos, pcm)
	if quiet {
		return
	}
	marker = marker || begins
	p, size := &d.packets, packetSamples(d.media)
	if p.n > 0 && (marker || pos != p.pos+int64(p.n)) {
		d.flush()
	}
	if p.n == 0 && len(pcm) == size {
		d.send(pos, marker, pcm) // as it is, without a copy
		return
	}
	if p.pcm == nil {
		p.pcm = make([]int16, longestPacket)
	}
	for len(pcm) > 0 {
		if p.n == 0 {
			p.pos, p.marker, marker = pos, marker, false
		}
		n := copy(p.pcm[p.n:size], pcm)
		p.n += n
		pos += int64(n)
		pcm = pcm[n:]
		if p.n == size {
			d.flush()
		}
	}
}

// flush sends what has begun: whatever comes next has another time, codec or length.
func (d *downlink) flush() {
	p := &d.packets
	if p.n == 0 {
		return
	}
	n := p.n
	if p.n = 0; d.media.Speech == media.Opus { // its frames have fixed lengths
		for _, ms := range [...]int{10, 20, 40, 60} {
			if whole := ms * wide / 1000; n <= whole {
				clear(p.pcm[n:whole])
				n = whole
				break
			}
		}
	}
	d.send(p.pos, p.marker, p.pcm[:n])
}

// room is where a packet of at most n bytes is made.
func (p *packets) room(n int) []byte {
	if len(p.payload) < n {
		p.payload = make([]byte, n)
	}
	return p.payload
}

// send encodes a packet, unless that was done for another phone that hears the same.
func (d *downlink) send(pos int64, marker bool, pcm []int16) {
	payload := d.sharing.take(&d.coder, pos, pcm)
	if payload == nil {
		room := d.packets.room(d.coder.most(len(pcm)))
		payload = room[:d.coder.encode(room, pcm)]
	}
	if len(payload) > 0 {
		d.phone.Send(d.media.Audio(), marker, timestamp(d.media, pos), payload)
	}
}
