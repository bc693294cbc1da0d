package transcode

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// hear takes so many samples of sound, in packets of size.
func (u *upstream) hear(pcm []int16, size int) {
	for ; len(pcm) >= size; pcm = pcm[size:] {
		u.take(u.voice.make(pcm[:size]))
		u.c.add(time.Duration(size) * time.Second / narrow)
	}
}

// silences are what a phone sends that nobody hears.
func silences() map[string][]int16 {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func(make func() int16) []int16 {
		pcm := nothing(3 * narrow)
		for i := range pcm {
			pcm[i] = make()
		}
		return pcm
	}
	return map[string][]int16{
		"nothing":          nothing(3 * narrow),
		"a step of noise":  noise(func() int16 { return int16(8 * (rng.IntN(3) - 1)) }),
		"noise of -72 dB":  noise(func() int16 { return int16(32768 * 0.00025 * rng.NormFloat64()) }),
		"a tone of -70 dB": audio.Tone(440, -70, narrow, 3*time.Second),
	}
}

func nothing(n int) []int16 { return make([]int16, n) }

// TestSilenceOfThePhoneIsNotSent: a phone that is silent costs its listeners next to no packets, and none is missing to them.
func TestSilenceOfThePhoneIsNotSent(t *testing.T) {
	const packets = 25 + 7 // half a second, then one in 400 ms of 2.5 s
	for _, law := range []media.Speech{media.PCMU, media.PCMA} {
		for name, silence := range silences() {
			for _, size := range []int{80, 160, 240, 480} {
				u := newUpstream(t)
				m := pcmu
				m.Speech = law
				u.b.Update(m)
				u.voice.law, u.voice.packet.PayloadType = law, uint8(law)
				word := audio.Tone(1000, -15, narrow, 240*time.Millisecond)
				u.hear(word, size)
				spoken := len(u.ear.got)
				require.Equal(t, 12, spoken)
				u.hear(silence, size)
				require.Equal(t, spoken+packets, len(u.ear.got), "%s, %s, packets of %d", law, name, size)
				before := u.ear.got[spoken+24]
				for i, p := range u.ear.got[spoken+25:] {
					require.Equal(t, []byte{before.Payload[0] &^ 3}, p.Payload, "it has no frame")
					require.EqualValues(t, 960+20*960*i, p.Timestamp-before.Timestamp)
					require.False(t, p.Marker)
				}
				u.hear(word, size)
				require.Equal(t, spoken+packets+1+12, len(u.ear.got), "the silence before it, and the word")
				first := u.ear.got[spoken+packets]
				require.True(t, first.Marker, "a word begins (RFC 3551 §4.1)")
				require.Greater(t, len(first.Payload), 1)
				require.EqualValues(t, (12+150-1)*960, first.Timestamp-u.ear.got[0].Timestamp)
				seqs, times := u.steps()
				require.Equal(t, repeat(1, len(seqs)), seqs, "nothing was lost")
				require.Equal(t, repeat(1, 12), times[spoken+packets:])
				require.False(t, u.ear.got[spoken+packets+1].Marker)
				requireWord(t, u.ear.pcm(t)[(12+150)*960:])
			}
		}
	}
}

// requireWord finds a tone of 1 kHz that is there from the beginning.
func requireWord(t *testing.T, pcm []int16) {
	t.Helper()
	const held = 48 * 13 / 2 // by a decoder, in the mode for speech
	for at := held; at+480 <= 960*6; at += 480 {
		require.InDelta(t, -15, audio.Goertzel(pcm[at:at+480], 48000, 1000), 2, "%d ms after the onset", at/48)
	}
}

// TestWordAfterSilence is whole in both modes of Opus, wherever it begins; a frame without any is not sent twice.
func TestWordAfterSilence(t *testing.T) {
	for name, lost := range map[string]float64{"low delay": 0, "for speech": 0.1} {
		for frames := 26; frames < 47; frames++ {
			u := newUpstream(t)
			u.hear(audio.Tone(300, -15, narrow, 2*time.Second), 160)
			u.b.Source().Audio().ReportLoss(u.ear, lost)
			u.hear(audio.Tone(300, -15, narrow, 2*time.Second), 160)
			u.hear(nothing(frames*160), 160)
			u.hear(audio.Tone(1000, -15, narrow, 240*time.Millisecond), 160)
			_, times := u.steps()
			require.Equal(t, 1, slices.Min(times), "%s, %d", name, frames)
			if twice := (frames-26)%20 == 0; !twice || lost == 0 {
				requireWord(t, u.ear.pcm(t)[(200+frames)*960:])
			}
		}
	}
}

