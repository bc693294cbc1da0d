package transcode

import (
	"time"

	"tandem/dsp"
)

// What waits of voices goes from a phone's buffer into a mix, from there into another mix, or back. Nothing of it is left out or heard
// again, and what is known of the voice's path is not learned anew.

// takeOver lets the mix go on with what waits of a voice for a phone that comes over to it: what came so unevenly does so further.
func (m *mix) takeOver(in *input, b *buffer) {
	if !b.on {
		return
	}
	b.on = false
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.of(in.feed)
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.used.Load() || v.epoch != b.epoch || v.rate != b.rate {
		return // others heard it otherwise, and came before
	}
	v.playout.Continue(b.playout)
	v.put(v.playout, v.kept)
	v.used.Store(true)
	v.heard, v.kept, v.tail, v.left = 0, 0, -1, false
}

// handBack lets a phone that leaves the mix at now go on with what waits there of the voice that it hears from now on, if that is more
// than the last packet or has to be.
func (m *mix) handBack(in *input, b *buffer, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.of(in.feed)
	if v == nil || now.Sub(m.at) > idleMix {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	used := v.used.Load()
	if !used && !v.left || !v.waits() && !v.uneven() {
		return
	}
	b.open(v.rate, v.epoch)
	b.playout.Continue(v.playout)
	if !used {
		v.put(b.playout, v.heard)
	}
}

// waiting is what waits of a voice in a mix.
type waiting struct {
	feed    *feed
	playout *dsp.Playout // nil: the mix does not take from it
	epoch   uint32
	tail    int
}

// waiting copies what waits of the voice.
func (v *voice) waiting() waiting {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := waiting{feed: v.feed, epoch: v.epoch, tail: v.tail}
	if v.used.Load() {
		w.playout = dsp.NewPlayout(v.rate)
		w.playout.Continue(v.playout)
	}
	return w
}

// follow lets the voice go on from where it was in another mix.
func (v *voice) follow(w waiting) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if w.playout == nil || v.heard > 0 && v.epoch != w.epoch {
		return
	}
	v.playout, v.epoch, v.tail = w.playout, w.epoch, w.tail
	v.put(v.playout, v.heard)
	v.used.Store(true)
	v.heard, v.kept = 0, 0
}

// follow lets the mix that a phone hears from now on go on from the one that it heard, unless it has begun with other phones. whole: it
// has all voices of that one.
func (m *mix) follow(before *mix) (whole bool) {
	if m.rate != before.rate {
		return false
	}
	before.mu.Lock()
	at, limiter := before.at, before.limiter
	all := make([]waiting, len(before.voices))
	for i, v := range before.voices {
		all[i] = v.waiting()
	}
	before.mu.Unlock()

	m.mu.Lock()
	defer m.mu.Unlock()
	begins := m.at.IsZero() && len(m.hearers) == 1
	whole = true
	for _, w := range all {
		v := m.of(w.feed)
		if v == nil {
			whole = false
		} else if begins {
			v.follow(w)
		}
	}
	if begins {
		m.at, m.limiter, m.on = at, limiter, true
		m.heard.Store(true)
	}
	return whole
}
