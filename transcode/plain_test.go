package transcode

import (
	"slices"
	"testing"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// plainEar is who takes G.711 as it comes.
type plainEar struct {
	opusEar
	plain []*rtp.Packet
}

func (e *plainEar) WritePlain(_ media.Speech, p *rtp.Packet) { e.plain = append(e.plain, p.Clone()) }

func withLaw(s media.Speech) media.PortMedia {
	m := pcmu
	m.Speech = s
	return m
}

// TestPlainIsUntouched: who takes a phone's law has its packets, byte for byte, with what is lost as a gap; nothing is
// decoded or encoded for that. Others have Opus.
func TestPlainIsUntouched(t *testing.T) {
	for _, law := range []media.Speech{media.PCMU, media.PCMA} {
		t.Run(law.String(), func(t *testing.T) {
			c := newClock()
			b, _ := testBridge(t, testEngine(c, Config{}), c, withLaw(law), nil)
			var ear plainEar
			b.Source().Audio().AddPlain(&ear, media.LawOf(law))
			voice := newPhoneVoice(law)
			var said []*rtp.Packet
			say := func(n int) {
				for i := range n {
					p := voice.make(make([]int16, frameSamples))
					for k := range p.Payload { // every code word there is
						p.Payload[k] = byte(k + i*7)
					}
					if i%10 != 7 {
						b.up.ReceiveRTP(p, c.now())
						said = append(said, p)
					}
					b.tick(c.now())
					c.add(frameTime)
				}
			}
			say(50)
			require.Nil(t, b.up.opus, "an encoder")
			require.Zero(t, b.up.feed.rate, "decoded")
			require.Empty(t, ear.got)
			require.Len(t, ear.plain, len(said))
			for i := range said {
				require.Equal(t, said[i].Payload, ear.plain[i].Payload)
				require.Equal(t, uint8(law), ear.plain[i].PayloadType)
				require.Equal(t, i == 0, ear.plain[i].Marker)
				require.Equal(t, said[i].SequenceNumber-said[0].SequenceNumber, ear.plain[i].SequenceNumber-ear.plain[0].SequenceNumber)
				require.Equal(t, said[i].Timestamp-said[0].Timestamp, ear.plain[i].Timestamp-ear.plain[0].Timestamp)
			}

			var web, other plainEar
			b.Source().Audio().Add(&web)
			b.Source().Audio().AddPlain(&other, media.LawOf(media.PCMU+media.PCMA-law))
			said, ear.plain = nil, nil
			say(20)
			require.Len(t, ear.plain, len(said))
			require.Empty(t, ear.got)
			require.Len(t, web.got, len(said))
			require.Len(t, other.got, len(said), "of the other law")
			require.Empty(t, other.plain)
			b.Source().Audio().Remove(&ear)
			say(5)
			require.Len(t, ear.plain, 18)
		})
	}
}

// TestPlainFollowsThePhone: a phone that changes its codec in the call is heard in what fits each listener.
func TestPlainFollowsThePhone(t *testing.T) {
	c := newClock()
	b, _ := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	var both, one plainEar
	b.Source().Audio().AddPlain(&both, media.LawOf(media.PCMU)|media.LawOf(media.PCMA))
	b.Source().Audio().AddPlain(&one, media.LawOf(media.PCMU))
	for _, step := range []struct {
		speech             media.Speech
		bothPlain, onePlan int
	}{{media.PCMU, 10, 10}, {media.PCMA, 10, 0}, {media.G722, 0, 0}, {media.PCMU, 10, 10}} {
		b.Update(withLaw(step.speech))
		both, one = plainEar{}, plainEar{}
		voice := newPhoneVoice(step.speech)
		for range 10 {
			p := voice.make(make([]int16, frameSamples))
			b.up.ReceiveRTP(p, c.now())
			c.add(frameTime)
		}
		require.Len(t, both.plain, step.bothPlain, step.speech.String())
		require.Len(t, both.got, 10-step.bothPlain, step.speech.String())
		require.Len(t, one.plain, step.onePlan, step.speech.String())
		require.Len(t, one.got, 10-step.onePlan, step.speech.String())
	}
}

// TestPlainHasNoKeys: a key is told once, and is not heard beside that, whether it comes as events or as a tone.
func TestPlainHasNoKeys(t *testing.T) {
	u := newUpstream(t)
	u.b.Source().Audio().Remove(u.ear)
	var ear plainEar
	u.b.Source().Audio().AddPlain(&ear, media.LawOf(media.PCMU))
	u.say(5)
	ts := u.voice.packet.Timestamp
	for held := range uint16(5) {
		u.take(u.event(ts, 5, held == 4, 160*(held+1)))
		u.take(u.next(160)) // a phone that sends its sound all the same
		u.c.add(frameTime)
	}
	u.say(5)
	require.Len(t, u.keys, 2)
	require.Len(t, ear.plain, 5+5+1, "the sound that came while the key was down is not passed on")
	for _, p := range ear.plain {
		require.Equal(t, uint8(media.PCMU), p.PayloadType)
	}

	m := pcmu
	m.InBand = true
	u.b.Update(m)
	ear.plain, u.keys = nil, nil
	tone := audio.Mix(audio.Tone(770, -12, 8000, 1e9), audio.Tone(1477, -12, 8000, 1e9)) // 6
	for i := range 25 {
		u.take(u.voice.make(tone[i*160 : (i+1)*160]))
		u.c.add(frameTime)
	}
	u.say(10)
	require.Len(t, u.keys, 2)
	require.Len(t, ear.plain, 35, "time goes on")
	silence := slices.Repeat([]byte{0xff}, 160)
	quiet := 0
	for _, p := range ear.plain[:25] {
		if slices.Equal(p.Payload, silence) {
			quiet++
		}
	}
	require.GreaterOrEqual(t, quiet, 20, "the tone is taken out")
}

// lawBrowser is a browser that publishes G.711.
func lawBrowser(law media.Speech) (*media.Source, *media.Track) {
	track := media.NewTrack("audio", media.Audio, media.Codec{MimeType: "audio/" + law.String(), ClockRate: 8000}, nil)
	return &media.Source{Participant: "w", Stream: "w", Tracks: []*media.Track{track}}, track
}

// TestPhonesHearG711OfBrowsers: a phone of the same law has the packets as they are, one of another codec has them
// expanded and compressed, and so has a mix. No Opus is in it.
func TestPhonesHearG711OfBrowsers(t *testing.T) {
	for _, law := range []media.Speech{media.PCMU, media.PCMA} {
		t.Run(law.String(), func(t *testing.T) {
			c := newClock()
			e := testEngine(c, Config{})
			same, sameEar := testBridge(t, e, c, withLaw(law), nil)
			other, otherEar := testBridge(t, e, c, withLaw(media.PCMU+media.PCMA-law), nil)
			better, betterEar := testBridge(t, e, c, g722Phone, nil)
			src, track := lawBrowser(law)
			for _, b := range []*Bridge{same, other, better} {
				b.Subscribe(src)
			}
			voice := newPhoneVoice(law)
			tone := audio.Tone(1000, -15, 8000, 1e9)
			var said [][]byte
			say := func() {
				i := len(said) % 50
				p := voice.make(tone[i*160 : (i+1)*160])
				p.Payload[3] = 0x7f // the second zero of PCMU does not survive its codec
				said = append(said, p.Payload)
				track.WriteRTP(p)
			}
			for range 50 {
				step(c, []*Bridge{same, other, better}, say)
			}
			require.Nil(t, e.feeds[track].decoder.opus)
			require.Len(t, sameEar.got, len(said))
			for i := range said {
				require.Equal(t, said[i], sameEar.got[i].payload)
			}
			pcm := otherEar.pcm(media.PCMU + media.PCMA - law)
			require.InDelta(t, -15, audio.Goertzel(pcm[len(pcm)-4000:], narrow, 1000), 1)
			pcm = wideSound(t, betterEar, media.G722)
			require.InDelta(t, -15, audio.Goertzel(pcm[len(pcm)-8000:], wide, 1000), 1)

			second := newBrowser(t, "second", 1)
			same.Subscribe(second.src)
			sameEar.got = nil
			speak := second.speaker(600, -15)
			for range 100 {
				step(c, []*Bridge{same, other, better}, say, speak)
			}
			pcm = sameEar.pcm(law)
			require.InDelta(t, -15, audio.Goertzel(pcm[len(pcm)-4000:], narrow, 1000), 1.5)
			require.InDelta(t, -15, audio.Goertzel(pcm[len(pcm)-4000:], narrow, 600), 1.5)

			same.Mute(second.src, true)
			same.Mute(src, true)
			sameEar.got = nil
			for range 60 {
				step(c, []*Bridge{same}, say, speak)
			}
			pcm = sameEar.pcm(law)
			require.Less(t, audio.Level(pcm[len(pcm)-4000:]), -60.0, "muted")
		})
	}
}
