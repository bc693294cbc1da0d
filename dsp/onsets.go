package dsp

// What an onset is.
const (
	onsetBlocks = 400 // a second: 2.5 ms each
	onsetJump   = 3.  // so many times what was loudest before: 5 dB
	onsetDecay  = 0.8 // of what was loudest, from block to block: 0.4 dB a millisecond, so that the periods of a voice are none
	onsetLeast  = 100 // mean square of the differences between neighbours: what is softer spoils nothing that can be heard
)

// Onsets finds the frames in which sound begins, or gets louder at once: those that an encoder of transforms smears over
// what was before. It looks at differences between neighbours, which an encoder looks at too (pre-emphasis).
type Onsets struct {
	block int // samples
	last  float32
	peak  float32 // of what was before: power of a block
}

// NewOnsets makes a detector for sound of so many samples a second. Its first frame has an onset if it is not silent.
func NewOnsets(rate int) Onsets { return Onsets{block: rate / onsetBlocks} }

// Frame takes the next frame, a multiple of 2.5 ms, and says whether there is an onset in it.
func (o *Onsets) Frame(pcm []int16) (begins bool) {
	last, peak := o.last, o.peak
	for ; len(pcm) >= o.block; pcm = pcm[o.block:] {
		var power float32
		for _, v := range pcm[:o.block] {
			step := float32(v) - last
			last = float32(v)
			power += step * step
		}
		if power > onsetJump*peak && power > onsetLeast*float32(o.block) {
			begins = true
		}
		peak = max(onsetDecay*peak, power)
	}
	o.last, o.peak = last, peak
	return begins
}
