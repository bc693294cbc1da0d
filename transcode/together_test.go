package transcode

import (
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// talk is what somebody says without a pause, at 8 kHz.
func talk(t *testing.T) []int16 {
	t.Helper()
	coded, err := os.ReadFile("../lab/speech.ulaw")
	require.NoError(t, err)
	pcm := make([]int16, len(coded))
	expand(media.PCMU, pcm, coded)
	var out []int16
	for at := 0; at+160 <= len(pcm); at += 160 {
		if audio.Level(pcm[at:at+160]) > -32 {
			out = append(out, pcm[at:at+160]...)
		}
	}
	return out
}

// says lets a browser say what is at 8 kHz, again and again, after so many samples of it.
func (b *browser) says(pcm []int16, at int) func() {
	wide := make([]int16, 960)
	return func() {
		for i := range wide { // linear between samples: what else there is is above 4 kHz
			one, two := float64(pcm[(at+i/6)%len(pcm)]), float64(pcm[(at+i/6+1)%len(pcm)])
			wide[i] = int16(one + (two-one)*float64(i%6)/6)
		}
		at += 160
		b.say(wide)
	}
}

// likeness is how much one sound is like another of the same length, 1 at most, judged by every other sample.
func likeness(a, b []int16) float64 {
	var aa, ab, bb float64
	for i := 0; i < len(a); i += 2 {
		x, y := float64(a[i]), float64(b[i])
		aa, ab, bb = aa+x*x, ab+x*y, bb+y*y
	}
	return ab / math.Sqrt(aa*bb+1)
}

// place finds where in said the piece of what was heard is from, between two samples of it.
func place(heard, said []int16, from, to int) (at int, like float64) {
	for p := max(0, from); p <= min(to, len(said)-len(heard)); p++ {
		if l := likeness(heard, said[p:p+len(heard)]); l > like {
			at, like = p, l
		}
	}
	return at, like
}

// TestPhonesGoOverTogether: a phone that speaks hears a browser on without a jump while another browser says a word and is silent
// again, though other phones mix all the while: what was heard is not heard again, and nothing is left out, but for the 20 ms
// that a mix comes later.
func TestPhonesGoOverTogether(t *testing.T) {
	const hop, size = 480, 640 // in samples
	said := talk(t)
	steepest := 0.0
	for i := 1; i < len(said); i++ {
		steepest = max(steepest, math.Abs(float64(said[i])-float64(said[i-1])))
	}
	for _, jitter := range []bool{false, true} {
		k := newConference(t, 2, 2)
		own := newPhoneVoice(media.PCMU).speaker(k.phones[0], k.c, 400, -25)
		word, quiet := k.webs[1].speaker(3000, -40), k.webs[1].pause()
		say, n, held := k.webs[0].says(said, 0), 0, 0
		talks := func() { // with jitter every 15th packet is late by 60 ms, and two behind it by less
			if n++; jitter && n%15 < 3 {
				held++
				return
			}
			for ; held > 0; held-- {
				say()
			}
			say()
		}
		k.run(50, talks, quiet)
		k.run(50, talks, quiet, own)
		require.True(t, k.phones[1].down.mixing, "it hears two")
		k.run(20, talks, word, own)
		k.run(100, talks, quiet, own)
		require.True(t, k.phones[0].down.mixing, "with the other one")
		k.run(75, talks, quiet)
		for _, b := range k.phones {
			require.False(t, b.down.mixing)
		}
		pcm := k.ears[0].pcm(media.PCMU)
		said := append(slices.Clone(said), said...)
		lag, jumps := math.NaN(), 0
		for at := 4000; at+size <= len(pcm); at += hop {
			p, like := place(pcm[at:at+size], said, at-1600, at+160)
			if like < 0.75 { // of a pause between syllables, or within a seam
				continue
			}
			now := float64(at-p) / 8
			grows := jitter && at < 2*8000-hop    // until it waits as long as it must
			if !grows && math.Abs(now-lag) > 12 { // more than a period
				jumps++
				require.InDelta(t, lag, now, 40, "at %d ms, jitter: %v", at/8, jitter)
			}
			lag = now
		}
		require.LessOrEqual(t, jumps, 4, "one into the mix and one out of it, and with jitter no more")
		for i := 1; i < len(pcm); i++ {
			require.LessOrEqual(t, math.Abs(float64(pcm[i])-float64(pcm[i-1])), steepest*1.25, "a click at sample %d", i)
		}
	}
}
