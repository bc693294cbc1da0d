package audio

import (
	"math"
	"math/bits"
	"math/cmplx"
	"slices"
	"time"
)

// lowest is the lowest frequency in Hz that Frequency reports: below is offset and rumble.
const lowest = 20

// Frequency is the frequency in Hz of the strongest component, within 1 Hz for one second of a tone. It is 0 when
// there is nothing to measure.
func Frequency(samples []int16, rate int) float64 {
	if variance(samples) == 0 {
		return 0
	}
	// Twice as many bins as samples: the parabola below then errs by less than a twentieth of a bin.
	size := 1 << bits.Len(uint(2*len(samples)-1))
	x := make([]complex128, size)
	for i, s := range samples {
		x[i] = complex(float64(s)*hann(i, len(samples)), 0)
	}
	transform(x)
	bin := float64(rate) / float64(size)
	best := 0
	for i := max(1, int(math.Ceil(lowest/bin))); i < size/2; i++ {
		if best == 0 || cmplx.Abs(x[i]) > cmplx.Abs(x[best]) {
			best = i
		}
	}
	if best == 0 {
		return 0
	}
	// The logarithm of a Hann window's main lobe is nearly a parabola: its vertex lies between the bins.
	left, mid, right := math.Log(cmplx.Abs(x[best-1])), math.Log(cmplx.Abs(x[best])), math.Log(cmplx.Abs(x[best+1]))
	shift := 0.5 * (left - right) / (left - 2*mid + right)
	if !(math.Abs(shift) <= 0.5) { // no peak but a slope, or an empty bin
		shift = 0
	}
	return (float64(best) + shift) * bin
}

// Goertzel is the level in dBFS of the component at freq Hz. Its Hann window keeps a loud tone elsewhere from hiding
// a quiet one: what is 4/T Hz away, T the length of samples, counts 65 dB less and soon nothing.
func Goertzel(samples []int16, rate int, freq float64) float64 {
	if len(samples) == 0 {
		return math.Inf(-1)
	}
	mean := average(samples)
	turn := 2 * math.Cos(2*math.Pi*freq/float64(rate))
	var s1, s2, weight float64
	for i, s := range samples {
		w := hann(i, len(samples))
		weight += w
		s1, s2 = (float64(s)-mean)*w+turn*s1-s2, s1
	}
	power := s1*s1 + s2*s2 - turn*s1*s2
	peak := 2 * math.Sqrt(max(0, power)) / weight
	return dBFS(peak * peak / 2)
}

// SNR is the ratio in dB of the sine near freq Hz to all the rest of samples. The sine is fitted by least squares
// with free amplitude, phase, offset and frequency (IEEE Std 1057 §4.6.4), the last within 2 % or one period in the
// length of samples. Silence has an SNR of −Inf.
func SNR(samples []int16, rate int, freq float64) float64 {
	total := variance(samples)
	if total == 0 {
		return math.Inf(-1)
	}
	length := float64(len(samples)) / float64(rate)
	reach, step := max(freq*0.02, 1/length), 1/(4*length)
	rest, at := math.Inf(1), freq
	for f := freq - reach; f <= freq+reach; f += step {
		if r := residual(samples, rate, f); r < rest {
			rest, at = r, f
		}
	}
	rest = min(rest, golden(at-step, at+step, func(f float64) float64 { return residual(samples, rate, f) }))
	if rest <= 0 {
		return math.Inf(1)
	}
	return 10 * math.Log10(max(0, total-rest)/rest)
}

// window is how long the pieces of MedianSNR are.
const window = 100 * time.Millisecond

// MedianSNR is the median of SNR over whole windows of 100 ms. A browser's jitter buffer stretches time and so
// breaks the phase of a tone now and then; that spoils a window, not the median. Without a whole window it is −Inf.
func MedianSNR(samples []int16, rate int, freq float64) float64 {
	all := make([]float64, 0, 64)
	for piece := range slices.Chunk(samples, count(rate, window)) {
		if len(piece) == count(rate, window) {
			all = append(all, SNR(piece, rate, freq))
		}
	}
	if len(all) == 0 {
		return math.Inf(-1)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// residual is the power that stays when the best a·cos + b·sin + c at freq is taken out of samples.
func residual(samples []int16, rate int, freq float64) float64 {
	n := float64(len(samples))
	spin := cmplx.Rect(1, 2*math.Pi*freq/float64(rate))
	point := complex(1, 0)
	var cc, ss, cs, c1, s1, xc, xs, x1, xx float64
	for i, v := range samples {
		if i%1024 == 0 { // a product of many rotations drifts off the circle
			point = cmplx.Rect(1, math.Mod(2*math.Pi*freq*float64(i)/float64(rate), 2*math.Pi))
		}
		x, c, s := float64(v), real(point), imag(point)
		cc, ss, cs, c1, s1 = cc+c*c, ss+s*s, cs+c*s, c1+c, s1+s
		xc, xs, x1, xx = xc+x*c, xs+x*s, x1+x, xx+x*x
		point *= spin
	}
	// Normal equations around the means, which takes c out of them.
	cc, ss, cs = cc-c1*c1/n, ss-s1*s1/n, cs-c1*s1/n
	xc, xs, xx = xc-x1*c1/n, xs-x1*s1/n, xx-x1*x1/n
	det := cc*ss - cs*cs
	if det <= 0 {
		return xx / n
	}
	a, b := (xc*ss-xs*cs)/det, (xs*cc-xc*cs)/det
	return max(0, xx-a*xc-b*xs) / n
}

// golden is the smallest value of f between low and high, f having one minimum there.
func golden(low, high float64, f func(float64) float64) float64 {
	const ratio = 0.6180339887498949
	a, b := high-ratio*(high-low), low+ratio*(high-low)
	fa, fb := f(a), f(b)
	for range 24 { // 0.618^24 < 10⁻⁵ of the interval
		if fa < fb {
			high, b, fb = b, a, fa
			a = high - ratio*(high-low)
			fa = f(a)
		} else {
			low, a, fa = a, b, fb
			b = low + ratio*(high-low)
			fb = f(b)
		}
	}
	return min(fa, fb)
}

func hann(i, n int) float64 {
	return 0.5 - 0.5*math.Cos(2*math.Pi*(float64(i)+0.5)/float64(n))
}

func average(samples []int16) float64 {
	var sum float64
	for _, s := range samples {
		sum += float64(s)
	}
	return sum / float64(len(samples))
}

// transform is the discrete Fourier transform in place; len(x) is a power of two.
func transform(x []complex128) {
	shift := bits.UintSize - bits.Len(uint(len(x)-1))
	for i := range x {
		if j := int(bits.Reverse(uint(i)) >> shift); i < j {
			x[i], x[j] = x[j], x[i]
		}
	}
	turns := make([]complex128, len(x)/2)
	for i := range turns {
		turns[i] = cmplx.Rect(1, -2*math.Pi*float64(i)/float64(len(x)))
	}
	for half := 1; half < len(x); half *= 2 {
		stride := len(x) / (2 * half)
		for start := 0; start < len(x); start += 2 * half {
			for k := range half {
				low, high := x[start+k], x[start+half+k]*turns[k*stride]
				x[start+k], x[start+half+k] = low+high, low-high
			}
		}
	}
}
