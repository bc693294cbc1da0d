package transcode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// comforted is a phone that agreed to comfort noise.
var comforted = media.PortMedia{Speech: media.PCMU, EventType: 101, Send: true, Receive: true, ComfortType: 13}

// noisyPhone says tones, and describes the noise between them, on a clock that may be wrong.
type noisyPhone struct {
	t     *testing.T
	b     *Bridge
	c     *clock
	voice *phoneVoice
	ear   *opusEar
}

func newNoisyPhone(t *testing.T, law media.Speech) *noisyPhone {
	c := newClock()
	m := comforted
	m.Speech = law
	b, _ := testBridge(t, testEngine(c, Config{}), c, m, nil)
	p := &noisyPhone{t: t, b: b, c: c, voice: newPhoneVoice(law), ear: &opusEar{}}
	b.Source().Audio().Add(p.ear)
	return p
}

// speak says so many frames of a tone.
func (p *noisyPhone) speak(frames int) {
	for range frames {
		p.b.up.ReceiveRTP(p.voice.make(audio.Tone(400, -20, narrow, frameTime)), p.c.now())
		p.c.add(frameTime)
		p.b.tick(p.c.now())
	}
}

// describe sends a description of noise of so many -dBov, which takes the place of a frame.
func (p *noisyPhone) describe(level byte) {
	packet := p.voice.make(make([]int16, frameSamples))
	packet.PayloadType, packet.Payload = 13, []byte{level}
	p.b.up.ReceiveRTP(packet, p.c.now())
}

// wait lets time pass that the phone says nothing in.
func (p *noisyPhone) wait(d time.Duration) {
	for range d / frameTime {
		p.c.add(frameTime)
		p.b.tick(p.c.now())
	}
}

// TestNoiseOfAPhone: between its words a phone is heard with the noise that it describes, until it speaks or there is a hold.
func TestNoiseOfAPhone(t *testing.T) {
	p := newNoisyPhone(t, media.PCMU)
	p.speak(25)
	p.describe(40)
	p.ear.got = nil
	heard := &frames{}
	p.b.up.feed.at(narrow).Add(heard)
	p.wait(time.Second)
	require.InDelta(t, 47, len(p.ear.got), 2, "it goes on, three frames behind")
	const level = -40 + 3.01 // a full-scale sine is 0 dBFS, and 3 dB less than the square that is 0 dBov
	require.InDelta(t, level, audio.Level(heard.pcm), 0.5)
	require.InDelta(t, level, audio.Level(p.ear.pcm(t)[4800:]), 3)
	p.voice.packet.Timestamp += 8000
	p.speak(10)
	p.ear.got = nil
	p.wait(time.Second)
	require.Empty(t, p.ear.got, "it spoke, and has described nothing since")

	for _, held := range []func(*media.PortMedia){
		func(m *media.PortMedia) { m.Send = false },
		func(m *media.PortMedia) { m.Receive = false },
	} {
		p.voice.packet.Timestamp += 8000
		p.describe(40)
		p.wait(time.Second)
		require.NotEmpty(t, p.ear.got)
		m := comforted
		held(&m)
		p.b.Update(m)
		p.ear.got = nil
		p.wait(time.Second)
		require.Empty(t, p.ear.got, "whoever holds, the phone is not there")
		p.b.Update(comforted)
	}
}

