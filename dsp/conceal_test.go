package dsp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// lossy is pcm without some frames of 20 ms: with silence in their place, and with what a Concealer makes.
func lossy(rate int, pcm []int16, lost func(i int) bool) (silent, made []int16) {
	n := rate / 50
	silent, made = slices.Clone(pcm), slices.Clone(pcm)
	c := NewConcealer(rate)
	for i := 0; (i+1)*n <= len(pcm); i++ {
		if f := made[i*n : (i+1)*n]; lost(i) {
			clear(silent[i*n : (i+1)*n])
			c.Lost(f)
		} else {
			c.Good(f)
		}
	}
	return silent, made
}

// alone loses each frame with the given probability.
func alone(share float64) func(int) bool {
	rnd := rand.New(rand.NewPCG(1, 2))
	return func(int) bool { return rnd.Float64() < share }
}

// inBursts loses the same share, one to three frames in a row.
func inBursts(share float64) func(int) bool {
	rnd := rand.New(rand.NewPCG(3, 4))
	left := 0
	return func(int) bool {
		if left == 0 && rnd.Float64() < share/2 {
			left = 1 + rnd.IntN(3)
		}
		if left == 0 {
			return false
		}
		left--
		return true
	}
}

func TestConcealerIsBetterThanSilence(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		n := 5 * rate
		for _, s := range []struct {
			name    string
			pcm     []int16
			closer  float64 // to the original than silence is: frames lost alone
			nearer  float64 // the same in bursts
			steeper float64 // than the original, at most
		}{
			{"sine of 200 Hz", sine(rate, n, 200, 8000), 0.15, 0.45, 1.03},
			{"sine of 437 Hz", sine(rate, n, 437, 8000), 0.3, 0.5, 1.08},
			{"sine of 1013 Hz", sine(rate, n, 1013, 8000), 0.5, 0.6, 1.08},
			{"low voice", vowel(rate, n, 100), 0.35, 0.5, 1.04},
			{"high voice", vowel(rate, n, 210), 0.5, 0.6, 1.03},
			{"hiss", fizz(n, 3000), 0.45, 0.5, 1.03},
			{"speech", speech(t, rate)[rate/2 : rate/2+n], 0.7, 0.9, 1.03},
		} {
			shares := []float64{0.01, 0.05, 0.1, 0.2}
			if rate > 8000 { // the same code; less will do
				shares = []float64{0.1}
			}
			if rate == 48000 && s.name != "low voice" {
				continue
			}
			original := newSpectrum(s.pcm, rate)
			for _, share := range shares {
				for pattern, lost := range map[string]func(int) bool{"alone": alone(share), "in bursts": inBursts(share)} {
					t.Run(fmt.Sprintf("%d/%s/%v %s", rate, s.name, share, pattern), func(t *testing.T) {
						without, with := lossy(rate, s.pcm, lost)
						silent, made := newSpectrum(without, rate), newSpectrum(with, rate)
						bad, good := original.distance(silent), original.distance(made)
						t.Logf("%.2f dB from the original, silence %.2f; steepest %.3f", good, bad,
							float64(steepest(with))/float64(steepest(s.pcm)))
						closer := s.closer
						if pattern == "in bursts" {
							closer = s.nearer
						}
						require.Greater(t, bad, 0.5, "something was lost")
						require.Less(t, good, closer*bad)
						if !strings.Contains(s.name, "sine") {
							require.Greater(t, original.likeness(made), original.likeness(silent))
						}
						require.LessOrEqual(t, float64(steepest(with)), s.steeper*float64(steepest(s.pcm)))
					})
				}
			}
		}
	}
}

