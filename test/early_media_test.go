package test

import (
	"testing"

	"tandem/lab"
	"tandem/test/harness"
)

// TestEarlyMediaIsHeardByBrowsers measures a call that is heard while it rings, both ways, and after its answer.
func TestEarlyMediaIsHeardByBrowsers(t *testing.T) {
	const ringback, voice, agentHz = 850, 1000, 440
	answer := make(chan struct{})
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": func(c *lab.Call) {
		c.SetSource(lab.Tone(0.25, ringback))
		if c.Ring() != nil || c.EarlyMedia() != nil || c.Ring() != nil { // 180, 183 with SDP, and 180 again
			return
		}
		select {
		case <-answer:
		case <-c.Ended():
			return
		}
		c.SetSource(lab.Tone(0.25, voice))
		if c.Answer() == nil {
			<-c.Ended()
		}
	}}})
	session := g.Session(t)
	browser, token := g.Participant(t, "")
	phone, _ := g.Participant(t, "")
	g.Join(t, session, browser)
	g.Join(t, session, phone)
	device := harness.Connect(t, g, browser, token)
	device.PublishTone(agentHz, -12, "microphone")

	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	requireTone(t, tail(device.WaitHeard(t, phone, 2*listen)), ringback, agentHz)
	requireTone(t, tail(harness.WaitRecorded(t, call, len(call.Recorded()), 2*listen)), agentHz, ringback)
	g.WaitState(t, phone, dialog, "RINGING") // nobody has answered yet

	close(answer)
	g.WaitState(t, phone, dialog, "ANSWERED")
	device.Forget()
	requireTone(t, tail(device.WaitHeard(t, phone, 2*listen)), voice, agentHz, ringback)
	g.HangUp(t, phone, dialog)
}
