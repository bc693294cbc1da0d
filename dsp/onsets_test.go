package dsp

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// begun is the frames of 20 ms in which sound begins.
func begun(rate int, pcm []int16) (frames []int) {
	o := NewOnsets(rate)
	for at := 0; at+rate/50 <= len(pcm); at += rate / 50 {
		if o.Frame(pcm[at : at+rate/50]) {
			frames = append(frames, at/(rate/50))
		}
	}
	return frames
}

// swelling is a second of a tone whose amplitude is that of its sample.
func swelling(rate int, hz float64, amplitude func(i int) float64) []int16 {
	pcm := make([]int16, rate)
	for i := range pcm {
		pcm[i] = int16(amplitude(i) * math.Sin(2*math.Pi*hz*float64(i)/float64(rate)))
	}
	return pcm
}

// TestOnsets: sound that begins is found in its frame, wherever in it; what goes on, fades, swells slowly, or can't be heard is none.
func TestOnsets(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		for at := rate / 2; at < rate/2+rate/50; at += rate / 1000 {
			from := func(soft, loud float64) func(int) float64 {
				return func(i int) float64 {
					if i < at {
						return soft
					}
					return loud
				}
			}
			frame := at / (rate / 50)
			end := at/(rate/50) + 1 // of the last millisecond of a frame too little may be in it
			found := begun(rate, swelling(rate, 700, from(0, 8000)))
			require.Len(t, found, 1)
			require.Contains(t, []int{frame, end}, found[0])
			if at%(rate/50) < rate/50-rate/500 {
				require.Equal(t, frame, found[0])
			}
			require.Equal(t, []int{0, found[0]}, begun(rate, swelling(rate, 700, from(2000, 8000))), "12 dB louder at once")
			require.Equal(t, []int{0}, begun(rate, swelling(rate, 700, from(8000, 2000))), "softer")
			require.Empty(t, begun(rate, swelling(rate, 700, from(0, 10*float64(rate)/16000))), "nobody hears it")
		}
		require.Equal(t, []int{0}, begun(rate, swelling(rate, 700, func(i int) float64 { return 1000 * math.Pow(10, float64(i)/float64(rate)) })), "20 dB in a second")
		random := rand.New(rand.NewPCG(1, 2))
		noise := make([]int16, 10*rate)
		for i := range noise {
			noise[i] = int16(random.NormFloat64() * 1000)
		}
		require.Less(t, len(begun(rate, noise)), 25, "of 500 frames of noise")
		require.Empty(t, begun(rate, make([]int16, rate)))
	}
}

// TestOnsetsOfPulses: the periods of a deep voice, 80 a second and each of them gone after half of it, are no onsets but for the first.
func TestOnsetsOfPulses(t *testing.T) {
	const rate = 8000
	pcm := swelling(rate, 600, func(i int) float64 { return 8000 * math.Exp(-float64(i%(rate/80))/25) })
	require.Equal(t, []int{0}, begun(rate, pcm))
}
