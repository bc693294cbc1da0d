package transcode

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// step lets 20 ms pass: every source says its frame, every bridge ticks.
func step(c *clock, bridges []*Bridge, says ...func()) {
	for _, say := range says {
		say()
	}
	for _, b := range bridges {
		b.goOver(c.now())
	}
	for _, b := range bridges {
		b.tick(c.now())
	}
	c.add(frameTime)
}

// speaker says a tone on and on.
func (b *browser) speaker(freq, level float64) func() {
	tone := audio.Tone(freq, level, 48000, loop) // whole periods
	at := 0
	return func() {
		b.say(tone[at : at+960])
		at = (at + 960) % len(tone)
	}
}

func (v *phoneVoice) speaker(b *Bridge, c *clock, freq, level float64) func() {
	tone := audio.Tone(freq, level, 8000, loop)
	at := 0
	return func() {
		b.up.ReceiveRTP(v.make(tone[at:at+160]), c.now())
		at = (at + 160) % len(tone)
	}
}

// requireSteady: a packet every 20 ms, none missing, none twice.
func requireSteady(t *testing.T, got []sentPacket) {
	t.Helper()
	for i := 1; i < len(got); i++ {
		require.EqualValues(t, 160, got[i].ts-got[i-1].ts, "packet %d", i)
	}
}

// Whoever hears two hears their sum, and never himself.
func TestMixOfSeveralVoices(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	a, earA := testBridge(t, e, c, pcmu, nil)
	b, earB := testBridge(t, e, c, pcmu, nil)
	w1, w2 := newBrowser(t, "w1", 1), newBrowser(t, "w2", 2)
	for _, bridge := range []*Bridge{a, b} {
		for _, src := range []*media.Source{a.Source(), b.Source(), w1.src, w2.src} {
			bridge.Subscribe(src)
		}
	}
	says := []func(){
		newPhoneVoice(media.PCMU).speaker(a, c, 500, -20),
		newPhoneVoice(media.PCMU).speaker(b, c, 900, -20),
		w1.speaker(1300, -20),
		w2.speaker(1700, -20),
	}
	for range 150 {
		step(c, []*Bridge{a, b}, says...)
	}
	for _, ear := range []struct {
		*phoneEar
		own, other float64
	}{{earA, 500, 900}, {earB, 900, 500}} {
		requireSteady(t, ear.got)
		pcm := ear.pcm(media.PCMU)
		pcm = pcm[len(pcm)-8000:]
		for _, freq := range []float64{ear.other, 1300, 1700} {
			require.InDelta(t, -20, audio.Goertzel(pcm, 8000, freq), 1, "%v Hz", freq)
		}
		require.Less(t, audio.Goertzel(pcm, 8000, ear.own), -60.0)
	}
	require.Zero(t, a.Stats().Overflow)
	require.Zero(t, a.Stats().LateToPhone)
}

// One tone through the mix is as clean as without.
func TestToneThroughTheMix(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	loud, quiet := newBrowser(t, "loud", 1), newBrowser(t, "quiet", 1)
	b.Subscribe(loud.src)
	b.Subscribe(quiet.src)
	say := loud.speaker(1000, -15)
	for range 150 {
		step(c, []*Bridge{b}, say)
	}
	pcm := ear.pcm(media.PCMU)
	requireTone(t, pcm[len(pcm)-8000:], 8000, 1000, -15)
}

// A browser whose packets come three at a time is heard whole, alone and in the mix.
func TestBurstsAreHeardWhole(t *testing.T) {
	for _, others := range []int{0, 1} {
		c := newClock()
		b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
		web := newBrowser(t, "web", 1)
		b.Subscribe(web.src)
		for range others {
			b.Subscribe(newBrowser(t, "other", 1).src)
		}
		say := web.speaker(1000, -15)
		for i := range 300 {
			if i%3 == 0 {
				say()
				say()
				say()
			}
			step(c, []*Bridge{b})
		}
		pcm := ear.pcm(media.PCMU)
		requireTone(t, pcm[len(pcm)-16000:len(pcm)-800], 8000, 1000, -15)
		require.Zero(t, b.Stats().LateToPhone)
	}
}

