package transcode

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// conference is a session of phones and browsers where everybody hears everybody, in a test's time.
type conference struct {
	c      *clock
	e      *Engine
	phones []*Bridge
	ears   []*phoneEar
	webs   []*browser
}

func newConference(t *testing.T, phones, browsers int) *conference {
	t.Helper()
	c := newClock()
	k := &conference{c: c, e: testEngine(c, Config{})}
	for range phones {
		b, ear := testBridge(t, k.e, c, pcmu, nil)
		k.phones, k.ears = append(k.phones, b), append(k.ears, ear)
	}
	for i := range browsers {
		k.webs = append(k.webs, newBrowser(t, fmt.Sprint("w", i), 1))
	}
	for _, b := range k.phones {
		for _, other := range k.phones {
			b.Subscribe(other.Source())
		}
		for _, w := range k.webs {
			b.Subscribe(w.src)
		}
	}
	return k
}

func (k *conference) run(ticks int, says ...func()) {
	for range ticks {
		step(k.c, k.phones, says...)
	}
}

// pause lets a browser send silence.
func (b *browser) pause() func() {
	silence := make([]int16, 960)
	return func() { b.say(silence) }
}

// word lets a browser say what is at 48 kHz, and then silence.
func (b *browser) word(pcm []int16) func() {
	said := 0
	return func() {
		if said += 960; said <= len(pcm) {
			b.say(pcm[said-960 : said])
		} else {
			b.say(make([]int16, 960))
		}
	}
}

// lasts is for how many ms a tone is heard at 8 kHz, louder than level in dBFS.
func lasts(pcm []int16, freq, level float64) (ms int) {
	for i := 0; i+40 <= len(pcm); i += 40 {
		if audio.Goertzel(pcm[i:i+40], 8000, freq) > level {
			ms += 5
		}
	}
	return ms
}

// TestOneMixForAll: who hears the same voices, each but its own, shares one mix.
func TestOneMixForAll(t *testing.T) {
	k := newConference(t, 4, 2)
	require.Len(t, k.e.mixes, 1)
	require.Len(t, k.phones[0].down.mix.voices, 6)
	k.phones[1].Mute(k.webs[0].src, true)
	require.Len(t, k.e.mixes, 2, "one hears less")
	k.phones[1].Mute(k.webs[0].src, false)
	require.Len(t, k.e.mixes, 1)
	for i, b := range k.phones {
		require.True(t, k.phones[0].down.mix == b.down.mix, i)
	}
	for _, b := range k.phones {
		b.Close(nil)
	}
	require.Empty(t, k.e.mixes)
	require.Empty(t, k.e.feeds, "and nothing is decoded any more")
}

// TestDirectAndMixed: one voice is heard as it comes, two through the mix, and one again; nothing is heard of the change: no
// hole, and no step that is larger than in what was said. A second voice that is quiet leaves no room for one of the first.
func TestDirectAndMixed(t *testing.T) {
	for _, second := range []float64{-20, -45} {
		t.Run(fmt.Sprint(second), func(t *testing.T) {
			k := newConference(t, 1, 3)
			b, ear := k.phones[0], k.ears[0]
			one, two, third := k.webs[0].speaker(440, -20), k.webs[1].speaker(610, second), k.webs[2].pause()
			k.run(100, one, k.webs[1].pause(), third)
			require.False(t, b.down.mixing)
			before := len(ear.got)
			for range 6 {
				k.run(75, one, two, third)
				require.True(t, b.down.mixing, "two are to be heard")
				k.run(150, one, k.webs[1].pause(), third)
				require.False(t, b.down.mixing, "one is, and nothing of it waits")
			}
			requireSteady(t, ear.got)
			pcm := ear.pcm(media.PCMU)[(before-1)*160:]
			steepest := (steepestOf(440, -20) + steepestOf(610, second)) * 1.25 // of both tones, and G.711's own steps
			for i := 1; i < len(pcm); i++ {
				require.LessOrEqual(t, math.Abs(float64(pcm[i])-float64(pcm[i-1])), steepest, "sample %d", i)
			}
			for i := 0; i+80 <= len(pcm); i += 80 {
				require.Greater(t, audio.Level(pcm[i:i+80]), -32.0, "10 ms from %d", i)
			}
		})
	}
}

// steepestOf is the largest step between two samples of a tone at 8 kHz, whose amplitude is of a level in dBFS.
func steepestOf(freq, level float64) float64 {
	return 32768 * math.Pow(10, level/20) * 2 * math.Pi * freq / 8000
}

