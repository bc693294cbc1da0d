package transcode

import (
	"slices"
	"time"

	"tandem/dsp"
)

// What waits of voices goes from a phone's buffer into a mix, from there into another mix, or back, so that nothing of it is left out or
// heard again, and what is known of the voice's path is not learned anew. A mix has one place in each voice: of phones that come to it
// from several the first one brings its own.

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
	if v.used.Load() || v.mix.rate != b.rate || v.heard > 0 && v.epoch != b.epoch || v.feed.plain.Load() > 0 {
		return // others heard it otherwise, and came before, or got the packets as they are
	}
	v.playout.Continue(b.playout)
	v.epoch = b.epoch
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
	b.open(v.mix.rate, v.epoch)
	b.playout.Continue(v.playout)
	if !used {
		v.put(b.playout, v.heard)
	}
}

// waiting is what a mix has of a voice.
type waiting struct {
	playout *dsp.Playout // nil: the mix does not take from it
	epoch   uint32
	tail    int
	pcm     [frameMost]int16 // of the tick
	sounds  bool
	made    uint64
}

// waiting copies what waits of the voice. The mix's lock is held.
func (v *voice) waiting() waiting {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := waiting{epoch: v.epoch, tail: v.tail, pcm: v.pcm, sounds: v.sounds, made: v.made}
	if v.used.Load() {
		w.playout = dsp.NewPlayout(v.mix.rate)
		w.playout.Continue(v.playout)
	}
	return w
}

// follow lets the voice go on from where it was in another mix. The mix's lock is held.
func (v *voice) follow(w *waiting) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.pcm, v.sounds, v.made = w.pcm, w.sounds, w.made
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
	if m.begins() && m.rate == before.rate {
		m.proceed(before)
	}
	return m.rate == before.rate && !slices.ContainsFunc(before.voices, func(v *voice) bool { return m.of(v.feed) == nil })
}

// begins says that one phone alone has the mix, and it was not made yet.
func (m *mix) begins() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at.IsZero() && len(m.hearers) == 1
}

// proceed lets a mix that begins be what another one is, the tick that was made last among it, without the voices that it has not got.
func (m *mix) proceed(before *mix) {
	all := make([]waiting, len(m.voices))
	before.mu.Lock()
	at, limiter := before.at, before.before
	for i, v := range m.voices {
		if v := before.of(v.feed); v != nil {
			all[i] = v.waiting()
		}
	}
	before.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if at.IsZero() || !m.at.IsZero() {
		return // nothing was made yet, or somebody else has begun
	}
	for i, v := range m.voices {
		v.follow(&all[i])
	}
	m.at, m.limiter, m.on = at, limiter, true
	m.heard.Store(true)
	m.add()
}
