// Package audio measures recorded sound for tests: tone, level, noise, likeness and delay.
//
// Samples are signed 16-bit mono. Levels are in dBFS, where 0 dBFS is a sine of full scale (AES17), so a tone made
// at −10 dBFS measures −10 dBFS. Silence measures −Inf.
package audio

import (
	"math"
	"time"
)

// fullScale is the peak of a 0 dBFS sine.
const fullScale = 32767

// Tone makes a sine of freq Hz at level dBFS, sampled at rate Hz.
func Tone(freq, level float64, rate int, d time.Duration) []int16 {
	out := make([]int16, count(rate, d))
	peak := fullScale * math.Pow(10, level/20)
	step := 2 * math.Pi * freq / float64(rate)
	for i := range out {
		out[i] = clip(peak * math.Sin(step*float64(i)))
	}
	return out
}

// Mix adds signals sample by sample and clips the sum; shorter ones end early.
func Mix(signals ...[]int16) []int16 {
	var longest int
	for _, s := range signals {
		longest = max(longest, len(s))
	}
	out := make([]int16, longest)
	for i := range out {
		var sum float64
		for _, s := range signals {
			if i < len(s) {
				sum += float64(s[i])
			}
		}
		out[i] = clip(sum)
	}
	return out
}

// Level is the RMS of samples in dBFS; a constant offset counts as nothing, because nobody hears it.
func Level(samples []int16) float64 {
	return dBFS(variance(samples))
}

// variance is the power of samples around their mean.
func variance(samples []int16) float64 {
	if len(samples) == 0 {
		return 0
	}
	var sum, square float64
	for _, s := range samples {
		sum += float64(s)
		square += float64(s) * float64(s)
	}
	n := float64(len(samples))
	return max(0, square/n-(sum/n)*(sum/n))
}

// dBFS turns a mean square into a level; that of a full-scale sine is half its squared peak.
func dBFS(power float64) float64 {
	return 10 * math.Log10(power/(fullScale*fullScale/2))
}

func count(rate int, d time.Duration) int {
	return int(int64(rate) * int64(d) / int64(time.Second))
}

func clip(v float64) int16 {
	return int16(math.Round(min(math.MaxInt16, max(math.MinInt16, v))))
}
