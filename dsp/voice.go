package dsp

import "math"

// Powers are mean squares of samples. voiceFull is that of a sine of full scale, 0 dBFS.
const (
	voiceFull    = 32767. * 32767 / 2
	voiceNothing = voiceFull * 1e-8 // −80 dBFS: as good as digital silence, which says nothing of the background
	voiceQuiet   = voiceFull * 2e-7 // −67 dBFS: no background counts for less
	voiceTone    = voiceFull * 1e-5 // −50 dBFS: a tone as loud as this is meant to be heard
	voiceLoud    = voiceFull * 1e-3 // −30 dBFS: what is louder is no background, however long it lasts
)

// Where a block crosses: a power so many times the background's, and so many spreads above its mean.
const (
	voiceJump       = 5. // one block: 7 dB
	voiceJumpSpread = 12.
	voiceRise       = 3.2 // some 30 ms: 5 dB
	voiceRiseSpread = 6.
	voiceStay       = 2.5 // some 30 ms, after a block that crossed: 4 dB
	voiceBurst      = 2.  // no block counts for more than twice that power in what comes after it
	voiceMost       = 20. // no background is so restless that 13 dB are not enough
)

// What a tone is.
const (
	voiceTonal   = 0.05  // the share of its power that is not as the sine's law says
	voiceHumming = 0.98  // the cosine of its step; what is below 250 Hz is hum
	voiceDull    = 0.015 // hum's share of edges: as much as a sine of 150 Hz has
)

// Time, in blocks.
const (
	voiceBlocks   = 100                  // a second
	voiceWindow   = voiceBlocks * 3 / 10 // a window; the background is the quietest of voiceWindows
	voiceWindows  = 5
	voiceSmooth   = 1. / 3                 // a new block's share in the smooth power
	voiceSettle   = 1. / 64                // and in the background's mean and spread
	voiceReal     = 4                      // so many blocks that cross in a row are a voice; fewer may be a click
	voiceHang     = voiceBlocks * 35 / 100 // a voice is kept for so long,
	voiceDoubt    = voiceBlocks * 20 / 100 // what is kept for no longer than this need not be in a word
	voiceHangLess = voiceBlocks * 6 / 100  // and a click for so long
)

// Voice says whether anybody is heard in a stream, as opposed to background. It splits frames into blocks of 10 ms and
// compares the power of each with that of the quietest moment of the last 1.5 to 1.8 s, twice: as it is, and that of
// the differences between neighbours, which lets hiss be heard beside hum. A restless background needs more to rise
// above.
//
// A frame with a block that crosses is active itself, so words begin whole. A voice of 40 ms or more is kept for
// another 350 ms, which closes the gaps in words; what was shorter, like a click, for 60 ms. A new steady background
// is active for 2.2 s until it is known. Tones from 250 Hz on are active as long as they last, and so is everything
// louder than −30 dBFS that is not hum. Digital silence is not active and changes nothing that was learnt: a
// background that comes back after a gap is known.
type Voice struct {
	step int // samples between neighbours: 1/8000 s
	// plain and edges are the backgrounds of the sound and of its differences.
	plain, edges voiceFloor
	run          int // blocks that crossed in a row
	hang         int // blocks that are still kept
	still        int // blocks in which nothing was heard, in a row
}

// NewVoice makes a detector for sound of 8000 or 16000 samples a second.
func NewVoice(rate int) Voice {
	return Voice{step: max(1, rate/8000), plain: newVoiceFloor(), edges: newVoiceFloor()}
}

// Frame takes the next frame, of 10 ms or more, and says whether a voice, or another sound that is meant to be heard,
// is in it.
func (v *Voice) Frame(pcm []int16) (active bool) {
	blocks := max(1, len(pcm)*voiceBlocks/(8000*v.step))
	for n := blocks; n > 0; n-- {
		size := len(pcm) / n
		if v.block(pcm[:size]) {
			active = true
		}
		pcm = pcm[size:]
	}
	return active
}

// block is Frame for one block.
func (v *Voice) block(pcm []int16) bool {
	if v.crosses(pcm) {
		v.run++
		keep := voiceHangLess
		if v.run >= voiceReal {
			keep = voiceHang
		}
		v.hang, v.still = max(v.hang, keep), 0
		return true
	}
	v.run = 0
	if v.hang == 0 {
		v.still++
		return false
	}
	v.hang--
	return true
}

