package media

import (
	"time"

	"github.com/pion/rtcp"
)

// Reception counts what came from one SSRC, for our RTCP reports (RFC 3550 §6.4.1, appendix A). It is pure, and one goroutine at a
// time uses it. The zero value has a clock of 8000.
type Reception struct {
	ssrc     uint32
	began    bool
	first    uint32 // extended sequence numbers
	highest  uint32
	received uint32
	clock    int64   // timestamp units in a second; 0: 8000
	jitter   float64 // in timestamp units
	transit  int64
	priorExp uint32 // at the last report
	priorRcv uint32

	pastExpected, pastReceived uint64 // of SSRCs before this one
	bursts                     bursts
	jitters                    mean // in seconds, of all packets
}

// NewReception is for a clock of so many timestamp units in a second.
func NewReception(clock int64) *Reception { return &Reception{clock: clock} }

// rate is how many timestamp units make a second.
func (r *Reception) rate() int64 {
	if r.clock == 0 {
		return 8000
	}
	return r.clock
}

// begin counts a new SSRC, or one that began anew.
func (r *Reception) begin(ssrc uint32, seq uint16, transit int64) {
	past := *r
	*r = Reception{
		clock: past.clock, ssrc: ssrc, began: true, first: uint32(seq), highest: uint32(seq), received: 1, transit: transit,
		pastExpected: past.pastExpected, pastReceived: past.pastReceived, bursts: past.bursts, jitters: past.jitters,
	}
	if past.began {
		r.pastExpected += uint64(past.highest - past.first + 1)
		r.pastReceived += uint64(past.received)
	}
	r.bursts.packet(0)
}

// Packet counts one that came at time at.
func (r *Reception) Packet(ssrc uint32, seq uint16, ts uint32, at time.Time) {
	clock := r.rate()
	transit := at.UnixMicro()*(clock/1000)/1000 - int64(ts)
	if !r.began || ssrc != r.ssrc {
		r.begin(ssrc, seq, transit)
		return
	}
	r.received++
	step := int16(seq - uint16(r.highest))
	switch {
	case step > 3000 || step < -3000: // the far end began anew (appendix A.1, MAX_DROPOUT)
		r.begin(ssrc, seq, transit)
		return
	case step > 0:
		r.highest += uint32(step)
		r.bursts.packet(uint64(step - 1))
	}
	// The difference of the timestamps wraps as they do; a jump is no jitter.
	d := int64(int32(uint32(transit) - uint32(r.transit)))
	r.transit = transit
	if d < 0 {
		d = -d
	}
	if d < clock {
		r.jitter += (float64(d) - r.jitter) / 16
		r.jitters.add(float64(d) / float64(clock))
	}
}

// Report makes the block of the moment, but for what sender reports say; the next one's fraction counts from here. It is false while
// nothing has come.
func (r *Reception) Report() (rtcp.ReceptionReport, bool) {
	if !r.began {
		return rtcp.ReceptionReport{}, false
	}
	expected := r.highest - r.first + 1
	lost := max(0, int64(expected)-int64(r.received))
	b := rtcp.ReceptionReport{
		SSRC:               r.ssrc,
		TotalLost:          uint32(min(lost, 0x7fffff)),
		LastSequenceNumber: r.highest,
		Jitter:             uint32(r.jitter),
	}
	exp, rcv := expected-r.priorExp, r.received-r.priorRcv
	if exp > 0 && exp > rcv {
		b.FractionLost = uint8(min(255, (exp-rcv)*256/exp))
	}
	r.priorExp, r.priorRcv = expected, r.received
	return b, true
}
