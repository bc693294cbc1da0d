package dsp

import "time"

// Times of a Playout, in milliseconds.
const (
	playoutFrame    = 20  // what is waited for at least, for that is how coarse the reader's time is
	playoutMost     = 200 // what is waited for at most
	playoutCapacity = 500 // what may wait; more is dropped
	playoutLongest  = 120 // frame
	playoutPause    = 100 // without sound, after which the delay begins anew
	playoutEarly    = 1   // by which a frame is to come before it is needed
	playoutExcess   = 5   // of waiting too long that is let be
	playoutHurry    = 40  // the same, for which there is hurry
	playoutLateRun  = 100 // of frames too late in a row, and half as long, after which the source has begun anew
	playoutRoom     = 100 // of the ring, at first
)

// How long, in milliseconds, a Playout rests between two changes of its delay, and tries for one that is not heard.
const (
	playoutRest    = 100
	playoutSoon    = 40
	playoutTry     = 2000
	playoutPatient = 5000 // of an excess that is less than a long period
	playoutTrySoon = 400
)

// recentFrames is how many frames are remembered to know a repeated one.
const recentFrames = 32

// Playout is the play-out buffer of one source: frames come when the network brings them, and a clock takes them. What
// waits is as much as the frames' jitter wants, 20 to 200 ms: more at once where frames come too late, less again when
// for some seconds they did not. Its length changes by periods of the voice, so neither that nor a drift of the clocks
// is heard. What is missing is made up for, what comes too late is dropped. At most half a second waits. Positions are a
// source's count of samples, any start.
//
// A Playout is pure: times are given by the caller, since any start. Its memory grows to what ever waited at once, which few
// sources make much. It owns its samples and is not safe for concurrent use.
type Playout struct {
	Late      uint64 // frames that came when their time had passed
	Overflow  uint64 // samples dropped because too many waited, or because the source began anew
	Concealed uint64 // samples made up
	Inserted  uint64 // samples put in to wait longer
	Removed   uint64 // samples taken out to wait shorter

	rate    int64
	ms      int64
	conceal *Concealer
	stretch *Stretcher

	ring    []int16
	mask    int64
	waiting spans
	stage   []int16 // taken from the ring, to be played next
	sound   int     // in stage: what is behind is silence

	playing  bool
	drained  bool  // Drain
	held     int64 // Hold
	base     int64 // the source's position that is 0 here
	read     int64 // position behind what stage holds
	gap      int64 // samples made up behind read, while nothing waits
	fresh    bool  // the next frame begins after the delay that is wanted
	rebased  bool  // the next frame's lateness is of a new base
	wait     int64 // samples of silence before read
	late     lateness
	lateRun  int64               // samples
	lateFrom int64               // when it began
	recent   [recentFrames]int64 // positions of frames
	nth      int

	rest  int64 // samples until the delay may change again
	tried int64 // samples for which it should have
	short int64 // by how much it is too short, now
}

// NewPlayout makes a Playout of sound of rate samples per second, of 8000 to 48000.
func NewPlayout(rate int) *Playout {
	ms := rate / 1000
	stretch := NewStretcher(rate)
	p := &Playout{
		rate:    int64(rate),
		ms:      int64(ms),
		conceal: NewConcealer(rate),
		stretch: stretch,
		stage:   make([]int16, 0, 2*playoutFrame*ms+2*stretch.Span()),
		late:    lateness{spell: int64(rate / latenessSpell)},
	}
	p.room(playoutRoom * int64(ms))
	return p
}

// room lets so many samples from read on have a place in the ring.
func (p *Playout) room(samples int64) {
	if samples <= int64(len(p.ring)) {
		return
	}
	size := int64(1)
	for size < samples {
		size *= 2
	}
	ring := make([]int16, size)
	for pos := p.read; pos < p.waiting.end(); pos++ {
		ring[pos&(size-1)] = p.ring[pos&p.mask]
	}
	p.ring, p.mask = ring, size-1
}

// Put takes a frame of at most 120 ms whose first sample has position pos and which came at now. concealed: it was made up
// by the codec, says nothing about the path, and is played only where nothing better comes in time.
func (p *Playout) Put(pos int64, pcm []int16, concealed bool, now time.Duration) {
	n := int64(len(pcm))
	if n == 0 || n > playoutLongest*p.ms {
		return
	}
	at := p.samples(now)
	if !p.playing || p.jumped(pos-p.base, n) {
		p.restart(pos)
	}
	rel := pos - p.base
	passed := rel+n <= p.read
	if concealed {
		if passed {
			return
		}
	} else {
		again := p.repeated(rel)
		if !again {
			p.measure(rel, at)
		}
		switch {
		case passed && p.behind(n, at, again):
			p.restart(pos)
			p.measure(0, at)
			rel = 0
		case passed || again:
			return
		default:
			p.lateRun = 0
		}
	}
	p.resume(rel)
	p.bound(rel + n)
	p.store(span{max(rel, p.read), rel + n}, pcm[max(0, p.read-rel):], concealed)
}

