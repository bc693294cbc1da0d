package transcode

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// unlike is how much of a sound, in dB, 20 ms at a time, is not what it was a period before: the worst, and where that is.
func unlike(pcm []int16, period int) (worst float64, at int) {
	const size = wide / 50
	worst = math.Inf(-1)
	for i := period; i+size <= len(pcm); i += size / 2 {
		var rest, all float64
		for j := i; j < i+size; j++ {
			d := float64(pcm[j]) - float64(pcm[j-period])
			rest += d * d
			all += float64(pcm[j]) * float64(pcm[j])
		}
		if u := 10 * math.Log10((rest+1)/(all+1)); u > worst {
			worst, at = u, i
		}
	}
	return worst, at
}

// steepest is the largest step between two samples.
func steepest(pcm []int16) (worst float64) {
	for i := 1; i < len(pcm); i++ {
		worst = max(worst, math.Abs(float64(pcm[i])-float64(pcm[i-1])))
	}
	return worst
}

// TestCodersChangeUnheard: a phone that talks on and off, and so has what is encoded for it alone and for others in turn, hears
// nothing of that; nor does one that is forwarded to and hears a mix in turn.
func TestCodersChangeUnheard(t *testing.T) {
	const period = wide / 100 // of all tones
	c := newClock()
	e := testEngine(c, Config{})
	for _, m := range []struct {
		media.PortMedia
		phones int
	}{{g722Phone, 2}, {opusPhone, 2}, {opusPhone, 1}} {
		var phones []*Bridge
		var ears []*phoneEar
		for range m.phones {
			b, ear := testBridge(t, e, c, m.PortMedia, nil)
			phones, ears = append(phones, b), append(ears, ear)
		}
		one, two := newBrowser(t, "one", 1), newBrowser(t, "two", 1)
		for _, b := range phones {
			for _, other := range phones {
				b.Subscribe(other.Source())
			}
			b.Subscribe(one.src)
			b.Subscribe(two.src)
		}
		own := wideSpeaker(t, phones[0], c, m.Speech, 1300, -20)
		pause := two.pause()
		says := one.speaker(500, -20)
		second := two.speaker(900, -40)
		run := func(ticks int, all ...func()) {
			for range ticks {
				step(c, phones, all...)
			}
		}
		run(100, says, second)
		from := len(ears[0].got)
		for range 5 {
			if m.phones > 1 {
				run(30, says, second, own)
				run(40, says, second)
			} else {
				run(30, says, pause)
				run(60, says, pause)
				run(30, says, second)
			}
		}
		pcm := wideSound(t, ears[0], m.Speech)[from*320:]
		for i := 0; i+160 <= len(pcm); i += 160 {
			require.Greater(t, audio.Level(pcm[i:i+160]), -32.0, "%v: a hole at %d ms", m.Speech, i/16)
		}
		sines := 2 * math.Pi / wide * (32768*math.Pow(10, -20./20)*500 + 32768*math.Pow(10, -40./20)*900)
		require.Less(t, steepest(pcm), 1.4*sines, "%v: a click", m.Speech)
		if m.Speech == media.G722 {
			worst, at := unlike(pcm, period)
			require.Less(t, worst, -12.0, "at %d ms", at/16)
		}
	}
}

