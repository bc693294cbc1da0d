package audio_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zaf/g711"

	"tandem/test/audio"
)

// noise is Gaussian noise of level dBFS.
func noise(level float64, rate int, d time.Duration, seed uint64) []int16 {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]int16, int(d.Seconds()*float64(rate)))
	rms := 32767 / math.Sqrt2 * math.Pow(10, level/20)
	for i := range out {
		out[i] = int16(math.Round(max(-32768, min(32767, r.NormFloat64()*rms))))
	}
	return out
}

// babble is noise in syllables of random loudness and length, as speech is to an envelope.
func babble(rate int, d time.Duration, seed uint64) []int16 {
	r := rand.New(rand.NewPCG(seed, 2))
	out := noise(-20, rate, d, seed)
	for at := 0; at < len(out); {
		n, gain := rate/20+r.IntN(rate/4), r.Float64()
		for i := at; i < min(len(out), at+n); i++ {
			out[i] = int16(float64(out[i]) * gain * math.Sin(math.Pi*float64(i-at)/float64(n)))
		}
		at += n + r.IntN(rate/8)
	}
	return out
}

func TestFrequency(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		for _, freq := range []float64{50, 440, 1000, 1000.4, 1234.5, 3400} {
			tone := audio.Tone(freq, -20, rate, time.Second)
			assert.InDelta(t, freq, audio.Frequency(tone, rate), 0.2, "alone, rate %d", rate)
			dirty := audio.Mix(tone, noise(-26, rate, time.Second, 1), audio.Tone(freq/2, -30, rate, time.Second))
			assert.InDelta(t, freq, audio.Frequency(dirty, rate), 1, "with noise and a quieter tone, rate %d", rate)
		}
	}
}

func TestFrequencyOfNothing(t *testing.T) {
	assert.Zero(t, audio.Frequency(nil, 8000))
	assert.Zero(t, audio.Frequency(make([]int16, 8000), 8000))
	few := audio.Frequency([]int16{1, 2}, 8000)
	assert.True(t, few >= 0 && few <= 4000, "two samples: %v", few)
	assert.NotZero(t, audio.Frequency(noise(-20, 8000, time.Second, 3), 8000))
}

func TestFrequencyIgnoresOffset(t *testing.T) {
	tone := audio.Tone(1000, -40, 8000, time.Second)
	for i := range tone {
		tone[i] += 5000
	}
	assert.InDelta(t, 1000, audio.Frequency(tone, 8000), 0.5)
	assert.InDelta(t, -40, audio.Level(tone), 0.1)
	assert.Greater(t, audio.SNR(tone, 8000, 1000), 40.0)
}

func TestLevel(t *testing.T) {
	for _, level := range []float64{0, -3, -20, -60} {
		assert.InDelta(t, level, audio.Level(audio.Tone(1000, level, 48000, time.Second)), 0.1)
	}
	assert.InDelta(t, -30, audio.Level(noise(-30, 48000, time.Second, 4)), 0.1)
	assert.Equal(t, math.Inf(-1), audio.Level(make([]int16, 100)))
	assert.Equal(t, math.Inf(-1), audio.Level(nil))
}

// TestSNR finds noise that was put in, within 1 dB, over one fit and over windows.
func TestSNR(t *testing.T) {
	for _, rate := range []int{8000, 48000} {
		for _, want := range []float64{3, 10, 20, 30, 40} {
			signal := audio.Mix(
				audio.Tone(1003, -10, rate, 2*time.Second),
				noise(-10-want, rate, 2*time.Second, uint64(want)),
			)
			assert.InDelta(t, want, audio.SNR(signal, rate, 1000), 1, "whole, rate %d", rate)
			assert.InDelta(t, want, audio.MedianSNR(signal, rate, 1000), 1, "windows, rate %d", rate)
		}
	}
}

// TestSNRRefuses holds what must not pass for a tone.
func TestSNRRefuses(t *testing.T) {
	const rate = 48000
	cases := map[string][]int16{
		"silence":            make([]int16, 2*rate),
		"noise":              noise(-10, rate, 2*time.Second, 5),
		"another tone":       audio.Tone(1100, -10, rate, 2*time.Second),
		"two tones":          audio.Mix(audio.Tone(1000, -10, rate, 2*time.Second), audio.Tone(600, -16, rate, 2*time.Second)),
		"half silence":       append(make([]int16, rate+1000), audio.Tone(1000, -10, rate, 900*time.Millisecond)...),
		"less than a window": audio.Tone(1000, -10, rate, 90*time.Millisecond),
		"nothing":            nil,
	}
	for name, signal := range cases {
		assert.Less(t, audio.MedianSNR(signal, rate, 1000), 10.0, name)
	}
}

