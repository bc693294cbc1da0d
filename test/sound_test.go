package test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/audio"
	"tandem/test/harness"
)

// listen is how long a piece of sound is judged.
const listen = time.Second

// requireTone wants a clear tone of hz and nothing of the tones in not.
func requireTone(t *testing.T, samples []int16, hz float64, not ...float64) {
	t.Helper()
	require.InDelta(t, hz, audio.Frequency(samples, harness.Rate), 5)
	require.GreaterOrEqual(t, audio.MedianSNR(samples, harness.Rate, hz), 20.0)
	for _, leak := range not {
		require.Less(t, levelOf(samples, leak), levelOf(samples, hz)-45, "%g Hz leaks", leak)
	}
}

// levelOf is levelAt at the rate of devices and G.711.
func levelOf(samples []int16, hz float64) float64 { return levelAt(samples, harness.Rate, hz) }

// levelAt is the median level of a tone in pieces of 100 ms, in dBFS: a frame that comes late on a busy machine
// breaks the phase of one piece, not of all.
func levelAt(samples []int16, rate int, hz float64) float64 {
	var levels []float64
	for piece := range slices.Chunk(samples, rate/10) {
		levels = append(levels, audio.Goertzel(piece, rate, hz))
	}
	slices.Sort(levels)
	return levels[len(levels)/2]
}

// tail is the last piece of a recording.
func tail(samples []int16) []int16 {
	n := int(listen.Seconds() * harness.Rate)
	return samples[len(samples)-n:]
}

// TestPhoneAndBrowserTalk measures both directions of one call.
func TestPhoneAndBrowserTalk(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": toneOf(1000)}})
	session := g.Session(t)
	browser, token := g.Participant(t, "")
	phone, _ := g.Participant(t, "")
	g.Join(t, session, browser)
	g.Join(t, session, phone)
	device := harness.Connect(t, g, browser, token)
	device.PublishTone(440, -12, "microphone")

	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")
	requireTone(t, tail(device.WaitHeard(t, phone, 2*listen)), 1000, 440)
	skip := len(call.Recorded())
	heard := harness.WaitRecorded(t, call, skip, 2*listen)
	requireTone(t, tail(heard), 440, 1000)
	require.InDelta(t, -12, audio.Level(tail(heard)), 1.5, "the level is kept")
	g.HangUp(t, phone, dialog)
}

// toneOf answers and plays a tone until the call is over.
func toneOf(hz float64) func(*lab.Call) {
	return func(c *lab.Call) {
		c.SetSource(lab.Tone(0.25, hz)) // −12 dBFS
		if c.Answer() == nil {
			<-c.Ended()
		}
	}
}

// TestWhisperOverAPhone is a contact center: the caller hears the agent only, the agent hears both, the supervisor
// hears both; then the supervisor barges in, and then goes silent, while everybody talks.
func TestWhisperOverAPhone(t *testing.T) {
	const callerHz, agentHz, supervisorHz = 1000, 440, 620
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": toneOf(callerHz)}})
	session := g.Session(t)
	caller, _ := g.Participant(t, "")
	agent, agentToken := g.Participant(t, "")
	supervisor, supervisorToken := g.Participant(t, "")
	for _, p := range []string{caller, agent, supervisor} {
		g.Must(t, http.MethodPut, "/sessions/"+session+"/participants/"+p, nil)
	}
	g.Hear(t, session, caller, agent)
	g.Hear(t, session, agent, caller, supervisor)
	g.Hear(t, session, supervisor, caller, agent)

	agentDevice := harness.Connect(t, g, agent, agentToken)
	agentDevice.PublishTone(agentHz, -15, "")
	supervisorDevice := harness.Connect(t, g, supervisor, supervisorToken)
	supervisorDevice.PublishTone(supervisorHz, -15, "")
	dialog := g.Call(t, caller, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, caller, dialog, "ANSWERED")

	// The first half second after a change is not judged: old packets are on their way.
	fresh := func() []int16 {
		return tail(harness.WaitRecorded(t, call, len(call.Recorded()), listen+listen/2))
	}
	requireTone(t, tail(agentDevice.WaitHeard(t, caller, 2*listen)), callerHz)
	requireTone(t, tail(agentDevice.WaitHeard(t, supervisor, 2*listen)), supervisorHz)
	requireTone(t, tail(supervisorDevice.WaitHeard(t, caller, 2*listen)), callerHz)
	requireTone(t, tail(supervisorDevice.WaitHeard(t, agent, 2*listen)), agentHz)
	requireTone(t, fresh(), agentHz, supervisorHz, callerHz)

	g.Hear(t, session, caller, agent, supervisor)
	both := fresh()
	for _, hz := range []float64{agentHz, supervisorHz} {
		require.InDelta(t, -15, levelOf(both, hz), 1.5, "%g Hz in the mix", hz)
	}
	require.Less(t, levelOf(both, callerHz), -60.0, "the own voice is never in the mix")

	g.Hear(t, session, caller, agent)
	requireTone(t, fresh(), agentHz, supervisorHz, callerHz)

	g.Hear(t, session, supervisor, agent)
	supervisorDevice.Forget()
	requireTone(t, tail(supervisorDevice.WaitHeard(t, agent, 2*listen)), agentHz, callerHz)
	require.Less(t, len(supervisorDevice.Heard(caller)), harness.Rate/2, "the caller is not forwarded any more")
	g.HangUp(t, caller, dialog)
}

