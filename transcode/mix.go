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

// leaveMix is how long phones that hear one voice each through a mix wait for a moment to hear it directly.
const leaveMix = time.Second

// idleMix is how long a mix may make nothing, by its clock, until its voices begin anew: nobody hears it.
const idleMix = frameTime * 3 / 2

// mix is what the phones hear that hear the same voices, each phone but its own. Every voice waits and is added once for
// all of them, 20 ms at a time, and what those hear who say nothing is encoded once. One shard clocks them all. They go over
// to it at the same tick, as soon as one of them hears two voices, and back at the same: whoever came later would hear again
// what waits in it. From the packet on with which the second voice begins nobody is given anything directly.
type mix struct {
	key    string
	rate   int
	shard  *shard
	voices []*voice    // never changes
	refs   int         // under Engine.mu
	heard  atomic.Bool // it is heard in place of its voices themselves, or will be from the next tick on; changes under mu

	mu      sync.Mutex // of the clock, and of joining
	hearers []hearer   // who have it
	decided time.Time  // the tick for which on holds
	on      bool       // it is heard at that tick; not yet where a voice that woke has set heard since
	leaving time.Time  // since when nobody has had more than one voice to hear; zero: somebody has
	at      time.Time  // of the tick that was made last
	sum     [frameMost]int32
	scratch [frameMost]int32
	limiter dsp.Limiter
	before  dsp.Limiter      // limiter, as the tick began
	out     [frameMost]int16 // the whole sum, limited
	made    uint64           // samples of the tick that were made up, of the voice with the most
	codes   codes            // of those who hear the whole sum
}

// hearer is a phone that has a mix.
type hearer struct {
	voice  *feed // its own
	speech media.Speech
}

// recentMost is how many samples are kept of a voice that a mix does not take.
const recentMost = 3 * frameMost

// voice is one of the voices of a mix.
type voice struct {
	mix   *mix
	feed  *feed
	track *media.Track
	codec media.Speech // of track
	used  atomic.Bool  // the mix takes from it: what comes waits

	mu      sync.Mutex
	playout *dsp.Playout
	left    bool // the mix took from it until its last tick, and playout is as it was then
	epoch   uint32
	recent  [recentMost]int16 // what came last, while the mix takes nothing
	heard   int               // samples in it
	kept    int               // of those, how many came last that nobody was given directly
	came    time.Time         // when the last of them did
	next    int64             // the position that follows
	asleep  bool              // it was not active when that came
	pcm     [frameMost]int16  // of the tick
	sounds  bool              // there is something in pcm
	made    uint64            // samples of it that were made up
	counted missing           // what playout has dropped
	missing missing           // of that, since the tick before
	tail    int               // samples that waited when it fell silent and are still to be heard; -1: it did not
}

// newMix makes a mix of the voices of some tracks.
func newMix(key string, rate int, shard *shard) *mix {
	return &mix{key: key, rate: rate, shard: shard, limiter: dsp.NewLimiter(rate)}
}

