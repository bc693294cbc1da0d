package dsp

import "math"

const (
	latenessSpells = 10 // that are remembered
	latenessSpell  = 2  // in a second
)

// lateness measures how late the frames of a source come: against its own clock, as the time of arrival less the
// position, both in samples. Of the last five seconds it remembers the earliest and the latest frame in each half
// second.
type lateness struct {
	spell   int64 // samples
	ends    int64 // the youngest spell
	n       int   // spells with frames
	earlier [latenessSpells]int64
	later   [latenessSpells]int64
	missed  [latenessSpells]int // frames that came too late to be heard
}

// add notes a frame that came late by late, at at.
func (l *lateness) add(late, at int64) {
	if l.n == 0 || at >= l.ends || at < l.ends-2*l.spell {
		// However long nothing came: one spell is forgotten at a time.
		copy(l.earlier[1:], l.earlier[:])
		copy(l.later[1:], l.later[:])
		copy(l.missed[1:], l.missed[:])
		l.earlier[0], l.later[0], l.missed[0] = late, late, 0
		l.n = min(l.n+1, latenessSpells)
		l.ends = at + l.spell
	}
	l.earlier[0] = min(l.earlier[0], late)
	l.later[0] = max(l.later[0], late)
}

// miss says that the frame that was noted last came too late to be heard.
func (l *lateness) miss() { l.missed[0]++ }

// least is that of the earliest frame.
func (l *lateness) least() int64 {
	least := int64(math.MaxInt64)
	for _, v := range l.earlier[:l.n] {
		least = min(least, v)
	}
	return least
}

// usual is what frames are late by, at most, with the worst half second left out: a single stall of a path is no reason
// to wait longer from now on. A second one is, and so are two frames that were missed.
func (l *lateness) usual() int64 {
	worst, usual := int64(math.MinInt64), int64(math.MinInt64)
	for i, v := range l.later[:l.n] {
		if l.missed[i] > 1 {
			usual = max(usual, v)
		}
		if v > worst {
			worst, v = v, worst
		}
		usual = max(usual, v)
	}
	if l.n == 1 {
		return worst
	}
	return usual
}

// shift says that positions are counted anew: what was measured is from now on later by by.
func (l *lateness) shift(by int64) {
	for i := range l.n {
		l.earlier[i] += by
		l.later[i] += by
	}
}
