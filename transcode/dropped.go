package transcode

import (
	"sync/atomic"
	"time"

	"tandem/dsp"
)

// Dropped is what came of voices and was not heard, of all calls since the start.
type Dropped struct {
	Disordered uint64        // packets that came behind a later one, or twice
	Late       uint64        // frames that came too late for a phone, once for each phone
	Overflow   time.Duration // of sound that a phone did not hear because too much waited for it
}

// Dropped returns the counters.
func (e *Engine) Dropped() Dropped {
	return Dropped{e.dropped.disordered.Load(), e.dropped.late.Load(), time.Duration(e.dropped.overflow.Load())}
}

// dropped counts for Dropped. It is written only when something is dropped.
type dropped struct {
	disordered, late atomic.Uint64
	overflow         atomic.Int64 // ns
}

// missing is what a play-out buffer dropped: frames that came too late, and samples.
type missing struct{ late, overflow uint64 }

// since returns what was dropped since the last call, for a play-out buffer that had dropped m by then.
func (m *missing) since(p *dsp.Playout) missing {
	before := *m
	*m = missing{p.Late, p.Overflow}
	return missing{m.late - before.late, m.overflow - before.overflow}
}

// dropped returns what was dropped of the voices of the tick, but for one. m.mu is held.
func (m *mix) dropped(own *feed) (sum missing) {
	for _, v := range m.voices {
		if v.feed != own {
			sum.late += v.missing.late
			sum.overflow += v.missing.overflow
		}
	}
	return sum
}

// miss counts what the phone did not hear. d.mu is held.
func (d *downlink) miss(m missing) {
	if m == (missing{}) {
		return
	}
	d.missed.late += m.late
	d.missed.overflow += m.overflow
	d.dropped.late.Add(m.late)
	d.dropped.overflow.Add(int64(d.line.span(int64(m.overflow))))
}