// crosses says whether a block is above the background, and learns from it.
func (v *Voice) crosses(pcm []int16) bool {
	power, edges, tone := v.measure(pcm)
	if power < voiceNothing {
		v.plain.hold()
		v.edges.hold()
		return false
	}
	if tone && power > voiceTone {
		return true
	}
	v.plain.learn(power)
	v.edges.learn(edges)
	if power > voiceLoud && edges > voiceDull*power {
		return true
	}
	going := v.run > 0
	if v.plain.above(power, going) || v.edges.above(edges, going) {
		return true
	}
	if v.hang <= voiceDoubt { // what is quiet within words is no background
		v.plain.settle(power)
		v.edges.settle(edges)
	}
	if v.still >= voiceWindow {
		v.plain.sure, v.edges.sure = v.plain.least, v.edges.least
	}
	return false
}

// measure finds a block's power, that of the differences between its neighbours, and whether it is a tone: a sine of
// any loudness obeys x[n−1] + x[n+1] = 2 cos ω · x[n], and two whose pitches are near nearly do.
func (v *Voice) measure(pcm []int16) (power, edges float64, tone bool) {
	count := len(pcm) - 2*v.step
	if count < 1 {
		return 0, 0, false
	}
	var m, mm, mp, pp int // m: a sample, p: the sum of its neighbours
	before, after := pcm[:count], pcm[2*v.step:]
	middle := pcm[v.step : v.step+count]
	for i := range middle {
		mid, pair := int(middle[i]), int(before[i])+int(after[i])
		m += mid
		mm += mid * mid
		mp += mid * pair
		pp += pair * pair
	}
	n := float64(count)
	mean := float64(m) / n
	// An offset is inaudible; one that changes within the block makes up for itself nearly.
	power = float64(mm)/n - mean*mean
	edges = float64(2*mm-mp) / n
	if power <= 0 {
		return 0, 0, false
	}
	both := float64(mp)/n - 2*mean*mean
	cosine := both / power / 2
	rest := float64(pp)/n - 4*mean*mean - both*both/power
	return power, edges, rest < voiceTonal*power && math.Abs(cosine) < voiceHumming
}

// voiceFloor follows the power of the background: the least of the last windows, and how it fluctuates above that.
type voiceFloor struct {
	recent  float64 // smooth power in which no block counts for so much that its echo would outlast it
	smooth  float64
	windows [voiceWindows]float64 // the least smooth power of each; the one at is not full yet
	at      int
	blocks  int     // in it
	least   float64 // of all
	sure    float64 // what that was when nobody was heard for some time
	mean    float64 // of the blocks that did not cross
	spread  float64 // how far those were from it
}

func newVoiceFloor() voiceFloor {
	f := voiceFloor{smooth: voiceQuiet, least: voiceQuiet, sure: voiceQuiet, mean: voiceQuiet}
	f.hold()
	return f
}

// learn takes a block's power.
func (f *voiceFloor) learn(power float64) {
	f.recent += voiceSmooth * (min(power, voiceBurst*f.limit(voiceRise, voiceRiseSpread)) - f.recent)
	f.smooth += voiceSmooth * (power - f.smooth)
	if f.blocks >= voiceWindow {
		f.at, f.blocks = (f.at+1)%voiceWindows, 0
		f.windows[f.at] = math.MaxFloat64
	}
	f.blocks++
	f.windows[f.at] = min(f.windows[f.at], max(f.smooth, voiceQuiet))
	f.least = f.windows[0]
	for _, w := range f.windows[1:] {
		f.least = min(f.least, w)
	}
}

// settle takes the power of a block that did not cross.
func (f *voiceFloor) settle(power float64) {
	f.mean += voiceSettle * (power - f.mean)
	f.spread += voiceSettle * (math.Abs(power-f.mean) - f.spread)
}

// hold is for a gap. The background is again what it was when nobody was heard, as what is quiet among words is none,
// and does not rise before 1.5 s of sound have come without a break.
func (f *voiceFloor) hold() {
	f.least = min(f.least, f.sure)
	for i := range f.windows {
		f.windows[i] = f.least
	}
	f.blocks = 0
}

// above says whether the last block jumps out of the background, or is, with those before it, higher for some time.
func (f *voiceFloor) above(power float64, going bool) bool {
	if going {
		return f.recent > voiceStay*f.least
	}
	return power > f.limit(voiceJump, voiceJumpSpread) || f.recent > f.limit(voiceRise, voiceRiseSpread)
}

func (f *voiceFloor) limit(times, spreads float64) float64 {
	return max(times*f.least, min(f.mean+spreads*f.spread, voiceMost*f.least))
}