// Sources come and go while audio flows: time never goes back (phoneEar sees to it), and no slot is empty or twice.
func TestSubscriptionsChangeWhileAudioFlows(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	b, ear := testBridge(t, e, c, pcmu, nil)
	webs := []*browser{newBrowser(t, "0", 1), newBrowser(t, "1", 1), newBrowser(t, "2", 1)}
	says := []func(){webs[0].speaker(500, -20), webs[1].speaker(900, -20), webs[2].speaker(1300, -20)}
	rnd := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		w := webs[rnd.IntN(3)]
		if rnd.IntN(2) == 0 {
			b.Subscribe(w.src)
			b.Subscribe(w.src)
		} else {
			b.Unsubscribe(w.src)
		}
		for range rnd.IntN(8) {
			c.add(time.Duration(rnd.IntN(2)) * time.Millisecond)
			step(c, []*Bridge{b}, says...)
		}
	}
	requireSteady(t, ear.got)
	// In the end only the third is heard.
	b.Unsubscribe(webs[0].src)
	b.Unsubscribe(webs[1].src)
	b.Subscribe(webs[2].src)
	for range 100 {
		step(c, []*Bridge{b}, says...)
	}
	pcm := ear.pcm(media.PCMU)
	requireTone(t, pcm[len(pcm)-8000:], 8000, 1300, -20)
	b.Unsubscribe(webs[2].src)
	for _, w := range webs {
		require.False(t, w.track.Wanted(), "the decoder stayed")
	}
	require.Len(t, e.feeds, 1, "the phone's own")
}

// A track is decoded once however many phones hear it.
func TestOneDecoderForAllPhones(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	web := newBrowser(t, "web", 1)
	sinks := &countSinks{}
	web.track.Add(sinks)
	var ears []*phoneEar
	var bridges []*Bridge
	for range 5 {
		b, ear := testBridge(t, e, c, pcmu, nil)
		b.Subscribe(web.src)
		bridges, ears = append(bridges, b), append(ears, ear)
	}
	require.Len(t, e.feeds, 6)
	dec := e.feeds[web.track].decoder
	say := web.speaker(1000, -20)
	for range 60 {
		step(c, bridges, say)
	}
	require.Equal(t, 60, sinks.n)
	require.EqualValues(t, 60, e.Decoded())
	for _, ear := range ears {
		requireSamples(t, ears[0].pcm(media.PCMU), ear.pcm(media.PCMU))
	}
	for i, b := range bridges {
		require.Same(t, dec, e.feeds[web.track].decoder)
		if i%2 == 0 {
			b.Unsubscribe(web.src)
		} else {
			b.Close(nil)
		}
	}
	require.NotContains(t, e.feeds, web.track)
	for _, b := range bridges {
		b.Close(nil)
	}
	require.Empty(t, e.feeds)
	require.EqualValues(t, 60, e.Decoded(), "of all times")
}

type countSinks struct{ n int }

func (s *countSinks) WriteRTP(*rtp.Packet) { s.n++ }

// Phones hear each other without Opus between: exactly the samples of the other's G.711.
func TestPhoneToPhoneWithoutOpus(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	alaw := pcmu
	alaw.Speech = media.PCMA
	a, _ := testBridge(t, e, c, pcmu, nil)
	b, earB := testBridge(t, e, c, alaw, nil)
	b.Subscribe(a.Source())
	require.False(t, a.Source().Audio().Wanted(), "nobody takes Opus")
	tone := audio.Tone(1000, -15, 8000, time.Second)
	v := newPhoneVoice(media.PCMU)
	for at := 0; at < len(tone); at += 160 {
		step(c, []*Bridge{a, b}, func() { a.up.ReceiveRTP(v.make(tone[at:at+160]), c.now()) })
	}
	requireTone(t, earB.pcm(media.PCMA)[800:], 8000, 1000, -15)
	// The publisher goes first.
	a.Close(nil)
	b.Unsubscribe(a.Source())
	require.Len(t, e.feeds, 1)
}

func TestLossTowardsThePhoneIsConcealed(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	b, ear := testBridge(t, e, c, pcmu, nil)
	web := newBrowser(t, "web", 1)
	b.Subscribe(web.src)
	tone := audio.Tone(1000, -15, 48000, time.Second)
	var held *rtp.Packet
	for i := range 150 {
		p := web.make(tone[i%50*960 : i%50*960+960])
		switch {
		case i%25 == 10, i%25 == 11 && i > 100: // lost
		case i%25 == 20: // comes after the next
			held = p
		case i%25 == 21:
			web.track.WriteRTP(p)
			web.track.WriteRTP(held)
		default:
			web.track.WriteRTP(p)
			web.track.WriteRTP(p) // twice
		}
		step(c, []*Bridge{b})
	}
	requireSteady(t, ear.got)
	require.EqualValues(t, 6+2+1, e.feeds[web.track].decoder.concealed.Load(), "but for the first, those that come late find their place")
	require.LessOrEqual(t, b.Stats().Fillers, uint64(3))
	pcm := ear.pcm(media.PCMU)
	require.InDelta(t, -15, audio.Level(pcm[8000:]), 1)
	for at := 8000; at+160 <= len(pcm)-800; at += 160 {
		require.Greater(t, audio.Level(pcm[at:at+160]), -25.0, "a hole at %d", at)
	}
}

