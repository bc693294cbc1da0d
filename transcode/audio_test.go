package transcode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// requireTone measures samples: the tone is there, at its pitch and level, and little else.
func requireTone(t *testing.T, pcm []int16, rate int, freq, level float64) {
	t.Helper()
	require.InDelta(t, freq, audio.Frequency(pcm, rate), 5)
	require.InDelta(t, level, audio.Level(pcm), 1)
	require.GreaterOrEqual(t, audio.SNR(pcm, rate, freq), 20.0)
}

func TestToneFromPhoneToBrowser(t *testing.T) {
	for _, law := range []media.Speech{media.PCMU, media.PCMA} {
		for _, ptime := range []int{80, 160, 240, 320, 480} {
			c := newClock()
			m := pcmu
			m.Speech = law
			b, _ := testBridge(t, testEngine(c, Config{}), c, m, nil)
			ear := &opusEar{}
			b.Source().Audio().Add(ear)
			voice := newPhoneVoice(law)
			tone := audio.Tone(1000, -15, 8000, 2*time.Second)
			for at := 0; at+ptime <= len(tone); at += ptime {
				b.up.ReceiveRTP(voice.make(tone[at:at+ptime]), c.now())
				c.add(time.Duration(ptime) * time.Second / 8000)
			}
			pcm := ear.pcm(t)
			require.InDelta(t, len(tone)*6, len(pcm), 2*960)
			requireTone(t, pcm[24000:], 48000, 1000, -15)
		}
	}
}

func TestToneFromBrowserToPhone(t *testing.T) {
	for _, law := range []media.Speech{media.PCMU, media.PCMA} {
		for _, channels := range []int{1, 2} {
			for _, size := range []int{120, 240, 480, 960, 1920, 2880} { // 2.5 to 60 ms
				c := newClock()
				m := pcmu
				m.Speech = law
				b, ear := testBridge(t, testEngine(c, Config{}), c, m, nil)
				web := newBrowser(t, "web", channels)
				b.Subscribe(web.src)
				tone := audio.Tone(1000, -15, 48000, 2*time.Second)
				for at := 0; at+size <= len(tone); at += size {
					web.say(tone[at : at+size])
					c.add(time.Duration(size) * time.Second / 48000)
				}
				pcm := ear.pcm(law)
				require.InDelta(t, len(tone)/6, len(pcm), 480)
				requireTone(t, pcm[4000:], 8000, 1000, -15)
				require.Zero(t, b.Stats().Fillers)
			}
		}
	}
}
