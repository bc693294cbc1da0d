package test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/store/storetest"
	"tandem/test/audio"
	"tandem/test/harness"
)

// transfers are the callbacks of transfers about a participant, each counted once.
func transfers(callbacks *harness.Callbacks, participant string) []harness.Callback {
	var all []harness.Callback
	seen := map[string]bool{}
	for _, c := range callbacks.All() {
		if c.Accepted && c.Text("participantId") == participant && c.Text("event") == "onTransfer" && !seen[c.ID] {
			seen[c.ID] = true
			all = append(all, c)
		}
	}
	return all
}

// TestBridgedTransferIsHeard joins the caller with a number that the gateway calls: they hear each other, the session
// hears neither, and the call stays up until one of them hangs up.
func TestBridgedTransferIsHeard(t *testing.T) {
	const callerHz, targetHz, agentHz = 700, 1100, 440
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){
		"+15557001": toneOf(callerHz), "+15557002": toneOf(targetHz),
	}})
	callbacks := harness.NewCallbacks(t)
	session := g.Session(t)
	agent, token := g.Participant(t, "")
	caller, _ := g.Participant(t, callbacks.URL)
	g.Join(t, session, agent)
	g.Join(t, session, caller)
	device := harness.Connect(t, g, agent, token)
	device.PublishTone(agentHz, -12, "")
	dialog := g.Call(t, caller, "+15557001")
	first := trunk.NextCall(t)
	g.WaitState(t, caller, dialog, "ANSWERED")
	fresh := func(c *lab.Call) []int16 {
		return tail(harness.WaitRecorded(t, c, len(c.Recorded()), listen+listen/2))
	}
	requireTone(t, tail(device.WaitHeard(t, caller, 2*listen)), callerHz)
	requireTone(t, fresh(first), agentHz)

	path := "/participants/" + caller + "/dialogs/" + dialog
	status, text := g.Do(t, http.MethodPost, path+"/transfer", harness.Object{"to": "+15557002", "mode": "bridge"})
	require.Equal(t, http.StatusAccepted, status, "%s", text)
	second := trunk.NextCall(t)
	told := callbacks.WaitEvent(t, caller, "onTransfer")
	require.Equal(t, "SUCCEEDED", told.Text("state"))
	require.Equal(t, []string{"+15557002", "bridge", "APPLICATION", dialog},
		[]string{told.Text("to"), told.Text("mode"), told.Text("by"), told.Text("dialogId")})
	requireTone(t, fresh(first), targetHz, agentHz)
	requireTone(t, fresh(second), callerHz, agentHz)
	device.Forget()
	requireTone(t, fresh(first), targetHz, agentHz)
	require.Empty(t, device.Heard(caller), "the session hears them no more")
	require.Equal(t, "ANSWERED", g.DialogState(t, caller, dialog))

	require.NoError(t, second.Hangup())
	end := callbacks.WaitState(t, caller, "TERMINATED")
	require.Equal(t, "hung up by the target of the transfer", end.Text("eventData", "details"))
	callbacks.WaitEvent(t, caller, "onLeave")
	<-first.Ended()
	require.Len(t, transfers(callbacks, caller), 1)
}

// TestBridgedTransferFails: the caller is in its session as before.
func TestBridgedTransferFails(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"+15557001": toneOf(700)}})
	callbacks := harness.NewCallbacks(t)
	session := g.Session(t)
	agent, token := g.Participant(t, "")
	caller, _ := g.Participant(t, callbacks.URL)
	g.Join(t, session, agent)
	g.Join(t, session, caller)
	device := harness.Connect(t, g, agent, token)
	device.PublishTone(440, -12, "")
	dialog := g.Call(t, caller, "+15557001")
	call := trunk.NextCall(t)
	g.WaitState(t, caller, dialog, "ANSWERED")
	g.Must(t, http.MethodPost, "/participants/"+caller+"/dialogs/"+dialog+"/transfer", harness.Object{"to": "+15550101", "mode": "bridge"})
	told := callbacks.WaitEvent(t, caller, "onTransfer")
	require.Equal(t, "FAILED", told.Text("state"))
	require.EqualValues(t, 486, told.Object["sipCode"])
	require.Equal(t, "486 Busy Here", told.Text("details"))
	requireTone(t, tail(harness.WaitRecorded(t, call, len(call.Recorded()), 2*listen)), 440)
	device.Forget()
	requireTone(t, tail(device.WaitHeard(t, caller, 2*listen)), 700)
	g.HangUp(t, caller, dialog)
	callbacks.WaitEvent(t, caller, "onLeave")
	require.Len(t, transfers(callbacks, caller), 1)
}