// The copy of a lost frame that the next packet carries is played in its place: a syllable that was lost whole is heard,
// however many were lost with it.
func TestLostFrameIsTakenFromTheNextPacket(t *testing.T) {
	level := func(fec bool, lost int) float64 {
		c := newClock()
		b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
		web := newBrowser(t, "web", 1)
		var err error
		web.enc, err = opus.NewEncoder(48000, 1, opus.AppVoIP)
		require.NoError(t, err)
		require.NoError(t, web.enc.SetBitrate(20000))
		require.NoError(t, web.enc.SetMaxBandwidth(opus.Wideband))
		require.NoError(t, web.enc.SetInBandFEC(fec))
		require.NoError(t, web.enc.SetPacketLossPerc(30))
		b.Subscribe(web.src)
		tone := audio.Tone(500, -10, 48000, frameTime)
		faint := audio.Tone(500, -60, 48000, frameTime)
		for i := range 60 {
			pcm := faint
			if i == 40 {
				pcm = tone
			}
			if p := web.make(pcm); i > 40 || i <= 40-lost {
				web.track.WriteRTP(p)
			}
			step(c, []*Bridge{b})
		}
		pcm := ear.pcm(media.PCMU)
		return audio.Level(pcm[len(pcm)-22*160:])
	}
	for _, lost := range []int{1, 2, 4, 9} {
		require.Greater(t, level(true, lost), level(false, lost)+10, "%d lost", lost)
	}
}

// Where a packet carries no copy, nothing is made up behind a long loss: a voice of long ago would come out of the silence.
func TestLongLossWithoutACopyIsSilent(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	b, _ := testBridge(t, e, c, pcmu, nil)
	web := newBrowser(t, "web", 1)
	b.Subscribe(web.src)
	say := web.speaker(500, -10)
	for range 20 {
		step(c, []*Bridge{b}, say)
	}
	for range 10 {
		web.make(make([]int16, 960))
		step(c, []*Bridge{b})
	}
	step(c, []*Bridge{b}, say)
	require.Zero(t, e.feeds[web.track].decoder.concealed.Load())
}

func TestHoldSendsNothingAndGoesOnInTime(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	web := newBrowser(t, "web", 1)
	b.Subscribe(web.src)
	say := web.speaker(1000, -15)
	for range 50 {
		step(c, []*Bridge{b}, say)
	}
	n, last := len(ear.got), ear.got[len(ear.got)-1].ts
	hold := pcmu
	hold.Send = false
	b.Update(hold)
	for range 15 * 60 * 50 { // a quarter of an hour
		step(c, []*Bridge{b})
	}
	require.Len(t, ear.got, n)
	alaw := pcmu
	alaw.Speech = media.PCMA
	b.Update(alaw)
	for range 100 {
		step(c, []*Bridge{b}, say)
	}
	require.InDelta(t, 900*8000, ear.got[n].ts-last, 1600)
	require.True(t, ear.got[n].marker)
	requireTone(t, ear.pcm(media.PCMA)[900*8000+16000:], 8000, 1000, -15)
}

// keysOf reads the events a phone got, as "5x12" for a key of 12 packets.
func keysOf(t *testing.T, got []sentPacket) (digits string, durations []int) {
	t.Helper()
	var last *sentPacket
	ends := 0
	for i, p := range got {
		d := int(binary.BigEndian.Uint16(p.payload[2:])) + int(p.key.Past)
		end := p.payload[1]&0x80 != 0
		if last == nil || p.ts != last.ts {
			require.True(t, p.marker)
			require.True(t, last == nil || ends == 3, "a key begins before the last one ended")
			digits += string("0123456789*#ABCD"[p.payload[0]])
			durations = append(durations, d)
			ends = 0
		} else {
			require.False(t, p.marker)
			require.GreaterOrEqual(t, d, durations[len(durations)-1])
			durations[len(durations)-1] = d
		}
		if end {
			ends++
		}
		last = &got[i]
	}
	require.Equal(t, 3, ends)
	return digits, durations
}