// Take fills dst with the next samples, for now, and says whether there is anything to hear. Without, dst is silence.
func (p *Playout) Take(dst []int16, now time.Duration) bool {
	heard := false
	t := p.samples(now)
	for len(dst) > 0 {
		n := min(len(dst), int(playoutFrame*p.ms))
		heard = p.take(dst[:n], t) || heard
		dst = dst[n:]
		t += int64(n)
	}
	return heard
}

// Delay is how many samples wait.
func (p *Playout) Delay() int {
	return len(p.stage) + int(max(0, p.waiting.end()-p.read))
}

// Target is how many samples a frame is to wait that came as early as any.
func (p *Playout) Target() int {
	if p.late.n == 0 {
		return int(playoutFrame * p.ms)
	}
	return int(p.wanted() - p.late.least())
}

// Begin says that the source was heard directly until now: history is what was played last, and pos is the position
// that comes next. Nothing waits yet. The delay grows to what is wanted while the source is heard. Drain is off.
func (p *Playout) Begin(pos int64, history []int16) {
	p.restart(pos)
	p.fresh, p.drained = false, false
	p.stage, p.sound = p.stage[:0], 0
	p.conceal.Reset()
	p.conceal.Good(history)
}

// Continue lets p go on from where another Playout of the same rate is: with what waits there, and what it knows of the
// path. Both are whole afterwards. p's counters stay; it neither drains nor holds.
func (p *Playout) Continue(from *Playout) {
	before := *p
	*p = *from
	p.Late, p.Overflow, p.Concealed = before.Late, before.Overflow, before.Concealed
	p.Inserted, p.Removed = before.Inserted, before.Removed
	p.ring = append(before.ring[:0], from.ring...)
	p.stage = append(before.stage[:0], from.stage...)
	p.stretch, p.conceal = before.stretch, before.conceal
	p.conceal.proceed(from.conceal)
	p.drained, p.held = false, 0
}

// Drain lets the delay shrink as fast as nobody hears it, as long as on: to hear the source directly when next to
// nothing waits. What is left then is Rest's.
func (p *Playout) Drain(on bool) { p.drained = on }

// Hold lets n samples more wait than the jitter wants, from now on, up to 20 ms.
func (p *Playout) Hold(n int) { p.held = min(int64(max(n, 0)), playoutFrame*p.ms) }

// Rest fills dst with what waits, without its time, and returns how much that was: 0 when nothing does.
func (p *Playout) Rest(dst []int16) int {
	n := 0
	p.wait, p.short = 0, 0
	for n < len(dst) && p.playing && p.Delay() > 0 {
		k := min(len(dst)-n, p.Delay(), int(playoutFrame*p.ms))
		p.fill(k)
		copy(dst[n:n+k], p.stage)
		p.play(k)
		n += k
	}
	return n
}

// Reset empties the buffer: what is heard ends within 5 ms. The next frame begins anew. Counters and what was measured
// stay.
func (p *Playout) Reset() {
	if n := min(len(p.stage), int(concealStop*p.ms)); n > 0 {
		p.stage = p.stage[:n]
		for i := range p.stage {
			p.stage[i] = int16(int(p.stage[i]) * (n - i) / (n + 1))
		}
		p.conceal.Reset()
	}
	p.conceal.Stop()
	p.sound = len(p.stage)
	p.playing = false
	p.waiting = spans{}
}

// Forget is Reset without an end: nothing more is heard of what was played.
func (p *Playout) Forget() {
	p.Reset()
	p.stage, p.sound = p.stage[:0], 0
	p.conceal.Reset()
	p.conceal.Stop()
}

// samples is a time in samples, whatever it is.
func (p *Playout) samples(t time.Duration) int64 {
	return int64(t/time.Second)*p.rate + int64(t%time.Second)*p.rate/int64(time.Second)
}

// jumped says that a frame's position cannot follow what came before, however much was lost.
func (p *Playout) jumped(rel, n int64) bool {
	far := playoutCapacity * p.ms
	ahead := max(p.read+p.gap, p.waiting.end()) + far
	return rel > ahead-n || rel < p.read-far
}

// behind meets a frame of n samples whose time has passed, at at. It says that enough of them came in a row, and in
// their own time, to be a source that began anew.
func (p *Playout) behind(n, at int64, again bool) bool {
	if !again {
		p.Late++
		p.late.miss()
	}
	if p.lateRun == 0 {
		p.lateFrom = at
	}
	p.lateRun += n
	return p.lateRun >= playoutLateRun*p.ms && at-p.lateFrom >= playoutLateRun/2*p.ms
}

// restart lets pos be the next position.
func (p *Playout) restart(pos int64) {
	if p.playing {
		p.Overflow += uint64(p.waiting.cut(p.waiting.end()))
		p.conceal.Stop()
	}
	p.waiting = spans{}
	p.playing, p.fresh, p.rebased = true, true, true
	p.base, p.read, p.gap, p.wait, p.lateRun = pos, 0, 0, 0, 0
	p.rest, p.tried = 0, 0
	for i := range p.recent {
		p.recent[i] = -1 << 62
	}
}

