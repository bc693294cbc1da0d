package dsp

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// bands are the levels in dBFS of eight bands between 0 and half the rate: averages over the pieces of pcm under a Hann
// window.
func bands(pcm []int16) [8]float64 {
	const piece = 128
	var window, cosine, sine [piece]float64
	for i := range piece {
		sine[i], cosine[i] = math.Sincos(2 * math.Pi * float64(i) / piece)
		window[i] = (1 - cosine[i]) * math.Sqrt(2./3) // of power 1
	}
	var power [8]float64
	pieces := len(pcm) / piece
	for n := range pieces {
		for bin := 1; bin < piece/2; bin++ {
			var re, im float64
			for i, s := range pcm[n*piece : (n+1)*piece] {
				v := float64(s) * window[i]
				re += v * cosine[i*bin%piece]
				im += v * sine[i*bin%piece]
			}
			power[bin*8/(piece/2)] += 2 * (re*re + im*im) / (piece * piece)
		}
	}
	for i := range power {
		power[i] = 10 * math.Log10(power[i]/float64(pieces)/(fullNoise*fullNoise/2))
	}
	return power
}

// measured lets a meter hear noise in frames of 20 ms.
func measured(pcm []int16, rate int) *NoiseMeter {
	var m NoiseMeter
	for ; len(pcm) >= rate/50; pcm = pcm[rate/50:] {
		m.Frame(pcm[:rate/50])
	}
	return &m
}

// shaped is noise with a peak at hz, in white noise that is 12 dB quieter.
func shaped(count, rate int, level, hz float64) []int16 {
	out := make([]int16, count)
	a1, a2 := 2*0.85*math.Cos(2*math.Pi*hz/float64(rate)), -0.85*0.85
	var y1, y2 float64
	for i, s := range backdrop(20, count, -30, 0) {
		y1, y2 = float64(s)+a1*y1+a2*y2, y1
		out[i] = toSample(y1)
	}
	out = louder(out, level-audio.Level(out))
	return audio.Mix(out, backdrop(21, count, level-12, 0))
}

// TestComfortNoiseRoundTrip listens to backgrounds, writes and reads the payload, and makes noise from it: its level
// and the levels of its bands are those of the background.
func TestComfortNoiseRoundTrip(t *testing.T) {
	const seconds = 3
	for _, rate := range []int{8000, 16000} {
		for _, level := range []float64{-30, -45, -55} {
			for name, background := range map[string][]int16{
				"white":    backdrop(1, seconds*rate, level, 0),
				"bass":     backdrop(2, seconds*rate, level, 0.7),
				"500 Hz":   shaped(seconds*rate, rate, level, 500),
				"2000 Hz":  shaped(seconds*rate, rate, level, 2000),
				"treble":   backdrop(3, seconds*rate, level, -0.6),
				"a corner": backdrop(4, seconds*rate, level, 0.9),
			} {
				what := fmt.Sprintf("%s, %d Hz, %.0f dBFS", name, rate, level)
				model := measured(background, rate).Model(NoiseOrder)
				payload := model.AppendPayload(nil)
				require.Len(t, payload, NoisePayloadMax)
				require.InDelta(t, -audio.Level(background)+3, payload[0], 2, "%s: dBov are 3 dB below dBFS", what)
				read, err := ParseNoise(payload)
				require.NoError(t, err)
				require.Equal(t, model, read, what)

				n := NewNoiseMaker(7)
				n.Follow(read)
				made := make([]int16, seconds*rate)
				for at := 0; at < len(made); at += rate / 50 {
					n.Frame(made[at : at+rate/50])
				}
				require.InDelta(t, audio.Level(background), audio.Level(made), 2, what)
				want, got := bands(background), bands(made)
				for i := range want {
					if want[i] > -70 { // rounding to samples makes noise of its own
						require.InDelta(t, want[i], got[i], 3, "%s: band %d", what, i)
					}
				}
			}
		}
	}
}