// TestReferIsCalledBack lets a phone deal with a REFER in every way: one onTransfer each, and the call is over after a
// success, up after a failure.
func TestReferIsCalledBack(t *testing.T) {
	cases := []struct {
		name, scenario, outcome, state string
		code                           float64
		details                        string
	}{
		{"succeeds", "uas_refer", "200 OK", "SUCCEEDED", 200, "200 OK"},
		{"busy", "uas_refer", "486 Busy Here", "FAILED", 486, "486 Busy Here"},
		{"declined", "uas_refer", "603 Decline", "FAILED", 603, "603 Decline"},
		{"405", "uas_refer_405", "-", "FAILED", 405, "405 Method Not Allowed"},
		{"603", "uas_refer_603", "-", "FAILED", 603, "603 Decline"},
		{"403", "uas_refer_403", "-", "FAILED", 403, "403 Forbidden"},
		{"no report", "uas_refer_no_report", "-", "SUCCEEDED", 202, "202 Accepted; the far end reports no outcome"},
		{"silence", "uas_refer_silent", "-", "FAILED", 0, "no outcome within 2s after the far end's last news, 202"},
		{"BYE", "uas_refer_bye", "-", "SUCCEEDED", 202, "the far end accepted the transfer and hung up without reporting its outcome"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			phone := harness.StartSIPp(t, c.scenario, "-key", "outcome", c.outcome)
			cfg := harness.Config(t)
			cfg.SIP.TransferTimeout = 2 * time.Second
			cfg.Trunks = append(cfg.Trunks, harness.Trunk("pbx", "sip:"+phone.Addr))
			g := harness.Start(t, cfg)
			callbacks := harness.NewCallbacks(t)
			caller, _ := g.Participant(t, callbacks.URL)
			dialog := g.Call(t, caller, "+15557001")
			g.WaitState(t, caller, dialog, "ANSWERED")
			g.Must(t, http.MethodPost, "/participants/"+caller+"/dialogs/"+dialog+"/transfer", harness.Object{"to": "+15550105"})
			told := callbacks.WaitEvent(t, caller, "onTransfer")
			require.Equal(t, c.state, told.Text("state"))
			require.Equal(t, c.details, told.Text("details"))
			if c.code != 0 {
				require.Equal(t, c.code, told.Object["sipCode"])
			}
			if c.state == "FAILED" {
				require.Equal(t, "ANSWERED", g.DialogState(t, caller, dialog))
				g.HangUp(t, caller, dialog)
			}
			callbacks.WaitEvent(t, caller, "onLeave")
			phone.Passed()
			require.Len(t, transfers(callbacks, caller), 1)
		})
	}
}