// hear takes a frame of the voice. It implements listener.
func (v *voice) hear(f frame, now time.Time) {
	if v.feed.woke {
		v.mix.wake(v.feed, now)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.used.Load() {
		v.remember(f, now)
		return
	}
	if f.epoch != v.epoch {
		v.playout.Reset()
	}
	v.epoch, v.next = f.epoch, f.pos+int64(len(f.pcm))
	v.playout.Put(f.pos, f.pcm, f.concealed, sinceEpoch(now))
}

// remember keeps what comes while the mix takes nothing: of a voice that begins all of it, since nobody has heard that yet.
func (v *voice) remember(f frame, now time.Time) {
	awake := v.feed.active.Load()
	if awake && v.asleep || f.epoch != v.epoch || f.pos != v.next {
		v.heard = 0
	}
	v.asleep, v.epoch, v.next = !awake, f.epoch, f.pos+int64(len(f.pcm))
	keep := min(len(f.pcm), len(v.recent))
	copy(v.recent[:], v.recent[keep:])
	copy(v.recent[len(v.recent)-keep:], f.pcm[len(f.pcm)-keep:])
	v.heard = min(v.heard+keep, len(v.recent))
	v.came = now
	if !v.mix.heard.Load() {
		v.kept = 0
		return
	}
	v.kept = min(v.kept+keep, v.heard)
}

// sinceEpoch is a time as a Playout wants it.
func sinceEpoch(t time.Time) time.Duration { return time.Duration(t.UnixNano()) }

// take makes the next 20 ms of the voice. One that fell silent is heard to the end of what waited then.
func (v *voice) take(n int, speaks, drain bool, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.used.Load() {
		v.used.Store(true)
		v.begin()
	}
	switch {
	case speaks:
		v.tail = -1
	case v.tail < 0:
		v.tail = v.playout.Delay()
	}
	v.playout.Drain(drain && v.hastens())
	before := v.playout.Concealed
	v.sounds = v.playout.Take(v.pcm[:n], sinceEpoch(now))
	v.made = min(v.playout.Concealed-before, uint64(n))
	v.missing = v.counted.since(v.playout)
	if v.tail < 0 {
		return
	}
	if v.tail -= n; v.tail <= 0 || !v.sounds {
		for i := range v.pcm[:n] {
			v.pcm[i] = int16(int(v.pcm[i]) * (n - 1 - i) / n)
		}
		v.used.Store(false)
		v.heard = 0
	}
}

// begin lets the mix go on from where phones have heard the voice directly, or begin where nobody has.
func (v *voice) begin() {
	v.left = false
	recent := v.recent[len(v.recent)-v.heard:]
	direct, missed := v.feed.direct.Load() > 0, v.heard
	switch {
	case direct:
		missed = v.kept
	case missed == len(v.recent): // it has spoken for longer than that: only what comes now is missed
		missed = v.mix.rate / 50
	}
	v.playout.Forget()
	if direct {
		v.playout.Begin(v.next-int64(missed), recent[:len(recent)-missed])
	}
	v.put(v.playout, missed)
	v.heard, v.kept, v.tail = 0, 0, -1
}

// put lets the last n samples that came while the mix took nothing wait in a play-out buffer.
func (v *voice) put(p *dsp.Playout, n int) {
	for n > 0 {
		part := min(n, v.mix.rate/50)
		from := len(v.recent) - n
		came := v.came.Add(-time.Duration(n-part) * time.Second / time.Duration(v.mix.rate))
		p.Put(v.next-int64(n), v.recent[from:from+part], false, sinceEpoch(came))
		n -= part
	}
}

// of finds a voice; nil: the mix has not got it.
func (m *mix) of(f *feed) *voice {
	for _, v := range m.voices {
		if v.feed == f {
			return v
		}
	}
	return nil
}

// rest lets what comes pass unheard.
func (v *voice) rest() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.left = v.used.Load(); v.left {
		v.used.Store(false)
		v.heard, v.kept = 0, 0
	}
	v.sounds = false
}

// wake lets the mix be heard from the next tick on if a voice that begins at now is the second one for somebody. Until then what comes
// is kept for the mix: who was given that directly would hear it again, and the others never. A phone that gets the voice's packets as
// they are has this one already.
func (m *mix) wake(begins *feed, now time.Time) {
	if m.heard.Load() || begins.plain.Load() > 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.heard.Load() && m.several(now) {
		m.heard.Store(true)
	}
}

// decide says whether those who have the mix hear it from the tick at now on, or one voice each as it comes.
func (m *mix) decide(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.decided.Equal(now) {
		return m.on
	}
	m.decided = now
	if pause := now.Sub(m.at); pause > idleMix || pause < 0 { // by the clock: late as it may be, what comes meanwhile is not in vain
		m.rest()
		m.limiter = dsp.NewLimiter(m.rate)
	}
	switch {
	case m.heard.Load() != m.on || m.several(now): // the first: a voice woke since the tick before
		m.on, m.leaving = true, time.Time{}
		m.heard.Store(true)
	case !m.on:
	case m.leaving.IsZero():
		m.leaving = now
		fallthrough
	default:
		if m.settled(now) || now.Sub(m.leaving) > leaveMix {
			m.on = false
			m.heard.Store(false)
			m.rest()
		}
	}
	return m.on
}