// repeated says whether a frame came before, and notes it.
func (p *Playout) repeated(rel int64) bool {
	for _, r := range p.recent {
		if r == rel {
			return true
		}
	}
	p.recent[p.nth] = rel
	p.nth = (p.nth + 1) % recentFrames
	return false
}

// measure notes how late a frame is.
func (p *Playout) measure(rel, at int64) {
	late := at - rel
	if p.rebased && p.late.n > 0 {
		p.late.shift(late - p.late.least()) // as far as anybody knows it came in time
	}
	p.rebased = false
	p.late.add(late, at)
}

// resume meets a frame behind a gap that was being made up for.
func (p *Playout) resume(rel int64) {
	if p.gap == 0 {
		return
	}
	rel = max(rel, p.read)
	if p.gap >= playoutPause*p.ms { // silence for long: its length is free
		p.read, p.fresh = rel, true
	} else {
		p.read += min(p.gap, rel-p.read) // what the frame is later than that is delay from now on
	}
	p.gap = 0
}

// bound drops the oldest samples, so that end can wait.
func (p *Playout) bound(end int64) {
	oldest := end + int64(len(p.stage)) - playoutCapacity*p.ms
	if oldest <= p.read {
		return
	}
	p.Overflow += uint64(p.waiting.cut(oldest))
	p.read = oldest
	p.conceal.Break()
}

// store keeps a frame's samples at s.
func (p *Playout) store(s span, pcm []int16, concealed bool) {
	if s.to <= s.from {
		return
	}
	p.room(s.to - p.read)
	from := s.from
	for s.from < s.to {
		part := s
		if concealed {
			if part = p.waiting.missing(s); part.to <= part.from {
				return
			}
		}
		if p.waiting.full() {
			p.Overflow += uint64(part.to - part.from)
			return
		}
		at := part.from & p.mask
		src := pcm[part.from-from : part.to-from]
		copy(p.ring, src[copy(p.ring[at:], src):])
		p.waiting.add(part)
		s.from = part.to
	}
}

// take is Take for at most 20 ms, at t.
func (p *Playout) take(dst []int16, t int64) bool {
	if p.fresh && p.waiting.n > 0 {
		p.fresh = false
		p.wait = playoutFrame * p.ms
		if p.late.n > 0 {
			p.wait = min(max(0, p.read+p.wanted()-int64(len(p.stage))-t), playoutMost*p.ms)
		}
	}
	p.rest = max(0, p.rest-int64(len(dst)))
	p.adapt(t, len(dst))
	p.fill(len(dst))
	copy(dst, p.stage)
	return p.play(len(dst))
}

// play takes n samples out of stage and says whether there was anything to hear.
func (p *Playout) play(n int) bool {
	heard := p.sound > 0
	p.stage = p.stage[:copy(p.stage, p.stage[n:])]
	p.sound = max(0, p.sound-n)
	return heard
}

// fill lets stage have n samples.
func (p *Playout) fill(n int) {
	for len(p.stage) < n {
		p.more(int64(n - len(p.stage)))
	}
}

// more adds 1 to n samples to stage: what waits, or what is made up for it.
func (p *Playout) more(n int64) {
	first := p.waiting.first()
	switch {
	case p.wait > 0:
		n = min(n, p.wait)
		p.wait -= n
		p.conceal.Stop()
		p.lost(n)
	case !p.playing:
		p.conceal.Stop()
		p.lost(n)
	case p.waiting.n == 0:
		p.gap += n
		p.lose(n)
	case first.from > p.read && p.short > 0: // what is missing may still come: the delay grows here
		n = min(n, p.short)
		p.short -= n
		p.Inserted += uint64(n)
		p.lose(n)
	case first.from > p.read:
		n = min(n, first.from-p.read)
		p.read += n
		p.lose(n)
	default:
		p.pull(min(n, first.to-p.read))
	}
}

// pull moves n samples from the ring to stage.
func (p *Playout) pull(n int64) {
	begin := len(p.stage)
	p.stage = p.stage[:begin+int(n)]
	added := p.stage[begin:]
	copy(added[copy(added, p.ring[p.read&p.mask:]):], p.ring)
	p.conceal.Good(added)
	p.read += n
	p.waiting.cut(p.read)
	p.sound = len(p.stage)
}

// lose adds n samples in place of what is missing.
func (p *Playout) lose(n int64) {
	if p.lost(n) {
		p.Concealed += uint64(n)
	}
}

func (p *Playout) lost(n int64) bool {
	begin := len(p.stage)
	p.stage = p.stage[:begin+int(n)]
	if !p.conceal.Lost(p.stage[begin:]) {
		return false
	}
	p.sound = len(p.stage)
	return true
}
