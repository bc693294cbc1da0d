package audio_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"tandem/test/audio"
)

// TestSegmentalSNR: of noise it is what it was made with; pauses don't count, nor does what is beyond hearing.
func TestSegmentalSNR(t *testing.T) {
	const rate = 8000
	said := audio.Tone(440, -12, rate, 2*time.Second)
	for _, level := range []float64{-22, -32, -42} {
		heard := audio.Mix(said, noise(level, rate, 2*time.Second, 1))
		assert.InDelta(t, -12-level, audio.SegmentalSNR(said, heard, rate), 1)
	}
	assert.InDelta(t, 45, audio.SegmentalSNR(said, said, rate), 1e-9)
	pause := make([]int16, len(said))
	withPause := append(append([]int16(nil), said...), pause...)
	heard := audio.Mix(withPause, noise(-32, rate, 4*time.Second, 1))
	assert.InDelta(t, 20, audio.SegmentalSNR(withPause, heard, rate), 1)
	assert.True(t, math.IsNaN(audio.SegmentalSNR(pause, pause, rate)))
}

// TestPreEcho finds what comes before an onset, and nothing of what comes with it.
func TestPreEcho(t *testing.T) {
	const rate = 16000
	var said, early, late []int16
	for range 10 {
		pause, burst := make([]int16, rate/10), audio.Tone(700, -10, rate, 100*time.Millisecond)
		said = append(append(said, pause...), burst...)
		spoilt := noise(-30, rate, 20*time.Millisecond, 2)
		before := append(append([]int16(nil), pause[len(spoilt):]...), spoilt...)
		early = append(append(early, before...), burst...)
		late = append(append(late, pause...), audio.Mix(burst, noise(-30, rate, 100*time.Millisecond, 3))...)
	}
	assert.InDelta(t, -20, audio.PreEcho(said, early, rate), 2)
	assert.Less(t, audio.PreEcho(said, late, rate), -60.0)
	assert.True(t, math.IsNaN(audio.PreEcho(said[:rate/20], said[:rate/20], rate)))
}