// TestAttendedTransfer sends a phone into our place in the call of another phone. What it reads in the REFER names that
// call as the other phone knows it (RFC 3891 §3: to-tag is the tag of who gets the Replaces, from-tag that of its far end),
// whichever of us began it, and leads to the other phone's Contact, or where the application says.
func TestAttendedTransfer(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"called", "calls in"} {
		for _, to := range []string{"", "sip:sales@pbx.example.com:5070;transport=tcp"} {
			t.Run(strings.TrimSpace("the other phone "+role+" "+to), func(t *testing.T) {
				t.Parallel()
				phone := harness.StartSIPp(t, "uas_refer_attended")
				cfg := harness.Config(t)
				pbx := harness.Trunk("pbx", "sip:"+phone.Addr)
				pbx.Prefixes = []string{"+15557001"}
				cfg.Trunks = append(cfg.Trunks, pbx)
				var other *harness.SIPp
				if role == "called" {
					other = harness.StartSIPp(t, "uas_answer")
					second := harness.Trunk("second", "sip:"+other.Addr)
					second.Allow = nil
					cfg.Trunks = append(cfg.Trunks, second)
				}
				g := harness.Start(t, cfg)
				callbacks := harness.NewCallbacks(t)
				caller, _ := g.Participant(t, callbacks.URL)
				consulted, token := g.Participant(t, callbacks.URL)
				if role == "called" {
					g.Call(t, consulted, "+15557002")
				} else {
					other = harness.StartSIPp(t, "uac_wait_bye", g.SIPAddr(t, "udp"), "-s", "+15550199", "-key", "caller", "+15550123", "-key", "token", token)
				}
				callbacks.WaitState(t, consulted, "ANSWERED")
				dialog := g.Call(t, caller, "+15557001")
				g.WaitState(t, caller, dialog, "ANSWERED")

				body := harness.Object{"replaces": g.LastDialog(t, consulted)}
				if to != "" {
					body["to"] = to
				}
				g.Must(t, http.MethodPost, "/participants/"+caller+"/dialogs/"+dialog+"/transfer", body)
				require.Equal(t, "SUCCEEDED", callbacks.WaitEvent(t, caller, "onTransfer").Text("state"))
				callbacks.WaitState(t, caller, "TERMINATED")
				phone.Passed()
				callbacks.WaitState(t, consulted, "TERMINATED")
				other.Passed()

				ack := regexp.MustCompile(`(?s)\nACK .*?\nFrom: [^\n]*;tag=(\w+).*?\nTo: [^\n]*;tag=(\w+).*?\nCall-ID: (\S+)`).FindStringSubmatch(other.Messages())
				require.Len(t, ack, 4)
				theirs, ours := ack[2], ack[1]
				if role != "called" {
					theirs, ours = ours, theirs
				}
				if to == "" {
					contact := regexp.MustCompile(`\nContact: <(sip:(?:phone|caller)@[^>]*)>`).FindStringSubmatch(other.Messages())
					require.Len(t, contact, 2)
					to = contact[1]
				}
				referTo := regexp.MustCompile(`\nRefer-To: <([^?]*)\?Replaces=([^>&]*)>\r?\n`).FindStringSubmatch(phone.Messages())
				require.Len(t, referTo, 3)
				require.Equal(t, to, referTo[1])
				named, err := url.PathUnescape(referTo[2])
				require.NoError(t, err)
				require.Equal(t, ack[3]+";to-tag="+theirs+";from-tag="+ours, named)
			})
		}
	}
}

