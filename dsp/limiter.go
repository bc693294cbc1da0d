// Package dsp treats sound as numbers: no RTP, no clock, no locks, nothing of ours imported. Samples are signed 16-bit
// mono at 8 or 16 kHz. What works on frames keeps its state for one stream, allocates nothing after it was made, and
// gives the same output for the same input.
package dsp

import "math"

// The limiter leaves samples up to limiterKnee (−1 dBFS) as they are. What is louder is brought below limiterTop, which
// no loudness reaches: a step under full scale, so that nothing ever lies at the rails.
const (
	limiterKnee = 29204
	limiterTop  = 32700
	// limiterRelease is how long, in seconds, the gain takes to rise by 6 dB once the loudness has gone.
	limiterRelease = 0.1
)

// Limiter turns sums of voices into samples without cutting the tops of waves off. Its gain falls as fast as a
// frame's loudest sample needs, on a straight line from where the last frame ended, and rises again by 6 dB in 100
// ms. Up to −1 dBFS, and with the gain at rest, output is input bit by bit. Its state is that gain: listeners that
// share a sum and leave their own voice out have a Limiter each. It looks no further ahead than the frame, so it
// delays nothing.
type Limiter struct {
	gain float64 // what the last sample was multiplied by
	rate float64 // samples a second
}

// NewLimiter makes a limiter for sound of rate samples a second.
func NewLimiter(rate int) Limiter { return Limiter{gain: 1, rate: float64(rate)} }

// Gain is what the last sample was multiplied by; 1 is a limiter at rest.
func (l *Limiter) Gain() float64 { return l.gain }

// Frame writes the sums of a frame to dst, which is as long as they are. Frames may have any length.
func (l *Limiter) Frame(dst []int16, sum []int32) {
	dst = dst[:len(sum)]
	var low, high int32
	for _, s := range sum {
		low, high = min(low, s), max(high, s)
	}
	peak := max(-float64(low), float64(high))
	if peak <= limiterKnee && l.gain == 1 {
		for i, s := range sum {
			dst[i] = int16(s)
		}
		return
	}
	aim := 1.0
	if peak > limiterKnee {
		aim = tamed(peak) / peak
	}
	if aim < l.gain {
		l.attack(dst, sum, aim, aim*peak)
		return
	}
	l.release(dst, sum, aim)
}

// tamed says where a peak above the knee comes to lie. It is as steep as the straight line at the knee, so a wave that
// grows past it changes its loudness without a corner, and it nears limiterTop and never gets there.
func tamed(peak float64) float64 {
	const room = limiterTop - limiterKnee
	over := peak - limiterKnee
	return limiterKnee + over*room/(over+room)
}

// attack lets the gain fall to aim on the flattest straight line that keeps every sample at top or below.
func (l *Limiter) attack(dst []int16, sum []int32, aim, top float64) {
	fall := 0.0 // the gain lost with each sample
	for i, s := range sum {
		if loud := math.Abs(float64(s)); loud*(l.gain-fall*float64(i+1)) > top {
			fall = (l.gain - top/loud) / float64(i+1)
		}
	}
	for i, s := range sum {
		dst[i] = int16(math.RoundToEven(float64(s) * max(aim, l.gain-fall*float64(i+1))))
	}
	l.gain = max(aim, l.gain-fall*float64(len(sum)))
}

// release lets the gain rise, to aim at most, which fits the loudest sample of the frame.
func (l *Limiter) release(dst []int16, sum []int32, aim float64) {
	to := min(aim, l.gain*math.Exp2(float64(len(sum))/(limiterRelease*l.rate)))
	step := (to - l.gain) / float64(len(sum))
	for i, s := range sum {
		dst[i] = int16(math.RoundToEven(float64(s) * (l.gain + step*float64(i+1))))
	}
	l.gain = to
}
