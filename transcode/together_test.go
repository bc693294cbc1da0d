package transcode

import (
	"iter"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// talk is what somebody says without a pause, at 8 kHz.
func talk(t *testing.T) []int16 {
	t.Helper()
	coded, err := os.ReadFile("../lab/speech.ulaw")
	require.NoError(t, err)
	pcm := make([]int16, len(coded))
	expand(media.PCMU, pcm, coded)
	var out []int16
	for at := 0; at+160 <= len(pcm); at += 160 {
		if audio.Level(pcm[at:at+160]) > -32 {
			out = append(out, pcm[at:at+160]...)
		}
	}
	return out
}

// says lets a browser say what is at 8 kHz, again and again, after so many samples of it.
func (b *browser) says(pcm []int16, at int) func() {
	wide := make([]int16, 960)
	return func() {
		for i := range wide { // linear between samples: what else there is is above 4 kHz
			one, two := float64(pcm[(at+i/6)%len(pcm)]), float64(pcm[(at+i/6+1)%len(pcm)])
			wide[i] = int16(one + (two-one)*float64(i%6)/6)
		}
		at += 160
		b.say(wide)
	}
}

// likeness is how much one sound is like another of the same length, 1 at most, judged by every other sample.
func likeness(a, b []int16) float64 {
	var aa, ab, bb float64
	for i := 0; i < len(a); i += 2 {
		x, y := float64(a[i]), float64(b[i])
		aa, ab, bb = aa+x*x, ab+x*y, bb+y*y
	}
	return ab / math.Sqrt(aa*bb+1)
}

// place finds where in said the piece of what was heard is from, between two samples of it.
func place(heard, said []int16, from, to int) (at int, like float64) {
	for p := max(0, from); p <= min(to, len(said)-len(heard)); p++ {
		if l := likeness(heard, said[p:p+len(heard)]); l > like {
			at, like = p, l
		}
	}
	return at, like
}

// meeting is two phones and two browsers. The first browser talks on and on; the first phone hears it, and says something for a while.
type meeting struct {
	*conference
	ear      *phoneEar // of the first phone
	said     []int16
	talks    func()
	own      func()  // of the first phone
	steepest float64 // step of said
}

// newMeeting makes a meeting. Of so many packets of the one who talks the first few come late, together with the one behind them.
func newMeeting(t *testing.T, every, late int) *meeting {
	t.Helper()
	k := &meeting{conference: newConference(t, 2, 2), said: talk(t)}
	k.ear = k.ears[0]
	k.own = newPhoneVoice(media.PCMU).speaker(k.phones[0], k.c, 400, -25)
	k.talks = lateBy(every, late, k.webs[0].says(k.said, 0))
	for i := 1; i < len(k.said); i++ {
		k.steepest = max(k.steepest, math.Abs(float64(k.said[i])-float64(k.said[i-1])))
	}
	return k
}

// lateBy lets the first few of so many packets come late, together with the one behind them.
func lateBy(every, late int, say func()) func() {
	n, held := 0, 0
	return func() {
		if n++; n%every < late {
			held++
			return
		}
		for ; held > 0; held-- {
			say()
		}
		say()
	}
}

// goOver lets the phones hear the one who talks alone for so many ticks, then the mix, since the first phone and later a browser say
// something, and then the one alone again.
func (k *meeting) goOver(t *testing.T, alone int) {
	t.Helper()
	word, quiet := k.webs[1].speaker(3000, -40), k.webs[1].pause()
	k.run(alone, k.talks, quiet)
	k.run(50, k.talks, quiet, k.own)
	require.True(t, k.phones[1].down.mixing, "it hears two")
	k.run(20, k.talks, word, k.own)
	k.run(100, k.talks, quiet, k.own)
	require.True(t, k.phones[0].down.mixing, "with the other one")
	k.run(75, k.talks, quiet)
	for _, b := range k.phones {
		require.False(t, b.down.mixing)
	}
}

// lags are how many ms later than it was said the first phone hears what it does, by the sample; not of a pause between syllables, nor
// within a seam.
func (k *meeting) lags() iter.Seq2[int, float64] {
	const hop, size = 480, 640 // in samples
	pcm := k.ear.pcm(media.PCMU)
	said := append(slices.Clone(k.said), k.said...)
	return func(yield func(int, float64) bool) {
		for at := 4000; at+size <= len(pcm); at += hop {
			if p, like := place(pcm[at:at+size], said, at-1600, at+160); like >= 0.75 && !yield(at, float64(at-p)/8) {
				return
			}
		}
	}
}

// requireNoClick looks at all that the first phone heard.
func (k *meeting) requireNoClick(t *testing.T) {
	t.Helper()
	pcm := k.ear.pcm(media.PCMU)
	for i := 1; i < len(pcm); i++ {
		require.LessOrEqual(t, math.Abs(float64(pcm[i])-float64(pcm[i-1])), k.steepest*1.25, "a click at sample %d", i)
	}
}

// TestPhonesGoOverTogether: a phone that speaks hears a browser on without a jump while another browser says a word and is silent
// again, though other phones mix all the while: what was heard is not heard again, and nothing is left out, but for the 20 ms
// that a mix comes later.
func TestPhonesGoOverTogether(t *testing.T) {
	for _, late := range []int{0, 3} { // of 15: with jitter one by 60 ms, and two behind it by less
		k := newMeeting(t, 15, late)
		k.goOver(t, 50)
		lag, jumps := math.NaN(), 0
		for at, now := range k.lags() {
			grows := late > 0 && at < 2*8000-480  // until it waits as long as it must
			if !grows && math.Abs(now-lag) > 12 { // more than a period
				jumps++
				require.InDelta(t, lag, now, 40, "at %d ms, late: %d", at/8, late)
			}
			lag = now
		}
		require.LessOrEqual(t, jumps, 4, "one into the mix and one out of it, and with jitter no more")
		k.requireNoClick(t)
	}
}

// settled is until a voice that comes late by 100 ms waits as long as it must.
const settled = 2 * time.Second

// TestUnevenVoiceGoesOnThroughAMix: what waits of a voice for a phone, since it comes unevenly, waits further in a mix, behind it, and in
// another one: nothing is left out, and nothing is put in.
func TestUnevenVoiceGoesOnThroughAMix(t *testing.T) {
	k := newMeeting(t, 25, 5)
	k.run(100, k.talks)
	for range 2 {
		k.goOver(t, 50)
		require.True(t, k.phones[0].down.buffer.on)
	}
	hears, word, quiet := k.phones[0], k.webs[1].speaker(3000, -40), k.webs[1].pause()
	for range 2 {
		made := hears.down.made.up
		k.run(50, k.talks, quiet, k.own)
		require.True(t, hears.down.mixing)
		hears.Unsubscribe(k.webs[1].src)
		require.NotNil(t, hears.down.mix, "another one")
		k.run(25, k.talks, quiet, k.own) // which leaves later than it might, since there something waits of its own voice
		k.run(50, k.talks, quiet)
		require.True(t, hears.down.buffer.on)
		hears.Subscribe(k.webs[1].src)
		k.run(50, k.talks, quiet, k.own)
		require.True(t, hears.down.mixing)
		hears.Unsubscribe(k.webs[1].src)
		hears.Unsubscribe(k.phones[1].Source())
		require.Nil(t, hears.down.mix)
		k.run(50, k.talks, quiet, k.own)
		require.True(t, hears.down.buffer.on)
		k.run(20, k.talks, word, k.own)
		hears.Subscribe(k.webs[1].src) // who speaks already
		k.run(1, word, k.own)
		k.talks()
		k.run(20, k.talks, word, k.own)
		require.True(t, hears.down.mixing)
		k.run(50, k.talks, quiet, k.own)
		require.Equal(t, made, hears.down.made.up, "samples were made up")
		hears.Subscribe(k.phones[1].Source())
		k.run(50, k.talks, quiet)
	}
	k.requireSteady(t, settled)
	k.requireNoClick(t)
}

// requireSteady wants everything from a time on to be heard equally late, but for one period of the voice, and late indeed.
func (k *meeting) requireSteady(t *testing.T, from time.Duration) {
	t.Helper()
	const period = 12.5 // ms, the longest that is cut out or put in unheard
	first, heard := math.NaN(), 0
	for at, now := range k.lags() {
		if at < int(from.Milliseconds())*8 {
			continue
		}
		if heard++; heard == 1 {
			first = now
		}
		require.InDelta(t, first, now, period, "at %d ms", at/8)
	}
	require.Greater(t, first, 80.0, "it waits")
	require.Greater(t, heard, 50)
}

// TestUnevenPhoneGoesOnThroughAMix is that for a phone's voice, whose own mix is made before that of those who hear it.
func TestUnevenPhoneGoesOnThroughAMix(t *testing.T) {
	k := newMeeting(t, 1, 0)
	k.ear = k.ears[1]
	voice, at := newPhoneVoice(media.PCMU), 0
	talks := lateBy(25, 5, func() {
		k.phones[0].up.ReceiveRTP(voice.make(k.said[at:at+160]), k.c.now())
		at = (at + 160) % (len(k.said) / 160 * 160)
	})
	word, quiet := k.webs[1].speaker(3000, -40), k.webs[1].pause()
	k.run(150, talks, quiet)
	for range 3 {
		require.True(t, k.phones[1].down.buffer.on)
		k.run(50, talks, word)
		require.True(t, k.phones[1].down.mixing)
		k.run(100, talks, quiet)
	}
	k.requireSteady(t, settled)
}

// TestPacketsAsTheyAreAroundAMix: a phone that has the packets of an uneven voice as they are hears nothing of it again in a mix, though it
// waits for another phone that comes with it; and before it has the packets again, most of what waits in the mix is heard.
func TestPacketsAsTheyAreAroundAMix(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	asTheyAre, _ := testBridge(t, e, c, media.PortMedia{Speech: media.Opus, Send: true, Receive: true}, nil)
	other, _ := testBridge(t, e, c, media.PortMedia{Speech: media.G722, Send: true, Receive: true}, nil)
	one, two := newBrowser(t, "one", 1), newBrowser(t, "two", 1)
	phones := []*Bridge{other, asTheyAre}
	for i, b := range phones {
		b.Subscribe(one.src)
		b.Subscribe(two.src)
		b.Subscribe(phones[1-i].Source())
	}
	talks, word, quiet := lateBy(25, 5, one.says(talk(t), 0)), two.speaker(3000, -40), two.pause()
	run := func(ticks int, says ...func()) {
		for range ticks {
			step(c, phones, says...)
		}
	}
	run(150, talks, quiet)
	require.True(t, other.down.buffer.on)
	require.True(t, asTheyAre.down.plain)
	m := other.down.mix
	require.Same(t, m, asTheyAre.down.mix)
	run(1, talks, word)
	require.True(t, other.down.mixing)
	require.Less(t, m.delay(), 50*time.Millisecond, "were heard already")
	run(150, talks, word)
	require.Greater(t, m.delay(), 80*time.Millisecond)
	waited := time.Duration(0)
	for n := 0; asTheyAre.down.mixing; n++ {
		require.Less(t, n, 100)
		waited = m.delay()
		run(1, talks, quiet)
	}
	require.Less(t, waited, 50*time.Millisecond, "were left out")
	require.True(t, asTheyAre.down.plain)
}