// TestMedianSNRBearsJumps breaks the phase twice a second, as a jitter buffer does.
func TestMedianSNRBearsJumps(t *testing.T) {
	const rate = 48000
	var signal []int16
	for i := range 10 {
		piece := audio.Tone(1000, -10, rate, 500*time.Millisecond)
		signal = append(signal, piece[7*i:]...)
	}
	assert.Greater(t, audio.MedianSNR(signal, rate, 1000), 60.0)
	assert.Less(t, audio.SNR(signal, rate, 1000), 20.0, "one fit over all of it must see the jumps")
}

// TestGoertzel finds a leak that is 50 dB below the tone, and finds none where there is none.
func TestGoertzel(t *testing.T) {
	for _, rate := range []int{8000, 48000} {
		loud := audio.Tone(1000, -6, rate, time.Second)
		leaky := audio.Mix(loud, audio.Tone(1300, -56, rate, time.Second))
		assert.InDelta(t, -6, audio.Goertzel(leaky, rate, 1000), 0.1)
		assert.InDelta(t, -56, audio.Goertzel(leaky, rate, 1300), 0.5)
		assert.Less(t, audio.Goertzel(loud, rate, 1300), -85.0)
		assert.Less(t, audio.Goertzel(leaky, rate, 1700), -85.0)
	}
	assert.Equal(t, math.Inf(-1), audio.Goertzel(nil, 8000, 1000))
	assert.Equal(t, math.Inf(-1), audio.Goertzel(make([]int16, 800), 8000, 1000))
}

func TestEnvelopeCorrelation(t *testing.T) {
	const rate = 16000
	speech := babble(rate, 5*time.Second, 7)
	quiet := make([]int16, len(speech))
	for i, s := range speech {
		quiet[i] = s / 4
	}
	cases := map[string]struct {
		other    []int16
		atLeast  float64
		atMost   float64
		wantsLag bool
		lag      time.Duration
	}{
		"itself":          {speech, 0.999, 1.001, true, 0},
		"quieter":         {quiet, 0.99, 1.001, true, 0},
		"later":           {append(make([]int16, rate*3/10), speech...), 0.99, 1.001, true, 300 * time.Millisecond},
		"earlier":         {speech[rate*2/10:], 0.99, 1.001, true, -200 * time.Millisecond},
		"with noise":      {audio.Mix(speech, noise(-45, rate, 5*time.Second, 8)), 0.95, 1, true, 0},
		"another speaker": {babble(rate, 5*time.Second, 9), -1, 0.6, false, 0},
		"plain noise":     {noise(-20, rate, 5*time.Second, 10), -1, 0.5, false, 0},
		"silence":         {make([]int16, 5*rate), 0, 0, false, 0},
		"nothing":         {nil, 0, 0, false, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, lag := audio.EnvelopeCorrelation(speech, c.other, rate)
			assert.GreaterOrEqual(t, got, c.atLeast)
			assert.LessOrEqual(t, got, c.atMost)
			if c.wantsLag {
				assert.InDelta(t, c.lag.Seconds(), lag.Seconds(), 0.0051)
			}
		})
	}
}

func TestEnvelope(t *testing.T) {
	flat := audio.Envelope(audio.Tone(1000, -6, 8000, time.Second), 8000)
	require.Len(t, flat, 197)
	for _, v := range flat {
		assert.InDelta(t, 32767*0.501/math.Sqrt2, v, 20)
	}
	assert.Empty(t, audio.Envelope(make([]int16, 100), 8000))
}

func TestResample(t *testing.T) {
	for _, c := range []struct{ from, to int }{{8000, 48000}, {48000, 8000}, {16000, 48000}, {48000, 16000}, {44100, 48000}} {
		tone := audio.Tone(1000, -10, c.from, time.Second)
		got := audio.Resample(tone, c.from, c.to)
		assert.Len(t, got, c.to)
		want := audio.Tone(1000, -10, c.to, time.Second)
		for i := c.to / 10; i < c.to*9/10; i++ { // no delay and no change, away from the ends
			require.InDelta(t, want[i], got[i], 3, "%d to %d, sample %d", c.from, c.to, i)
		}
		assert.Greater(t, audio.MedianSNR(got, c.to, 1000), 70.0)
	}
	tone := audio.Tone(1000, -10, 8000, time.Second)
	assert.Equal(t, tone, audio.Resample(tone, 8000, 8000))
	assert.Empty(t, audio.Resample(nil, 8000, 16000))
}

