package test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/audio"
	"tandem/test/harness"
)

// TestMute takes voices away and gives them back, while everybody talks: a browser's from a phone and from another
// browser, a phone's from browsers, from everybody and from one subscriber alone. Nothing is negotiated for it.
func TestMute(t *testing.T) {
	const callerHz, agentHz, down = 1000, 440, 60
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": toneOf(callerHz)}})
	session := g.Session(t)
	caller, _ := g.Participant(t, "")
	agent, agentToken := g.Participant(t, "")
	supervisor, supervisorToken := g.Participant(t, "")
	for _, p := range []string{caller, agent, supervisor} {
		g.Must(t, http.MethodPut, "/sessions/"+session+"/participants/"+p, nil)
	}
	g.Hear(t, session, caller, agent)
	g.Hear(t, session, agent, caller)
	g.Hear(t, session, supervisor, caller, agent)
	agentDevice := harness.Connect(t, g, agent, agentToken)
	agentDevice.PublishTone(agentHz, -12, "")
	supervisorDevice := harness.Connect(t, g, supervisor, supervisorToken)
	dialog := g.Call(t, caller, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, caller, dialog, "ANSWERED")

	// The first half second after a change is not judged: old packets are on their way.
	atPhone := func() []int16 {
		return tail(harness.WaitRecorded(t, call, len(call.Recorded()), listen+listen/2))
	}
	atBrowser := func(d *harness.Device, who string) []int16 {
		d.Forget()
		return tail(d.WaitHeard(t, who, listen+listen/2))
	}
	silentAtBrowser := func(d *harness.Device, who, why string) {
		t.Helper()
		atPhone() // as long as what was sent before may be on its way
		d.Forget()
		atPhone()
		require.Empty(t, d.Heard(who), why)
	}
	set := func(what, participant string, body harness.Object) {
		t.Helper()
		got := g.Must(t, http.MethodPost, "/sessions/"+session+"/participants/"+participant+"/"+what, body)
		if what == "mute" && body == nil {
			require.Equal(t, true, got["muted"])
		}
	}
	requireTone(t, tail(supervisorDevice.WaitHeard(t, agent, 2*listen)), agentHz)
	requireTone(t, tail(supervisorDevice.WaitHeard(t, caller, 2*listen)), callerHz)
	requireTone(t, tail(agentDevice.WaitHeard(t, caller, 2*listen)), callerHz)
	before := atPhone()
	requireTone(t, before, agentHz)
	_, revision := supervisorDevice.Streams()

	// The agent's browser, for everybody.
	set("mute", agent, nil)
	require.Less(t, audio.Level(atPhone()), audio.Level(before)-down)
	silentAtBrowser(supervisorDevice, agent, "muted for everybody")
	requireTone(t, atBrowser(supervisorDevice, caller), callerHz)
	set("unmute", agent, nil)
	requireTone(t, atPhone(), agentHz)
	requireTone(t, atBrowser(supervisorDevice, agent), agentHz)

	// For the phone alone.
	set("mute", agent, harness.Object{"subscriber": caller})
	require.Less(t, audio.Level(atPhone()), audio.Level(before)-down)
	requireTone(t, atBrowser(supervisorDevice, agent), agentHz)
	set("unmute", agent, harness.Object{"subscriber": caller})
	requireTone(t, atPhone(), agentHz)

	// The phone, for one browser alone, and for everybody.
	set("mute", caller, harness.Object{"subscriber": agent})
	silentAtBrowser(agentDevice, caller, "muted for this one")
	requireTone(t, atBrowser(supervisorDevice, caller), callerHz)
	set("mute", caller, nil)
	silentAtBrowser(supervisorDevice, caller, "muted for everybody")
	set("unmute", caller, nil)
	requireTone(t, atBrowser(agentDevice, caller), callerHz)
	requireTone(t, atBrowser(supervisorDevice, caller), callerHz)

	_, after := supervisorDevice.Streams()
	require.Equal(t, revision, after, "no offer was made for it")
	muted := func(d *harness.Device) (told []harness.Object) {
		for _, n := range d.Notices() {
			if n.Method == "streamMuted" {
				told = append(told, n.Params)
			}
		}
		return told
	}
	// Each device is told which stream it is, by the name that the stream has there.
	endpoints := map[*harness.Device]map[string]string{
		agentDevice:      {agent: agentDevice.Published(), caller: agentDevice.Endpoint(t, caller)},
		supervisorDevice: {agent: supervisorDevice.Endpoint(t, agent), caller: supervisorDevice.Endpoint(t, caller)},
	}
	everybody := func(who string, muted bool) harness.Object {
		return harness.Object{"participantId": who, "muted": muted}
	}
	alone := func(who string, muted bool, subscriber string) harness.Object {
		return harness.Object{"participantId": who, "muted": muted, "subscriber": subscriber}
	}
	wait := func(d *harness.Device, want ...harness.Object) {
		t.Helper()
		require.Eventually(t, func() bool { return len(muted(d)) >= len(want) }, harness.Patience, 10*time.Millisecond)
		for _, n := range want {
			n["endpointId"] = endpoints[d][n.Text("participantId")]
			require.NotEmpty(t, n["endpointId"])
		}
		require.Equal(t, want, muted(d))
	}
	wait(agentDevice,
		everybody(agent, true), everybody(agent, false), alone(agent, true, caller), alone(agent, false, caller),
		alone(caller, true, agent), everybody(caller, true), everybody(caller, false), alone(caller, false, agent))
	wait(supervisorDevice, everybody(agent, true), everybody(agent, false), everybody(caller, true), everybody(caller, false))

	// Who begins to hear somebody who is muted is told of that stream too.
	set("mute", caller, nil)
	g.Hear(t, session, supervisor, agent)
	g.Hear(t, session, supervisor, agent, caller)
	wait(supervisorDevice, everybody(agent, true), everybody(agent, false), everybody(caller, true), everybody(caller, false),
		everybody(caller, true), everybody(caller, true))
	g.HangUp(t, caller, dialog)
}
