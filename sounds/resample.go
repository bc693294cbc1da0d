package sounds

import "math"

// The low-pass before samples are left out: up to passEdge nothing is lost, from half our rate upwards nothing is left
// that could be heard as something else. A telephone ends at 3400 Hz.
const (
	passEdge    = 3500.0
	stopEdge    = Rate / 2
	attenuation = 80.0 // dB
)

// resample brings samples to 8 kHz by a polyphase FIR of exact ratio, with linear phase and without delay.
func resample(in []int16, rate int) []int16 {
	if rate == Rate {
		return in
	}
	div := gcd(rate, Rate)
	up, down := Rate/div, rate/div
	reach := int(math.Ceil((attenuation - 8) / (2.285 * 2 * math.Pi * (stopEdge - passEdge) / float64(rate)) / 2))
	phases := make([][]float64, up)
	for p := range phases {
		phases[p] = phase(float64(p)/float64(up), reach, (passEdge+stopEdge)/float64(rate))
	}
	out := make([]int16, (len(in)*up+down-1)/down)
	for i := range out {
		at, taps := i*down/up, phases[i*down%up]
		from, to := max(0, at-reach), min(len(in), at+reach+2)
		var sum float64
		for j := from; j < to; j++ {
			sum += taps[j-at+reach] * float64(in[j])
		}
		out[i] = clamp(sum)
	}
	return out
}

// phase is the filter for an output that lies offset (0 … 1) after an input sample: the weights of the inputs from
// -reach to reach+1 around that. cutoff is in parts of half the input's rate.
func phase(offset float64, reach int, cutoff float64) []float64 {
	const beta = 0.1102 * (attenuation - 8.7)
	taps := make([]float64, 2*reach+2)
	var sum float64
	for k := range taps {
		x := float64(k-reach) - offset
		edge := x / float64(reach+1)
		if math.Abs(edge) >= 1 {
			continue
		}
		taps[k] = sinc(cutoff*x) * bessel0(beta*math.Sqrt(1-edge*edge))
		sum += taps[k]
	}
	for k := range taps { // the same gain at 0 Hz in every phase: 1
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

// bessel0 is the modified Bessel function of order 0, by its series.
func bessel0(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > 1e-12*sum; k++ {
		half := x / (2 * k)
		term *= half * half
		sum += term
	}
	return sum
}

func clamp(v float64) int16 {
	return int16(math.Round(min(max(v, math.MinInt16), math.MaxInt16)))
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
