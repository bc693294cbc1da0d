package test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
	"tandem/test/harness"
)

const (
	// settles is how long after a change of subscriptions a phone may still be sent what it heard before: the bridge is told of
	// the change and does not wait for it, and its next packet is under way.
	settles = 100 * time.Millisecond
	// underway is how much of a stream that is not forwarded any more a device may still get, by when it reads it.
	underway = 200 * time.Millisecond

	saidAt = -12.0       // dBFS
	leaked = saidAt - 60 // from here on a leak is one
	// spread is what a second may have of a tone that is not in it at all, when a machine that was busy for a moment has broken
	// the others; 20 ms of the tone itself are more.
	spread  = saidAt - 35
	audible = saidAt - 13
	// seconds is how long is waited for one that a busy machine did not break. A leak is in all of them, and so is deafness.
	seconds = 4
)

// member is one of a caller, an agent and a supervisor: on a phone or in a browser.
type member struct {
	id     string
	hz     float64         // what it says
	device *harness.Device // nil: it has phone
	phone  *harness.HandPhone
	dialog string
}

// rate is that of what it hears.
func (m *member) rate() int {
	if m.phone != nil {
		return m.phone.SoundRate()
	}
	return harness.Rate
}

// begin lets it forget all that was sent to it so far.
func (m *member) begin() {
	if m.phone != nil {
		m.phone.ForgetSent()
	} else {
		m.device.Forget()
	}
}

// listen returns the nth second, from 0 on, of what it heard since begin. In a browser nothing comes of those whom it is not
// to hear.
func (m *member) listen(t *testing.T, n int, hears []*member, all []*member) []int16 {
	t.Helper()
	skip := settles + time.Duration(n)*listen
	if m.phone != nil {
		return piece(m.phone.WaitHeard(skip+listen), m.rate(), skip)
	}
	for _, o := range hears {
		m.device.WaitHeard(t, o.id, skip+listen)
	}
	var streams [][]int16
	for _, o := range all {
		samples := m.device.Heard(o.id)
		if slices.Contains(hears, o) {
			streams = append(streams, piece(samples, m.rate(), skip))
		} else {
			require.LessOrEqual(t, len(samples), int(underway.Seconds()*float64(m.rate())), "samples of %s", o.id)
			streams = append(streams, samples)
		}
	}
	return audio.Mix(streams...)
}

// piece is the second of samples that begins after skip.
func piece(samples []int16, rate int, skip time.Duration) []int16 {
	from := int(skip.Seconds() * float64(rate))
	return samples[from : from+int(listen.Seconds()*float64(rate))]
}

// leak is the level of what must not be heard, in dBFS, in the quietest fifth of a second: a leak is in all of them. Where a busy
// machine has broken the other tones, they are spread over all frequencies.
func leak(heard []int16, rate int, hz float64) float64 {
	level := math.Inf(1)
	for part := range slices.Chunk(heard, rate/5) {
		level = min(level, audio.Goertzel(part, rate, hz))
	}
	return level
}

// roleTones are what caller, agent and supervisor say. None repeats for seconds, so G.711 makes noise of them that is spread
// over all frequencies.
func roleTones() []float64 { return []float64{887.25, 527.75, 1403.75} }

