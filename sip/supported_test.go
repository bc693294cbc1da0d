package sip

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// TestSupportedIsWhole: every message that says what we can do says all of it.
func TestSupportedIsWhole(t *testing.T) {
	t.Parallel()
	says := func(message string) {
		t.Helper()
		require.Equal(t, saidSupported, headerOf(message, "Supported"), message)
	}
	in := newCallers(nil)
	h := newHandCarrier(t)
	g := startAgent(t, Config{Trunks: []Trunk{office, h.trunk()}}, in)

	outside := newRawPeer(t, g)
	says(outside.ask(outside.request("OPTIONS", "ping")))
	for _, method := range []string{"OPTIONS", "INVITE"} {
		refusal := outside.ask(outside.request(method, "odd"+method, "Call-ID: raw", "Call-ID: "+method, "Max-Forwards: 70", "Require: sec-agree\r\nMax-Forwards: 70"))
		require.Contains(t, refusal, "SIP/2.0 420 ")
		require.Equal(t, "sec-agree", headerOf(refusal, "Unsupported"))
		says(refusal)
	}

	p := newTalker(t, g)
	p.send("INVITE", talkerSDP)
	leg := in.leg(t)
	leg.Answer()
	ok := p.await("SIP/2.0 200 ")
	says(ok)
	p.to = headerOf(ok, "To")
	p.send("ACK", "")
	await(t, leg, dialogs.LegAnswered)
	for _, method := range []string{"OPTIONS", "UPDATE"} {
		p.send(method, "")
		answer := p.answer()
		require.Contains(t, answer, "SIP/2.0 200 ")
		says(answer)
	}
	for _, method := range []string{"INVITE", "UPDATE", "REFER"} {
		p.send(method, "", "Require: sec-agree", "Refer-To: <sip:+15550105@127.0.0.1>")
		refusal := p.answer()
		require.Contains(t, refusal, "SIP/2.0 420 ")
		require.Equal(t, "sec-agree", headerOf(refusal, "Unsupported"))
		says(refusal)
		if method == "INVITE" {
			p.refused()
		}
	}
	p.send("INVITE", talkerSDP)
	says(p.answer())
	p.send("ACK", "")
	p.bye(leg)

	out := dial(t, g)
	invite := h.invited()
	says(invite)
	h.respond(invite, "200 OK", talkerSDP)
	h.await("ACK ")
	await(t, out, dialogs.LegAnswered)
	out.Hold(true)
	again := h.await("INVITE ")
	says(again)
	h.respond(again, "200 OK", talkerSDP+"a=recvonly\r\n")
	h.await("ACK ")
	await(t, out, dialogs.LegHold)
	h.send("BYE", "")
	end(t, out)
	g.idle(t)
}

// TestWhatIsSupportedMayBeRequired: of what Supported names nothing is refused, in any case, alone or together.
func TestWhatIsSupportedMayBeRequired(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	tags := append(strings.Split(saidSupported, ", "), "UUI", saidSupported)
	for i, tag := range tags {
		t.Run(tag, func(t *testing.T) {
			ping := newRawPeer(t, g)
			require.Contains(t, ping.ask(ping.request("OPTIONS", fmt.Sprint("p", i), "Max-Forwards: 70", "Require: "+tag+"\r\nMax-Forwards: 70")), "SIP/2.0 200 ")
			p := newTalker(t, g)
			p.send("INVITE", talkerSDP, "Require: "+tag, "User-to-User: cafe;encoding=hex")
			ringing := p.await("SIP/2.0 ")
			for strings.HasPrefix(ringing, "SIP/2.0 100 ") {
				ringing = p.await("SIP/2.0 ")
			}
			require.Contains(t, ringing, "SIP/2.0 180 ")
			leg := in.leg(t)
			leg.Hangup(0)
			require.Contains(t, p.answer(), "SIP/2.0 603 ")
			p.refused()
			require.Equal(t, byThisEnd, end(t, leg).Details)
			seen := in.calls()
			require.Equal(t, "cafe;encoding=hex", seen[len(seen)-1].UserToUser)
		})
	}
	p, leg := talk(t, g, in, "Require: uui", "User-to-User: cafe;encoding=hex")
	p.send("REFER", "", "Refer-To: <sip:+15550105@127.0.0.1>", "Require: norefersub", "Refer-Sub: false")
	accepted := p.answer()
	require.Contains(t, accepted, "SIP/2.0 202 ")
	require.Equal(t, "false", headerOf(accepted, "Refer-Sub"))
	await(t, leg, dialogs.LegRefer)
	leg.Referred(200)
	p.bye(leg)
	g.idle(t)
}
