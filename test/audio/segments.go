package audio

import (
	"iter"
	"math"
	"slices"
	"time"
)

const (
	segment      = 5 * time.Millisecond
	audibleLevel = -50 // dBFS: segments below are pauses
	onsetStep    = 20  // dB by which an onset is louder than the segment before
	worstSegment = -10 // dB that one segment counts for, at worst
	bestSegment  = 45  // and at best
)

// SegmentalSNR is by how many dB what degraded, which is aligned with original, adds lies below that: the mean of all segments of
// 5 ms that aren't pauses. NaN: there are only pauses.
func SegmentalSNR(original, degraded []int16, rate int) float64 {
	var sum, n float64
	for sound, added := range segments(original, degraded, rate) {
		if dBFS(sound) > audibleLevel {
			sum += min(max(10*math.Log10(sound/added), worstSegment), bestSegment)
			n++
		}
	}
	return sum / n
}

// PreEcho is what degraded, which is aligned with original, adds in the 5 ms before an onset, in dB of that onset: nine of ten are
// no louder. A codec spreads what it leaves out over all of its frame, and before an onset nothing covers it. NaN: there are no onsets.
func PreEcho(original, degraded []int16, rate int) float64 {
	var all []float64
	var last [2]float64 // what there was, and what was added, one segment ago
	for sound, added := range segments(original, degraded, rate) {
		if last[1] > 0 && dBFS(sound) > audibleLevel && sound > last[0]*math.Pow(10, onsetStep/10.0) {
			all = append(all, 10*math.Log10(last[1]/sound))
		}
		last = [2]float64{sound, added}
	}
	if len(all) == 0 {
		return math.NaN()
	}
	slices.Sort(all)
	return all[len(all)*9/10]
}

// segments are the powers of what was said, and of what was added to it, in squares of samples; that is never less than rounding adds.
func segments(original, degraded []int16, rate int) iter.Seq2[float64, float64] {
	const rounding = 1.0 / 12
	n := count(rate, segment)
	return func(yield func(sound, added float64) bool) {
		for at := 0; at+n <= min(len(original), len(degraded)); at += n {
			sound, added := 0.0, 0.0
			for i := at; i < at+n; i++ {
				difference := float64(degraded[i]) - float64(original[i])
				sound += float64(original[i]) * float64(original[i])
				added += difference * difference
			}
			if !yield(sound/float64(n), max(added/float64(n), rounding)) {
				return
			}
		}
	}
}
