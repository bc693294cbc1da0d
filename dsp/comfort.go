package dsp

import (
	"errors"
	"math"
)

const (
	// NoiseOrder is the highest order of a noise's model here: as many reflection coefficients are written and used.
	NoiseOrder = 10
	// NoisePayloadMax is the longest payload that AppendPayload writes.
	NoisePayloadMax = 1 + NoiseOrder

	quietest      = 127 // −dBov, RFC 3389 §3.1
	fullNoise     = 32767.
	noNoise       = 127          // the byte of a coefficient of 0, RFC 3389 §3.2
	noiseUnit     = 258. / 32768 // what one more in a byte adds to a coefficient
	steepestNoise = 0.995        // where a coefficient is stopped before it rings for ever
)

// errNoNoise is a payload without even a level.
var errNoNoise = errors.New("comfort noise: the payload is empty, it should begin with a level (RFC 3389 §3.1)")

// NoiseModel is a noise as RFC 3389 describes it: how loud it is, and its spectrum as that of an all-pole filter.
type NoiseModel struct {
	// Level is the loudness in −dBov, 0 to 127: dB under a square wave of full scale.
	Level uint8
	// Order is how many of Coefficients there are; 0 is white noise.
	Order int
	// Coefficients are the filter's reflection coefficients, quantised as RFC 3389 §3.2 has them; those from
	// Order on are 0. The filter is 1/A(z), and the first one is that of A(z) = 1 + k z⁻¹: noise with more bass than
	// treble begins below 0.
	Coefficients [NoiseOrder]float64
}

// ParseNoise reads a payload of RFC 3389. Coefficients past NoiseOrder are left out, as §3 allows; the bit that should
// be 0 is taken for that.
func ParseNoise(payload []byte) (NoiseModel, error) {
	if len(payload) == 0 {
		return NoiseModel{}, errNoNoise
	}
	m := NoiseModel{Level: payload[0] & 0x7f, Order: min(len(payload)-1, NoiseOrder)}
	for i := range m.Order {
		m.Coefficients[i] = unquantised(payload[1+i])
	}
	return m, nil
}

// AppendPayload appends the model as a payload of RFC 3389, of 1 + Order bytes.
func (m *NoiseModel) AppendPayload(dst []byte) []byte {
	dst = append(dst, min(m.Level, quietest))
	for _, k := range m.Coefficients[:min(max(m.Order, 0), NoiseOrder)] {
		dst = append(dst, quantised(k))
	}
	return dst
}

// quantised is the byte of a reflection coefficient, 0 to 254.
func quantised(k float64) byte {
	if !(k > -1) { // no number either
		return 0
	}
	return byte(math.Round(min(k, 1)/noiseUnit)) + noNoise
}

// unquantised is the coefficient of a byte; 255 stands for none and is taken for its neighbour.
func unquantised(b byte) float64 { return (float64(min(b, 2*noNoise)) - noNoise) * noiseUnit }

// NoiseMeter listens to the background and describes it. Its zero value is ready; a stream has its own. Feed it frames
// in which nobody speaks. What it heard fades by half within 16 frames, so that one with a click in it does little.
type NoiseMeter struct {
	power [NoiseOrder + 1]float64 // the autocorrelation, for each sample of a frame
	seen  int
}

// noiseMemory is the share that a new frame has in what the meter knows.
const noiseMemory = 1. / 24

// Frame listens to a frame of background of 10 ms or more, of any rate; shorter ones are passed over.
func (m *NoiseMeter) Frame(pcm []int16) {
	if len(pcm) < 8*NoiseOrder {
		return
	}
	m.seen++
	share := max(noiseMemory, 1/float64(m.seen))
	var all int64
	for _, s := range pcm {
		all += int64(s)
	}
	mean := float64(all) / float64(len(pcm)) // an offset is no noise
	for lag := range m.power {
		var sum int64
		late := pcm[lag:]
		for i, s := range pcm[:len(late)] {
			sum += int64(s) * int64(late[i])
		}
		// Divided by what was summed and not by the frame's length: a short frame makes the noise no whiter.
		m.power[lag] += share * (float64(sum)/float64(len(late)) - mean*mean - m.power[lag])
	}
}