// TestTransferorLeavesAtOnce: a phone asks for a transfer and hangs up before the target answers. The session hears the
// target under the same stream, and nobody else loses the call.
func TestTransferorLeavesAtOnce(t *testing.T) {
	answer := make(chan struct{})
	trunk := harness.StartLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"+15557002": func(c *lab.Call) {
		if c.Ring() == nil {
			<-answer
			toneOf(1100)(c)
		}
	}}})
	cfg := harness.Config(t)
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("lab", trunk.URI("udp")))
	g := harness.Start(t, cfg)
	callbacks := harness.NewCallbacks(t)
	session := g.Session(t)
	agent, agentToken := g.Participant(t, "")
	caller, token := g.Participant(t, callbacks.URL)
	g.Join(t, session, agent)
	g.Join(t, session, caller)
	device := harness.Connect(t, g, agent, agentToken)
	device.PublishTone(440, -12, "")

	phone := harness.StartSIPp(t, "uac_refer_bye", g.SIPAddr(t, "udp"), "-s", "+15550199", "-key", "caller", "+15550123",
		"-key", "token", token, "-key", "refer_to", "<sip:+15557002@"+strings.TrimPrefix(g.SIPAddr(t, "udp"), "sip:")+">")
	phone.Passed()
	dialog := g.LastDialog(t, caller)
	require.Equal(t, "ANSWERED", g.DialogState(t, caller, dialog), "only its own leg has ended")
	close(answer)
	call := trunk.NextCall(t)
	told := callbacks.WaitEvent(t, caller, "onTransfer")
	require.Equal(t, []string{"SUCCEEDED", "FAR END", "refer", "+15557002"},
		[]string{told.Text("state"), told.Text("by"), told.Text("mode"), told.Text("to")})
	requireTone(t, tail(device.WaitHeard(t, caller, 2*listen)), 1100)
	requireTone(t, tail(harness.WaitRecorded(t, call, len(call.Recorded()), 2*listen)), 440)
	require.Equal(t, "ANSWERED", g.DialogState(t, caller, dialog))
	require.NoError(t, call.Hangup())
	callbacks.WaitState(t, caller, "TERMINATED")
	callbacks.WaitEvent(t, caller, "onLeave")
	require.Len(t, transfers(callbacks, caller), 1)
	require.Equal(t, []string{"RINGING", "ANSWERED", "onConnect", "onTransfer", "TERMINATED", "onLeave"}, words(callbacks, caller))
}

// words are the callbacks about a participant in short, without the state of a transfer.
func words(callbacks *harness.Callbacks, participant string) []string {
	all := callbacks.Words(participant)
	for i, word := range all {
		if word == "SUCCEEDED" || word == "FAILED" {
			all[i] = "onTransfer"
		}
	}
	return all
}

// TestPhoneIsTakenOver calls in with a Replaces that names the call: who calls takes its place, and the old leg is hung up.
func TestPhoneIsTakenOver(t *testing.T) {
	t.Parallel()
	phone := harness.StartSIPp(t, "uas_answer")
	cfg := harness.Config(t)
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("pbx", "sip:"+phone.Addr))
	g := harness.Start(t, cfg)
	callbacks := harness.NewCallbacks(t)
	caller, _ := g.Participant(t, callbacks.URL)
	dialog := g.Call(t, caller, "+15557001")
	g.WaitState(t, caller, dialog, "ANSWERED")
	ack := regexp.MustCompile(`(?s)\nACK .*?\nFrom: [^\n]*;tag=(\w+).*?\nTo: [^\n]*;tag=(\w+).*?\nCall-ID: (\w+)`).FindStringSubmatch(phone.Messages())
	require.Len(t, ack, 4)
	taker := harness.StartSIPp(t, "uac_replaces", g.SIPAddr(t, "udp"), "-s", "+15550199", "-key", "caller", "+15550123", "-d", "1500",
		"-key", "replaces", ack[3]+";to-tag="+ack[1]+";from-tag="+ack[2])
	told := callbacks.WaitEvent(t, caller, "onTransfer")
	require.Equal(t, []string{"SUCCEEDED", "FAR END", "replaces", "+15550123", dialog},
		[]string{told.Text("state"), told.Text("by"), told.Text("mode"), told.Text("to"), told.Text("dialogId")})
	phone.Passed() // it got its BYE
	taker.Passed()
	callbacks.WaitState(t, caller, "TERMINATED")
	callbacks.WaitEvent(t, caller, "onLeave")
	require.Len(t, transfers(callbacks, caller), 1)
}

