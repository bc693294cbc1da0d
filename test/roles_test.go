package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/audio"
	"tandem/test/harness"
)

// member is one of a caller, an agent and a supervisor: on a phone or in a browser.
type member struct {
	id     string
	hz     float64         // what it says
	device *harness.Device // nil: it has call
	call   *lab.Call
	heard  int // samples that call had received when it began to listen
}

// begin lets it forget what it heard.
func (m *member) begin() {
	if m.call != nil {
		m.heard = len(m.call.Recorded())
	} else {
		m.device.Forget()
	}
}

// listen returns what it heard since begin, but for the first half second, of those whom it is to hear and of all others.
func (m *member) listen(t *testing.T, hears []*member, all []*member) []int16 {
	t.Helper()
	if m.call != nil {
		return tail(harness.WaitRecorded(t, m.call, m.heard, listen+listen/2))
	}
	for _, o := range hears {
		m.device.WaitHeard(t, o.id, listen+listen/2)
	}
	var streams [][]int16
	for _, o := range all {
		if samples := m.device.Heard(o.id); len(samples) >= harness.Rate { // less is what was on its way
			streams = append(streams, tail(samples))
		}
	}
	return audio.Mix(streams...)
}

// TestWhisperCoachBarge goes through what a supervisor does, by subscriptions alone, with each of the three on a phone and in a
// browser: everybody hears whom he is to hear, and nothing of the others or of himself.
func TestWhisperCoachBarge(t *testing.T) {
	for _, kinds := range []string{"phone phone phone", "browser browser browser", "phone browser phone", "browser phone browser"} {
		t.Run(kinds, func(t *testing.T) {
			// None repeats for seconds, so G.711 makes noise of them that is spread over all frequencies.
			tones := map[string]float64{"+15557001": 887.25, "+15557002": 527.75, "+15557003": 1403.75}
			handlers := make(map[string]func(*lab.Call))
			for number, hz := range tones {
				handlers[number] = toneOf(hz)
			}
			g, trunk := harness.WithLab(t, lab.Config{Handlers: handlers})
			session := g.Session(t)
			var all []*member
			for i, kind := range strings.Fields(kinds) {
				number := fmt.Sprintf("+1555700%d", i+1)
				id, token := g.Participant(t, "")
				m := &member{id: id, hz: tones[number]}
				g.Join(t, session, id)
				if kind == "browser" {
					m.device = harness.Connect(t, g, id, token)
					m.device.PublishTone(m.hz, -12, "")
				} else {
					dialog := g.Call(t, id, number)
					m.call = trunk.NextCall(t)
					g.WaitState(t, id, dialog, "ANSWERED")
				}
				all = append(all, m)
			}
			caller, agent, supervisor := all[0], all[1], all[2]
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
				for i, m := range all {
					m.begin()
					heard := m.listen(t, stage.hears[m], all)
					for _, o := range all {
						if slices.Contains(stage.hears[m], o) {
							require.Greater(t, levelOf(heard, o.hz), -25.0, "%s: member %d hears %v Hz", stage.name, i, o.hz)
						} else { // over the whole second, in which the noise of the codecs is spread thinly
							require.Less(t, audio.Goertzel(heard, harness.Rate, o.hz), -12-60.0, "%s: member %d must not hear %v Hz", stage.name, i, o.hz)
						}
					}
				}
			}
		})
	}
}
