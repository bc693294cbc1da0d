package transcode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

func TestNoAllocationPerPacket(t *testing.T) {
	p := newBenchPair(t)
	setup := func(t *testing.T, sources int) (*clock, *Bridge, []*media.Track, *discard, *discard) {
		c := newClock()
		var tel, web discard
		b, err := testEngine(c, Config{}).newBridge(BridgeConfig{Media: pcmu}, &tel)
		require.NoError(t, err)
		t.Cleanup(func() { b.Close(nil) })
		b.Source().Audio().Add(&web)
		var tracks []*media.Track
		for range sources {
			track := media.NewTrack("audio", media.Audio, media.Opus(), nil)
			tracks = append(tracks, track)
			b.Subscribe(&media.Source{Tracks: []*media.Track{track}})
		}
		return c, b, tracks, &tel, &web
	}
	t.Run("phone to browser", func(t *testing.T) {
		c, b, _, _, web := setup(t, 0)
		i := 0
		require.Zero(t, testing.AllocsPerRun(200, func() {
			b.up.ReceiveRTP(p.tel[i%50], c.t)
			next(p.tel[i%50], 8000)
			c.add(frameTime)
			i++
		}))
		require.Equal(t, 201, web.packets)
	})
	for _, sources := range []int{0, 1, 3} {
		t.Run([]string{"silence", "browser to phone", "", "mix"}[sources], func(t *testing.T) {
			c, b, tracks, tel, _ := setup(t, sources)
			i := 0
			require.Zero(t, testing.AllocsPerRun(200, func() {
				for _, track := range tracks {
					track.WriteRTP(p.web[i%50])
				}
				b.tick(c.t)
				next(p.web[i%50], 48000)
				c.add(frameTime)
				i++
			}))
			require.GreaterOrEqual(t, tel.packets, 200)
		})
	}
	t.Run("keys", func(t *testing.T) {
		c, b, _, tel, _ := setup(t, 0)
		in := &input{down: &b.down}
		require.Zero(t, testing.AllocsPerRun(200, func() {
			in.WriteKey(media.Key{Digit: '5'})
			in.WriteKey(media.Key{Digit: '5', Ended: true})
			b.tick(c.t)
			c.add(frameTime)
		}))
		require.GreaterOrEqual(t, tel.packets, 200)
	})
}
