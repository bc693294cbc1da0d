package dsp

import "math"

// Times of the concealment, in 1/1000 s, unless named otherwise.
const (
	concealWindow = 20 // of what was played last, in which the pitch is looked for
	concealMinLag = 5  // a higher voice matches itself at a multiple of its period
	concealMaxLag = 15 // 66 Hz
	concealPast   = 60 // kept: three periods of the lowest voice and an overlap
	concealStep   = 10 // after each, one more period is repeated, up to three: less of a buzz
	concealGrain  = 5  // half of a piece of unvoiced sound
	concealWhole  = 20 // at full loudness
	concealEnd    = 80 // silence from here on
	concealStop   = 5  // the same after Stop
	concealMerge  = 8  // cross-fade into what is good again
	// concealVoiced is the likeness of sound to itself, one period ago, above which it is repeated. Noise that is
	// repeated is a buzz.
	concealVoiced = 0.5
	concealTrust  = 15 // of good sound, in which the pitch is looked for alone
	concealShort  = 5  // of sound that is needed to make more of it
)

// Concealer makes up for sound that is missing: it goes on with the last periods of a voice, or with sound as noisy as
// the last one was, without a step where it begins. After 20 ms it gets quieter, after 80 ms it is silent. When sound
// comes again, what was made up fades into it. It is pure, bounded and not safe for concurrent use.
type Concealer struct {
	ms     int     // samples in a millisecond
	hist   []int16 // what was played last, the newest at the end
	filled int     // samples of hist that are sound
	good   int     // of those, played since the last loss
	search lagSearch

	lost  bool
	merge int // samples left of a cross-fade

	// Of the loss that lasts, or whose cross-fade does.
	past    []int16 // hist as the loss began
	valid   int     // of past
	since   int     // samples made up
	stopped int     // Stop came then; -1: it did not
	kind    concealKind
	period  int
	at      int   // in past: the next sample
	jump    int   // how far at goes back at the end of past
	step    int32 // between what was played and what is repeated
	random  uint32
	old     grain // fades out
	young   grain // fades in
	faded   int   // samples of that fade
	sine    []int32
}

type concealKind uint8

const (
	concealNothing  concealKind = iota // too little is known
	concealPeriodic                    // a voice
	concealNoise
)

// grain is a piece of the past, forwards or backwards.
type grain struct{ at, dir int }

// NewConcealer makes a Concealer for sound of rate samples per second.
func NewConcealer(rate int) *Concealer {
	ms := rate / 1000
	c := &Concealer{
		ms:      ms,
		hist:    make([]int16, concealPast*ms),
		past:    make([]int16, concealPast*ms),
		search:  newLagSearch(rate, (concealWindow+concealMaxLag)*ms),
		sine:    make([]int32, concealGrain*ms),
		stopped: -1,
		random:  1,
	}
	for i := range c.sine {
		c.sine[i] = int32(math.Round(32768 * math.Sin((float64(i)+0.5)/float64(len(c.sine))*math.Pi/2)))
	}
	return c
}

// Good notes sound that is played. After a loss it lets the beginning of pcm rise, in place, out of what was made up.
func (c *Concealer) Good(pcm []int16) {
	if len(pcm) == 0 {
		return
	}
	if c.lost {
		c.lost = false
		c.merge = concealMerge * c.ms
	}
	whole := int32(concealMerge*c.ms + 1)
	for i := 0; c.merge > 0 && i < len(pcm); i++ {
		made, share := int32(c.next()), int32(c.merge)
		pcm[i] = int16((made*share + int32(pcm[i])*(whole-share)) / whole)
		c.merge--
	}
	c.note(pcm)
	c.good = min(c.filled, c.good+len(pcm))
}

// Lost fills dst with sound in place of what is missing, and says whether it is more than silence.
func (c *Concealer) Lost(dst []int16) bool {
	c.Break()
	heard := 0
	for heard < len(dst) && c.gain() > 0 {
		dst[heard] = c.next()
		heard++
	}
	clear(dst[heard:])
	c.note(dst[:heard])
	if heard < len(dst) {
		c.filled = 0 // what was before the silence is not to be repeated after it
	}
	return heard > 0
}

// Merging says that Good is going to change the beginning of what it is given.
func (c *Concealer) Merging() bool { return c.lost || c.merge > 0 }

// Break says that what comes next does not follow what was played: it is faded into, as after a loss.
func (c *Concealer) Break() {
	if !c.lost {
		c.lost = true
		c.begin()
	}
}

// Stop is Break for an end that is meant: what is made up from now on ends within 5 ms.
func (c *Concealer) Stop() {
	c.Break()
	if c.stopped < 0 {
		c.stopped = c.since
	}
}

// Reset forgets everything.
func (c *Concealer) Reset() {
	clear(c.hist)
	c.filled, c.good, c.merge, c.lost = 0, 0, 0, false
}

// Past is what was played last, up to 60 ms, valid until the next call.
func (c *Concealer) Past() []int16 { return c.hist[len(c.hist)-c.filled:] }

// proceed lets c go on as another one of the same rate would.
func (c *Concealer) proceed(from *Concealer) {
	before := *c
	*c = *from
	c.hist, c.past, c.search = before.hist, before.past, before.search
	copy(c.hist, from.hist)
	copy(c.past, from.past)
}

