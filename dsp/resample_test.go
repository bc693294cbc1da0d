package dsp

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// halved and doubled run a stream through in frames of so many samples.
func halved(pcm []int16, frame int) []int16 {
	var h Halver
	var out []int16
	half := make([]int16, frame/2)
	for ; len(pcm) > 0; pcm = pcm[min(frame, len(pcm)):] {
		n := h.Frame(half, pcm[:min(frame, len(pcm))])
		out = append(out, half[:n]...)
	}
	return out
}

func doubled(pcm []int16, frame int) []int16 {
	var d Doubler
	var out []int16
	twice := make([]int16, 2*frame)
	for ; len(pcm) > 0; pcm = pcm[min(frame, len(pcm)):] {
		n := d.Frame(twice, pcm[:min(frame, len(pcm))])
		out = append(out, twice[:n]...)
	}
	return out
}

func TestResampleSpectrum(t *testing.T) {
	const level = -6.0
	settled := 100 // samples after which the filters are full
	for hz := 50.0; hz <= 3400; hz += 67 {
		down := halved(audio.Tone(hz, level, 16000, time.Second), 320)[settled:]
		require.InDelta(t, level, audio.Goertzel(down, 8000, hz), 0.5, "down, %.0f Hz", hz)
		up := doubled(audio.Tone(hz, level, 8000, time.Second), 160)[settled:]
		require.InDelta(t, level, audio.Goertzel(up, 16000, hz), 0.5, "up, %.0f Hz", hz)
		require.Less(t, audio.Goertzel(up, 16000, 8000-hz), level-60, "the image of %.0f Hz", hz)
	}
	for hz := 4600.0; hz <= 7950; hz += 67 {
		down := halved(audio.Tone(hz, level, 16000, time.Second), 320)[settled:]
		require.Less(t, audio.Level(down), level-60, "what %.0f Hz becomes", hz)
	}
}

// TestResampleDelay finds the delay of both by where a tone's samples come to lie.
func TestResampleDelay(t *testing.T) {
	require.LessOrEqual(t, max(HalverDelay, DoublerDelay), 32, "2 ms")
	tone16 := audio.Tone(700, -6, 16000, time.Second)
	tone8 := audio.Tone(700, -6, 8000, time.Second)
	for i, s := range halved(tone16, 320)[200:] {
		require.InDelta(t, tone16[2*(i+200)-HalverDelay], s, 8)
	}
	for i, s := range doubled(tone8, 160)[400:] {
		require.InDelta(t, tone16[i+400-DoublerDelay], s, 8)
	}
}

// TestResampleSeams wants the same samples however the stream was cut.
func TestResampleSeams(t *testing.T) {
	pcm := backdrop(1, 16000, -10, 0.3)
	down, up := halved(pcm, 16000), doubled(pcm, 16000)
	for _, frame := range []int{2, 10, 158, 160, 320, 322, 960} {
		require.Equal(t, down, halved(pcm, frame), "%d", frame)
		require.Equal(t, up, doubled(pcm, frame), "%d", frame)
	}
	var h Halver
	require.Equal(t, 8000, h.Frame(pcm, pcm), "in place")
	require.Equal(t, down, pcm[:8000])
}

// TestResampleDoesNotWrap overloads both filters: the overshoot stays at the rails.
func TestResampleDoesNotWrap(t *testing.T) {
	square := make([]int16, 1600)
	for i := range square {
		square[i] = math.MaxInt16
		if i/17%2 == 1 {
			square[i] = math.MinInt16
		}
	}
	for i, s := range halved(square, 320)[20:] {
		if at := 2*(i+20) - HalverDelay; at%17 > 1 && at%17 < 15 {
			require.Equal(t, square[at] > 0, s > 0, "sample %d", i)
		}
	}
	for i, s := range doubled(square, 160)[60:] {
		if at := i + 60 - DoublerDelay; at/2%17 > 0 && at/2%17 < 16 {
			require.Equal(t, square[at/2] > 0, s > 0, "sample %d", i)
		}
	}
}

func TestResampleAllocatesNothing(t *testing.T) {
	var h Halver
	var d Doubler
	wide, narrow := make([]int16, 320), make([]int16, 160)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		h.Frame(narrow, wide)
		d.Frame(wide, narrow)
	}))
}

func BenchmarkHalver(b *testing.B) {
	var h Halver
	pcm, out := backdrop(1, 320, -20, 0), make([]int16, 160)
	b.ReportAllocs()
	for b.Loop() {
		h.Frame(out, pcm)
	}
}

func BenchmarkDoubler(b *testing.B) {
	var d Doubler
	pcm, out := backdrop(1, 160, -20, 0), make([]int16, 320)
	b.ReportAllocs()
	for b.Loop() {
		d.Frame(out, pcm)
	}
}