// TestTwoPhonesTalk joins two phones without a browser.
func TestTwoPhonesTalk(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){
		"+15557001": toneOf(700), "+15557002": toneOf(1100),
	}})
	session := g.Session(t)
	var calls []*lab.Call
	for _, number := range []string{"+15557001", "+15557002"} {
		phone, _ := g.Participant(t, "")
		g.Join(t, session, phone)
		dialog := g.Call(t, phone, number)
		calls = append(calls, trunk.NextCall(t))
		g.WaitState(t, phone, dialog, "ANSWERED")
	}
	requireTone(t, tail(harness.WaitRecorded(t, calls[0], len(calls[0].Recorded()), 2*listen)), 1100, 700)
	requireTone(t, tail(harness.WaitRecorded(t, calls[1], len(calls[1].Recorded()), 2*listen)), 700, 1100)
}

// TestPhoneMovesBetweenSessions takes a phone off the air and puts it into another session: its call stays up.
func TestPhoneMovesBetweenSessions(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": toneOf(1000)}})
	first, second := g.Session(t), g.Session(t)
	phone, _ := g.Participant(t, "")
	a, aToken := g.Participant(t, "")
	b, bToken := g.Participant(t, "")
	g.Join(t, first, phone)
	g.Join(t, first, a)
	g.Join(t, second, b)
	inFirst := harness.Connect(t, g, a, aToken)
	inFirst.PublishTone(440, -12, "")
	inSecond := harness.Connect(t, g, b, bToken)
	inSecond.PublishTone(620, -12, "")
	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")
	fresh := func() []int16 {
		return tail(harness.WaitRecorded(t, call, len(call.Recorded()), listen+listen/2))
	}
	requireTone(t, fresh(), 440)

	g.Must(t, http.MethodDelete, "/sessions/"+first+"/participants/"+phone, nil)
	require.Less(t, audio.Level(fresh()), -60.0, "off the air there is silence, and it flows")
	inFirst.Forget()

	g.Join(t, second, phone)
	requireTone(t, fresh(), 620, 440)
	requireTone(t, tail(inSecond.WaitHeard(t, phone, 2*listen)), 1000)
	require.Empty(t, inFirst.Heard(phone), "the first session hears it no more")
	require.Equal(t, "ANSWERED", g.DialogState(t, phone, dialog))
	g.HangUp(t, phone, dialog)
}

// TestKeysFromAPhone presses keys on a phone: each is reported once to the application and once to the device.
func TestKeysFromAPhone(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": toneOf(1000)}})
	callbacks := harness.NewCallbacks(t)
	session := g.Session(t)
	browser, token := g.Participant(t, "")
	phone, _ := g.Participant(t, callbacks.URL)
	g.Join(t, session, browser)
	g.Join(t, session, phone)
	device := harness.Connect(t, g, browser, token)
	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")
	device.WaitHeard(t, phone, listen)
	require.NoError(t, call.SendKeys("12#9"))

	pressed := func() (digits string) {
		for _, c := range callbacks.All() {
			if c.Text("event") == "onDtmf" {
				digits += c.Text("digit")
			}
		}
		return digits
	}
	notified := func() (digits string) {
		for _, n := range device.Notices() {
			if n.Method == "dtmf" {
				digits += n.Params.Text("digit")
			}
		}
		return digits
	}
	require.Eventually(t, func() bool { return pressed() == "12#9" && notified() == "12#9" }, harness.Patience, 20*time.Millisecond,
		"callbacks %q, notifications %q", pressed(), notified())
	g.HangUp(t, phone, dialog)
	callbacks.WaitEvent(t, phone, "onLeave")
	require.Equal(t, "12#9", pressed(), "each key once")
	require.Equal(t, "12#9", notified(), "each key once")
}