// TestSoftSoundIsSent: what somebody may hear is not silence, however long it lasts, and a soft beginning is not cut off.
func TestSoftSoundIsSent(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	room := nothing(3 * narrow)
	for i := range room {
		room[i] = int16(32768 * 0.0007 * rng.NormFloat64()) // -60 dBFS
	}
	for name, soft := range map[string][]int16{"a room": room, "a voice of -50 dB": audio.Tone(300, -50, narrow, 3*time.Second)} {
		u := newUpstream(t)
		u.hear(soft, 160)
		require.Len(t, u.ear.got, 150, name)
	}
	last := audio.Tone(300, -50, narrow, 10*time.Millisecond)[:10]
	for name, begin := range map[string][]int16{"its first millisecond": last, "its first edge": {80, -80}} {
		u := newUpstream(t)
		u.hear(nothing(2*narrow), 160)
		held := len(u.ear.got)
		u.hear(append(nothing(160-len(begin)), begin...), 160)
		require.Equal(t, held+2, len(u.ear.got), name)
		require.True(t, u.ear.got[held].Marker)
	}
}

// TestSilenceHidesLoss: what is lost of silence that nobody is sent is no loss to them, and a pause of the phone none either.
func TestSilenceHidesLoss(t *testing.T) {
	u := newUpstream(t)
	u.say(10)
	u.hear(nothing(narrow), 160)
	for i := range 100 {
		p := u.voice.make(nothing(160))
		u.c.add(frameTime)
		if i%7 != 3 && i < 90 {
			u.take(p)
		}
	}
	u.pause(4000)
	u.say(10)
	seqs, _ := u.steps()
	require.Equal(t, repeat(1, len(seqs)), seqs)
	require.EqualValues(t, (10+50+100+25+9)*960, u.ear.got[len(u.ear.got)-1].Timestamp-u.ear.got[0].Timestamp)
}

// TestListenerWhoComesInSilence has a packet soon, so that its track opens; and so has whoever comes when nobody listens.
func TestListenerWhoComesInSilence(t *testing.T) {
	u := newUpstream(t)
	u.hear(nothing(2*narrow), 160)
	late := &opusEar{}
	u.b.Source().Audio().Add(late)
	u.hear(nothing(narrow*4/10), 160)
	require.Equal(t, 1, len(late.got))
	u.b.Source().Audio().Remove(late)
	u.b.Source().Audio().Remove(u.ear)
	u.hear(nothing(narrow), 160)
	u.b.Source().Audio().Add(late)
	u.hear(nothing(narrow), 160)
	require.Equal(t, 1+25+2, len(late.got), "it is silent to them from the beginning")
}

// TestSilenceToPhonesIsSent: a phone that speaks Opus hears another one as ever.
func TestSilenceToPhonesIsSent(t *testing.T) {
	u := newUpstream(t)
	other, ear := testBridge(t, u.b.engine, u.c, opusPhone, nil)
	u.hear(nothing(2*narrow), 160)
	other.Subscribe(u.b.Source())
	u.ear.got = nil
	for range 100 {
		u.hear(nothing(160), 160)
		other.tick(u.c.now())
	}
	require.GreaterOrEqual(t, len(ear.got), 95)
	require.Equal(t, 1+100, len(u.ear.got), "and the silence before they came")
	for _, p := range u.ear.got {
		require.Greater(t, len(p.Payload), 1)
	}
	other.Unsubscribe(u.b.Source())
	u.ear.got = nil
	u.hear(nothing(narrow), 160)
	require.Equal(t, 25+2, len(u.ear.got), "the others hear it as if it began then")
}

// TestSoftNoiseOfAPhoneIsNotSent: so is noise that a phone describes (RFC 3389) and that nobody hears.
func TestSoftNoiseOfAPhoneIsNotSent(t *testing.T) {
	p := newNoisyPhone(t, media.PCMU)
	p.speak(25)
	p.describe(75)
	p.wait(time.Second)
	p.ear.got = nil
	p.wait(4 * time.Second)
	require.Equal(t, 10, len(p.ear.got))
}
