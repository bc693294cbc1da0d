package transcode

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

func sine(hz, amplitude float64, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(amplitude * math.Sin(2*math.Pi*hz*float64(i)/8000))
	}
	return out
}

// power is the energy of hz in samples, from 0 (nothing) to 1 (nothing else).
func power(samples []int16, hz float64) float64 {
	var re, im, all float64
	for i, s := range samples {
		v := float64(s)
		re += v * math.Cos(2*math.Pi*hz*float64(i)/8000)
		im += v * math.Sin(2*math.Pi*hz*float64(i)/8000)
		all += v * v
	}
	if all == 0 {
		return 0
	}
	return 2 * (re*re + im*im) / (all * float64(len(samples)))
}

func TestPlayReplacesTheSession(t *testing.T) {
	for _, sources := range []int{0, 1, 2} {
		t.Run([]string{"silence", "one voice", "a mix"}[sources], func(t *testing.T) {
			c := newClock()
			e := testEngine(c, Config{})
			b, ear := testBridge(t, e, c, pcmu, nil)
			voice := sine(300, 8000, 8000)
			var voices []*phoneVoice
			var others []*Bridge
			for range sources {
				other, _ := testBridge(t, e, c, pcmu, nil)
				b.Subscribe(other.Source())
				others, voices = append(others, other), append(voices, newPhoneVoice(media.PCMU))
			}
			step := func(i int) {
				for k, other := range others {
					other.up.ReceiveRTP(voices[k].make(voice[i%50*160:i%50*160+160]), c.t)
				}
				b.tick(c.t)
				c.add(frameTime)
			}
			for i := range 50 {
				step(i)
			}
			done := 0
			b.Play(Sound{Samples: sine(1000, 8000, 8000), Done: func() { done++ }})
			from := len(ear.pcm(media.PCMU))
			for i := range 50 {
				require.Zero(t, done)
				step(i)
			}
			require.Equal(t, 1, done, "told when the last sample is on its way")
			heard := ear.pcm(media.PCMU)
			require.Len(t, heard, from+8000, "one packet for each tick, neither more nor less")
			require.Greater(t, power(heard[from+160:from+7840], 1000), 0.99)
			from = len(heard)
			for i := range 50 {
				step(i)
			}
			require.Equal(t, 1, done)
			heard = ear.pcm(media.PCMU)[from:]
			require.Less(t, power(heard[40:], 1000), 0.01, "the sound is over")
			if sources > 0 {
				require.Greater(t, power(heard[800:], 300), 0.95, "the session is back")
			}
		})
	}
}

func TestPlayLoopsAndStops(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	done := func() { t.Error("a loop is never done") }
	b.Play(Sound{Samples: sine(1000, 8000, 1000), Loop: true, Done: done}) // no whole number of frames
	for range 100 {
		b.tick(c.t)
		c.add(frameTime)
	}
	heard := ear.pcm(media.PCMU)
	require.Len(t, heard, 16000)
	require.Greater(t, power(heard, 1000), 0.99, "no gap where it begins again")
	b.Stop()
	for range 50 {
		b.tick(c.t)
		c.add(frameTime)
	}
	require.Zero(t, power(ear.pcm(media.PCMU)[16048:], 1000), "it ends within some 5 ms")
	// Shorter than a frame: it goes round several times in one.
	b.Play(Sound{Samples: sine(1000, 8000, 8), Loop: true, Done: done})
	from := len(ear.pcm(media.PCMU))
	for range 50 {
		b.tick(c.t)
		c.add(frameTime)
	}
	require.Greater(t, power(ear.pcm(media.PCMU)[from:], 1000), 0.99)
}

func TestASoundWaitsForNoHold(t *testing.T) {
	c := newClock()
	held := pcmu
	held.Send = false
	b, ear := testBridge(t, testEngine(c, Config{}), c, held, nil)
	done := false
	b.Play(Sound{Samples: sine(1000, 8000, 1600), Done: func() { done = true }})
	for range 10 {
		b.tick(c.t)
		c.add(frameTime)
	}
	require.True(t, done)
	require.Empty(t, ear.got)
}

func TestKeptKeys(t *testing.T) {
	c := newClock()
	var told, relayed []byte
	b, _ := testBridge(t, testEngine(c, Config{}), c, pcmu, func(k media.Key) {
		if k.Ended {
			told = append(told, k.Digit)
		}
	})
	b.Source().AddKeys(keySink(func(k media.Key) {
		if k.Ended {
			relayed = append(relayed, k.Digit)
		}
	}))
	press := func(code byte, ts uint32, seq uint16) {
		p := newPhoneVoice(media.PCMU).packet.Clone()
		p.PayloadType, p.Timestamp, p.SequenceNumber = 101, ts, seq
		p.Payload = []byte{code, 0x80 | 10, 3, 32}
		b.up.ReceiveRTP(p, c.t)
	}
	press(1, 1000, 1)
	b.KeepKeys(true)
	press(2, 3000, 2)
	b.KeepKeys(false)
	press(3, 5000, 3)
	require.Equal(t, "123", string(told))
	require.Equal(t, "13", string(relayed))
}

type keySink func(media.Key)

func (f keySink) WriteKey(k media.Key) { f(k) }

func TestPlayAllocatesNothing(t *testing.T) {
	c := newClock()
	var tel discard
	b, err := testEngine(c, Config{}).newBridge(BridgeConfig{Media: pcmu}, &tel)
	require.NoError(t, err)
	defer b.Close(nil)
	b.Play(Sound{Samples: sine(1000, 8000, 8000), Loop: true})
	require.Zero(t, testing.AllocsPerRun(200, func() {
		b.tick(c.t)
		c.add(frameTime)
	}))
	require.GreaterOrEqual(t, tel.packets, 200)
}

func BenchmarkPlay(b *testing.B) {
	c := newClock()
	var tel discard
	bridge, err := testEngine(c, Config{}).newBridge(BridgeConfig{Media: pcmu}, &tel)
	require.NoError(b, err)
	defer bridge.Close(nil)
	bridge.Play(Sound{Samples: sine(1000, 8000, 8000), Loop: true})
	b.ReportAllocs()
	for b.Loop() {
		bridge.tick(c.t)
		c.add(20 * time.Millisecond)
	}
}
