package audio

import "math"

// The low-pass of Resample: a sinc of this many zero crossings on each side under a Kaiser window, which lets through
// up to 0.9 of the lower rate's half and takes out more than 80 dB from its half upwards.
const (
	crossings  = 50
	kaiserBeta = 8.0
	passBand   = 0.95
)

// Resample converts samples from one rate to another (48000 to 8000, 16000 to 48000, …) with a linear-phase low-pass
// and without delay, so that recordings of different rates can be compared.
func Resample(samples []int16, from, to int) []int16 {
	if from == to || len(samples) == 0 {
		return samples
	}
	div := gcd(from, to)
	up, down := to/div, from/div
	// The filter's cutoff and length are in units of input samples.
	cutoff := passBand * min(1, float64(to)/float64(from))
	reach := int(math.Ceil(crossings / cutoff))
	phases := make([][]float64, up)
	for p := range phases {
		phases[p] = kernel(float64(p)/float64(up), cutoff, reach)
	}
	out := make([]int16, len(samples)*up/down)
	for i := range out {
		at, phase := i*down/up, i*down%up
		var sum float64
		for k, w := range phases[phase] {
			if j := at + k - reach; j >= 0 && j < len(samples) {
				sum += w * float64(samples[j])
			}
		}
		out[i] = clip(sum)
	}
	return out
}

// kernel is the weights of the input samples −reach … reach+1 for an output that lies fraction after sample 0.
func kernel(fraction, cutoff float64, reach int) []float64 {
	taps := make([]float64, 2*reach+2)
	var sum float64
	for k := range taps {
		t := float64(k-reach) - fraction
		taps[k] = cutoff * sinc(cutoff*t) * kaiser(t/float64(reach+1))
		sum += taps[k]
	}
	for k := range taps { // exactly 0 dB at 0 Hz in each phase
		taps[k] /= sum
	}
	return taps
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiser is the window at x, which runs from −1 to 1.
func kaiser(x float64) float64 {
	if x <= -1 || x >= 1 {
		return 0
	}
	return bessel(kaiserBeta*math.Sqrt(1-x*x)) / bessel(kaiserBeta)
}

// bessel is the modified Bessel function of the first kind and order 0.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= (x / (2 * k)) * (x / (2 * k))
		sum += term
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
