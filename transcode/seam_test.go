package transcode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// TestTheOtherIsHeardAfterAMix: when one of two voices is unsubscribed from or muted while both are mixed, the other one is heard
// on, by a phone that gets its packets as they are, too.
func TestTheOtherIsHeardAfterAMix(t *testing.T) {
	for name, leave := range map[string]func(b *Bridge, src *media.Source){
		"unsubscribed": func(b *Bridge, src *media.Source) { b.Unsubscribe(src) },
		"muted":        func(b *Bridge, src *media.Source) { b.Mute(src, true) },
	} {
		for _, pause := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", while nobody speaks"}[pause], func(t *testing.T) {
				c := newClock()
				b, ear := testBridge(t, testEngine(c, Config{}), c, opusPhone, nil)
				one, two := newBrowser(t, "one", 1), newBrowser(t, "two", 1)
				b.Subscribe(one.src)
				b.Subscribe(two.src)
				sayOne, sayTwo := one.speaker(700, -20), two.speaker(1100, -20)
				for range 100 {
					step(c, []*Bridge{b}, sayOne, sayTwo)
				}
				require.True(t, b.down.mixing)
				if pause {
					for range 100 {
						step(c, []*Bridge{b}, one.pause(), two.pause())
					}
					require.False(t, b.down.mixing)
				}
				leave(b, one.src)
				from := len(ear.got)
				for range 50 {
					step(c, []*Bridge{b}, sayOne, sayTwo)
				}
				pcm := wideSound(t, ear, media.Opus)
				require.InDelta(t, -20, audio.Goertzel(pcm[len(pcm)-wide/2:], wide, 1100), 1.5)
				require.Less(t, audio.Goertzel(pcm[len(pcm)-wide/2:], wide, 700), -70.0)
				require.GreaterOrEqual(t, len(ear.got), from+50)
			})
		}
	}
}

// TestWhoLeavesAMixIsNotMadeUp: of a voice that is removed or muted nothing is made up, even if the one that is left sends nothing.
func TestWhoLeavesAMixIsNotMadeUp(t *testing.T) {
	for name, leave := range map[string]func(b *Bridge, src *media.Source){
		"unsubscribed": func(b *Bridge, src *media.Source) { b.Unsubscribe(src) },
		"muted":        func(b *Bridge, src *media.Source) { b.Mute(src, true) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
			one, two := newBrowser(t, "one", 1), newBrowser(t, "two", 1)
			b.Subscribe(one.src)
			b.Subscribe(two.src)
			sayOne, sayTwo := one.speaker(700, -20), two.speaker(1100, -20)
			ear.meanwhile(c, []*Bridge{b}, 100, sayOne, sayTwo)
			require.True(t, b.down.mixing)
			leave(b, one.src)
			pcm := ear.meanwhile(c, []*Bridge{b}, 13, sayOne)
			require.GreaterOrEqual(t, len(pcm), 1600, "the phone gets silence")
			require.Less(t, audio.Level(pcm[40:1640-40]), -70.0, "but for 5 ms in which what was heard fades")
		})
	}
}

// TestNoEchoOfAMix: a phone that is forwarded to hears nothing of a mix that ended long ago in a pause.
func TestNoEchoOfAMix(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, opusPhone, nil)
	one, two := newBrowser(t, "one", 1), newBrowser(t, "two", 1)
	b.Subscribe(one.src)
	b.Subscribe(two.src)
	sayOne, sayTwo := one.speaker(700, -20), two.speaker(1100, -20)
	for range 100 {
		step(c, []*Bridge{b}, sayOne, sayTwo)
	}
	require.True(t, b.down.mixing)
	for range 250 {
		step(c, []*Bridge{b}, sayOne, two.pause())
	}
	require.False(t, b.down.mixing)
	from := len(ear.got)
	for range 20 {
		step(c, []*Bridge{b})
	}
	fillers := phoneEar{got: ear.got[from:]}
	pcm := wideSound(t, &fillers, media.Opus)
	require.GreaterOrEqual(t, len(pcm), 8*320)
	require.Less(t, audio.Level(pcm), -70.0)
}
