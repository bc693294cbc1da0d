package transcode

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// heardKeys are the keys that somebody who listens hears as tones.
func heardKeys(pcm []int16) (digits string) {
	var r media.ToneReader
	keys, _ := r.Sound(nil, pcm)
	for _, k := range r.Reset(keys) {
		if !k.Ended {
			digits += string(k.Digit)
		}
	}
	return digits
}

// dialTones is what a phone sounds like on which digits are pressed: 80 ms each, pauses between.
func dialTones(digits string, pause time.Duration) []int16 {
	out := make([]int16, 8000)
	for _, d := range []byte(digits) {
		var w media.ToneWriter
		w.Press(d)
		tone := make([]int16, 640)
		w.Sound(tone)
		out = append(append(out, tone...), make([]int16, pause*8000/time.Second)...)
	}
	return append(out, make([]int16, 8000)...)
}

// With the option of the trunk, a phone's tones are keys: told once each, and not heard.
func TestInBandKeys(t *testing.T) {
	for _, inBand := range []bool{true, false} {
		for _, ptime := range []int{80, 160, 240, 320} {
			c := newClock()
			e := testEngine(c, Config{})
			m := pcmu
			m.InBand = inBand
			var told []media.Key
			b, _ := testBridge(t, e, c, m, func(k media.Key) { told = append(told, k) })
			other, ear := testBridge(t, e, c, pcmu, nil)
			other.Subscribe(b.Source())
			web := &opusEar{}
			b.Source().Audio().Add(web)

			// A voice between the keys goes through.
			pcm := dialTones("15*0#", 100*time.Millisecond)
			copy(pcm[4000:], audio.Tone(1000, -15, 8000, 400*time.Millisecond))
			voice := newPhoneVoice(media.PCMU)
			for at := 0; at+ptime <= len(pcm); at += ptime {
				b.up.ReceiveRTP(voice.make(pcm[at:at+ptime]), c.now())
				b.tick(c.now())
				other.tick(c.now())
				c.add(time.Duration(ptime) * time.Second / 8000)
			}
			heard := ear.pcm(media.PCMU)
			level := audio.Goertzel(heard[:8000], 8000, 1000)
			if !inBand {
				require.Empty(t, told)
				require.Equal(t, "15*0#", heardKeys(heard))
				continue
			}
			require.Greater(t, level, -30.0, "the voice before them is heard")
			digits := ""
			for _, k := range told {
				require.Equal(t, media.InBand, k.Method)
				if k.Ended {
					digits += string(k.Digit)
					require.InDelta(t, 80, k.Duration.Milliseconds(), 12)
				}
			}
			require.Equal(t, "15*0#", digits)
			require.Empty(t, heardKeys(heard), "%d samples a packet", ptime)
			events, _ := keysOf(t, ear.events())
			require.Equal(t, "15*0#", events, "the other phone gets them as events")
			browser, short := web.pcm(t), make([]int16, 0, len(heard))
			for i := 0; i < len(browser); i += 6 {
				short = append(short, browser[i])
			}
			require.Empty(t, heardKeys(short))
		}
	}
}

// A phone that tells each press in all three ways has pressed each key once.
func TestKeysByThreeMethods(t *testing.T) {
	c := newClock()
	m := pcmu
	m.InBand = true
	var told []media.Key
	b, _ := testBridge(t, testEngine(c, Config{}), c, m, func(k media.Key) { told = append(told, k) })
	voice := newPhoneVoice(media.PCMU)
	const digits = "1123"
	pcm := dialTones(digits, 120*time.Millisecond)
	var w media.KeyWriter
	var eventTS uint32
	for i := 0; (i+1)*160 <= len(pcm); i++ {
		b.up.ReceiveRTP(voice.make(pcm[i*160:(i+1)*160]), c.now())
		if at := i - 50; at >= 0 && at < 10*len(digits) {
			switch at % 10 {
			case 0:
				require.True(t, w.Hold(digits[at/10], 4))
				eventTS = voice.packet.Timestamp
			case 6:
				b.Pressed(media.Key{Digit: digits[at/10], Ended: true, Duration: 80 * time.Millisecond, Method: media.Info})
			}
			if p, ok := w.Step(); ok {
				packet := voice.make(make([]int16, 4))
				packet.PayloadType, packet.Payload, packet.Timestamp = 101, p.Payload, eventTS
				voice.packet.Timestamp -= 4
				b.up.ReceiveRTP(packet, c.now())
			}
		}
		b.tick(c.now())
		c.add(frameTime)
	}
	got := ""
	for _, k := range told {
		if k.Ended {
			got += string(k.Digit)
		}
	}
	require.Equal(t, digits, got)

	// INFO alone does too.
	told = nil
	c.add(5 * time.Second)
	b.Pressed(media.Key{Digit: '9', Ended: true, Duration: 80 * time.Millisecond, Method: media.Info})
	require.Equal(t, []media.Key{
		{Digit: '9', Method: media.Info}, {Digit: '9', Ended: true, Duration: 80 * time.Millisecond, Method: media.Info},
	}, told)
}