// TestResampleFilters looks for what folding back and mirroring would leave.
func TestResampleFilters(t *testing.T) {
	high := audio.Tone(5000, -6, 48000, time.Second)
	down := audio.Resample(high, 48000, 8000)
	assert.Less(t, audio.Level(down[800:7200]), -75.0, "5 kHz does not fit into 8 kHz, and would fold to 3 kHz")
	up := audio.Resample(audio.Tone(3000, -6, 8000, time.Second), 8000, 48000)
	assert.Less(t, audio.Goertzel(up[4800:43200], 48000, 5000), -75.0, "the mirror image of 3 kHz")
	assert.InDelta(t, -6, audio.Goertzel(up[4800:43200], 48000, 3000), 0.1)
}

func TestWAV(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tone.wav")
	want := audio.Tone(1000, -10, 16000, 100*time.Millisecond)
	require.NoError(t, audio.WriteWAV(path, want, 16000))
	got, rate, err := audio.ReadWAV(path)
	require.NoError(t, err)
	assert.Equal(t, 16000, rate)
	assert.Equal(t, want, got)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Len(t, b, 44+2*len(want))
}

func TestReadWAVRefuses(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.wav")
	require.NoError(t, audio.WriteWAV(good, []int16{1, 2, 3}, 8000))
	whole, err := os.ReadFile(good)
	require.NoError(t, err)
	change := func(at int, to byte) []byte {
		b := append([]byte(nil), whole...)
		b[at] = to
		return b
	}
	// A chunk of odd length before the format is skipped with its padding.
	padded := append(append(append([]byte(nil), whole[:12]...), "LIST\x03\x00\x00\x00abc\x00"...), whole[12:]...)
	cases := map[string]struct {
		file []byte
		ok   bool
	}{
		"good":          {whole, true},
		"other chunk":   {padded, true},
		"length beyond": {change(43, 0x7f), true},
		"stereo":        {change(22, 2), false},
		"A-law":         {change(20, 6), false},
		"8 bits":        {change(34, 8), false},
		"not RIFF":      {change(0, 'X'), false},
		"no data":       {whole[:36], false},
		"short format":  {whole[:20], false},
		"empty":         {nil, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.wav")
			require.NoError(t, os.WriteFile(path, c.file, 0o600))
			samples, rate, err := audio.ReadWAV(path)
			if !c.ok {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []int16{1, 2, 3}, samples)
			assert.Equal(t, 8000, rate)
		})
	}
	_, _, err = audio.ReadWAV(filepath.Join(dir, "missing.wav"))
	require.Error(t, err)
}

// The negative controls of two detectors: what they have to find is put in on purpose.
func TestAGapOf30MillisecondsIsSeen(t *testing.T) {
	for _, gap := range []time.Duration{0, 5, 10, 20, 30, 60} {
		gap *= time.Millisecond
		tone := audio.Mix(audio.Tone(440, -12, 8000, time.Second), audio.Tone(1000, -20, 8000, time.Second))
		from := 3001
		for i := range tone[from : from+int(gap.Milliseconds())*8] {
			tone[from+i] = int16(i % 3) // as quiet as a line is
		}
		got := audio.LongestGap(tone, 8000)
		assert.InDelta(t, gap.Milliseconds(), got.Milliseconds(), 2)
	}
	assert.Equal(t, time.Second, audio.LongestGap(make([]int16, 8000), 8000), "nothing but silence")
}

func TestALeakOf50DecibelsIsFoundInG711(t *testing.T) {
	for _, leak := range []float64{-50, -55, math.Inf(-1)} {
		heard := audio.Mix(audio.Tone(997, -10, 8000, time.Second), audio.Tone(1730, -10+leak, 8000, time.Second))
		for i, v := range heard {
			heard[i] = g711.DecodeUlawFrame(g711.EncodeUlawFrame(v))
		}
		got := audio.Goertzel(heard, 8000, 1730) - audio.Goertzel(heard, 8000, 997)
		t.Logf("a leak of %.0f dB: %.1f dB", leak, got)
		if math.IsInf(leak, -1) {
			assert.Less(t, got, -60.0)
			continue
		}
		assert.InDelta(t, leak, got, 2)
	}
}
