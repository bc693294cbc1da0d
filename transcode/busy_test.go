package transcode

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// TestMixIsHeardOnABusyMachine: a phone hears a browser and another phone, both of which speak, while packets come late and in
// bunches, or the clock of the mix, or both: as a machine does it whose cores others have.
func TestMixIsHeardOnABusyMachine(t *testing.T) {
	const length = 6 * time.Second
	even := func(int) time.Duration { return 0 }
	bunches := func(seed uint64) func(int) time.Duration { // every now and then nothing comes, and then all at once
		rnd := rand.New(rand.NewPCG(seed, 3))
		free := 0
		return func(i int) time.Duration {
			if i >= free && rnd.IntN(5) == 0 {
				free = i + 1 + rnd.IntN(7)
			}
			return time.Duration(max(0, free-i)) * frameTime
		}
	}
	late := func(seed uint64, most int) func(int) time.Duration {
		rnd := rand.New(rand.NewPCG(seed, 5))
		return func(int) time.Duration { return time.Duration(rnd.IntN(most)) * time.Millisecond }
	}
	for _, way := range []struct {
		name           string
		packets, ticks func(seed uint64) func(i int) time.Duration
	}{
		{"even", func(uint64) func(int) time.Duration { return even }, func(uint64) func(int) time.Duration { return even }},
		{"starved senders", bunches, func(uint64) func(int) time.Duration { return even }},
		{"a clock that comes late", func(uint64) func(int) time.Duration { return even }, func(s uint64) func(int) time.Duration { return late(s, 60) }},
		{"a clock that stands still", func(uint64) func(int) time.Duration { return even }, bunches},
		{"all of it", bunches, bunches},
	} {
		for _, pair := range [][2]media.PortMedia{{pcmu, pcmu}, {opusPhone, g722Phone}, {pcmu, opusPhone}, {opusPhone, opusPhone}} {
			speaks, listener := pair[0], pair[1]
			t.Run(way.name+", "+speaks.Speech.String()+" to "+listener.Speech.String(), func(t *testing.T) {
				c := newClock()
				e := testEngine(c, Config{})
				b, got := testBridge(t, e, c, listener, nil)
				other, _ := testBridge(t, e, c, speaks, nil)
				web := newBrowser(t, "w", 1)
				require.NoError(t, web.enc.SetComplexity(1))
				b.Subscribe(web.src)
				b.Subscribe(other.Source())
				tones := []float64{527.75, 1403.25}
				says := []func(){web.speaker(tones[0], -20), newPhoneVoice(media.PCMU).speaker(other, c, tones[1], -20)}
				if speaks.Speech == media.Opus {
					says[1] = wideSpeaker(t, other, c, media.Opus, tones[1], -20)
				}
				var events []arrival
				series := func(phase time.Duration, delay func(int) time.Duration, do func(due time.Duration)) {
					last := time.Duration(0)
					for i := range int(length / frameTime) {
						due := phase + time.Duration(i)*frameTime
						last = max(last, due+delay(i))
						events = append(events, arrival{last, func() { do(due) }})
					}
				}
				for i, say := range says {
					series(time.Duration(i+1)*time.Millisecond, way.packets(uint64(i)), func(time.Duration) { say() })
				}
				begun := c.t
				series(tickPhase, way.ticks(9), func(due time.Duration) {
					for _, b := range []*Bridge{b, other} {
						b.tick(begun.Add(due))
					}
				})
				slices.SortStableFunc(events, func(a, b arrival) int { return int(a.at - b.at) })
				for _, event := range events {
					c.t = begun.Add(event.at)
					event.come()
				}
				heard, rate := newEar(t, listener.Speech), listener.Speech.Rate()
				for _, k := range got.got {
					heard.hear(k.payload)
				}
				for _, hz := range tones {
					var levels []float64
					for piece := range slices.Chunk(heard.pcm[2*rate:], rate/10) {
						levels = append(levels, audio.Goertzel(piece, rate, hz)+20)
					}
					slices.Sort(levels)
					require.Greater(t, levels[len(levels)/10], -3.0, "%v Hz, in the worst tenth", hz)
				}
			})
		}
	}
}