// A key that is down in the sound ends when no more sound comes.
func TestInBandKeyEndsWithTheSound(t *testing.T) {
	c := newClock()
	m := pcmu
	m.InBand = true
	var told []media.Key
	b, _ := testBridge(t, testEngine(c, Config{}), c, m, func(k media.Key) { told = append(told, k) })
	voice := newPhoneVoice(media.PCMU)
	tone := dialTones("7", 0)[8000:8640]
	for at := 0; at < len(tone); at += 160 {
		b.up.ReceiveRTP(voice.make(tone[at:at+160]), c.now())
		c.add(frameTime)
	}
	require.Len(t, told, 1)
	for range 10 {
		b.tick(c.now())
		c.add(frameTime)
	}
	require.Len(t, told, 2)
	require.True(t, told[1].Ended)
}

func presses(digits string, length, gap time.Duration) []Press {
	var all []Press
	for _, d := range []byte(digits) {
		all = append(all, Press{Digit: d, Duration: length, Gap: gap})
	}
	return all
}

// What the application dials gets to the phone in order, as long as it asked for.
func TestPressAsEvents(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	web := newBrowser(t, "web", 1)
	b.Subscribe(web.src)
	say := web.speaker(1000, -15)
	require.True(t, b.Press(presses("12", 100*time.Millisecond, 60*time.Millisecond)...))
	require.True(t, b.Press(Press{Duration: 500 * time.Millisecond}))
	require.True(t, b.Press(presses("#", 200*time.Millisecond, 0)...))
	web.src.WriteKey(media.Key{Digit: 'A'}) // somebody presses a key meanwhile
	web.src.WriteKey(media.Key{Digit: 'A', Ended: true})
	for range 100 {
		step(c, []*Bridge{b}, say)
	}
	events := ear.events()
	digits, durations := keysOf(t, events)
	require.Equal(t, "A12#", digits)
	require.Equal(t, []int{640, 800, 800, 1600}, durations)
	var starts, ends []time.Time
	for i, p := range events {
		if p.marker {
			starts = append(starts, p.at)
		}
		if p.payload[1]&0x80 != 0 && events[i-1].payload[1]&0x80 == 0 {
			ends = append(ends, p.at)
		}
	}
	require.GreaterOrEqual(t, starts[2].Sub(ends[1]), 60*time.Millisecond)
	require.GreaterOrEqual(t, starts[3].Sub(ends[2]), 500*time.Millisecond)
	pcm := ear.pcm(media.PCMU)
	requireTone(t, pcm[len(pcm)-3200:], 8000, 1000, -15)
}

// limp is a phone that holds up the clock of its bridges again and again, so that ticks come late and then in a burst.
type limp struct{ ticks int }

func (l *limp) Send(uint8, bool, uint32, []byte) bool {
	if l.ticks++; l.ticks%7 == 0 {
		time.Sleep(time.Duration(l.ticks%5+1) * 50 * time.Millisecond)
	}
	return true
}

func (l *limp) SendKey(uint8, bool, uint32, media.KeyTime, []byte) bool { return true }

func (l *limp) Lose(int) {}

// restsOf is how long a phone has nothing of a key, between one and the next: by their timestamps from where the last
// packet ends, and by when packets are sent from the last packet on.
func restsOf(events []sentPacket, rate int64) (stream, real []time.Duration) {
	for i := 1; i < len(events); i++ {
		if events[i].ts == events[i-1].ts {
			continue
		}
		first := i - 1
		for first > 0 && events[first-1].ts == events[i-1].ts {
			first--
		}
		end := events[i-1].ts + uint32(int64(i-first)*rate/50)
		stream = append(stream, time.Duration(int32(events[i].ts-end))*time.Second/time.Duration(rate))
		real = append(real, events[i].at.Sub(events[i-1].at))
	}
	return stream, real
}

