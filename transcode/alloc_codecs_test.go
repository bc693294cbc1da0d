package transcode

import (
	"testing"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// plainDiscard is a browser that takes the phone's own packets.
type plainDiscard struct{ discard }

func (d *plainDiscard) WritePlain(media.Speech, *rtp.Packet) { d.packets++ }

// toneSpeaker lets a phone say a tone, 20 ms a time, from packets that were made before.
func toneSpeaker(t *testing.T, b *Bridge, c *clock, m media.PortMedia, freq float64) func() {
	t.Helper()
	if m.Speech == media.G722 || m.Speech == media.Opus {
		return wideSpeaker(t, b, c, m.Speech, freq, -20)
	}
	voice := newPhoneVoice(m.Speech)
	packet := voice.make(audio.Tone(freq, -20, narrow, frameTime))
	return func() {
		b.up.ReceiveRTP(packet, c.now())
		packet.SequenceNumber++
		packet.Timestamp += frameSamples
	}
}

// deafBridge is the bridge of a phone that keeps nothing of what it hears.
func deafBridge(t *testing.T, e *Engine, m media.PortMedia) (*Bridge, *discard) {
	t.Helper()
	ear := &discard{}
	b, err := e.newBridge(BridgeConfig{Media: m}, ear)
	require.NoError(t, err)
	t.Cleanup(func() { b.Close(nil) })
	return b, ear
}

// TestNoAllocationInAnyCodec: whatever a phone speaks and another one hears, alone and in a mix, beside browsers.
func TestNoAllocationInAnyCodec(t *testing.T) {
	pcma := withLaw(media.PCMA)
	for _, says := range []media.PortMedia{pcmu, pcma, g722Phone, opusPhone} {
		for _, hears := range []media.PortMedia{pcmu, pcma, g722Phone, opusPhone, comforted} {
			for voices := 1; voices <= 2; voices++ {
				name := says.Speech.String() + " to " + hears.Speech.String() + []string{"", "", ", mixed"}[voices]
				if hears.ComfortType != 0 {
					name += ", with comfort noise"
				}
				t.Run(name, func(t *testing.T) {
					c := newClock()
					e := testEngine(c, Config{})
					var web discard
					listener, ear := deafBridge(t, e, hears)
					var say []func()
					all := []*Bridge{listener}
					for i := range voices {
						b, _ := deafBridge(t, e, says)
						b.Source().Audio().Add(&web)
						listener.Subscribe(b.Source())
						say = append(say, toneSpeaker(t, b, c, says, []float64{450, 700}[i]))
						all = append(all, b)
					}
					one := func() {
						for _, s := range say {
							s()
						}
						c.add(frameTime)
						for _, b := range all {
							b.tick(c.now())
						}
					}
					for range 50 { // a mix begins, its buffers are made
						one()
					}
					before := []int{ear.packets, web.packets}
					require.Zero(t, testing.AllocsPerRun(200, one))
					require.InDelta(t, 201, ear.packets-before[0], 1)
					require.Equal(t, 201*voices, web.packets-before[1])
					if voices == 2 {
						require.True(t, listener.down.mixes(), "no mix was made")
					}
				})
			}
		}
	}
}

// TestNoAllocationPerDescription: comfort noise both ways (RFC 3389), a description each 200 ms, and what is heard between them.
func TestNoAllocationPerDescription(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	var web discard
	var plain plainDiscard
	noisy, _ := deafBridge(t, e, comforted)
	noisy.Source().Audio().Add(&web)
	noisy.Source().Audio().AddPlain(&plain, media.LawOf(comforted.Speech))
	listener, ear := deafBridge(t, e, comforted)
	listener.Subscribe(noisy.Source())
	word := newPhoneVoice(media.PCMU).make(audio.Tone(450, -20, narrow, frameTime))
	noise := word.Clone()
	noise.PayloadType, noise.Payload = comforted.ComfortType, []byte{40}
	i := 0
	one := func() {
		p := noise
		if i%50 < 10 {
			p = word
		}
		if p == word || i%10 == 0 {
			p.SequenceNumber, p.Timestamp = word.SequenceNumber+1, uint32(i*frameSamples)
			word.SequenceNumber = p.SequenceNumber
			noisy.up.ReceiveRTP(p, c.now())
		}
		i++
		c.add(frameTime)
		noisy.tick(c.now())
		listener.tick(c.now())
	}
	for range 100 {
		one()
	}
	before := []int{web.packets, ear.packets, plain.packets}
	require.Zero(t, testing.AllocsPerRun(200, one))
	require.Greater(t, web.packets-before[0], 150, "the noise is heard too")
	require.Greater(t, ear.packets-before[1], 40)
	require.Greater(t, plain.packets-before[2], 150)
}

// TestNoAllocationOfPlainPackets: who takes a phone's packets as they come.
func TestNoAllocationOfPlainPackets(t *testing.T) {
	for _, law := range []media.Speech{media.PCMU, media.PCMA} {
		c := newClock()
		b, _ := deafBridge(t, testEngine(c, Config{}), withLaw(law))
		var ear plainDiscard
		b.Source().Audio().AddPlain(&ear, media.LawOf(law))
		say := toneSpeaker(t, b, c, withLaw(law), 450)
		require.Zero(t, testing.AllocsPerRun(200, func() {
			say()
			c.add(frameTime)
			b.tick(c.now())
		}))
		require.Equal(t, 201, ear.packets)
	}
}
