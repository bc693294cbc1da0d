package transcode

import (
	"time"

	"github.com/pion/rtp"
)

const (
	// orderHeld is how many packets wait for one that is missing before them.
	orderHeld = 2
	// orderKept is how long a source that sent packets in disorder is expected to do so again.
	orderKept = 10 * time.Second
	// orderWait is how long they wait at most, should nothing come that ends it.
	orderWait = (orderHeld + 1) * frameTime
)

// orderly takes the packets of a source in their order, but for those that come too late.
type orderly interface {
	inOrder(p *rtp.Packet, now time.Time)
}

// order brings packets back into their order: behind a gap they wait for what is missing, if the source has sent packets in
// disorder lately. Otherwise nothing waits. It belongs to the goroutine that brings the packets.
type order struct {
	begun bool
	ssrc  uint32
	seq   uint16    // of the last packet that was given on
	until time.Time // disorder is expected so long
	held  [orderHeld]*rtp.Packet
	n     int // of held, by their numbers
	since time.Time
}

// take takes the next packet.
func (o *order) take(p *rtp.Packet, now time.Time, to orderly) {
	if o.n > 0 && now.Sub(o.since) > orderWait {
		o.flush(now, to)
	}
	step := int16(p.SequenceNumber - o.seq)
	switch {
	case !o.begun || p.SSRC != o.ssrc || step < -seqJump || step > seqJump:
		o.flush(now, to)
		o.begun, o.ssrc = true, p.SSRC
	case step <= 0:
		if step < 0 { // a repetition is no disorder
			o.until = now.Add(orderKept)
		}
		to.inOrder(p, now) // to be counted
		return
	case step > 1 && (o.n > 0 || now.Before(o.until)):
		o.hold(p, now, to)
		return
	}
	o.give(p, now, to)
	o.follow(now, to)
}

// beside notes a packet that does not wait, nor does anything for it.
func (o *order) beside(p *rtp.Packet, now time.Time, to orderly) {
	o.flush(now, to)
	if o.begun && p.SSRC == o.ssrc && int16(p.SequenceNumber-o.seq) > 0 {
		o.seq = p.SequenceNumber
	}
}

// flush gives on what waits. What has waited for long is of no use any more.
func (o *order) flush(now time.Time, to orderly) {
	for o.n > 0 && now.Sub(o.since) > stall {
		o.n--
		o.held[o.n] = nil
	}
	for o.n > 0 {
		o.pop(now, to)
	}
}

// hold lets a packet wait. Where too many do what is missing is given up.
func (o *order) hold(p *rtp.Packet, now time.Time, to orderly) {
	if o.n == orderHeld {
		o.pop(now, to)
		o.follow(now, to)
		o.take(p, now, to)
		return
	}
	at := 0
	for ; at < o.n; at++ {
		switch ahead := int16(o.held[at].SequenceNumber - p.SequenceNumber); {
		case ahead == 0:
			return // a repetition
		case ahead > 0:
			copy(o.held[at+1:o.n+1], o.held[at:o.n])
			o.put(at, p, now)
			return
		}
	}
	o.put(at, p, now)
}

func (o *order) put(at int, p *rtp.Packet, now time.Time) {
	if o.n == 0 {
		o.since = now
	}
	o.held[at] = p.Clone() // p is its reader's
	o.n++
}

// follow gives on what waits and follows.
func (o *order) follow(now time.Time, to orderly) {
	for o.n > 0 && int16(o.held[0].SequenceNumber-o.seq) <= 1 {
		o.pop(now, to)
	}
}

func (o *order) pop(now time.Time, to orderly) {
	p := o.held[0]
	copy(o.held[:], o.held[1:])
	o.n--
	o.held[o.n] = nil
	o.give(p, now, to)
}

func (o *order) give(p *rtp.Packet, now time.Time, to orderly) {
	o.seq = p.SequenceNumber
	to.inOrder(p, now)
}
