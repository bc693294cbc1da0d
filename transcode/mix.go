package transcode

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tandem/dsp"
	"tandem/media"
)

// settledIn is how little a voice may wait in a mix for phones to hear it directly again: what is cut out is not missed.
const settledIn = 5 * time.Millisecond

// idleMix is how long a mix may make nothing until its voices begin anew.
const idleMix = frameTime * 3 / 2

// mix is what the phones hear that hear the same voices, each phone but its own. Every voice waits and is added once for
// all of them, 20 ms at a time, and what those hear who say nothing is encoded once. One shard clocks them all.
type mix struct {
	key   string
	rate  int
	shard *shard
	refs  int // under Engine.mu

	mu      sync.Mutex // of the clock, and of joining
	voices  []*voice
	at      time.Time // of the tick that was made last
	sum     [frameMost]int32
	scratch [frameMost]int32
	limiter dsp.Limiter
	out     [frameMost]int16 // the whole sum, limited; valid if limited
	limited bool
	made    uint64    // samples of the tick that were made up, of the voice with the most
	coders  [4]shared // of those who hear the whole sum
	coded   [4][]byte
	buffers [4][longestPayload]byte
}

// voice is one of the voices of a mix.
type voice struct {
	feed  *feed
	track *media.Track
	rate  int
	used  atomic.Bool // the mix takes from it: what comes waits

	mu      sync.Mutex
	playout *dsp.Playout
	epoch   uint32
	recent  [3 * frameMost]int16 // what came last, while the mix takes nothing
	heard   int                  // samples in it
	next    int64                // the position that follows
	asleep  bool                 // it was not active when that came
	taken   time.Time            // when the mix took from it last
	pcm     [frameMost]int16     // of the tick
	sounds  bool                 // there is something in pcm
	made    uint64               // samples of it that were made up
	counted missing              // what playout has dropped
	missing missing              // of that, since the tick before
}

// newMix makes a mix of the voices of some tracks.
func newMix(key string, rate int, shard *shard) *mix {
	return &mix{key: key, rate: rate, shard: shard, limiter: dsp.NewLimiter(rate)}
}

// hear takes a frame of the voice. It implements listener.
func (v *voice) hear(f frame, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.used.Load() && now.Sub(v.taken) > idleMix {
		v.used.Store(false) // nobody hears the mix any more
		v.heard = 0
	}
	if !v.used.Load() {
		v.remember(f)
		return
	}
	if f.epoch != v.epoch {
		v.epoch = f.epoch
		v.playout.Reset()
	}
	v.playout.Put(f.pos, f.pcm, f.concealed, sinceEpoch(now))
}

// remember keeps what comes while the mix takes nothing: of a voice that begins all of it, since nobody has heard that yet.
func (v *voice) remember(f frame) {
	awake := v.feed.active.Load()
	if awake && v.asleep || f.epoch != v.epoch || f.pos != v.next {
		v.heard = 0
	}
	v.asleep, v.epoch, v.next = !awake, f.epoch, f.pos+int64(len(f.pcm))
	keep := min(len(f.pcm), len(v.recent))
	copy(v.recent[:], v.recent[keep:])
	copy(v.recent[len(v.recent)-keep:], f.pcm[len(f.pcm)-keep:])
	v.heard = min(v.heard+keep, len(v.recent))
}

// sinceEpoch is a time as a Playout wants it.
func sinceEpoch(t time.Time) time.Duration { return time.Duration(t.UnixNano()) }

// take makes the next 20 ms of the voice.
func (v *voice) take(n int, drain bool, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.used.Load() {
		v.used.Store(true)
		v.begin(now)
	}
	v.taken = now
	v.playout.Drain(drain)
	before := v.playout.Concealed
	v.sounds = v.playout.Take(v.pcm[:n], sinceEpoch(now))
	v.made = min(v.playout.Concealed-before, uint64(n))
	v.missing = v.counted.since(v.playout)
}

