package audio

import (
	"math"
	"math/cmplx"
	"time"
)

// The short-time objective intelligibility measure of Taal, Hendriks, Heusdens and Jensen, "An Algorithm for
// Intelligibility Prediction of Time-Frequency Weighted Noisy Speech", IEEE TASL 19 (7), 2011. The names are the paper's.
const (
	stoiRate     = 10000
	stoiFrame    = 256 // 25.6 ms, half overlapping
	stoiHop      = stoiFrame / 2
	stoiFFT      = 512
	stoiBands    = 15    // one third of an octave each
	stoiLowest   = 150.0 // Hz, the middle of the lowest band
	stoiSegment  = 30    // frames, 384 ms
	stoiClipping = -15.0 // dB, the lowest signal-to-distortion ratio that a part of a segment counts with
	stoiRange    = 40.0  // dB under the loudest frame, from where on a frame is silence
)

// STOI says how much of original a listener to degraded can be expected to understand: 1 is all, near 0 nothing. Both are
// of the same rate and aligned in time (see Align); what one has longer than the other does not count. Without a
// segment of 384 ms of speech it is NaN.
func STOI(original, degraded []int16, rate int) float64 {
	n := min(len(original), len(degraded))
	x, y := stoiSpeech(floats(Resample(original[:n], rate, stoiRate)), floats(Resample(degraded[:n], rate, stoiRate)))
	bx, by := stoiSpectrum(x), stoiSpectrum(y)
	var sum float64
	segments := 0
	for m := stoiSegment; m <= len(bx); m++ {
		for j := range stoiBands {
			sum += stoiCorrelation(bx[m-stoiSegment:m], by[m-stoiSegment:m], j)
		}
		segments++
	}
	return sum / float64(segments*stoiBands)
}

func floats(samples []int16) []float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		out[i] = float64(s)
	}
	return out
}

// stoiWindow is a Hann window without its zeros at the ends.
func stoiWindow() (w [stoiFrame]float64) {
	for i := range w {
		w[i] = 0.5 - 0.5*math.Cos(2*math.Pi*float64(i+1)/(stoiFrame+1))
	}
	return w
}

// stoiSpeech leaves out the frames in which x is silent, of both.
func stoiSpeech(x, y []float64) (sx, sy []float64) {
	w := stoiWindow()
	var energy []float64
	loudest := math.Inf(-1)
	for from := 0; from+stoiFrame <= len(x); from += stoiHop {
		var sum float64
		for i, v := range w {
			sum += v * x[from+i] * v * x[from+i]
		}
		energy = append(energy, 10*math.Log10(sum/stoiFrame))
		loudest = max(loudest, energy[len(energy)-1])
	}
	at := 0
	for m, e := range energy {
		if !(e > loudest-stoiRange) { // also when nothing is loud
			continue
		}
		for len(sx) < at+stoiFrame {
			sx, sy = append(sx, 0), append(sy, 0)
		}
		for i, v := range w {
			sx[at+i] += v * x[m*stoiHop+i]
			sy[at+i] += v * y[m*stoiHop+i]
		}
		at += stoiHop
	}
	return sx, sy
}

// stoiSpectrum is the norm of each band in each frame.
func stoiSpectrum(x []float64) [][stoiBands]float64 {
	w := stoiWindow()
	var out [][stoiBands]float64
	bins := make([]complex128, stoiFFT)
	for from := 0; from+stoiFrame <= len(x); from += stoiHop {
		clear(bins)
		for i, v := range w {
			bins[i] = complex(v*x[from+i], 0)
		}
		transform(bins)
		var bands [stoiBands]float64
		for j := range bands {
			middle := stoiLowest * math.Pow(2, float64(j)/3)
			var sum float64
			for k := stoiBin(middle * math.Pow(2, -1.0/6)); k < stoiBin(middle*math.Pow(2, 1.0/6)); k++ {
				sum += real(bins[k] * cmplx.Conj(bins[k]))
			}
			bands[j] = math.Sqrt(sum)
		}
		out = append(out, bands)
	}
	return out
}

// stoiBin is the nearest bin to a frequency.
func stoiBin(hz float64) int { return int(math.Round(hz * stoiFFT / stoiRate)) }

// stoiCorrelation is how alike band j runs in one segment, equations 3 to 5: y is brought to the level of x and clipped.
func stoiCorrelation(x, y [][stoiBands]float64, j int) float64 {
	var xx, yy float64
	for m := range x {
		xx += x[m][j] * x[m][j]
		yy += y[m][j] * y[m][j]
	}
	if yy == 0 {
		return 0
	}
	alpha, most := math.Sqrt(xx/yy), 1+math.Pow(10, -stoiClipping/20)
	var a, b [stoiSegment]float64
	for m := range x {
		a[m], b[m] = x[m][j], min(alpha*y[m][j], most*x[m][j])
	}
	return pearson(a[:], b[:])
}

// Align finds by how much degraded, of the same rate as original, comes late (negative: early), up to most, and returns it
// moved back, with the length of original; what is missing at the ends is silence. It looks at the wave itself, so that it is
// exact to a sample for what a codec keeps the wave of.
func Align(original, degraded []int16, rate int, most time.Duration) (aligned []int16, late time.Duration) {
	coarse := max(1, rate/4000) // first at a quarter of the cost or less, then around what was found
	best := coarse * correlate(thinned(original, coarse), thinned(degraded, coarse), count(rate, most)/coarse)
	if coarse > 1 {
		around, highest := best, math.Inf(-1)
		for lag := around - 2*coarse; lag <= around+2*coarse; lag++ {
			var sum float64
			for i := max(0, -lag); i < min(len(original), len(degraded)-lag); i++ {
				sum += float64(original[i]) * float64(degraded[i+lag])
			}
			if sum > highest {
				best, highest = lag, sum
			}
		}
	}
	aligned = make([]int16, len(original))
	for i := range aligned {
		if k := i + best; k >= 0 && k < len(degraded) {
			aligned[i] = degraded[k]
		}
	}
	return aligned, time.Duration(best) * time.Second / time.Duration(rate)
}

// thinned is the mean of each n samples.
func thinned(samples []int16, n int) []float64 {
	out := make([]float64, len(samples)/n)
	for i := range out {
		for _, s := range samples[i*n : (i+1)*n] {
			out[i] += float64(s) / float64(n)
		}
	}
	return out
}

// correlate is the lag of y, up to reach either way, at which it is most like x.
func correlate(x, y []float64, reach int) int {
	size := 2
	for size < len(x)+len(y) {
		size *= 2
	}
	a, b := make([]complex128, size), make([]complex128, size)
	for i, v := range x {
		a[i] = complex(v, 0)
	}
	for i, v := range y {
		b[i] = complex(v, 0)
	}
	transform(a)
	transform(b)
	for i := range a { // the conjugate of the product, so that a forward transform is the backward one
		a[i] = cmplx.Conj(b[i] * cmplx.Conj(a[i]))
	}
	transform(a)
	reach = min(reach, size/2-1)
	best := 0
	for lag := -reach; lag <= reach; lag++ {
		if real(a[(lag+size)%size]) > real(a[(best+size)%size]) {
			best = lag
		}
	}
	return best
}
