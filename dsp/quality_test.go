package dsp

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMOSOfRating(t *testing.T) {
	// G.107 Annex B, Table B.1, and the default rating of §7.7.
	for r, want := range map[float64]float64{100: 4.5, 93.2: 4.41, 90: 4.34, 80: 4.03, 70: 3.60, 60: 3.10, 50: 2.58, 0: 1} {
		require.InDelta(t, want, ratingMOS(r), 0.01, "R = %.1f", r)
	}
	for r := range 100 {
		require.LessOrEqual(t, ratingMOS(float64(r)), ratingMOS(float64(r+1)))
		require.GreaterOrEqual(t, ratingMOS(float64(r)), 1.0)
	}
}

func TestMOSOfTelephoneCalls(t *testing.T) {
	g711 := QualityG711()
	require.InDelta(t, 93.2, Rating(g711, 0, 1, 0), 0.02)
	require.InDelta(t, 4.41, MOS(g711, 0, 1, 0), 0.005)

	// Ie,eff of G.711 with concealment at random loss: the formula of G.107 §7.5, and within 2 of the table that
	// G.113 Appendix I had before (5, 7, 10, 15, 25 for 1, 2, 3, 5, 10 %).
	table := map[float64][2]float64{
		0: {0, 0}, 0.01: {3.64, 5}, 0.02: {7.01, 7}, 0.03: {10.14, 10}, 0.05: {15.78, 15}, 0.1: {27.07, 25},
	}
	for loss, want := range table {
		require.InDelta(t, want[0], LossImpairment(g711, loss, 1), 0.005, "loss %.2f", loss)
		require.InDelta(t, want[1], LossImpairment(g711, loss, 1), 2.1, "loss %.2f", loss)
	}
	require.InDelta(t, 95*5/(5/2.+25.1), LossImpairment(g711, 0.05, 2), 1e-9, "in bursts it is worse")
}

// TestMOSOfDelay compares with what G.107 §7.4 gives on paper at its defaults, echo at TELR 65 dB included, and with
// the two straight lines that Cole and Rosenbluth drew through its curve (0.024 for each ms, and 0.11 more for each
// past 177.3).
func TestMOSOfDelay(t *testing.T) {
	for ms, want := range map[int][2]float64{0: {93.2, 4.41}, 150: {89.53, 4.33}, 300: {72.68, 3.72}, 400: {62.25, 3.21}} {
		delay := time.Duration(ms) * time.Millisecond
		require.InDelta(t, want[0], Rating(QualityG711(), 0, 1, delay), 0.05, "%d ms", ms)
		require.InDelta(t, want[1], MOS(QualityG711(), 0, 1, delay), 0.01, "%d ms", ms)
	}
	for ms := 0; ms <= 400; ms += 10 {
		lines := 0.024*float64(ms) + 0.11*max(0, float64(ms)-177.3)
		require.InDelta(t, lines, delayImpairment(time.Duration(ms)*time.Millisecond), 4.5, "%d ms", ms)
	}
}

func TestMOSOfOtherCodecs(t *testing.T) {
	require.InDelta(t, 4.5, MOS(QualityG722(), 0, 1, 50*time.Millisecond), 0.005, "wideband is better than any telephone call")
	require.InDelta(t, 129-(13+82*5/9.9), Rating(QualityG722(), 0.05, 1, 0), 0.02)
	require.InDelta(t, MOS(QualityG711(), 0.02, 1, 0), MOS(QualityOpus(), 0.02, 1, 0), 1e-9)
}

// TestMOSIsBounded wants more loss, longer gaps and more delay never to be better, and nonsense to give a score.
func TestMOSIsBounded(t *testing.T) {
	for _, codec := range []CodecQuality{QualityG711(), QualityG722(), QualityOpus()} {
		last := math.Inf(1)
		for loss := 0.0; loss <= 1; loss += 0.01 {
			mos := MOS(codec, loss, 1, 0)
			require.LessOrEqual(t, mos, last)
			require.LessOrEqual(t, MOS(codec, loss, 3, 0), mos)
			last = mos
		}
		last = math.Inf(1)
		for ms := range 2000 {
			mos := MOS(codec, 0.01, 1, time.Duration(ms)*time.Millisecond)
			require.LessOrEqual(t, mos, last, "%d ms", ms)
			last = mos
		}
		for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 2} {
			for _, d := range []time.Duration{-time.Hour, math.MaxInt64} {
				mos := MOS(codec, v, v, d)
				require.True(t, mos >= 1 && mos <= 4.5, "%v", mos)
			}
		}
	}
}

func BenchmarkMOS(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		MOS(QualityG711(), 0.02, 1.5, 80*time.Millisecond)
	}
}