func TestKeysGoToThePhone(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	b, ear := testBridge(t, e, c, pcmu, nil)
	web := newBrowser(t, "web", 1)
	b.Subscribe(web.src)
	say := web.speaker(1000, -15)
	run := func(n int) {
		for range n {
			step(c, []*Bridge{b}, say)
		}
	}
	key := func(d byte, ended bool) { web.src.WriteKey(media.Key{Digit: d, Ended: ended}) }
	run(50)
	key('5', false)
	run(10)
	key('5', true)
	run(20)
	key('#', false) // its end is lost; another key follows
	run(6)
	key('1', false)
	key('1', true)
	key('1', true)  // once too much
	key('x', false) // no key
	run(30)
	key('9', false) // its end is lost for good
	run(1600)
	digits, durations := keysOf(t, ear.events())
	require.Equal(t, "5#19", digits)
	require.Equal(t, []int{11 * 160, 7 * 160, 4 * 160, 30 * 8000}, durations)

	// In real time, and no audio inside a key.
	for i, p := range ear.got {
		if p.pt == 101 && !p.marker {
			require.Equal(t, ear.got[i-1].ts, p.ts)
			require.Equal(t, frameTime, p.at.Sub(ear.got[i-1].at))
		}
	}
	require.NotZero(t, b.Stats().Suppressed)
	pcm := ear.pcm(media.PCMU)
	requireTone(t, pcm[len(pcm)-3200:], 8000, 1000, -15)
	require.Zero(t, b.Stats().LateToPhone)
}

func TestKeysAreBounded(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	web := newBrowser(t, "web", 1)
	b.Subscribe(web.src)
	for i := range 1000 {
		web.src.WriteKey(media.Key{Digit: byte('0' + i/2%10), Ended: i%2 == 1})
	}
	require.EqualValues(t, keyQueue, b.down.queued)
	require.EqualValues(t, 1000-keyQueue, b.Stats().KeysLost)
	for range 500 {
		step(c, []*Bridge{b})
	}
	digits, _ := keysOf(t, ear.events())
	require.Equal(t, "012345678901", digits)

	// A phone without telephone-event gets none: it hears the key instead.
	none := pcmu
	none.EventType = -1
	b.Update(none)
	n := len(ear.events())
	web.src.WriteKey(media.Key{Digit: '1'})
	for range 10 {
		step(c, []*Bridge{b})
	}
	web.src.WriteKey(media.Key{Digit: '1', Ended: true})
	for range 10 {
		step(c, []*Bridge{b})
	}
	require.Len(t, ear.events(), n)
	require.Equal(t, "1", heardKeys(ear.pcm(media.PCMU)))

	// Nor does one that has left.
	b.Update(pcmu)
	b.Unsubscribe(web.src)
	web.src.WriteKey(media.Key{Digit: '1'})
	step(c, []*Bridge{b})
	require.Len(t, ear.events(), n)
}

// A mix goes on after a key without what was said meanwhile.
func TestKeysDuringAMix(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	w1, w2 := newBrowser(t, "w1", 1), newBrowser(t, "w2", 1)
	b.Subscribe(w1.src)
	b.Subscribe(w2.src)
	says := []func(){w1.speaker(500, -20), w2.speaker(900, -20)}
	for i := range 200 {
		if i == 50 || i == 100 {
			w2.src.WriteKey(media.Key{Digit: 'A', Ended: i == 100})
		}
		step(c, []*Bridge{b}, says...)
	}
	digits, _ := keysOf(t, ear.events())
	require.Equal(t, "A", digits)
	for _, v := range b.down.mix.voices {
		require.LessOrEqual(t, v.playout.Delay(), 800)
	}
	pcm := ear.pcm(media.PCMU)
	require.InDelta(t, -20, audio.Goertzel(pcm[len(pcm)-8000:], 8000, 900), 1)
}

// Nothing that a browser sends can hurt.
func FuzzOpusToPhone(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0xfc, 1, 3, 1, 2, 3, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newClock()
		bridge, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
		tracks := []*media.Track{
			media.NewTrack("1", media.Audio, media.BrowserOpus(), nil),
			media.NewTrack("2", media.Audio, media.BrowserOpus(), nil),
		}
		srcs := []*media.Source{{Tracks: tracks[:1]}, {Tracks: tracks[1:]}}
		bridge.Subscribe(srcs[0])
		p := rtp.Packet{Header: rtp.Header{Version: 2}}
		for len(b) >= 4 {
			n := min(int(b[0]), len(b)-4)
			p.SequenceNumber += uint16(int8(b[1]))
			p.Timestamp += uint32(int8(b[2])) << (b[3] % 32)
			p.SSRC = uint32(b[3] >> 7)
			p.Payload = slices.Clone(b[4 : 4+n])
			tracks[b[3]%2].WriteRTP(&p)
			if b[3]&16 != 0 {
				bridge.Subscribe(srcs[1])
			} else if b[3]&32 != 0 {
				bridge.Unsubscribe(srcs[1])
			}
			step(c, []*Bridge{bridge})
			b = b[4+n:]
		}
		for _, k := range ear.got {
			if len(k.payload) != frameSamples {
				t.Fatalf("a packet of %d bytes", len(k.payload))
			}
		}
	})
}
