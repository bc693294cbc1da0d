package transcode

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// lowDelay says whether a packet is of Opus's low-delay mode, CELT alone (RFC 6716 §3.1).
func lowDelay(packet []byte) bool { return packet[0]>>3 >= 16 }

// TestLowDelayUntilLossIsReported: what is lost changes the mode of Opus, and who listens hears one tone throughout: no hole,
// and no click.
func TestLowDelayUntilLossIsReported(t *testing.T) {
	const hz = 311.25
	c := newClock()
	b, _ := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	web := &opusEar{}
	track := b.Source().Audio()
	track.Add(web)
	phone := newPhoneVoice(media.PCMU)
	said := audio.Tone(hz, -12, 8000, 12*time.Second)
	second := func(n int) {
		for i := range tuneEvery {
			at := (n*tuneEvery + i) * frameSamples
			b.up.ReceiveRTP(phone.make(said[at:at+frameSamples]), c.now())
			c.add(frameTime)
		}
	}
	modes := make([]bool, 0, 12)
	for n := range 12 {
		switch {
		case n == 4:
			track.ReportLoss(web, 0.1)
		case n > 6:
			for range 60 { // it is forgotten
				track.ReportLoss(web, 0)
			}
		}
		second(n)
		modes = append(modes, lowDelay(web.got[len(web.got)-1].Payload))
	}
	require.Equal(t, []bool{true, true, true, true, false, false, false, true, true, true, true, true}, modes)

	heard := web.pcm(t)[48000/2:]
	require.InDelta(t, hz, audio.Frequency(heard, 48000), 0.5)
	require.LessOrEqual(t, audio.LongestGap(heard, 48000), 5*time.Millisecond)
	slope := math.Pow(10, -12.0/20) * 32768 * 2 * math.Pi * hz / 48000 // the steepest that the tone itself is
	for i := 1; i < len(heard); i++ {
		require.LessOrEqual(t, math.Abs(float64(heard[i])-float64(heard[i-1])), 1.5*slope, "at %v", time.Duration(i)*time.Second/48000)
	}
}

// TestSilenceIsNotSentWithDTX: only the mode for speech knows what silence is, loss or not.
func TestSilenceIsNotSentWithDTX(t *testing.T) {
	v, err := newVoiceEncoder(Config{DTX: true}, narrow)
	require.NoError(t, err)
	packet := make([]byte, 1500)
	quiet := 0
	for range 100 {
		n, err := v.encode(make([]int16, frameSamples), packet)
		require.NoError(t, err)
		if n <= 2 {
			quiet++
		}
	}
	require.GreaterOrEqual(t, quiet, 70)
}

// TestVoiceEncoderKeepsWhatItIs: a change of complexity reaches the encoder in use, and one that loss brings into use later.
func TestVoiceEncoderKeepsWhatItIs(t *testing.T) {
	v, err := newVoiceEncoder(Config{OpusComplexity: 9}, narrow)
	require.NoError(t, err)
	of := func() []int {
		complexity, err := v.used.Complexity()
		require.NoError(t, err)
		loss, err := v.used.PacketLossPerc()
		require.NoError(t, err)
		return []int{complexity, loss}
	}
	require.Equal(t, []int{9, 0}, of())
	require.NoError(t, v.tune(tuning{3, 0}))
	require.Equal(t, []int{3, 0}, of())
	quick := v.used
	require.NoError(t, v.tune(tuning{3, 7}))
	require.NotSame(t, quick, v.used)
	require.Equal(t, []int{3, 7}, of())
	require.NoError(t, v.tune(tuning{2, 0}))
	require.Same(t, quick, v.used)
	require.Equal(t, []int{2, 0}, of())

	v, err = newVoiceEncoder(Config{NoFEC: true}, narrow)
	require.NoError(t, err)
	quick = v.used
	require.NoError(t, v.tune(tuning{1, 20}))
	require.Same(t, quick, v.used, "there is no FEC to change for")
	v, err = newVoiceEncoder(Config{ExpectedLoss: 5}, narrow)
	require.NoError(t, err)
	require.Equal(t, []int{1, 5}, of())
}

// TestComplexityFollowsOnsets: narrowband is encoded at complexity 1 where sound begins and at 0 elsewhere, unless a complexity is
// configured, the load wants less, or the mode is that for speech.
func TestComplexityFollowsOnsets(t *testing.T) {
	silence := make([]int16, frameSamples)
	tone := audio.Tone(500, -20, narrow, frameTime)
	packet := make([]byte, 1500)
	of := func(v *voiceEncoder, frames ...[]int16) (complexities []int) {
		for _, pcm := range frames {
			_, err := v.encode(pcm, packet)
			require.NoError(t, err)
			complexity, err := v.used.Complexity()
			require.NoError(t, err)
			complexities = append(complexities, complexity)
		}
		return complexities
	}
	encoder := func(cfg Config, rate int) *voiceEncoder {
		v, err := newVoiceEncoder(cfg, rate)
		require.NoError(t, err)
		return v
	}
	v := encoder(Config{}, narrow)
	require.Equal(t, []int{0, 1, 0, 0, 0}, of(v, silence, tone, tone, tone, silence))
	require.NoError(t, v.tune(tuning{complexity: 1, loss: 10}))
	require.Equal(t, []int{1, 1}, of(v, silence, silence), "the mode for speech")
	require.NoError(t, v.tune(tuning{complexity: 1}))
	require.Equal(t, []int{0}, of(v, silence))
	require.NoError(t, v.tune(tuning{}))
	v.reset()
	require.Equal(t, []int{0, 0}, of(v, tone, tone), "the load wants less")
	require.NoError(t, v.tune(tuning{complexity: 1}))
	v.reset()
	require.Equal(t, []int{1, 0}, of(v, tone, tone), "what it begins with is an onset")

	require.Equal(t, []int{1, 1}, of(encoder(Config{OpusComplexity: 1}, narrow), silence, tone))
	wideTone := audio.Tone(500, -20, wide, frameTime)
	require.Equal(t, []int{5, 5}, of(encoder(Config{}, wide), make([]int16, len(wideTone)), wideTone))
}
