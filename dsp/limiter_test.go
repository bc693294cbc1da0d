package dsp

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// limited runs sums through a limiter in frames.
func limited(l *Limiter, sum []int32, frame int) []int16 {
	out := make([]int16, 0, len(sum))
	pcm := make([]int16, frame)
	for ; len(sum) > 0; sum = sum[min(frame, len(sum)):] {
		n := min(frame, len(sum))
		l.Frame(pcm[:n], sum[:n])
		out = append(out, pcm[:n]...)
	}
	return out
}

// chorus is the sum of count sines of full scale, a fifth of a semitone apart or, if they are in unison, on one pitch.
func chorus(count, rate, length int, unison bool) []int32 {
	sum := make([]int32, length)
	for k := range count {
		hz := 313.7
		if !unison {
			hz *= math.Pow(2, float64(k)*7.2/12)
			for hz > 3000 {
				hz /= 7.3
			}
		}
		for i := range sum {
			sum[i] += int32(math.Round(32767 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))))
		}
	}
	return sum
}

// hardClipped is what a sum becomes without a limiter.
func hardClipped(sum []int32) []int16 {
	out := make([]int16, len(sum))
	for i, s := range sum {
		out[i] = int16(min(max(s, math.MinInt16), math.MaxInt16))
	}
	return out
}

func TestLimiterLeavesQuietSoundAlone(t *testing.T) {
	l := NewLimiter(8000)
	for _, frame := range []int{1, 80, 160, 480} {
		sum := make([]int32, 4800)
		for i := range sum {
			sum[i] = int32(i*7919%58409 - 29204)
		}
		out := limited(&l, sum, frame)
		for i, s := range sum {
			require.Equal(t, s, int32(out[i]))
		}
		require.Equal(t, 1.0, l.Gain())
	}
}

// TestLimiterHasNoFlatTops sums 1 to 20 voices of full scale, which begin at once: nothing lies at the rails, and
// nowhere do three samples in a row lie at the top, from the first frame on. Frames that are shorter than 10 ms see
// less ahead, and are flat while they rise for the first time.
func TestLimiterHasNoFlatTops(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		for _, unison := range []bool{true, false} {
			for count := 1; count <= 20; count++ {
				sum := chorus(count, rate, rate, unison)
				for _, frame := range []int{1, 7, rate / 100, rate / 50, rate * 6 / 100} {
					l := NewLimiter(rate)
					out := limited(&l, sum, frame)
					peak, flat, flattest := 0, 0, 0
					for i, s := range out {
						loud := max(int(s), -int(s))
						peak = max(peak, loud)
						flat++
						if loud <= limiterKnee || i == 0 || s != out[i-1] {
							flat = 0
						}
						flattest = max(flattest, flat)
					}
					require.LessOrEqual(t, peak, limiterTop)
					if frame < rate/100 {
						continue
					}
					require.LessOrEqual(t, flattest, 1, "%d voices, frames of %d", count, frame)
					if count > 1 {
						require.Greater(t, audio.Level(out[rate/2:]), -14.0, "%d voices: and it is not simply quiet", count)
					}
				}
			}
		}
	}
}

// TestLimiterDistortsLess compares what is in the sum of voices on one pitch beside that pitch with what hard
// clipping adds.
func TestLimiterDistortsLess(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		for _, count := range []int{2, 3, 5, 10, 20} {
			sum := chorus(count, rate, 2*rate, true)
			l := NewLimiter(rate)
			soft := audio.SNR(limited(&l, sum, rate/50)[rate:], rate, 313.7)
			hard := audio.SNR(hardClipped(sum)[rate:], rate, 313.7)
			t.Logf("%d Hz, %d voices: distortion %.1f dB, with hard clipping %.1f dB", rate, count, -soft, -hard)
			require.Greater(t, soft, 40.0)
			require.Less(t, hard, 20.0)
		}
	}
}

// TestLimiterHasNoSeams looks at the gain from sample to sample, where samples are fine enough to tell it, in a sum
// that becomes loud and quiet again: over a seam it takes no larger step than within frames.
func TestLimiterHasNoSeams(t *testing.T) {
	const rate, frame = 8000, 160
	sum := make([]int32, 4*rate)
	for i := range sum {
		envelope := 20000 + 120000*math.Pow(math.Sin(2*math.Pi*1.3*float64(i)/rate), 2)
		sum[i] = int32(envelope * math.Cos(2*math.Pi*200.5*float64(i)/rate))
	}
	l := NewLimiter(rate)
	out := limited(&l, sum, frame)
	var seam, inside float64
	for i := 1; i < len(sum); i++ {
		if min(math.Abs(float64(out[i])), math.Abs(float64(out[i-1]))) < 3000 {
			continue
		}
		step := math.Abs(float64(out[i])/float64(sum[i]) - float64(out[i-1])/float64(sum[i-1]))
		if i%frame == 0 {
			seam = max(seam, step)
		} else {
			inside = max(inside, step)
		}
	}
	t.Logf("largest step of the gain: %.4f within frames, %.4f over a seam", inside, seam)
	require.Less(t, inside, 0.02)
	require.LessOrEqual(t, seam, inside)
	require.Positive(t, seam)
}

// TestLimiterComesBack says how soon the gain is 1 after loudness: 6 dB in 100 ms.
func TestLimiterComesBack(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		for _, ptime := range []int{10, 20, 60} {
			for count, want := range map[int]float64{2: 0.12, 4: 0.22, 20: 0.45} {
				l := NewLimiter(rate)
				limited(&l, chorus(count, rate, rate, true), rate*ptime/1000)
				require.Less(t, l.Gain(), 1.05/float64(count))
				frames := 0
				quiet := make([]int32, rate*ptime/1000)
				for ; l.Gain() < 1; frames++ {
					require.Less(t, frames, 1000)
					limited(&l, quiet, len(quiet))
				}
				require.InDelta(t, want, float64(frames*ptime)/1000, 0.06, "%d voices, %d ms", count, ptime)
			}
		}
	}
}

func TestLimiterTakesAnySum(t *testing.T) {
	l := NewLimiter(8000)
	l.Frame(nil, nil)
	for _, sum := range [][]int32{{math.MinInt32}, {math.MaxInt32, math.MinInt32, 0, 1}, {0}, {math.MinInt32, -1}} {
		for _, s := range limited(&l, sum, 160) {
			require.LessOrEqual(t, math.Abs(float64(s)), float64(limiterTop))
		}
	}
}

func TestLimiterAllocatesNothing(t *testing.T) {
	l, sum, pcm := NewLimiter(8000), chorus(5, 8000, 1600, false), make([]int16, 160)
	i := 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		l.Frame(pcm, sum[i%10*160:][:160])
		i++
	}))
}

func BenchmarkLimiter(b *testing.B) {
	for _, voices := range []int{1, 5} {
		b.Run(fmt.Sprintf("%d voices, 8 kHz, 20 ms", voices), func(b *testing.B) {
			l, sum, pcm := NewLimiter(8000), chorus(voices, 8000, 8000, false), make([]int16, 160)
			for i := range sum {
				sum[i] = sum[i] * 8 / 10
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				l.Frame(pcm, sum[i%50*160:][:160])
			}
		})
	}
}