// several says whether somebody has two voices or more to hear.
func (m *mix) several(now time.Time) bool {
	n := 0
	for _, v := range m.voices {
		if v.feed.speaks(now) {
			n++
		}
	}
	for _, h := range m.hearers {
		if n > 2 || n == 2 && !h.voice.speaks(now) {
			return true
		}
	}
	return false
}

// recent copies what came last of a voice while the mix took nothing, but for what is kept for the mix.
func (m *mix) recent(f *feed, dst []int16) []int16 {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.of(f)
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return dst[:copy(dst, v.recent[:len(v.recent)-v.kept])]
}

// settled says whether phones may hear their voices by themselves again: nothing much of them waits but the last packet, or what has to
// wait goes with them.
func (m *mix) settled(now time.Time) bool {
	for _, v := range m.voices {
		if v.feed.speaks(now) && v.lags() {
			return false
		}
	}
	return true
}

// lags says that the voice waits here, and need not where it is heard next.
func (v *voice) lags() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.used.Load() && v.waits() && v.hastens()
}

// hastens says that what waits of the voice is left out when the mix ends: its frames come evenly, or some phone gets its packets as they
// are then. m.mu and v.mu are held.
func (v *voice) hastens() bool {
	return !v.uneven() || slices.ContainsFunc(v.mix.hearers, func(h hearer) bool { return h.voice != v.feed && h.speech == v.codec })
}

// waits says that more waits than the last packet. v.mu is held.
func (v *voice) waits() bool { return v.playout.Delay() > v.samples(frameTime+settledIn) }

// uneven says that its frames come too unevenly to be heard directly. v.mu is held.
func (v *voice) uneven() bool { return v.playout.Target() > v.samples(calmTarget) }

// samples is how many of the voice a time takes.
func (v *voice) samples(d time.Duration) int { return int(d * time.Duration(v.mix.rate) / time.Second) }

// rest lets what comes pass unheard.
func (m *mix) rest() {
	for _, v := range m.voices {
		v.rest()
	}
}

// tick makes the sum of the tick at a time, once for all who ask. m.mu is held.
func (m *mix) tick(at time.Time) {
	if m.at.Equal(at) {
		return
	}
	m.at = at
	for _, v := range m.voices {
		v.missing, v.sounds = missing{}, false
		if speaks := v.feed.speaks(at); speaks || v.used.Load() {
			v.take(m.rate/50, speaks, !m.leaving.IsZero(), at)
		}
	}
	m.add()
}

// add makes the sum of what the voices have for the tick. m.mu is held.
func (m *mix) add() {
	n := m.rate / 50
	m.made = 0
	m.codes.next()
	clear(m.sum[:n])
	for _, v := range m.voices {
		if !v.sounds {
			continue
		}
		m.made = max(m.made, v.made)
		for i, s := range v.pcm[:n] {
			m.sum[i] += int32(s)
		}
	}
	m.before = m.limiter
	m.limiter.Frame(m.out[:n], m.sum[:n])
}

// apart is the sum as a phone hears it that leaves its own voice out. It belongs to the downlink's lock.
type apart struct {
	on      bool
	limiter dsp.Limiter
	pcm     samples
}

// without returns the sum without the voice of one phone, valid until the next call; shared says that it is what others hear, too.
// Its loudness goes on from that, and until it is the same again. m.mu is held.
func (m *mix) without(own *feed, a *apart) (pcm []int16, shared bool) {
	n := m.rate / 50
	sum := m.sum[:n]
	for _, v := range m.voices {
		if v.feed == own && v.sounds {
			if sum = m.scratch[:n]; !a.on {
				a.on, a.limiter = true, m.before
			}
			for i, s := range v.pcm[:n] {
				sum[i] = m.sum[i] - int32(s)
			}
			pcm = a.pcm.of(n)
			a.limiter.Frame(pcm, sum)
			return pcm, false
		}
	}
	if !a.on {
		return m.out[:n], true
	}
	pcm = a.pcm.of(n)
	a.limiter.Frame(pcm, sum)
	a.on = a.limiter.Gain() != m.limiter.Gain()
	return pcm, false
}