// TestMoveTouchesNoLeg moves a phone from one session to another: SIPp sees nothing of it, since any request before the
// BYE would fail its scenario, and plays what it hears back into the session where the phone is.
func TestMoveTouchesNoLeg(t *testing.T) {
	phone := harness.StartSIPp(t, "uas_answer", "-rtp_echo")
	cfg := harness.Config(t)
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("pbx", "sip:"+phone.Addr))
	g := harness.Start(t, cfg)
	first, second := g.Session(t), g.Session(t)
	caller, _ := g.Participant(t, "")
	a, aToken := g.Participant(t, "")
	b, bToken := g.Participant(t, "")
	g.Join(t, first, caller)
	g.Join(t, first, a)
	g.Join(t, second, b)
	inFirst := harness.Connect(t, g, a, aToken)
	inFirst.PublishTone(440, -12, "")
	inSecond := harness.Connect(t, g, b, bToken)
	inSecond.PublishTone(620, -12, "")
	dialog := g.Call(t, caller, "+15557001")
	g.WaitState(t, caller, dialog, "ANSWERED")
	requireTone(t, tail(inFirst.WaitHeard(t, caller, 2*listen)), 440)
	g.Must(t, http.MethodDelete, "/sessions/"+first+"/participants/"+caller, nil)
	g.Join(t, second, caller)
	requireTone(t, tail(inSecond.WaitHeard(t, caller, 2*listen)), 620, 440)
	g.HangUp(t, caller, dialog)
	phone.Passed()
	requests := regexp.MustCompile(`(?m)^(INVITE|ACK|BYE|[A-Z]+) sip:\S+ SIP/2.0`).FindAllStringSubmatch(phone.Messages(), -1)
	var methods []string
	for _, r := range requests {
		methods = append(methods, r[1])
	}
	require.Equal(t, []string{"INVITE", "ACK", "BYE"}, methods)
}

// TestHoldIsHeard: on hold by us, the phone hears silence and the session nothing of it; then both are back.
func TestHoldIsHeard(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": toneOf(1000)}})
	callbacks := harness.NewCallbacks(t)
	session := g.Session(t)
	agent, token := g.Participant(t, "")
	caller, _ := g.Participant(t, callbacks.URL)
	g.Join(t, session, agent)
	g.Join(t, session, caller)
	device := harness.Connect(t, g, agent, token)
	device.PublishTone(440, -12, "")
	dialog := g.Call(t, caller, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, caller, dialog, "ANSWERED")
	fresh := func() []int16 {
		return tail(harness.WaitRecorded(t, call, len(call.Recorded()), listen+listen/2))
	}
	requireTone(t, fresh(), 440)
	path := "/participants/" + caller + "/dialogs/" + dialog
	details := func(want string) {
		t.Helper()
		callbacks.Wait(t, want, func(c harness.Callback) bool {
			return c.Text("state") == "ANSWERED" && c.Text("eventData", "details") == want
		})
	}
	g.Must(t, http.MethodPost, path+"/hold", nil)
	details("HELD")
	held, _ := g.Must(t, http.MethodGet, path, nil)["hold"].(map[string]any)
	require.Equal(t, map[string]any{"byUs": true, "byFarEnd": false}, held)
	require.Less(t, audio.Level(fresh()), -60.0, "silence, and it flows")
	device.Forget()
	require.Less(t, audio.Level(fresh()), -60.0)
	heard := device.Heard(caller)
	require.True(t, len(heard) == 0 || audio.Level(heard) < -60, "%d samples of the phone are heard", len(heard))

	g.Must(t, http.MethodPost, path+"/resume", nil)
	details("RESUMED")
	requireTone(t, fresh(), 440)
	device.Forget()
	requireTone(t, tail(device.WaitHeard(t, caller, 2*listen)), 1000)
	g.HangUp(t, caller, dialog)
}