// begin lets the mix go on from where phones have heard the voice directly, or begin where nobody has.
func (v *voice) begin(now time.Time) {
	recent := v.recent[len(v.recent)-v.heard:]
	v.heard = 0
	v.playout.Reset()
	if v.feed.direct.Load() > 0 {
		v.playout.Begin(v.next, recent)
		return
	}
	if len(recent) == len(v.recent) { // it has spoken for longer than that: only what comes now is missed
		recent = recent[len(recent)-v.rate/50:]
	}
	for pos := v.next - int64(len(recent)); len(recent) > 0; {
		n := min(len(recent), v.rate/50)
		v.playout.Put(pos, recent[:n], false, sinceEpoch(now))
		recent, pos = recent[n:], pos+int64(n)
	}
}

// rest lets what comes pass unheard.
func (v *voice) rest() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.used.Load() {
		v.used.Store(false)
		v.heard = 0
	}
	v.sounds = false
}

// settled says whether a phone that hears the voice through the mix may hear it directly: nothing much waits.
func (m *mix) settled(f *feed) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.voices {
		if v.feed == f {
			v.mu.Lock()
			defer v.mu.Unlock()
			return !v.used.Load() || time.Duration(v.playout.Delay())*time.Second/time.Duration(m.rate) <= settledIn
		}
	}
	return true
}

// tick makes the sum of the tick at a time, once for all who ask. m.mu is held.
func (m *mix) tick(at time.Time) {
	if m.at.Equal(at) {
		return
	}
	if pause := at.Sub(m.at); pause > idleMix || pause < 0 {
		for _, v := range m.voices {
			v.rest() // nobody has asked for a while
		}
	}
	m.at, m.limited, m.made = at, false, 0
	clear(m.coded[:])
	n := m.rate / 50
	several := m.several(at)
	clear(m.sum[:n])
	for _, v := range m.voices {
		v.missing = missing{}
		if !v.feed.speaks(at) && !v.used.Load() {
			continue
		}
		if v.take(n, !several, at); !v.sounds {
			if !v.feed.speaks(at) {
				v.rest()
			}
			continue
		}
		m.made = max(m.made, v.made)
		for i, s := range v.pcm[:n] {
			m.sum[i] += int32(s)
		}
	}
}

// several says whether two voices or more are to be heard by somebody.
func (m *mix) several(now time.Time) bool {
	n := 0
	for _, v := range m.voices {
		if v.feed.speaks(now) {
			n++
		}
	}
	return n > 1
}

// without returns the sum without the voice of one phone, valid until the next call; shared says that it is the whole.
// limiter is that phone's. m.mu is held.
func (m *mix) without(own *feed, limiter *dsp.Limiter, dst []int16) (pcm []int16, shared bool) {
	n := m.rate / 50
	for _, v := range m.voices {
		if v.feed == own && v.sounds {
			for i, s := range v.pcm[:n] {
				m.scratch[i] = m.sum[i] - int32(s)
			}
			limiter.Frame(dst[:n], m.scratch[:n])
			return dst[:n], false
		}
	}
	if !m.limited {
		m.limiter.Frame(m.out[:n], m.sum[:n])
		m.limited = true
	}
	return m.out[:n], true
}

// encoded returns the whole sum in a codec, one packet of 20 ms, for a phone that loses so many percent; nil: it can't be shared.
// m.mu is held.
func (m *mix) encoded(s media.Speech, cfg Config, lost, pressure int) []byte {
	i := slices.Index(media.Speeches(), s)
	m.coders[i].lost = max(m.coders[i].lost, lost)
	if m.coded[i] == nil {
		if err := m.coders[i].use(s, cfg); err != nil {
			return nil // the phone's own coder will say so
		}
		m.coders[i].tune(cfg, pressure)
		m.coded[i] = m.buffers[i][:m.coders[i].encode(m.buffers[i][:], m.out[:m.rate/50])]
	}
	return m.coded[i]
}
