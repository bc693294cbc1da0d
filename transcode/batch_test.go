package transcode

import (
	"testing"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// way counts what goes out by it together, and what does not.
type way struct{ corked, together, apart int }

func (w *way) Cork()   { w.corked++ }
func (w *way) Uncork() { w.corked-- }

func (w *way) send() {
	if w.corked > 0 {
		w.together++
	} else {
		w.apart++
	}
}

// wayfarer is a browser that is reached by a way.
type wayfarer struct{ by *way }

func (f *wayfarer) Batch() media.Batch                       { return f.by }
func (f *wayfarer) WriteRTP(*rtp.Packet)                     { f.by.send() }
func (f *wayfarer) WritePlain(_ media.Speech, _ *rtp.Packet) { f.by.send() }

// TestVoiceGoesOutTogether: several browsers have a phone's packet by one system call, encoded for them or as it came.
func TestVoiceGoesOutTogether(t *testing.T) {
	for name, laws := range map[string]media.Laws{"encoded": 0, "plain": media.LawOf(media.PCMU)} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			b, _ := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
			out := &way{}
			for range 3 {
				b.Source().Audio().AddPlain(&wayfarer{out}, laws)
			}
			voice, tone := newPhoneVoice(media.PCMU), audio.Tone(500, -20, 8000, frameTime)
			for range 10 {
				b.up.ReceiveRTP(voice.make(tone), c.now())
				b.tick(c.now())
				c.add(frameTime)
			}
			require.Equal(t, way{together: 30}, *out)
		})
	}
}