func TestComfortNoisePayload(t *testing.T) {
	steep := NoiseModel{Level: 40, Order: 3, Coefficients: [NoiseOrder]float64{-2, 2, math.NaN()}}
	const unit = 258. / 32768
	cases := []struct {
		name    string
		payload []byte
		want    NoiseModel
	}{
		{"level alone", []byte{50}, NoiseModel{Level: 50}},
		{"one coefficient, none", []byte{0, 127}, NoiseModel{Order: 1}},
		{"two", []byte{127, 0, 254}, NoiseModel{Level: 127, Order: 2, Coefficients: [NoiseOrder]float64{-127 * unit, 127 * unit}}},
		{"three", []byte{1, 128, 126, 63}, NoiseModel{Level: 1, Order: 3, Coefficients: [NoiseOrder]float64{unit, -unit, -64 * unit}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseNoise(c.payload)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			require.Equal(t, c.payload, got.AppendPayload(nil))
		})
	}
	t.Run("empty", func(t *testing.T) {
		_, err := ParseNoise(nil)
		require.ErrorContains(t, err, "RFC 3389")
	})
	t.Run("what should not be sent", func(t *testing.T) {
		got, err := ParseNoise([]byte{0x80 | 30, 255, 127, 127, 127, 127, 127, 127, 127, 127, 127, 0, 0, 0})
		require.NoError(t, err)
		require.Equal(t, NoiseModel{Level: 30, Order: NoiseOrder, Coefficients: [NoiseOrder]float64{127 * unit}}, got)
	})
	t.Run("what can't be", func(t *testing.T) {
		require.Equal(t, []byte{40, 0, 254, 0}, steep.AppendPayload(nil))
		require.Equal(t, []byte{127}, (&NoiseModel{Level: 200, Order: -1}).AppendPayload(nil))
		n := NewNoiseMaker(1)
		n.Follow(steep)
		pcm := make([]int16, 8000)
		n.Frame(pcm)
		require.InDelta(t, -40, audio.Level(pcm)-3, 15)
	})
}

func TestNoiseMeterOfNothing(t *testing.T) {
	var m NoiseMeter
	require.Equal(t, NoiseModel{Level: 127, Order: 10}, m.Model(10), "before the first frame")
	m.Frame(nil)
	m.Frame(make([]int16, 160))
	require.Equal(t, NoiseModel{Level: 127, Order: 4}, m.Model(4), "digital silence")
	offset := make([]int16, 160)
	for i := range offset {
		offset[i] = 5000
	}
	m.Frame(offset)
	require.Equal(t, uint8(127), m.Model(99).Level, "an offset")
}

// TestNoiseMeterForgets lets a click and a louder background pass.
func TestNoiseMeterForgets(t *testing.T) {
	pcm := backdrop(1, 8000, -50, 0)
	m := measured(pcm, 8000)
	before := m.Model(0).Level
	loud := backdrop(2, 160, -38, 0)
	m.Frame(loud)
	require.InDelta(t, before, m.Model(0).Level, 3, "one frame that is 12 dB louder")
	for range 100 {
		m.Frame(pcm[:160])
	}
	require.InDelta(t, before, m.Model(0).Level, 1)
}

// TestNoiseMakerMovesSmoothly changes the noise from loud to quiet and from bass to treble: from 5 ms to 5 ms its
// level follows a slope, and it has arrived after 200 ms.
func TestNoiseMakerMovesSmoothly(t *testing.T) {
	const rate = 8000
	bass := NoiseModel{Level: 33, Order: 1, Coefficients: [NoiseOrder]float64{-0.8}}
	treble := NoiseModel{Level: 53, Order: 1, Coefficients: [NoiseOrder]float64{0.8}}
	var power [80]float64 // of each 5 ms, over many seeds
	const seeds = 400
	for seed := range uint32(seeds) {
		n := NewNoiseMaker(seed * 2654435761)
		n.Follow(bass)
		pcm := make([]int16, rate/5)
		n.Frame(pcm)
		n.Follow(treble)
		after := make([]int16, rate/5)
		n.Frame(after)
		for i, s := range append(pcm, after...) {
			power[i/40] += float64(s) * float64(s) / 40 / seeds
		}
	}
	for i := 1; i < len(power); i++ {
		require.InDelta(t, 0, 10*math.Log10(power[i]/power[i-1]), 2.5, "at %d ms", 5*i)
	}
	require.InDelta(t, -33, 10*math.Log10(power[0]/fullNoise/fullNoise), 1, "from the first sample on")
	require.InDelta(t, -53, 10*math.Log10(power[79]/fullNoise/fullNoise), 1.5)
}

