package transcode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

func TestNoAllocationPerPacket(t *testing.T) {
	setup := func(t *testing.T, sources int) (*clock, *Bridge, []*media.Track, *discard, *discard, benchPair) {
		c := newClock()
		var tel, web discard
		b, err := testEngine(c, Config{}).newBridge(BridgeConfig{Media: pcmu}, &tel)
		require.NoError(t, err)
		t.Cleanup(func() { b.Close(nil) })
		b.Source().Audio().Add(&web)
		var tracks []*media.Track
		for range sources {
			track := media.NewTrack("audio", media.Audio, media.BrowserOpus(), nil)
			tracks = append(tracks, track)
			b.Subscribe(&media.Source{Tracks: []*media.Track{track}})
		}
		return c, b, tracks, &tel, &web, newBenchPair(t)
	}
	t.Run("phone to browser", func(t *testing.T) {
		c, b, _, _, web, p := setup(t, 0)
		i := 0
		require.Zero(t, testing.AllocsPerRun(200, func() {
			b.up.ReceiveRTP(p.tel[i%50], c.t)
			next(p.tel[i%50], 8000)
			c.add(frameTime)
			i++
		}))
		require.Equal(t, 201, web.packets)
	})
	t.Run("silence of a phone to browser", func(t *testing.T) {
		c, b, _, _, web, p := setup(t, 0)
		quiet := newPhoneVoice(media.PCMU).make(make([]int16, 160))
		i := 0
		require.Zero(t, testing.AllocsPerRun(200, func() {
			packet := p.tel[i%50]
			if i++; i%50 > 2 { // and a word in each second
				packet = quiet
			}
			packet.SequenceNumber, packet.Timestamp = uint16(i), uint32(i*160)
			b.up.ReceiveRTP(packet, c.t)
			c.add(frameTime)
		}))
		require.Less(t, web.packets, 150)
	})
	for _, sources := range []int{0, 1, 3} {
		t.Run([]string{"silence", "browser to phone", "", "mix"}[sources], func(t *testing.T) {
			c, b, tracks, tel, _, p := setup(t, sources)
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
			if sources == 1 {
				require.LessOrEqual(t, b.Stats().Fillers, uint64(1))
			}
		})
	}
	t.Run("phone to phone", func(t *testing.T) {
		c, b, _, _, _, p := setup(t, 0)
		var tel discard
		other, err := b.engine.newBridge(BridgeConfig{Media: pcmu}, &tel)
		require.NoError(t, err)
		t.Cleanup(func() { other.Close(nil) })
		other.Subscribe(b.Source())
		i := 0
		require.Zero(t, testing.AllocsPerRun(200, func() {
			b.up.ReceiveRTP(p.tel[i%50], c.t)
			next(p.tel[i%50], 8000)
			c.add(frameTime)
			i++
		}))
		require.Equal(t, 201, tel.packets)
	})
	t.Run("loss", func(t *testing.T) {
		c, b, tracks, tel, _, p := setup(t, 1)
		i := 0
		require.Zero(t, testing.AllocsPerRun(200, func() {
			if i%5 != 3 {
				tracks[0].WriteRTP(p.web[i%50])
			}
			b.tick(c.t)
			next(p.web[i%50], 48000)
			c.add(frameTime)
			i++
		}))
		require.GreaterOrEqual(t, tel.packets, 200)
	})
	t.Run("keys", func(t *testing.T) {
		c, b, _, tel, _, _ := setup(t, 0)
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
