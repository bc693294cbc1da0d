package audio_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/audio"
)

// noisy adds white noise at an SNR in dB, which is taken over the whole of the speech.
func noisy(speech []int16, snr float64) []int16 {
	rng := rand.New(rand.NewPCG(1, 2))
	level := 32767 / math.Sqrt2 * math.Pow(10, (audio.Level(speech)-snr)/20)
	out := make([]int16, len(speech))
	for i, s := range speech {
		out[i] = int16(max(-32768, min(32767, float64(s)+level*rng.NormFloat64())))
	}
	return out
}

func TestSTOIOfTheSameIsOne(t *testing.T) {
	speech := lab.Speech()
	assert.InDelta(t, 1, audio.STOI(speech, speech, 8000), 1e-9)
	quiet := make([]int16, len(speech))
	for i, s := range speech {
		quiet[i] = s / 4
	}
	assert.InDelta(t, 1, audio.STOI(speech, quiet, 8000), 0.01, "loudness is no matter")
	wide := audio.Resample(speech, 8000, 48000)
	assert.InDelta(t, 1, audio.STOI(wide, wide, 48000), 1e-9)
	assert.True(t, math.IsNaN(audio.STOI(speech[:1000], speech[:1000], 8000)), "there is no segment in 125 ms")
}

// As in the paper's figures, what all understand is above 0.9, what half of them understand near 0.7, and noise alone is near
// 0.4: the clipping lets it follow the pauses of the original.
func TestSTOIFallsWithTheNoise(t *testing.T) {
	speech := lab.Speech()
	last := 1.0
	for _, c := range []struct{ snr, least, most float64 }{
		{40, 0.99, 1}, {30, 0.98, 1}, {20, 0.96, 0.99}, {10, 0.9, 0.96}, {0, 0.7, 0.82}, {-10, 0.5, 0.6}, {-20, 0.4, 0.5},
	} {
		got := audio.STOI(speech, noisy(speech, c.snr), 8000)
		t.Logf("SNR %g dB: %.3f", c.snr, got)
		assert.Less(t, got, last, "at %g dB", c.snr)
		assert.GreaterOrEqual(t, got, c.least, "at %g dB", c.snr)
		assert.LessOrEqual(t, got, c.most, "at %g dB", c.snr)
		last = got
	}
	noise := make([]int16, len(speech))
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range noise {
		noise[i] = int16(rng.NormFloat64() * 3000)
	}
	assert.InDelta(t, 0.4, audio.STOI(speech, noise, 8000), 0.05, "noise alone")
	assert.Zero(t, audio.STOI(speech, make([]int16, len(speech)), 8000), "silence")
	backwards := slices.Clone(speech)
	slices.Reverse(backwards)
	assert.Less(t, audio.STOI(speech, backwards, 8000), 0.3, "another voice")
}

// Pauses count for nothing, whatever is in them.
func TestSTOILeavesSilenceOut(t *testing.T) {
	speech := lab.Speech()[:4*8000]
	bad := noisy(speech, 5)
	rng := rand.New(rand.NewPCG(5, 6))
	hiss := make([]int16, 3*8000)
	for i := range hiss {
		hiss[i] = int16(rng.NormFloat64() * 1000)
	}
	pause := make([]int16, len(hiss))
	alone := audio.STOI(speech, bad, 8000)
	assert.InDelta(t, alone, audio.STOI(slices.Concat(speech, pause), slices.Concat(bad, hiss), 8000), 0.01)
}

// What is lost is missed, the more the more of it.
func TestSTOIMissesLostFrames(t *testing.T) {
	speech := lab.Speech()
	last := 1.0
	for _, percent := range []float64{5, 10, 20, 40} {
		rng := rand.New(rand.NewPCG(7, 7))
		holes := slices.Clone(speech)
		for from := 0; from+160 <= len(holes); from += 160 {
			if rng.Float64()*100 < percent {
				clear(holes[from : from+160])
			}
		}
		got := audio.STOI(speech, holes, 8000)
		t.Logf("%g %% of the frames lost: %.3f", percent, got)
		assert.Less(t, got, last-0.005, "%g %%", percent)
		last = got
	}
}

func TestAlign(t *testing.T) {
	speech := lab.Speech()[:3*8000]
	for _, late := range []int{0, 1, 37, 800, -250} {
		moved := make([]int16, len(speech)+1000)
		heard := noisy(speech, 10)
		for i, s := range heard {
			if k := i + late; k >= 0 {
				moved[k] = s
			}
		}
		aligned, got := audio.Align(speech, moved, 8000, time.Second)
		assert.Equal(t, time.Duration(late)*time.Second/8000, got)
		require.Len(t, aligned, len(speech))
		assert.Equal(t, heard[1000:20000], aligned[1000:20000])
	}
	_, got := audio.Align(speech, append(make([]int16, 4000), speech...), 8000, 100*time.Millisecond)
	assert.LessOrEqual(t, got.Abs(), 100*time.Millisecond)
}
