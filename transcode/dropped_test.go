package transcode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// What a phone does not hear is counted, at its leg and for all: what comes in disorder, too late, or too much at once.
func TestWhatIsDroppedIsCounted(t *testing.T) {
	for _, others := range []int{0, 1} {
		t.Run(map[int]string{0: "directly", 1: "mixed"}[others], func(t *testing.T) {
			c := newClock()
			e := testEngine(c, Config{})
			b, _ := testBridge(t, e, c, pcmu, nil)
			a, _ := testBridge(t, e, c, pcmu, nil)
			b.Subscribe(a.Source())
			var says []func()
			for range others {
				web := newBrowser(t, "web", 1)
				b.Subscribe(web.src)
				says = append(says, web.speaker(700, -20))
			}
			tone, at := audio.Tone(400, -20, narrow, loop), 0
			take := func(pos int) {
				from := pos % (len(tone) - 160)
				a.up.feed.publish(frame{pos: int64(pos), pcm: tone[from : from+160]}, narrow, c.now())
			}
			say := func() {
				take(at)
				at += 160
			}
			for range 100 {
				step(c, []*Bridge{b}, append(says, say)...)
			}
			require.Equal(t, Dropped{}, e.Dropped())
			require.Equal(t, others > 0, b.down.mixing)

			old := at - 5*160 + 80 // no repetition of one that came
			for range 2 {
				step(c, []*Bridge{b}, append(says, func() { take(old) }, say)...)
				old += 160
			}
			for range 100 {
				step(c, []*Bridge{b}, append(says, say)...)
			}
			require.EqualValues(t, 2, b.Stats().LateToPhone)
			require.EqualValues(t, 2, e.Dropped().Late)
			require.Zero(t, e.Dropped().Overflow)

			for range 50 {
				say()
			}
			for range 100 {
				step(c, []*Bridge{b}, append(says, say)...)
			}
			lost := time.Duration(b.Stats().Overflow) * time.Second / narrow
			require.InDelta(t, 0.6, lost.Seconds(), 0.15, "of a second at once, half can wait, and what is said next makes that more")
			require.Equal(t, lost, e.Dropped().Overflow)
		})
	}
}

func TestDisorderIsCounted(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	a, _ := testBridge(t, e, c, pcmu, nil)
	voice := newPhoneVoice(media.PCMU)
	p := voice.make(make([]int16, 160))
	a.up.ReceiveRTP(p, c.now())
	a.up.ReceiveRTP(p, c.now())
	require.EqualValues(t, 1, a.Stats().LateFromPhone)
	require.EqualValues(t, 1, e.Dropped().Disordered)
	web := newBrowser(t, "web", 1)
	a.Subscribe(web.src)
	packet := web.make(make([]int16, 960))
	web.track.WriteRTP(packet)
	web.track.WriteRTP(packet)
	require.EqualValues(t, 2, e.Dropped().Disordered)
}
