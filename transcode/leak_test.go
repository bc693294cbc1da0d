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
// phone gets anything of a voice that it is not subscribed to, and all of the voices that it is. The tones are whole numbers
// of periods in the judged piece, and no sum or difference of two, nor a harmonic of one, is near a third.
func TestNobodyHearsWhomHeMustNot(t *testing.T) {
	const phones, browsers, changes = 4, 3, 200
	tones := [phones + browsers]float64{311, 533, 773, 1129, 1511, 2089, 2767}
	c := newClock()
	e := testEngine(c, Config{})
	var (
		bridges []*Bridge
		ears    []*phoneEar
		sources []*media.Source
		says    []func()
	)
	codecs := []media.PortMedia{pcmu, pcmu, g722Phone, pcmu}
	for i := range phones {
		b, ear := testBridge(t, e, c, codecs[i], nil)
		bridges, ears, sources = append(bridges, b), append(ears, ear), append(sources, b.Source())
		if codecs[i].Speech == media.G722 {
			says = append(says, wideSpeaker(t, b, c, media.G722, tones[i], -20))
		} else {
			says = append(says, newPhoneVoice(media.PCMU).speaker(b, c, tones[i], -20))
		}
	}
	for i := range browsers {
		w := newBrowser(t, fmt.Sprint("w", i), 1)
		sources, says = append(sources, w.src), append(says, w.speaker(tones[phones+i], -20))
	}
	rnd := rand.New(rand.NewPCG(7, 9))
	hears := [phones][phones + browsers]bool{}
	heard, kept := 0, 0
	decoder := g722.NewDecoder(g722.Rate64000, 0) // one for all: its memory is long
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
		for range 65 {
			step(c, bridges, says...)
		}
		for p := range phones {
			rate := codecs[p].Speech.Rate()
			pcm := ears[p].pcm(media.PCMU)
			if rate == wide {
				pcm = make([]int16, 0, 2*wide)
				for _, k := range ears[p].got {
					var frame [320]int16
					pcm = append(pcm, frame[:decoder.Decode(frame[:], k.payload)]...)
				}
			}
			soon := pcm[len(pcm)-rate*13/10 : len(pcm)-rate]
			pcm = pcm[len(pcm)-rate:]
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
	require.Greater(t, heard, 500)
	require.Greater(t, kept, 500)
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
