package transcode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// mouth is somebody whom a phone hears, and who talks on and on.
type mouth struct {
	src *media.Source
	say func()
}

// meanwhile lets so many steps pass, and returns what the phone got in them.
func (p *phoneEar) meanwhile(c *clock, bridges []*Bridge, steps int, says ...func()) []int16 {
	before := len(p.got)
	for range steps {
		step(c, bridges, says...)
	}
	since := phoneEar{got: p.got[before:]}
	return since.pcm(media.PCMU)
}

// Whoever is muted is not in what a phone hears, from the next packet on, whether its packets are forwarded or mixed, and is
// heard again afterwards. What was heard of it already fades instead of breaking off with a click. A phone that hears nobody goes on to get packets.
func TestMutedIsNotHeard(t *testing.T) {
	const hz, level = 1000, -20
	for name, talking := range map[string]func(t *testing.T, e *Engine, c *clock) mouth{
		"a browser": func(t *testing.T, _ *Engine, _ *clock) mouth {
			t.Helper()
			web := newBrowser(t, "web", 1)
			return mouth{web.src, web.speaker(hz, level)}
		},
		"a phone": func(t *testing.T, e *Engine, c *clock) mouth {
			t.Helper()
			other, _ := testBridge(t, e, c, pcmu, nil)
			return mouth{other.Source(), newPhoneVoice(media.PCMU).speaker(other, c, hz, level)}
		},
	} {
		for _, mixed := range []bool{false, true} {
			t.Run(map[bool]string{false: name + " alone", true: name + " in a mix"}[mixed], func(t *testing.T) {
				c := newClock()
				e := testEngine(c, Config{})
				b, ear := testBridge(t, e, c, pcmu, nil)
				one := talking(t, e, c)
				b.Subscribe(one.src)
				if mixed {
					b.Subscribe(newBrowser(t, "silent", 1).src)
				}
				heard := func() []int16 { return ear.meanwhile(c, []*Bridge{b}, 60, one.say) }
				for range 2 {
					requireTone(t, heard()[4000:], 8000, hz, level)
					b.Mute(one.src, true)
					after := heard()
					require.Less(t, audio.Level(after[40:]), -70.0, "from the first packet on, but for 5 ms in which what was heard fades")
					b.Mute(one.src, true)
					require.Less(t, audio.Level(heard()), -70.0)
					b.Mute(one.src, false)
				}
				requireTone(t, heard()[4000:], 8000, hz, level)
				requireSteady(t, ear.got)
			})
		}
	}
}

// A packet of somebody who is muted makes none: the clock alone does.
func TestMutedIsNotForwarded(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	web := newBrowser(t, "web", 1)
	say := web.speaker(1000, -20)
	b.Subscribe(web.src)
	for range 10 {
		step(c, []*Bridge{b}, say)
	}
	before := len(ear.got)
	say()
	require.Len(t, ear.got, before+1, "packets are forwarded as they come")
	b.Mute(web.src, true)
	for range 5 {
		c.add(frameTime)
		say()
	}
	require.Len(t, ear.got, before+1)
}

// Who is muted stays so while others come and go: in a mix and out of it, and when it was muted before it was heard at all.
func TestMutedStaysSo(t *testing.T) {
	const hz, otherHz, level = 1000, 1700, -20
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	one, other := newBrowser(t, "one", 1), newBrowser(t, "other", 1)
	says := []func(){one.speaker(hz, level), other.speaker(otherHz, level)}
	heard := func() []int16 { return ear.meanwhile(c, []*Bridge{b}, 60, says...) }

	b.Mute(one.src, true)
	b.Subscribe(one.src)
	require.Less(t, audio.Level(heard()), -70.0, "alone")
	b.Subscribe(other.src)
	requireTone(t, heard()[4000:], 8000, otherHz, level)
	b.Unsubscribe(other.src)
	require.Less(t, audio.Level(heard()[800:]), -70.0, "alone again")
	b.Subscribe(other.src)
	b.Mute(one.src, false)
	both := heard()[4000:]
	require.InDelta(t, level, audio.Goertzel(both, 8000, hz), 1)
	require.InDelta(t, level, audio.Goertzel(both, 8000, otherHz), 1)
	requireSteady(t, ear.got)
}

// The keys of who is muted come through.
func TestKeysOfTheMutedComeThrough(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	src := &media.Source{}
	b.Mute(src, true)
	b.Subscribe(src)
	src.WriteKey(media.Key{Digit: '5'})
	src.WriteKey(media.Key{Digit: '5', Ended: true, Duration: 100 * time.Millisecond})
	for range 30 {
		step(c, []*Bridge{b})
	}
	require.NotEmpty(t, ear.events())
	require.EqualValues(t, 5, ear.events()[0].payload[0])
}

// Who is heard again, and whose clock stood still meanwhile, is heard whole from the first packet on.
func TestUnmutedAfterAPause(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	web := newBrowser(t, "web", 1)
	say := web.speaker(1000, -20)
	b.Subscribe(web.src)
	bridges := []*Bridge{b}
	ear.meanwhile(c, bridges, 10, say)
	b.Mute(web.src, true)
	ear.meanwhile(c, bridges, 25)
	b.Mute(web.src, false)
	requireTone(t, ear.meanwhile(c, bridges, 60, say)[800:], 8000, 1000, -20)
	require.Zero(t, b.Stats().LateToPhone)
	requireSteady(t, ear.got)
}