// TestNoiseOfAPhoneWithoutACodec: who takes the phone's G.711 as it comes has the noise between its words too, as packets that
// follow each other, and the next words as they come.
func TestNoiseOfAPhoneWithoutACodec(t *testing.T) {
	for _, law := range []media.Speech{media.PCMU, media.PCMA} {
		t.Run(law.String(), func(t *testing.T) {
			p := newNoisyPhone(t, law)
			var ear plainEar
			p.b.Source().Audio().AddPlain(&ear, media.LawOf(law))
			p.speak(25)
			p.describe(40)
			p.wait(time.Second)
			require.InDelta(t, 25+47, len(ear.plain), 2)
			var pcm []int16
			for i, packet := range ear.plain {
				require.Equal(t, uint8(law), packet.PayloadType)
				require.Equal(t, i == 0, packet.Marker)
				require.Equal(t, ear.plain[0].SequenceNumber+uint16(i), packet.SequenceNumber)
				require.Equal(t, ear.plain[0].Timestamp+uint32(i*frameSamples), packet.Timestamp)
				require.Len(t, packet.Payload, frameSamples)
				if i >= 25 {
					said := make([]int16, frameSamples)
					expand(law, said, packet.Payload)
					pcm = append(pcm, said...)
				}
			}
			require.InDelta(t, -40+3.01, audio.Level(pcm), 0.5)

			ear.plain = nil
			p.voice.packet.Timestamp += narrow
			p.speak(10)
			p.wait(time.Second)
			require.Len(t, ear.plain, 10, "it spoke, and has described nothing since")
			require.False(t, ear.plain[1].Marker)
		})
	}
}

// TestNoiseCutsNoWord: a phone whose clock is 200 ppm slow describes its noise for seven minutes; it is heard from the first
// frame of its next words.
func TestNoiseCutsNoWord(t *testing.T) {
	for _, every := range []time.Duration{200 * time.Millisecond, time.Hour} { // repeated, or said once
		p := newNoisyPhone(t, media.PCMU)
		p.speak(25)
		p.describe(50)
		const long = 7 * time.Minute // 84 ms of drift
		begin := p.voice.packet.Timestamp
		for at := min(every, long); at <= long; at += min(every, long) {
			p.wait(min(every, long))
			its := at - at/5000
			p.voice.packet.Timestamp = begin + uint32(its.Milliseconds()*narrow/1000)
			p.describe(50)
		}
		before := p.b.Stats()
		heard := &frames{}
		p.b.up.feed.at(narrow).Add(heard)
		p.speak(10)
		after := p.b.Stats()
		require.Equal(t, before.LateFromPhone, after.LateFromPhone, "%s", every)
		require.Equal(t, 10*frameSamples, heard.samples, "%s", every)
	}
}

// frames keeps what a feed hands out.
type frames struct {
	samples int
	pcm     []int16
}

func (f *frames) hear(fr frame, _ time.Time) {
	f.samples += len(fr.pcm)
	f.pcm = append(f.pcm, fr.pcm...)
}

// TestNoiseToAPhone: a phone that takes descriptions of noise gets them in place of packets of silence, a few at most, and sound
// again with a marker.
func TestNoiseToAPhone(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, comforted, nil)
	w := newBrowser(t, "web", 1)
	b.Subscribe(w.src)
	say := func(n int, pcm []int16) {
		for range n {
			if pcm != nil {
				w.say(pcm)
			}
			c.add(frameTime)
			b.tick(c.now())
		}
	}
	count := func(pt uint8) (n int) {
		for _, p := range ear.got {
			if p.pt == pt {
				n++
			}
		}
		return n
	}
	tone := audio.Tone(400, -20, 48000, frameTime)
	say(50, tone)
	require.Zero(t, count(13))
	ear.got = nil
	say(150, nil)
	require.InDelta(t, 14, count(13), 1, "3 s of silence, one in 0.2 s")
	require.LessOrEqual(t, count(0), 2+comfortAfter+10, "what is made up for the end of the word, and some silence")
	for _, p := range ear.got {
		if p.pt == 13 {
			require.LessOrEqual(t, len(p.payload), 1+comfortOrder)
			require.Greater(t, p.payload[0], byte(50), "-dBov: nothing is to be heard")
		}
	}
	ear.got = nil
	say(10, tone)
	var first sentPacket
	for _, p := range ear.got {
		if p.pt == 0 {
			first = p
			break
		}
	}
	require.True(t, first.marker, "sound begins (RFC 3551 §4.1)")

	m := comforted
	m.ComfortType = 0
	b.Update(m)
	ear.got = nil
	say(100, nil)
	require.Zero(t, count(13))
	require.Greater(t, count(0), 80, "who takes no descriptions gets silence")
}
