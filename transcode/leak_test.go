package transcode

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gotranspile/g722"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// How much of a voice may be heard where it must not be, against its own level, in dB: hardly anything as soon as a change is
// done, and nothing that could be told from noise once the others' delays have settled, since stretching a voice is noise, too.
const (
	leakSoon  = -40.0
	leakLimit = -60.0
	settle    = 3 * frameTime // until a change is done: a packet, and what a phone's codec and the seam take
)

// TestNobodyHearsWhomHeMustNot changes at random, 200 times, who hears whom among phones and browsers that all speak: no
// phone gets anything of a voice that it is not subscribed to, and all of the voices that it is. No tone has a low product of
// G.711 or G.722, or an image of one, near another, and none repeats within four seconds: their noise is spread thinly.
func TestNobodyHearsWhomHeMustNot(t *testing.T) {
	t.Run("G.711", func(t *testing.T) {
		leaks(t, pcmu, 3, 200, []float64{311.25, 527.75, 887.25, 1403.75, 2171.25})
	})
	t.Run("G.722", func(t *testing.T) { // more than two loud tones at once are noise to its predictors
		leaks(t, g722Phone, 2, 50, []float64{527.75, 1403.25, 2789.75})
	})
}

// leaks tries it with phones that say the first tones, and browsers that say the others.
func leaks(t *testing.T, codec media.PortMedia, phones, changes int, tones []float64) {
	t.Helper()
	c := newClock()
	e := testEngine(c, Config{})
	var (
		bridges []*Bridge
		ears    []*phoneEar
		sources []*media.Source
		says    []func()
	)
	for i := range phones {
		b, ear := testBridge(t, e, c, codec, nil)
		bridges, ears, sources = append(bridges, b), append(ears, ear), append(sources, b.Source())
		if codec.Speech == media.G722 {
			says = append(says, wideSpeaker(t, b, c, media.G722, tones[i], -20))
		} else {
			says = append(says, newPhoneVoice(media.PCMU).speaker(b, c, tones[i], -20))
		}
	}
	for _, tone := range tones[phones:] {
		w := newBrowser(t, fmt.Sprint(tone), 1)
		require.NoError(t, w.enc.SetComplexity(6))
		sources, says = append(sources, w.src), append(says, w.speaker(tone, -20))
	}
	rnd := rand.New(rand.NewPCG(7, 9))
	hears := make([][]bool, phones)
	for p := range hears {
		hears[p] = make([]bool, len(tones))
	}
	heard, kept := 0, 0
	decoders := make([]*g722.Decoder, phones)
	for p := range decoders {
		decoders[p] = g722.NewDecoder(g722.Rate64000, 0)
	}
	for change := range changes {
		for range 1 + rnd.IntN(3) {
			p, s := rnd.IntN(phones), rnd.IntN(len(sources))
			if p == s {
				continue
			}
			if hears[p][s] = !hears[p][s]; hears[p][s] {
				bridges[p].Subscribe(sources[s])
			} else {
				bridges[p].Unsubscribe(sources[s])
			}
		}
		for range int(settle/frameTime) + rnd.IntN(3) {
			step(c, bridges, says...)
		}
		run := func(steps int) {
			for range steps {
				step(c, bridges, says...)
			}
		}
		run(25)
		for before := stretched(e) + 1; stretched(e) != before; { // until two seconds in which no voice was stretched
			before = stretched(e)
			run(100)
		}
		for p := range phones {
			rate := codec.Speech.Rate()
			pcm := ears[p].pcm(media.PCMU)
			if rate == wide {
				pcm = make([]int16, 0, 4*wide)
				for _, k := range ears[p].got {
					var frame [320]int16
					pcm = append(pcm, frame[:decoders[p].Decode(frame[:], k.payload)]...)
				}
			}
			soon := pcm[:rate/2]
			pcm = pcm[len(pcm)-2*rate:]
			ears[p].got = nil
			for s, tone := range tones {
				level := audio.Goertzel(pcm, rate, tone) - -20
				if hears[p][s] {
					heard++
					require.InDelta(t, 0, level, 3, "change %d: phone %d hears %v Hz", change, p, tone)
				} else {
					kept++
					require.Less(t, audio.Goertzel(soon, rate, tone) - -20, leakSoon, "soon after change %d: phone %d must not hear %v Hz", change, p, tone)
					require.Less(t, level, leakLimit, "change %d: phone %d must not hear %v Hz", change, p, tone)
				}
			}
		}
	}
	require.Greater(t, heard, changes)
	require.Greater(t, kept, changes)
}

// stretched counts what the voices of all mixes were changed by.
func stretched(e *Engine) (samples uint64) {
	for _, m := range e.mixes {
		for _, v := range m.voices {
			samples += v.playout.Inserted + v.playout.Removed + v.playout.Concealed
		}
	}
	return samples
}

// TestLeakIsFound is the negative control of the test above: a voice at −50 dB below its level, beside three loud ones, is seen.
func TestLeakIsFound(t *testing.T) {
	pcm := audio.Mix(
		audio.Tone(311, -20, 8000, time.Second), audio.Tone(1129, -20, 8000, time.Second), audio.Tone(2089, -20, 8000, time.Second),
		audio.Tone(773, -70, 8000, time.Second),
	)
	payload := make([]byte, len(pcm))
	compress(media.PCMU, payload, pcm)
	expand(media.PCMU, pcm, payload)
	require.InDelta(t, -50, audio.Goertzel(pcm[:3200], 8000, 773) - -20, 4)
	require.Less(t, audio.Goertzel(pcm[:3200], 8000, 1511) - -20, leakLimit)
}
