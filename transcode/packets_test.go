package transcode

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

// Two phones hear the same voice, one in packets of 20 ms: the other hears the same samples in its own packets.
func TestPacketTimes(t *testing.T) {
	for _, ms := range []int{10, 20, 30, 40, 60} {
		t.Run(fmt.Sprint(ms), func(t *testing.T) {
			c := newClock()
			e := testEngine(c, Config{})
			wanted := pcmu
			wanted.PacketTime = time.Duration(ms) * time.Millisecond
			usual, usualEar := testBridge(t, e, c, pcmu, nil)
			other, ear := testBridge(t, e, c, wanted, nil)
			b := newBrowser(t, "a", 1)
			usual.Subscribe(b.src)
			other.Subscribe(b.src)
			say := b.speaker(440, 0.3)
			for range 60 {
				step(c, []*Bridge{usual, other}, say)
			}
			requirePackets(t, ear.got, ms)
			want, got := usualEar.pcm(media.PCMU), ear.pcm(media.PCMU)
			require.InDelta(t, len(want), len(got), float64(8*ms))
			requireSamples(t, want[:len(got)], got)
		})
	}
}

// requirePackets checks that packets follow one another without a gap and hold ms each. Only the first has a marker.
func requirePackets(t *testing.T, got []sentPacket, ms int) {
	t.Helper()
	require.NotEmpty(t, got)
	for i, p := range got {
		require.Len(t, p.payload, 8*ms, "packet %d", i)
		require.Equal(t, i == 0, p.marker, "packet %d", i)
		if i > 0 {
			require.EqualValues(t, 8*ms, p.ts-got[i-1].ts, "packet %d", i)
		}
	}
}

// A re-INVITE changes the packet time of a call that is up: nothing is lost, repeated, or goes back.
func TestPacketTimeChanges(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	usual, usualEar := testBridge(t, e, c, pcmu, nil)
	other, ear := testBridge(t, e, c, pcmu, nil)
	b := newBrowser(t, "a", 1)
	usual.Subscribe(b.src)
	other.Subscribe(b.src)
	say := b.speaker(440, 0.3)
	for _, ms := range []int{30, 10, 60, 40, 20} {
		m := pcmu
		m.PacketTime = time.Duration(ms) * time.Millisecond
		other.Update(m)
		before := len(ear.got)
		for range 36 { // whole packets of each length
			step(c, []*Bridge{usual, other}, say)
		}
		for _, p := range ear.got[before:] {
			require.Len(t, p.payload, 8*ms)
		}
	}
	want, got := usualEar.pcm(media.PCMU), ear.pcm(media.PCMU)
	require.InDelta(t, len(want), len(got), 480)
	requireSamples(t, want[:len(got)], got)
}

// A key in the middle of a packet ends it: its time does not come after the key's.
func TestKeyEndsAPacket(t *testing.T) {
	c := newClock()
	m := pcmu
	m.PacketTime = 60 * time.Millisecond
	bridge, ear := testBridge(t, testEngine(c, Config{}), c, m, nil)
	src := &media.Source{}
	bridge.Subscribe(src)
	for range 4 {
		step(c, []*Bridge{bridge})
	}
	src.WriteKey(media.Key{Digit: '5'})
	src.WriteKey(media.Key{Digit: '5', Ended: true, Duration: 100 * time.Millisecond})
	for range 30 {
		step(c, []*Bridge{bridge})
	}
	require.NotEmpty(t, ear.events())
	for i, p := range ear.got[1:] {
		require.GreaterOrEqual(t, int32(p.ts-ear.got[i].ts), int32(0))
	}
}

func TestPacketsAllocateNothing(t *testing.T) {
	m := pcmu
	m.PacketTime = 30 * time.Millisecond
	d := downlink{phone: nobody{}}
	require.NoError(t, d.open(m, Config{}))
	pcm := make([]int16, frameSamples)
	pos := int64(0)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		d.packet(pos, false, pcm)
		pos += frameSamples
	}))
}

// nobody is a phone that hears nothing.
type nobody struct{}

func (nobody) Send(uint8, bool, uint32, []byte) bool { return true }

func (nobody) Lose(int) {}

func (nobody) SendKey(uint8, bool, uint32, media.KeyTime, []byte) bool { return true }
