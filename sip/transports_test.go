package sip

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// over is one transport of the core set: the agent, a caller that reaches it, and a trunk that it reaches.
type over struct {
	t         *testing.T
	transport string
	ca        *authority
}

// eachTransport runs a test over UDP, TCP and TLS.
func eachTransport(t *testing.T, test func(t *testing.T, o over)) {
	t.Helper()
	t.Parallel()
	for _, transport := range []string{"udp", "tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			test(t, over{t, transport, newAuthority(t)})
		})
	}
}

func (o over) agent(in dialogs.Callers, trunks ...Trunk) *gateway {
	o.t.Helper()
	cfg := o.ca.secured(Config{Listen: []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0", "tls://127.0.0.1:0"}, Trunks: trunks})
	return startAgent(o.t, cfg, in)
}

// caller is a SIPp that calls g.
func (o over) caller(g *gateway, scenario string, args ...string) *sipp {
	o.t.Helper()
	at, transport := g.at(o.transport), o.transport
	if transport == "tls" {
		at, transport = relayToAgent(o.t, at, o.ca.config("caller", "127.0.0.1")).addr, "tcp"
	}
	fixed := []string{at, "-s", "+15550100", "-key", "caller", "+15550123", "-key", "token", "a.b.c", "-d", "50"}
	return startSIPp(o.t, scenario, transport, append(fixed, args...)...)
}

// callee is a SIPp that is called over the trunk.
func (o over) callee(scenario string, args ...string) (*sipp, Trunk) {
	o.t.Helper()
	transport := o.transport
	if transport == "tls" {
		transport = "tcp"
	}
	s := startSIPp(o.t, scenario, transport, args...)
	at := s.addr
	if transport == "tcp" {
		awaitTCP(o.t, at)
	}
	if o.transport == "tls" {
		at = relayToSIPp(o.t, at, o.ca.config("callee", "127.0.0.1")).addr
	}
	return s, Trunk{Name: "carrier", Account: "1", URI: "sip:" + at + ";transport=" + o.transport}
}

func TestCallerIsAnsweredOverEachTransport(t *testing.T) {
	eachTransport(t, func(t *testing.T, o over) {
		in := newCallers(nil)
		g := o.agent(in, office)
		phone := o.caller(g, "uac_token")
		leg := in.leg(t)
		leg.Answer()
		await(t, leg, dialogs.LegAnswered)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
		if o.transport != "udp" {
			require.Contains(t, phone.messages(), ";transport="+o.transport+">", "the Contact names the transport")
		}
	})
}

func TestCallerIsHungUpOverEachTransport(t *testing.T) {
	eachTransport(t, func(t *testing.T, o over) {
		in := newCallers(nil)
		g := o.agent(in, office)
		phone := o.caller(g, "uac_wait_bye", "-nr")
		leg := in.leg(t)
		leg.Answer()
		await(t, leg, dialogs.LegAnswered)
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestCallerHoldsOverEachTransport(t *testing.T) {
	eachTransport(t, func(t *testing.T, o over) {
		in := newCallers(nil)
		g := o.agent(in, office)
		phone := o.caller(g, "uac_hold")
		leg := in.leg(t)
		leg.Answer()
		await(t, leg, dialogs.LegAnswered)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestCalleeAnswersOverEachTransport(t *testing.T) {
	eachTransport(t, func(t *testing.T, o over) {
		phone, trunk := o.callee("uas_answer")
		g := o.agent(newCallers(nil), trunk)
		leg := dial(t, g)
		await(t, leg, dialogs.LegAnswered)
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestCalleeIsCancelledOverEachTransport(t *testing.T) {
	eachTransport(t, func(t *testing.T, o over) {
		phone, trunk := o.callee("uas_cancel")
		g := o.agent(newCallers(nil), trunk)
		leg := dial(t, g)
		await(t, leg, dialogs.LegRinging)
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}