// Model describes what was heard with order coefficients, NoiseOrder at most. Before the first frame it is the quietest
// noise.
func (m *NoiseMeter) Model(order int) NoiseModel {
	order = min(max(order, 0), NoiseOrder)
	out := NoiseModel{Level: quietest, Order: order}
	if m.power[0] <= 0 {
		return out
	}
	out.Level = uint8(math.Round(within(-10*math.Log10(m.power[0]/(fullNoise*fullNoise)), 0, quietest)))

	// Levinson and Durbin's recursion. The lags are narrowed a little, and noise 50 dB below is added, lest a hum
	// become a filter on the edge of ringing.
	var a [NoiseOrder + 1]float64
	rest := m.power[0] * (1 + 1e-5)
	for i := 1; i <= order; i++ {
		sum := m.lag(i)
		for j := 1; j < i; j++ {
			sum += a[j] * m.lag(i-j)
		}
		k := within(-sum/rest, -steepestNoise, steepestNoise)
		for j := 1; j <= i/2; j++ {
			a[j], a[i-j] = a[j]+k*a[i-j], a[i-j]+k*a[j]
		}
		a[i] = k
		rest *= 1 - k*k
		out.Coefficients[i-1] = unquantised(quantised(k))
	}
	return out
}

// lag is the autocorrelation at a distance of i samples under a Gaussian window.
func (m *NoiseMeter) lag(i int) float64 {
	const width = 2 * math.Pi * 0.005 // 40 Hz at 8 kHz
	return m.power[i] * math.Exp(-0.5*(width*float64(i))*(width*float64(i)))
}

// NoiseMaker makes noise after a model. A stream has its own. It moves from one model to the next within some 200 ms,
// and stays stable for any model. The same seed makes the same noise.
type NoiseMaker struct {
	random uint32
	begun  bool
	target noiseFilter
	now    noiseFilter
	back   [NoiseOrder + 1]float64 // the lattice's backward values, of power 1
	left   int                     // samples until now moves on
}

// noiseFilter is a filter and the loudness that leaves it.
type noiseFilter struct {
	level float64 // RMS
	k     [NoiseOrder]float64
}

const (
	// noiseStep is how many samples are made with the same filter.
	noiseStep = 40
	// noiseNear is how far, in parts of the way, each step leads to the model: at 8 kHz 95 % within 150 ms, at 16 kHz
	// within 75 ms.
	noiseNear = 0.1
)

// NewNoiseMaker makes a noise maker that is silent until Follow.
func NewNoiseMaker(seed uint32) NoiseMaker { return NoiseMaker{random: seed | 1} }

// Follow changes the noise to that of a model. The first one is taken at once.
func (n *NoiseMaker) Follow(m NoiseModel) {
	n.target = noiseFilter{level: fullNoise * math.Pow(10, -float64(m.Level)/20)}
	for i, k := range m.Coefficients[:min(max(m.Order, 0), NoiseOrder)] {
		n.target.k[i] = within(k, -steepestNoise, steepestNoise)
	}
	if !n.begun {
		n.begun, n.now = true, n.target
	}
}

// Frame fills dst, of any length, with the noise that comes next.
func (n *NoiseMaker) Frame(dst []int16) {
	for len(dst) > 0 {
		if n.left == 0 {
			n.move()
			n.left = noiseStep
		}
		count := min(n.left, len(dst))
		n.fill(dst[:count])
		n.left -= count
		dst = dst[count:]
	}
}

// move takes the filter a step towards its target. Between two stable filters the coefficients pass through stable
// ones only, each being under 1.
func (n *NoiseMaker) move() {
	n.now.level += noiseNear * (n.target.level - n.now.level)
	for i := range n.now.k {
		n.now.k[i] += noiseNear * (n.target.k[i] - n.now.k[i])
	}
}

// fill runs white noise through the filter as a normalised lattice: each stage turns a pair of values and adds nothing
// to their power, so what leaves it is as loud as the level says while the coefficients move, too.
func (n *NoiseMaker) fill(dst []int16) {
	var along [NoiseOrder]float64
	for i, k := range n.now.k {
		along[i] = math.Sqrt(1 - k*k)
	}
	const unit = 1.7320508 / (1 << 31) // makes 1 of the RMS of what is even between −1<<31 and 1<<31
	for i := range dst {
		// Marsaglia's xorshift.
		n.random ^= n.random << 13
		n.random ^= n.random >> 17
		n.random ^= n.random << 5
		forward := unit * float64(int32(n.random))
		for j := NoiseOrder - 1; j >= 0; j-- {
			k, back := n.now.k[j], n.back[j]
			n.back[j+1] = k*forward + along[j]*back
			forward = along[j]*forward - k*back
		}
		n.back[0] = forward
		dst[i] = int16(math.RoundToEven(within(n.now.level*forward, math.MinInt16, math.MaxInt16)))
	}
}

// within is v between low and high; what is no number is low.
func within(v, low, high float64) float64 {
	if !(v > low) {
		return low
	}
	return min(v, high)
}
