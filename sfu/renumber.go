package sfu

import (
	"slices"
	"time"

	"github.com/pion/rtp"
)

// gapless takes packets out of a stream: what follows moves up, so that nobody misses them. It remembers the last few
// that it took, for packets that arrive out of order. The zero value is ready.
type gapless struct {
	total uint16 // taken so far
	taken [32]uint16
	n     int // valid entries of taken
	at    int // where the next goes
	last  uint16
}

// take notes that seq is not sent on.
func (g *gapless) take(seq uint16) {
	if slices.Contains(g.taken[:g.n], seq) {
		return // a repeated packet
	}
	if g.n == 0 || int16(seq-g.last) > 0 {
		g.last = seq
	}
	g.taken[g.at] = seq
	g.at = (g.at + 1) % len(g.taken)
	g.n = min(g.n+1, len(g.taken))
	g.total++
}

// number is the sequence number that seq has without the packets that were taken before it.
func (g *gapless) number(seq uint16) uint16 {
	if g.n == 0 {
		return seq - g.total
	}
	ahead := int16(seq - g.last)
	if ahead > 1<<13 { // so far behind that sequence numbers would soon wrap around to it
		g.n, g.at = 0, 0
		return seq - g.total
	}
	if ahead > 0 {
		return seq - g.total
	}
	before := g.total
	for _, t := range g.taken[:g.n] {
		if int16(t-seq) > 0 {
			before--
		}
	}
	return seq - before
}

// renumber gives the packets of changing sources one continuous row of sequence numbers and timestamps. Gaps and the
// order of one source stay as they are: the receiver's jitter buffer and its NACKs deal with them.
type renumber struct {
	started bool
	ssrc    uint32 // of the source
	seqOff  uint16
	tsOff   uint32
	lastSeq uint16 // highest sent
	lastTS  uint32 // its timestamp
	at      time.Time
	base    uint16 // first number of this source; older packets of it would fall onto the source before
	young   bool   // base still matters
}

// next returns the numbers for p, or false for a packet that must not be sent. cut says that a new source begins.
func (r *renumber) next(p *rtp.Packet, cut bool, clock uint32, now time.Time) (seq uint16, ts uint32, ok bool) {
	switch {
	case !r.started:
		r.started, r.ssrc = true, p.SSRC
		r.base, r.young = p.SequenceNumber, true
		r.lastSeq, r.lastTS = p.SequenceNumber-1, p.Timestamp
	case cut || p.SSRC != r.ssrc:
		r.ssrc = p.SSRC
		pause := uint64(max(now.Sub(r.at), 0)) * uint64(clock) / uint64(time.Second)
		r.seqOff = r.lastSeq + 1 - p.SequenceNumber
		r.tsOff = r.lastTS + max(uint32(pause), 1) - p.Timestamp
		r.base, r.young = r.lastSeq+1, true
	}
	seq, ts = p.SequenceNumber+r.seqOff, p.Timestamp+r.tsOff
	if r.young {
		if int16(seq-r.base) < 0 {
			return 0, 0, false
		}
		r.young = seq-r.base < 1<<13
	}
	if int16(seq-r.lastSeq) > 0 {
		r.lastSeq, r.lastTS, r.at = seq, ts, now
	}
	return seq, ts, true
}

// skip lets nobody miss what was not sent up to a number of the source: the one behind it is the next.
func (r *renumber) skip(seq uint16) {
	r.seqOff = r.lastSeq - seq
	r.base, r.young = r.lastSeq+1, true
}