// TestWhisperCoachBarge goes through what a supervisor does, by subscriptions alone, with each of the three on a phone or in a
// browser, the phones speaking PCMU, G.722 and Opus: everybody hears whom he is to hear, and nothing of the others or of himself.
func TestWhisperCoachBarge(t *testing.T) {
	codecs := []string{"PCMU", "G722", "opus"}
	for combination := range 8 {
		kinds := make([]string, 3) // a codec: on a phone
		for role := range kinds {
			kinds[role] = "browser"
			if combination>>role&1 == 1 {
				kinds[role] = codecs[(combination+role)%3]
			}
		}
		t.Run(strings.Join(kinds, " "), func(t *testing.T) {
			cfg := harness.Config(t)
			all := make([]*member, len(kinds))
			for i, kind := range kinds {
				all[i] = &member{hz: roleTones()[i]}
				if kind == "browser" {
					continue
				}
				all[i].phone = harness.NewHandPhone(t)
				payload := map[string]uint8{"PCMU": 0, "G722": 9, "opus": 107}[kind]
				all[i].phone.Speak(kind, payload, payload)
				trunk := harness.Trunk(fmt.Sprintf("phone%d", i), "sip:"+all[i].phone.Addr)
				trunk.Prefixes = []string{fmt.Sprintf("+1555700%d", i)}
				cfg.Trunks = append(cfg.Trunks, trunk)
			}
			g := harness.Start(t, cfg)
			session := g.Session(t)
			for i, m := range all {
				var token string
				m.id, token = g.Participant(t, "")
				g.Join(t, session, m.id)
				if m.phone == nil {
					m.device = harness.Connect(t, g, m.id, token)
					m.device.PublishTone(m.hz, saidAt, "")
					continue
				}
				m.dialog = g.Call(t, m.id, fmt.Sprintf("+1555700%d", i))
				invite := m.phone.Invited()
				m.phone.Agree(invite, "")
				m.phone.Talk(m.hz)
				m.phone.Answer(invite, m.phone.SDP("sendrecv", true, 0, nil))
				g.WaitState(t, m.id, m.dialog, "ANSWERED")
			}
			caller, agent, supervisor := all[0], all[1], all[2]
			lowest, highest := math.Inf(1), math.Inf(-1) // of what is heard, of what is not
			for _, stage := range []struct {
				name  string
				hears map[*member][]*member
			}{
				{"listens", map[*member][]*member{caller: {agent}, agent: {caller}, supervisor: {caller, agent}}},
				{"whispers", map[*member][]*member{caller: {agent}, agent: {caller, supervisor}, supervisor: {caller, agent}}},
				{"barges in", map[*member][]*member{caller: {agent, supervisor}, agent: {caller, supervisor}, supervisor: {caller, agent}}},
				{"takes over", map[*member][]*member{caller: {supervisor}, agent: {caller}, supervisor: {caller}}},
				{"leaves again", map[*member][]*member{caller: {agent}, agent: {caller}, supervisor: {caller}}},
			} {
				for _, m := range all {
					var ids []string
					for _, o := range stage.hears[m] {
						ids = append(ids, o.id)
					}
					g.Hear(t, session, m.id, ids...)
				}
				for _, m := range all {
					m.begin()
				}
				for i, m := range all {
					heard := m.listen(t, 0, stage.hears[m], all)
					for _, o := range all {
						if slices.Contains(stage.hears[m], o) {
							level := levelAt(heard, m.rate(), o.hz)
							for n := 1; level <= audible && n < seconds; n++ {
								level = levelAt(m.listen(t, n, stage.hears[m], all), m.rate(), o.hz)
							}
							lowest = min(lowest, level)
							require.Greater(t, level, audible, "%s: member %d hears %v Hz", stage.name, i, o.hz)
							continue
						}
						require.Less(t, audio.Goertzel(heard, m.rate(), o.hz), spread, "%s: member %d must not hear %v Hz", stage.name, i, o.hz)
						level := leak(heard, m.rate(), o.hz)
						for n := 1; level >= leaked && n < seconds; n++ {
							level = leak(m.listen(t, n, stage.hears[m], all), m.rate(), o.hz)
						}
						highest = max(highest, level)
						require.Less(t, level, leaked, "%s: member %d must not hear %v Hz", stage.name, i, o.hz)
					}
				}
			}
			t.Logf("what is heard has %.1f dBFS or more, what is not %.1f dBFS or less", lowest, highest)
			for _, m := range all {
				if m.phone != nil {
					g.HangUp(t, m.id, m.dialog)
					m.phone.Respond(m.phone.Await("BYE "), "200 OK", "")
				}
			}
		})
	}
}

// TestALeakIsFoundAmongRoles is the negative control of TestWhisperCoachBarge: in what a member of it hears by each codec, a
// leak 50 dB under what was said is found by the measure of that test, and without one nothing is.
func TestALeakIsFoundAmongRoles(t *testing.T) {
	tones := roleTones()
	for _, codec := range []string{"PCMU", "G722", "opus"} {
		rate := harness.CodecRate(t, codec)
		tone := func(hz, level float64) []int16 { return audio.Tone(hz, level, rate, settles+listen) }
		for i, hz := range tones {
			others := slices.Delete(slices.Clone(tones), i, i+1)
			for _, hears := range [][]float64{others[:1], others[1:], others} {
				var said [][]int16
				for _, other := range hears {
					said = append(said, tone(other, saidAt))
				}
				clean := piece(harness.Through(t, codec, audio.Mix(said...)), rate, settles)
				leaky := piece(harness.Through(t, codec, audio.Mix(append(said, tone(hz, saidAt-50))...)), rate, settles)
				t.Logf("%s, %v Hz beside %v Hz: %.1f dBFS, and without it %.1f", codec, hz, hears, leak(leaky, rate, hz), leak(clean, rate, hz))
				require.InDelta(t, saidAt-50, leak(leaky, rate, hz), 3, "%s: a leak of %v Hz beside %v Hz is found", codec, hz, hears)
				require.Less(t, leak(clean, rate, hz), leaked, "%s: no leak of %v Hz beside %v Hz", codec, hz, hears)
			}
		}
	}
}