// TestWhoComesOrGoesIsNotHeard: who hears a mix hears it on while somebody who says nothing comes and goes.
func TestWhoComesOrGoesIsNotHeard(t *testing.T) {
	k := newConference(t, 2, 3)
	one, two, third := k.webs[0].speaker(440, -20), k.webs[1].speaker(3000, -45), k.webs[2].pause()
	k.run(100, one, two, third)
	for range 3 {
		for _, b := range k.phones {
			b.Unsubscribe(k.webs[2].src)
		}
		k.run(50, one, two, third)
		one()
		two()
		k.phones[0].tick(k.c.now())
		k.phones[1].Subscribe(k.webs[2].src) // when the other one has heard the tick already
		k.phones[1].tick(k.c.now())
		k.c.add(frameTime)
		for _, b := range k.phones {
			b.Subscribe(k.webs[2].src)
		}
		k.run(50, one, two, third)
	}
	for phone, ear := range k.ears {
		pcm := ear.pcm(media.PCMU)
		for i := narrow; i+40 <= len(pcm); i += 40 {
			require.Greater(t, audio.Level(pcm[i:i+40]), -24.0, "of phone %d 5 ms from %d", phone, i)
		}
	}
}

// TestFirstWordOfAMixIsWhole: when a second voice begins, nothing of its beginning is missing.
func TestFirstWordOfAMixIsWhole(t *testing.T) {
	for _, begun := range []bool{true, false} {
		k := newConference(t, 1, 2)
		one := k.webs[0].pause()
		if begun {
			one = k.webs[0].speaker(440, -30)
		}
		k.run(100, one, k.webs[1].pause())
		from := len(k.ears[0].got)
		k.run(60, one, k.webs[1].word(audio.Tone(1500, -20, 48000, 200*time.Millisecond)))
		heard := lasts(k.ears[0].pcm(media.PCMU)[from*160:], 1500, -26)
		require.InDelta(t, 200, heard, 15, "ms of the word were heard; another voice spoke: %v", begun)
	}
}

// TestFirstPacketOfAWordIsHeardByAll: a browser begins to speak while one phone does. That phone has heard it directly until then, or
// not; the other one hears both. Of the word's first packet nothing is missing, and nothing comes twice.
func TestFirstPacketOfAWordIsHeardByAll(t *testing.T) {
	word := slices.Concat(audio.Tone(2600, -20, 48000, 20*time.Millisecond), audio.Tone(1500, -20, 48000, 200*time.Millisecond))
	for _, direct := range []bool{true, false} {
		k := newConference(t, 2, 2)
		speaks := newPhoneVoice(media.PCMU).speaker(k.phones[0], k.c, 440, -30)
		if direct {
			k.run(50, k.webs[0].pause(), k.webs[1].speaker(1500, -20))
			k.run(100, k.webs[0].pause(), k.webs[1].pause())
		}
		for round := range 3 {
			k.run(100, speaks, k.webs[0].pause(), k.webs[1].pause())
			require.Equal(t, direct && round == 0, k.phones[0].down.picked == k.phones[0].inputs[k.webs[1].src])
			from := []int{len(k.ears[0].got), len(k.ears[1].got)}
			k.run(60, speaks, k.webs[0].pause(), k.webs[1].word(word))
			for i, ear := range k.ears {
				heard := lasts(ear.pcm(media.PCMU)[from[i]*160:], 2600, -29)
				require.InDelta(t, 20, heard, 10, "ms of the first packet at phone %d, round %d, heard directly before: %v", i, round, direct)
			}
		}
	}
}

// TestVoicesOfTheMixAreEncodedOnce: phones that say nothing get the same bytes, which were made once.
func TestVoicesOfTheMixAreEncodedOnce(t *testing.T) {
	k := newConference(t, 5, 3)
	var says []func()
	for i, w := range k.webs {
		says = append(says, w.speaker(float64(500+300*i), -25))
	}
	k.run(50, says...)
	m := k.phones[0].down.mix
	encoded := func() (n uint64) {
		for _, b := range k.phones {
			n += b.down.coder.packets
		}
		return n + m.codes.coders[0].packets
	}
	before := encoded()
	k.run(50, says...)
	require.EqualValues(t, 50, encoded()-before, "once for all phones")
	for i, b := range k.phones {
		require.True(t, b.down.mixing, i)
		require.Equal(t, k.ears[0].got[len(k.ears[0].got)-50:], func() []sentPacket {
			got := k.ears[i].got[len(k.ears[i].got)-50:]
			out := make([]sentPacket, len(got))
			for j, p := range got {
				p.ts = k.ears[0].got[len(k.ears[0].got)-50+j].ts
				out[j] = p
			}
			return out
		}(), "phone %d hears the same bytes", i)
	}
	require.Equal(t, m.codes.coded[0], k.ears[4].got[len(k.ears[4].got)-1].payload)
}