func TestConcealerFades(t *testing.T) {
	const rate = 8000
	for name, pcm := range map[string][]int16{"voice": vowel(rate, rate, 120), "hiss": fizz(rate, 3000)} {
		c := NewConcealer(rate)
		c.Good(pcm)
		var out []int16
		frame := make([]int16, 80)
		for i := range 12 {
			require.Equal(t, i < 8, c.Lost(frame), "%s: 10 ms, frame %d", name, i)
			out = append(out, frame...)
		}
		whole := audio.Level(pcm[len(pcm)-160:])
		require.InDelta(t, whole, audio.Level(out[:160]), 3, name)
		require.Greater(t, audio.Level(out[320:400]), whole-10, name)
		require.Less(t, audio.Level(out[560:640]), whole-12, name)
		require.Zero(t, steepest(out[640:]), "%s: silence after 80 ms", name)
		require.Zero(t, out[640])
	}
}

// likest is how much pcm is like itself 5 to 15 ms before, at most.
func likest(pcm []int16, rate int) float64 {
	most := -1.0
	for lag := rate / 200; lag <= rate*15/1000; lag++ {
		most = max(most, cosine(pcm[lag:], pcm[:len(pcm)-lag]))
	}
	return most
}

func TestConcealerMakesNoBuzzOfNoise(t *testing.T) {
	const rate = 8000
	made := func(pcm []int16) []int16 {
		c := NewConcealer(rate)
		c.Good(pcm)
		out := make([]int16, 400)
		c.Lost(out)
		return out
	}
	for seed := range 20 {
		require.Less(t, likest(made(fizz(2000+160*seed, 3000)), rate), 0.45)
	}
	require.Greater(t, likest(made(vowel(rate, rate, 120)), rate), 0.7, "the measure finds a period")
}

func TestConcealerLeavesGoodSoundAlone(t *testing.T) {
	const rate = 8000
	pcm := vowel(rate, rate, 120)
	c := NewConcealer(rate)
	got := slices.Clone(pcm)
	c.Good(got[:800])
	require.Equal(t, pcm[:800], got[:800])
	c.Lost(got[800:960])
	for i := 960; i < 1600; i += 10 { // the cross-fade goes on through short frames
		c.Good(got[i : i+10])
	}
	require.NotEqual(t, pcm[960:1000], got[960:1000])
	require.Equal(t, pcm[960+64:1600], got[960+64:1600], "as it is after 8 ms")
}

func TestConcealerKnowsLittle(t *testing.T) {
	const rate = 8000
	for _, n := range []int{0, 1, 10, 39, 40, 60, 79, 80, 100, 120, 150, 200, 300} {
		c := NewConcealer(rate)
		pcm := sine(rate, n, 400, 8000)
		c.Good(pcm)
		out := make([]int16, 800)
		c.Lost(out)
		all := slices.Concat([]int16{0}, pcm, out)
		require.LessOrEqual(t, steepest(all), 2600, "after %d samples", n)
		require.Zero(t, steepest(out[640:]))
	}
}

func TestConcealerStops(t *testing.T) {
	const rate = 8000
	for _, pcm := range [][]int16{sine(rate, 1000, 437, 8000), fizz(1000, 3000)} {
		c := NewConcealer(rate)
		c.Good(pcm)
		c.Stop()
		out := make([]int16, 160)
		require.True(t, c.Lost(out))
		require.Zero(t, steepest(out[40:]))
		require.LessOrEqual(t, steepest(slices.Concat(pcm, out)), steepest(pcm)*11/10)
		c.Stop()
		c.Good(pcm[:160])
		require.LessOrEqual(t, steepest(slices.Concat(out, pcm[:160])), steepest(pcm)*11/10)
	}
}

func TestConcealerForgets(t *testing.T) {
	c := NewConcealer(8000)
	c.Good(fizz(800, 3000))
	c.Reset()
	out := make([]int16, 160)
	require.False(t, c.Lost(out))
}

func TestConcealerAllocatesNothing(t *testing.T) {
	c := NewConcealer(16000)
	pcm := vowel(16000, 320, 120)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		c.Good(pcm)
		c.Lost(pcm)
	}))
}