// TestSoundIsEncodedOnce: what several phones hear that say nothing is encoded once for all of them, voices as they come and a mix.
func TestSoundIsEncodedOnce(t *testing.T) {
	for _, m := range []media.PortMedia{pcmu, g722Phone, opusPhone} {
		c := newClock()
		e := testEngine(c, Config{})
		var phones []*Bridge
		var ears []*phoneEar
		for range 4 {
			b, ear := testBridge(t, e, c, m, nil)
			phones, ears = append(phones, b), append(ears, ear)
		}
		src, track := lawBrowser(media.PCMA) // which no phone can have as it is
		voice, tone, at := newPhoneVoice(media.PCMA), audio.Tone(500, -20, narrow, loop), 0
		one := func() {
			track.WriteRTP(voice.make(tone[at:][:160]))
			at = (at + 160) % len(tone)
		}
		web := newBrowser(t, "two", 1)
		two := web.speaker(900, -20)
		for _, b := range phones {
			b.Subscribe(src)
			b.Subscribe(web.src)
		}
		encoded := func(ticks int, says ...func()) (packets uint64) {
			count := func() (n uint64) {
				all := []*codes{&phones[0].down.mix.codes}
				for _, f := range e.feeds {
					all = append(all, f.codes[:]...)
				}
				for _, k := range all {
					for i := 0; k != nil && i < len(k.coders); i++ {
						n += k.coders[i].packets
					}
				}
				for _, b := range phones {
					n += b.down.coder.packets
				}
				return n
			}
			before := count()
			for range ticks {
				step(c, phones, says...)
			}
			return count() - before
		}
		for range 2 {
			encoded(100, one, web.pause())
			require.EqualValues(t, 50, encoded(50, one, web.pause()), "%v, as it comes", m.Speech)
			encoded(50, one, two)
			require.EqualValues(t, 50, encoded(50, one, two), "%v, mixed", m.Speech)
		}
		for i, ear := range ears {
			pcm := ear.pcm(m.Speech)
			if m.Speech.Rate() == wide {
				pcm = wideSound(t, ear, m.Speech)
			}
			pcm = pcm[len(pcm)-m.Speech.Rate():]
			require.InDelta(t, -20, audio.Goertzel(pcm, m.Speech.Rate(), 500), 1.5, "%v, phone %d", m.Speech, i)
			require.InDelta(t, -20, audio.Goertzel(pcm, m.Speech.Rate(), 900), 1.5, "%v, phone %d", m.Speech, i)
		}
	}
}

// TestCoderIsShared: what a phone decodes that goes over from its own coder to a shared one and back is what either alone would let it
// hear, as far as the codec is exact, whatever its own coder encoded before.
func TestCoderIsShared(t *testing.T) {
	const (
		size       = wide / 50
		alone, own = 10, 30 // its own coder until here, and from there on
		frames     = 50
	)
	said := make([]int16, 0, frames*size)
	pcm := talk(t)[8000:]
	for i := range frames * size / 2 {
		said = append(said, pcm[i], int16((int(pcm[i])+int(pcm[i+1]))/2))
	}
	other := audio.Tone(700, -15, wide, time.Second)
	for _, speech := range []media.Speech{media.G722, media.Opus} {
		var mine, all coder
		require.NoError(t, mine.use(speech, Config{}))
		require.NoError(t, all.use(speech, Config{}))
		var heard, whole phoneEar
		var shared sharing
		buf, buf2 := make([]byte, longestPayload), make([]byte, longestPayload)
		hear := func(ear *phoneEar, payload []byte) {
			ear.got = append(ear.got, sentPacket{pt: map[media.Speech]uint8{media.G722: 9, media.Opus: opusPhone.PayloadType}[speech], payload: slices.Clone(payload)})
		}
		for i := range 50 {
			mine.encode(buf, said[i*size:][:size])
			all.encode(buf, other[i*size:][:size])
		}
		encoded := mine.packets
		for i := range frames {
			frame := said[i*size:][:size]
			others := frame
			if i < alone {
				others = other[i*size:][:size]
			}
			sum := buf2[:all.encode(buf2, others)]
			hear(&whole, sum)
			if i >= alone && i < own {
				shared.offer(frame, sum, &all)
			} else {
				shared.withdraw()
			}
			payload := shared.take(&mine, int64(i*size), frame)
			if payload == nil {
				payload = buf[:mine.encode(buf, frame)]
			}
			hear(&heard, payload)
		}
		require.EqualValues(t, alone+overlap+frames-own, mine.packets-encoded, "%v", speech)
		got, want := wideSound(t, &heard, speech), wideSound(t, &whole, speech)
		for _, at := range []int{alone + overlap, own} {
			a, b := got[(at-1)*size:(at+3)*size], want[(at-1)*size:(at+3)*size]
			require.Greater(t, likeness(a, b), 0.985, "%v, packet %d", speech, at)
			require.Less(t, steepest(a), 1.15*steepest(b), "%v: a click at packet %d", speech, at)
		}
	}
}