// TestOnlyVoicesAreDecoded: where browsers say how loud their packets are, those that are quiet cost nothing, and a word
// after a pause is whole.
func TestOnlyVoicesAreDecoded(t *testing.T) {
	k := newConference(t, 3, 10)
	loud := make([]uint8, len(k.webs))
	var says []func()
	for i, w := range k.webs {
		w.track.LevelID = 3
		tone, at := audio.Tone(float64(500+150*i), -20, 48000, time.Second), 0
		says = append(says, func() {
			pcm, level := make([]int16, 960), uint8(90)
			if loud[i] > 0 {
				copy(pcm, tone[at:])
				level = 20
			}
			at = (at + 960) % len(tone)
			p := w.make(pcm)
			require.NoError(t, p.SetExtension(3, []byte{level}))
			w.track.WriteRTP(p)
		})
	}
	loud[2], loud[5] = 1, 1
	k.run(100, says...)
	decoded := func() (all uint64) {
		for _, w := range k.webs {
			all += k.e.feeds[w.track].decoder.decoded.Load()
		}
		return all
	}
	before := decoded()
	k.run(100, says...)
	require.EqualValues(t, 200, decoded()-before, "two speak, for 100 packets")
	loud[5], loud[7] = 0, 1
	from := len(k.ears[0].got)
	k.run(100, says...)
	pcm := k.ears[0].pcm(media.PCMU)[from*160:]
	require.InDelta(t, -20, audio.Goertzel(pcm[:8000], 8000, 500+150*7), 1.5)
	require.InDelta(t, -20, audio.Goertzel(pcm[8000:], 8000, 500+150*2), 1.5)
}

// TestVoiceThatBreaksOff: whoever vanishes in the middle of a word is not waited for: the one who is left is heard directly.
func TestVoiceThatBreaksOff(t *testing.T) {
	k := newConference(t, 1, 2)
	one, two := k.webs[0].speaker(440, -20), k.webs[1].speaker(610, -20)
	k.run(100, one, two)
	require.True(t, k.phones[0].down.mixing)
	k.run(100, one)
	require.False(t, k.phones[0].down.mixing)
	pcm := k.ears[0].pcm(media.PCMU)
	pcm = pcm[len(pcm)-8000:]
	require.InDelta(t, -20, audio.Goertzel(pcm, 8000, 440), 1)
	require.Less(t, audio.Goertzel(pcm, 8000, 610), -70.0)
	requireSteady(t, k.ears[0].got)
}

// TestBridgesChangeShards: phones that come to hear the same are clocked by one shard, and the ones that clocked them before go
// on meanwhile.
func TestBridgesChangeShards(t *testing.T) {
	e := NewEngine(Config{}, slog.New(slog.DiscardHandler))
	e.shards = make([]shard, 2)
	var phones []*Bridge
	for i := range e.shards {
		e.shards[i].wake = make(chan struct{}, 1)
	}
	for range 4 {
		b, err := e.newBridge(BridgeConfig{Participant: "p", Stream: "s", Media: pcmu}, nobody{})
		require.NoError(t, err)
		phones = append(phones, b)
	}
	var clocks sync.WaitGroup
	done := make(chan struct{})
	for i := range e.shards {
		clocks.Go(func() {
			for at := time.Now(); ; at = at.Add(frameTime) {
				select {
				case <-done:
					return
				default:
					e.shards[i].tick(at)
				}
			}
		})
	}
	moved := false
	for range 100 {
		for i, b := range phones {
			before := b.shard.Load()
			for n := 1; n < len(phones); n++ {
				b.Subscribe(phones[(i+n)%len(phones)].Source())
			}
			moved = moved || b.shard.Load() != before
		}
		for _, b := range phones {
			require.Same(t, phones[0].shard.Load(), b.shard.Load(), "they share a mix")
		}
		for i, b := range phones {
			for n := 1; n < len(phones); n++ {
				b.Unsubscribe(phones[(i+n)%len(phones)].Source())
			}
		}
		phones[0].Close(nil) // the next takes its place on any shard
		b, err := e.newBridge(BridgeConfig{Participant: "p", Stream: "s", Media: pcmu}, nobody{})
		require.NoError(t, err)
		phones = append(phones[1:], b)
	}
	close(done)
	clocks.Wait()
	require.True(t, moved)
	for _, b := range phones {
		b.Close(nil)
	}
	for i := range e.shards {
		require.Zero(t, e.shards[i].bridges.Len())
	}
}

// TestMixRestsUnheard: while a phone hears a sound in place of two voices nothing of them gathers, and then they go on at once.
func TestMixRestsUnheard(t *testing.T) {
	k := newConference(t, 1, 2)
	b, ear := k.phones[0], k.ears[0]
	one, two := k.webs[0].speaker(527.75, -20), k.webs[1].speaker(1403.25, -20)
	k.run(100, one, two)
	require.True(t, b.down.mixing)
	b.Play(Sound{Samples: audio.Tone(1000, -20, narrow, 2*time.Second)})
	k.run(100, one, two)
	require.Zero(t, b.down.mix.delay(), "nothing waits")
	ear.got = nil
	k.run(25, one, two)
	require.Zero(t, b.Stats().Overflow)
	pcm := ear.pcm(media.PCMU)
	for _, hz := range []float64{527.75, 1403.25} {
		require.InDelta(t, -20, audio.Goertzel(pcm[len(pcm)-2400:], narrow, hz), 1, "%v Hz", hz)
	}
}
