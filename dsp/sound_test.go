package dsp

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zaf/g711"

	"tandem/test/audio"
)

// spoken is the lab's sentences, of rate samples a second, their loudest frames' power being that of a sine of level
// dBFS.
func spoken(tb testing.TB, rate int, level float64) []int16 {
	tb.Helper()
	law, err := os.ReadFile("../lab/speech.ulaw")
	require.NoError(tb, err)
	pcm := make([]int16, len(law))
	for i, b := range law {
		pcm[i] = g711.DecodeUlawFrame(b)
	}
	if rate != 8000 {
		pcm = audio.Resample(pcm, 8000, rate)
	}
	return louder(pcm, level-audio.Level(pcm))
}

// louder changes the level of samples by gain dB.
func louder(pcm []int16, gain float64) []int16 {
	out := make([]int16, len(pcm))
	for i, s := range pcm {
		out[i] = toSample(float64(s) * math.Pow(10, gain/20))
	}
	return out
}

// backdrop makes count samples of noise of level dBFS. Its colour is the pole of a one-pole filter: 0 is white, towards 1
// the bass grows.
func backdrop(seed uint64, count int, level, colour float64) []int16 {
	random := rand.New(rand.NewPCG(seed, 1))
	rms := 32767 / math.Sqrt2 * math.Pow(10, level/20) * math.Sqrt(1-colour*colour)
	out := make([]int16, count)
	y := 0.0
	for i := -1000; i < count; i++ {
		y = colour*y + rms*random.NormFloat64()
		if i >= 0 {
			out[i] = toSample(y)
		}
	}
	return out
}

func toSample(v float64) int16 {
	return int16(math.Round(max(math.MinInt16, min(math.MaxInt16, v))))
}

// joined is signals one after another.
func joined(parts ...[]int16) []int16 {
	var out []int16
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
