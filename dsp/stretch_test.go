package dsp

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// stretched is pcm with something taken out or put in wherever it goes, every 40 ms, and by how much it changed.
func stretched(rate int, pcm []int16, lengthen bool) (out []int16, by int) {
	s := NewStretcher(rate)
	n := rate / 25
	buf := make([]int16, 0, 2*n)
	for from := 0; from+n <= len(pcm); from += n {
		buf = append(buf[:0], pcm[from:from+n]...)
		if lengthen {
			k := s.Lengthen(buf, n/2, false)
			buf = buf[:n+k]
			by += k
		} else {
			k := s.Shorten(buf, n/2, false)
			buf = buf[:n-k]
			by += k
		}
		out = append(out, buf...)
	}
	return out, by
}

func TestStretcherIsNotHeard(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		n := 3 * rate
		for _, s := range []struct {
			name    string
			pcm     []int16
			least   float64 // of the sound that goes or comes
			steeper float64
		}{
			{"sine of 200 Hz", sine(rate, n, 200, 8000), 0.1, 1.03},
			{"sine of 437 Hz", sine(rate, n, 437, 8000), 0.1, 1.03},
			{"sine of 1013 Hz", sine(rate, n, 1013, 8000), 0.05, 1.03},
			{"low voice", vowel(rate, n, 100), 0.1, 1.03},
			{"high voice", vowel(rate, n, 210), 0.1, 1.03},
			{"hiss", fizz(n, 3000), 0.1, 1.03},
			{"speech", speech(t, rate)[rate/2 : rate/2+n], 0.05, 1.03},
		} {
			for _, lengthen := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d/%s/lengthen %v", rate, s.name, lengthen), func(t *testing.T) {
					out, by := stretched(rate, s.pcm, lengthen)
					if lengthen {
						require.Len(t, out, n+by)
					} else {
						require.Len(t, out, n-by)
					}
					t.Logf("by %.1f %%", 100*float64(by)/float64(n))
					require.Greater(t, float64(by)/float64(n), s.least)
					require.LessOrEqual(t, float64(steepest(out)), s.steeper*float64(steepest(s.pcm)))
					louder := 0.7 // dB; which vowels go and come is chance
					if s.name == "hiss" {
						louder = 0.2
					}
					require.InDelta(t, audio.Level(s.pcm), audio.Level(out), louder, "as loud")
				})
			}
		}
	}
}

// The pitch stays: of a tone whose tenth part went, as much is at its frequency as before.
func TestStretcherKeepsThePitch(t *testing.T) {
	const rate = 8000
	pcm := vowel(rate, rate, 130)
	for _, lengthen := range []bool{false, true} {
		out, _ := stretched(rate, pcm, lengthen)
		search := newLagSearch(rate, 1200)
		for from := 0; from+1000 <= min(len(out), len(pcm)); from += 500 {
			was := search.ahead(pcm[from:], 400, 40, 100)
			is := search.ahead(out[from:], 400, 40, 100)
			require.InDelta(t, was, is, 6, "period at sample %d", from)
		}
	}
}

func TestStretcherRefuses(t *testing.T) {
	const rate = 8000
	s := NewStretcher(rate)
	low := sine(rate, 240, 70, 8000) // longer than any period that is looked for
	click := slices.Concat(make([]int16, 60), fizz(60, 9000), make([]int16, 120))
	onset := slices.Concat(fizz(60, 300), fizz(180, 9000))
	for name, pcm := range map[string][]int16{"low tone": low, "click": click, "onset": onset} {
		was := slices.Clone(pcm)
		require.Zero(t, s.Shorten(pcm, 100, false), name)
		require.Zero(t, s.Lengthen(append(make([]int16, 0, 400), pcm...), 100, false), name)
		require.Equal(t, was, pcm, name)
		require.NotZero(t, s.Lengthen(append(make([]int16, 0, 400), pcm...), 100, true), name)
		require.NotZero(t, s.Shorten(pcm, 100, true), name)
	}
}

func TestStretcherKeepsItsBounds(t *testing.T) {
	const rate = 8000
	s := NewStretcher(rate)
	voice := vowel(rate, 2000, 150)[1000:] // a period of 6.7 ms
	require.Zero(t, s.Shorten(slices.Clone(voice[:240]), 19, true), "less than the shortest period")
	require.Zero(t, s.Shorten(slices.Clone(voice[:60]), 100, true), "too little to look at")
	require.Zero(t, s.Shorten(nil, 100, true))
	require.Zero(t, s.Shorten(slices.Clone(voice[:240]), -5, true))
	require.Zero(t, s.Lengthen(slices.Clip(slices.Clone(voice[:240])), 100, true), "no room")
	for most := 20; most < 120; most += 7 {
		require.LessOrEqual(t, s.Shorten(slices.Clone(voice[:240]), most, true), min(most, 100))
		require.LessOrEqual(t, s.Lengthen(append(make([]int16, 0, 400), voice[:240]...), most, true), min(most, 100))
	}
}

// What is before and behind still fits: the first sample moves by no more than a fade's first step, the last not at all.
func TestStretcherFitsItsNeighbours(t *testing.T) {
	const rate = 8000
	s := NewStretcher(rate)
	pcm := sine(rate, 300, 437, 8000)
	buf := slices.Clone(pcm)
	n := s.Shorten(buf, 100, false)
	require.NotZero(t, n)
	require.InDelta(t, pcm[0], buf[0], 50)
	require.Equal(t, pcm[60+n:], buf[60:300-n])
	buf = append(make([]int16, 0, 400), pcm...)
	n = s.Lengthen(buf, 100, false)
	require.NotZero(t, n)
	buf = buf[:300+n]
	require.Equal(t, pcm[:n], buf[:n])
	require.Equal(t, pcm[60:], buf[60+n:])
}

func TestStretcherCutsSilenceToAnyLength(t *testing.T) {
	const rate = 8000
	s := NewStretcher(rate)
	for _, most := range []int{1, 7, 40, 133, 180} {
		require.Equal(t, most, s.Shorten(fizz(240, 20), most, false))
	}
	for _, most := range []int{1, 7, 100} {
		require.Equal(t, most, s.Lengthen(append(make([]int16, 0, 400), fizz(240, 20)...), most, false))
	}
}

func TestStretcherAllocatesNothing(t *testing.T) {
	s := NewStretcher(16000)
	pcm := vowel(16000, 800, 120)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		s.Shorten(pcm[:640], 200, false)
		s.Lengthen(pcm[:500], 200, false)
	}))
}