func TestNoiseMakerIsQuietUntilToldAndRepeats(t *testing.T) {
	n, other := NewNoiseMaker(3), NewNoiseMaker(5)
	pcm, again, different := backdrop(1, 160, -20, 0), make([]int16, 160), make([]int16, 160)
	n.Frame(pcm)
	require.Equal(t, make([]int16, 160), pcm)
	model := NoiseModel{Level: 40}
	n = NewNoiseMaker(3)
	same := n
	n.Follow(model)
	same.Follow(model)
	other.Follow(model)
	n.Follow(NoiseModel{Level: 50})
	same.Follow(NoiseModel{Level: 50})
	n.Frame(pcm)
	for i := range again { // frames of any length
		same.Frame(again[i : i+1])
	}
	other.Frame(different)
	require.Equal(t, pcm, again)
	require.NotEqual(t, pcm, different)
	n.Follow(NoiseModel{Level: 127})
	long := make([]int16, 16000)
	n.Frame(long)
	require.Equal(t, make([]int16, 8000), long[8000:], "level 127 is silence")
}

// FuzzComfortNoise reads payloads and makes noise of them: whatever they say it stays finite and is no louder than
// they say by more than chance allows.
func FuzzComfortNoise(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{40})
	f.Add([]byte{20, 0, 254, 255, 0, 254, 127, 1, 2, 3, 4, 5})
	f.Add([]byte{0x80, 254, 254, 254, 254, 254, 254, 254, 254, 254, 254})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		model, err := ParseNoise(payload)
		if err != nil {
			require.Empty(t, payload)
			return
		}
		require.LessOrEqual(t, model.Level, uint8(127))
		written := model.AppendPayload(nil)
		again, err := ParseNoise(written)
		require.NoError(t, err)
		require.Equal(t, model, again)

		n := NewNoiseMaker(1)
		n.Follow(NoiseModel{Level: 60})
		pcm := make([]int16, 160)
		n.Frame(pcm)
		n.Follow(model)
		for range 50 {
			n.Frame(pcm)
		}
		for _, b := range n.back {
			require.False(t, math.IsNaN(b))
			require.Less(t, math.Abs(b), 100.0)
		}
	})
}

func TestComfortNoiseAllocatesNothing(t *testing.T) {
	var m NoiseMeter
	n := NewNoiseMaker(1)
	pcm, payload := backdrop(1, 160, -40, 0.5), make([]byte, 0, NoisePayloadMax)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		m.Frame(pcm)
		model := m.Model(NoiseOrder)
		payload = model.AppendPayload(payload[:0])
		read, _ := ParseNoise(payload)
		n.Follow(read)
		n.Frame(pcm)
	}))
}

func BenchmarkNoiseMeter(b *testing.B) {
	var m NoiseMeter
	pcm := backdrop(1, 160, -40, 0.5)
	b.ReportAllocs()
	for b.Loop() {
		m.Frame(pcm)
	}
}

func BenchmarkNoiseMaker(b *testing.B) {
	n := NewNoiseMaker(1)
	n.Follow(measured(backdrop(1, 8000, -40, 0.5), 8000).Model(NoiseOrder))
	pcm := make([]int16, 160)
	b.ReportAllocs()
	for b.Loop() {
		n.Frame(pcm)
	}
}