// note keeps what is played.
func (c *Concealer) note(pcm []int16) {
	n := len(c.hist)
	if len(pcm) == 0 {
		return
	}
	if len(pcm) >= n {
		copy(c.hist, pcm[len(pcm)-n:])
	} else {
		copy(c.hist, c.hist[len(pcm):])
		copy(c.hist[n-len(pcm):], pcm)
	}
	c.filled = min(n, c.filled+len(pcm))
}

// begin looks at what was played last and decides what is made of it.
func (c *Concealer) begin() {
	copy(c.past, c.hist)
	c.valid, c.since, c.stopped, c.merge = c.filled, 0, -1, 0
	if c.valid < concealShort*c.ms {
		c.kind = concealNothing
		return
	}
	n := len(c.past)
	known := c.valid
	if c.good >= concealTrust*c.ms {
		known = min(known, c.good) // what was made up before fits less
	}
	c.good = 0
	window := min(concealWindow*c.ms, known*2/5)
	longest := min(concealMaxLag*c.ms, known-window)
	lag, likeness := 0, 0.0
	if longest >= concealMinLag*c.ms {
		sound := c.past[n-window-longest:]
		lag = c.search.back(sound, window, concealMinLag*c.ms, longest)
		likeness = cosine(sound[longest:], sound[longest-lag:longest-lag+window])
	}
	if likeness < concealVoiced {
		c.beginNoise()
		return
	}
	c.kind, c.period = concealPeriodic, lag
	c.at, c.jump = n-c.joint(lag), lag
	c.step = int32(c.past[n-1]) - int32(c.past[c.at-1])
}

// joint is how far behind the end the repetition begins: about a period, where the last 2 ms fit best.
func (c *Concealer) joint(lag int) int {
	n, window := len(c.past), 2*c.ms
	end := c.past[n-window:]
	best, joint := int64(math.MaxInt64), lag
	for l := lag - c.ms/2; l <= lag+c.ms/2; l++ {
		aa, ab, bb := products(end, c.past[n-window-l:n-l])
		if d := aa - 2*ab + bb; d < best {
			best, joint = d, l
		}
	}
	return joint
}

// beginNoise starts with the past played backwards: it goes on from the last sample without a step.
func (c *Concealer) beginNoise() {
	if c.valid < 2*len(c.sine) {
		c.kind = concealNothing
		return
	}
	c.kind, c.faded = concealNoise, 0
	c.old = grain{at: len(c.past) - 1, dir: -1}
	c.young = c.pick()
}

// pick chooses a piece of the past of two grains' halves.
func (c *Concealer) pick() grain {
	c.random = c.random*1664525 + 1013904223
	room := min(c.valid, concealPast*c.ms/2) - 2*len(c.sine)
	at := len(c.past) - 2*len(c.sine) - int(c.random>>8)%(room+1)
	if c.random>>31 == 0 {
		return grain{at: at, dir: 1}
	}
	return grain{at: at + 2*len(c.sine) - 1, dir: -1}
}

// gain is the loudness of the next sample, of 32768.
func (c *Concealer) gain() int32 {
	g := 32768
	if c.since > concealWhole*c.ms {
		g = max(0, 32768*(concealEnd*c.ms-c.since)/((concealEnd-concealWhole)*c.ms))
	}
	if c.stopped >= 0 {
		g = min(g, max(0, 32768*(concealStop*c.ms-(c.since-c.stopped))/(concealStop*c.ms)))
	}
	if c.kind == concealNothing && (c.since >= concealStop*c.ms || c.past[len(c.past)-1] == 0) {
		return 0
	}
	return int32(g)
}

// next makes one sample.
func (c *Concealer) next() int16 {
	g := c.gain()
	if g == 0 {
		return 0
	}
	var v int32
	switch c.kind {
	case concealPeriodic:
		v = c.periodic()
	case concealNoise:
		v = c.noise()
	default: // from the last sample to nothing
		v = int32(c.past[len(c.past)-1]) * int32(concealStop*c.ms-c.since-1) / int32(concealStop*c.ms)
	}
	c.since++
	return int16(min(max(int32((int64(v)*int64(g))>>15), math.MinInt16), math.MaxInt16))
}

// periodic repeats the last one, two or three periods. Their end fades into the sample before their beginning, so that
// each repetition goes on from the one before.
func (c *Concealer) periodic() int32 {
	n, overlap := len(c.past), c.period/4
	v := int32(c.past[c.at])
	if into := c.at - (n - overlap); into >= 0 {
		if into == 0 {
			c.jump = c.repeated()
		}
		v += (int32(c.past[c.at-c.jump]) - v) * int32(into+1) / int32(overlap+1)
	}
	// What was played ended beside where the repetition begins: the difference goes away over half a period.
	if half := 2 * c.ms; c.since < half {
		v += c.step * int32(half-1-c.since) / int32(half)
	}
	if c.at++; c.at == n {
		c.at -= c.jump
	}
	return v
}

// repeated is how much of the past is repeated.
func (c *Concealer) repeated() int {
	k := min(3, 1+c.since/(concealStep*c.ms))
	for k > 1 && k*c.period+c.period/4 > c.valid {
		k--
	}
	return k * c.period
}

// noise plays pieces of the past that are chosen at random, each fading into the next at equal power.
func (c *Concealer) noise() int32 {
	half := len(c.sine)
	i := c.faded
	v := (int32(c.past[c.old.at])*c.sine[half-1-i] + int32(c.past[c.young.at])*c.sine[i]) >> 15
	c.old.at += c.old.dir
	c.young.at += c.young.dir
	if c.faded++; c.faded == half {
		c.faded = 0
		c.old, c.young = c.young, c.pick()
	}
	return v
}