// The pause behind a key is as long as it is to be, both in the stream's time and in real time: while nothing else is heard, while
// somebody is, while several are, and while ticks come late and then in a burst.
func TestPressPauses(t *testing.T) {
	for _, sources := range []int{0, 1, 2} {
		for _, late := range []bool{false, true} {
			for _, speech := range []media.Speech{media.PCMU, media.Opus} {
				t.Run(fmt.Sprint(sources, " voices, late ", late, ", ", speech), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						e := NewEngine(Config{}, slog.New(slog.DiscardHandler))
						e.shards = e.shards[:1]
						if late {
							b, err := e.newBridge(BridgeConfig{Media: pcmu}, &limp{})
							require.NoError(t, err)
							defer b.Close(nil)
						}
						m := pcmu
						m.Speech = speech
						ear := &phoneEar{t: t}
						b, err := e.newBridge(BridgeConfig{Media: m}, ear)
						require.NoError(t, err)
						defer b.Close(nil)
						var says []func()
						for i := range sources {
							web := newBrowser(t, string(rune('a'+i)), 1)
							b.Subscribe(web.src)
							says = append(says, web.speaker(500, -25))
						}
						ctx, cancel := context.WithCancel(t.Context())
						var wg sync.WaitGroup
						wg.Go(func() { require.NoError(t, e.Run(ctx)) })
						require.True(t, b.Press(presses("159D*#", 120*time.Millisecond, 120*time.Millisecond)...))
						require.True(t, b.Press(Press{Duration: 500 * time.Millisecond}))
						require.True(t, b.Press(presses("7", 120*time.Millisecond, 120*time.Millisecond)...))
						for range 250 {
							time.Sleep(frameTime)
							for _, say := range says {
								say()
							}
						}
						cancel()
						wg.Wait()
						events := ear.events()
						digits, _ := keysOf(t, events)
						require.Equal(t, "159D*#7", digits)
						stream, real := restsOf(events, int64(speech.Clock()))
						for i, rests := range [][]time.Duration{stream, real} {
							require.Len(t, rests, 6)
							for k, rest := range rests {
								least := 120 * time.Millisecond
								if k == 5 {
									least += 500 * time.Millisecond
								}
								require.GreaterOrEqual(t, rest, least, "%s: before key %d", []string{"stream", "real time"}[i], k+2)
							}
						}
					})
				})
			}
		}
	}
}

// Tones that ring out are as far apart in what the phone hears as they are to be.
func TestPressPausesBetweenTones(t *testing.T) {
	c := newClock()
	none := pcmu
	none.EventType = -1
	b, ear := testBridge(t, testEngine(c, Config{}), c, none, nil)
	require.True(t, b.Press(presses("159D*", 120*time.Millisecond, 120*time.Millisecond)...))
	for range 150 {
		step(c, []*Bridge{b})
	}
	pcm, quiet, rests := ear.pcm(media.PCMU), 0, []int(nil)
	for at := 0; at+80 <= len(pcm); at += 80 {
		if audio.Level(pcm[at:at+80]) < -40 {
			quiet += 80
			continue
		}
		if quiet > 0 {
			rests = append(rests, quiet)
		}
		quiet = 0
	}
	rests = rests[len(rests)-4:]
	for _, rest := range rests {
		require.GreaterOrEqual(t, rest, 160*8, "the ends of an event, and the pause")
	}
}

// A key of six seconds is one key on every clock: its segments (RFC 4733 §2.5.1.3) are in the timestamps of the event's own
// clock, beside those of the sound.
func TestLongPress(t *testing.T) {
	for _, rate := range []int{0, 8000, 16000, 48000} {
		c := newClock()
		m := pcmu
		m.EventRate = rate
		b, ear := testBridge(t, testEngine(c, Config{}), c, m, nil)
		require.True(t, b.Press(presses("7", 6*time.Second, 100*time.Millisecond)...))
		require.True(t, b.Press(presses("7", 100*time.Millisecond, 0)...))
		for range 400 {
			step(c, []*Bridge{b})
		}
		r := media.KeyReader{Rate: uint32(rate)}
		var keys []media.Key
		for _, p := range ear.events() {
			require.Equal(t, uint32(rate), p.key.Clock)
			ts := p.ts
			if rate != 0 {
				ts = uint32(uint64(ts) * uint64(rate) / 8000)
			}
			keys = r.Packet(keys, ts+p.key.Past, p.payload, p.at)
		}
		require.Len(t, keys, 4, "%d Hz", rate)
		require.Equal(t, []time.Duration{6 * time.Second, 100 * time.Millisecond}, []time.Duration{keys[1].Duration, keys[3].Duration})
	}
}