// TestKillDuringATransfer: the next start reports that it failed, once, before the end of its call.
func TestKillDuringATransfer(t *testing.T) {
	for name, database := range map[string]func(testing.TB) string{
		"SQLite": func(testing.TB) string { return "" }, "PostgreSQL": storetest.Postgres,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trunk := harness.StartLab(t, lab.Config{})
			p := harness.NewProcess(t, database(t), trunk.URI("udp"))
			p.Start(t)
			callbacks := harness.NewCallbacks(t)
			caller, _ := p.Participant(t, callbacks.URL)
			dialog := p.Call(t, caller, "+15550100")
			p.WaitState(t, caller, dialog, "ANSWERED")
			callbacks.WaitEvent(t, caller, "onConnect")
			status, text := p.Do(t, http.MethodPost, "/participants/"+caller+"/dialogs/"+dialog+"/transfer",
				harness.Object{"to": "+15550102", "mode": "bridge"})
			require.Equal(t, http.StatusAccepted, status, "%s", text)
			p.Kill()
			p.Start(t)
			told := callbacks.WaitEvent(t, caller, "onTransfer")
			require.Equal(t, []string{"FAILED", "gateway restarted", "+15550102"}, []string{told.Text("state"), told.Text("details"), told.Text("to")})
			callbacks.WaitEvent(t, caller, "onDisconnect")
			require.Len(t, transfers(callbacks, caller), 1)
			require.Nil(t, p.Must(t, http.MethodGet, "/participants/"+caller+"/dialogs/"+dialog, nil)["transfer"])
			p.Stop(t)
		})
	}
}

// TestPhoneLeavesItsCallsToEachOther: a phone has two calls with the gateway, in two sessions, and transfers one to the
// other: the sessions hear each other, and the phone is out of both.
func TestPhoneLeavesItsCallsToEachOther(t *testing.T) {
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			way := harness.NewWay(t, transport)
			consulted, uri := way.Callee(t, "uas_answer")
			cfg := harness.Config(t)
			way.Prepare(t, &cfg)
			cfg.Trunks = append(cfg.Trunks, harness.Trunk("pbx", uri))
			g := harness.Start(t, cfg)
			callbacks := harness.NewCallbacks(t)
			first, second := g.Session(t), g.Session(t)
			one, token := g.Participant(t, callbacks.URL)
			two, _ := g.Participant(t, callbacks.URL)
			a, aToken := g.Participant(t, "")
			b, bToken := g.Participant(t, "")
			g.Join(t, first, one)
			g.Join(t, first, a)
			g.Join(t, second, two)
			g.Join(t, second, b)
			inFirst := harness.Connect(t, g, a, aToken)
			inFirst.PublishTone(440, -12, "")
			inSecond := harness.Connect(t, g, b, bToken)
			inSecond.PublishTone(620, -12, "")
			dialog := g.Call(t, two, "+15557001")
			g.WaitState(t, two, dialog, "ANSWERED")
			ack := regexp.MustCompile(`(?s)\nACK .*?\nFrom: [^\n]*;tag=(\w+).*?\nTo: [^\n]*;tag=(\w+).*?\nCall-ID: (\w+)`).FindStringSubmatch(consulted.Messages())
			require.Len(t, ack, 4)
			named := "<sip:tandem@" + g.SIPAddr(t, transport) + "?Replaces=" + ack[3] + "%3Bto-tag%3D" + ack[1] + "%3Bfrom-tag%3D" + ack[2] + ">"
			phone := way.Caller(t, g, "uac_refer_stays", "-s", "+15550199", "-key", "caller", "+15550123",
				"-key", "token", token, "-key", "refer_to", named)
			for participant, mode := range map[string]string{one: "refer", two: "replaces"} {
				told := callbacks.WaitEvent(t, participant, "onTransfer")
				require.Equal(t, []string{"SUCCEEDED", mode, "FAR END"}, []string{told.Text("state"), told.Text("mode"), told.Text("by")})
			}
			consulted.Passed()
			inFirst.Forget()
			inSecond.Forget()
			requireTone(t, tail(inFirst.WaitHeard(t, one, 2*listen)), 620, 440)
			requireTone(t, tail(inSecond.WaitHeard(t, two, 2*listen)), 440, 620)
			phone.Passed() // it is hung up, since it does not do so itself
			require.Equal(t, "ANSWERED", g.DialogState(t, two, dialog))
			g.HangUp(t, two, dialog)
			callbacks.WaitEvent(t, two, "onLeave")
			callbacks.WaitState(t, one, "TERMINATED")
			callbacks.WaitEvent(t, one, "onLeave")
			require.Len(t, transfers(callbacks, one), 1)
			require.Len(t, transfers(callbacks, two), 1)
		})
	}
}
