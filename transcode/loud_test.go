package transcode

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// TestLoudVoicesAreTurnedDown: three voices of full loudness are turned down together: nothing is cut off, so there are no tones that
// nobody said; and a phone hears no change of loudness when it says a word itself, nor after it.
func TestLoudVoicesAreTurnedDown(t *testing.T) {
	k := newConference(t, 2, 3)
	tones := []float64{500, 900, 1300} // all have whole periods in 10 ms
	var says []func()
	for i, w := range k.webs {
		require.NoError(t, w.enc.SetBitrate(128000))
		says = append(says, w.speaker(tones[i], -1))
	}
	own := newPhoneVoice(media.PCMU).speaker(k.phones[0], k.c, 1700, -20)
	k.run(200, says...)
	from := len(k.ears[0].got)
	for range 4 {
		k.run(15, append(says, own)...)
		k.run(60, says...)
	}
	pcm := k.ears[0].pcm(media.PCMU)[from*160:]
	lost := audio.Goertzel(pcm, 8000, 500) - -1
	require.Less(t, lost, -5.0, "they are turned down")
	for _, tone := range tones {
		require.InDelta(t, lost, audio.Goertzel(pcm, 8000, tone) - -1, 0.5, "%v Hz, as much as the others", tone)
	}
	for _, tone := range []float64{100, 1700, 2100, 2500, 3300} { // sums and differences of them
		require.Less(t, audio.Goertzel(pcm, 8000, tone)-lost, -30.0, "%v Hz", tone)
	}
	worst, at := math.Inf(-1), 0
	for i := 80; i+80 <= len(pcm); i += 8 {
		var rest, all float64
		for j := i; j < i+80; j++ {
			rest += math.Pow(float64(pcm[j])-float64(pcm[j-80]), 2)
			all += math.Pow(float64(pcm[j]), 2)
		}
		if u := 10 * math.Log10(rest/all); u > worst {
			worst, at = u, i
		}
	}
	require.Less(t, worst, -28.0, "the loudness changes at %d ms", at/8)
}