func TestPressAsTones(t *testing.T) {
	for _, sources := range []int{0, 1, 2} {
		c := newClock()
		none := pcmu
		none.EventType = -1
		b, ear := testBridge(t, testEngine(c, Config{}), c, none, nil)
		var says []func()
		for i := range sources {
			web := newBrowser(t, string(rune('a'+i)), 1)
			b.Subscribe(web.src)
			says = append(says, web.speaker(500, -25))
		}
		require.True(t, b.Press(presses("159D*", 80*time.Millisecond, 80*time.Millisecond)...))
		for range 150 {
			step(c, []*Bridge{b}, says...)
		}
		require.Equal(t, "159D*", heardKeys(ear.pcm(media.PCMU)), "%d voices", sources)
		require.Empty(t, ear.events())
	}
}

func TestPressByInfo(t *testing.T) {
	c := newClock()
	type sent struct {
		digit    byte
		duration time.Duration
		at       time.Time
	}
	var all []sent
	m := pcmu
	m.KeysByInfo = true
	ear := &phoneEar{t: t, c: c}
	b, err := testEngine(c, Config{}).newBridge(BridgeConfig{Media: m, SendKey: func(d byte, length time.Duration) {
		all = append(all, sent{d, length, c.now()})
	}}, ear)
	require.NoError(t, err)
	defer b.Close(nil)
	web := newBrowser(t, "web", 1)
	b.Subscribe(web.src)
	require.True(t, b.Press(presses("12", 100*time.Millisecond, 60*time.Millisecond)...))
	web.src.WriteKey(media.Key{Digit: '9'})
	web.src.WriteKey(media.Key{Digit: '9', Ended: true, Duration: 250 * time.Millisecond})
	for range 50 {
		step(c, []*Bridge{b})
	}
	require.Len(t, all, 3)
	require.Equal(t, byte('9'), all[0].digit)
	require.Equal(t, 250*time.Millisecond, all[0].duration)
	require.Equal(t, byte('1'), all[1].digit)
	require.Equal(t, byte('2'), all[2].digit)
	require.Equal(t, 160*time.Millisecond, all[2].at.Sub(all[1].at))
	require.Empty(t, ear.events())
}

// Too many are refused as a whole; a phone on hold gets them when it listens again; none come after the end.
func TestPressIsBounded(t *testing.T) {
	c := newClock()
	b, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	held := pcmu
	held.Send = false
	b.Update(held)
	many := presses("1", 40*time.Millisecond, 40*time.Millisecond)
	for range MaxPresses - 1 {
		require.True(t, b.Press(many...))
	}
	require.False(t, b.Press(presses("22", 40*time.Millisecond, 0)...))
	require.True(t, b.Press(presses("3", 40*time.Millisecond, 0)...))
	for range 50 {
		step(c, []*Bridge{b})
	}
	require.Empty(t, ear.events())
	b.Update(pcmu)
	for range 10 * MaxPresses {
		step(c, []*Bridge{b})
	}
	digits, durations := keysOf(t, ear.events())
	require.Len(t, digits, MaxPresses)
	require.Equal(t, byte('3'), digits[MaxPresses-1])
	require.Equal(t, 320, durations[0])
	b.Close(nil)
	require.False(t, b.Press(many...))
}

func TestInBandAllocatesNothing(t *testing.T) {
	c := newClock()
	m := pcmu
	m.InBand = true
	var tel discard
	b, err := testEngine(c, Config{}).newBridge(BridgeConfig{Media: m}, &tel)
	require.NoError(t, err)
	defer b.Close(nil)
	voice, pcm := newPhoneVoice(media.PCMU), dialTones("159", 80*time.Millisecond)
	var packets []*rtp.Packet
	for at := 0; at+160 <= len(pcm); at += 160 {
		packets = append(packets, voice.make(pcm[at:at+160]))
	}
	i := 0
	require.Zero(t, testing.AllocsPerRun(len(packets)-2, func() {
		b.up.ReceiveRTP(packets[i], c.now())
		b.tick(c.now())
		c.add(frameTime)
		i++
	}))
}
