package sip

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// over is one transport of a test: the agent, a caller that reaches it, and a trunk that it reaches.
type over struct {
	t         *testing.T
	transport string
	ca        *authority // over TLS: of the agent and of all its trunks
}

// eachTransport runs a test over UDP, TCP and TLS, or over those that are given.
func eachTransport(t *testing.T, test func(t *testing.T, o over), transports ...string) {
	t.Helper()
	if len(transports) == 0 {
		transports = []string{"udp", "tcp", "tls"}
	}
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			test(t, newOver(t, transport))
		})
	}
}

func newOver(t *testing.T, transport string) over {
	t.Helper()
	o := over{t: t, transport: transport}
	if transport == "tls" {
		o.ca = newAuthority(t)
	}
	return o
}

// config is cfg with the listener that is needed.
func (o over) config(cfg Config) Config {
	if o.transport == "tls" {
		cfg.Listen = []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0", "tls://127.0.0.1:0"}
		cfg = o.ca.secured(cfg)
	}
	return cfg
}

func (o over) agent(in dialogs.Callers, trunks ...Trunk) *gateway {
	o.t.Helper()
	return o.start(Config{Trunks: trunks}, in)
}

// start runs an agent with cfg.
func (o over) start(cfg Config, in dialogs.Callers) *gateway {
	o.t.Helper()
	g := startAgent(o.t, o.config(cfg), in)
	g.ca = o.ca
	return g
}

// caller is a SIPp that calls g.
func (o over) caller(g *gateway, scenario string, args ...string) *sipp {
	o.t.Helper()
	return callIn(o.t, g, scenario, o.transport, args...)
}

// trunk is a SIPp that is called, and the trunk that leads to it.
func (o over) trunk(scenario string, args ...string) (*sipp, Trunk) {
	o.t.Helper()
	phone := startSIPp(o.t, scenario, o.transport, args...)
	trunk := carrier(phone, o.transport)
	if o.transport != "udp" {
		awaitTCP(o.t, phone.addr)
	}
	if o.transport == "tls" {
		trunk.URI = "sip:" + relayToSIPp(o.t, phone.addr, o.ca.config("callee", "127.0.0.1")).addr + ";transport=tls"
	}
	return phone, trunk
}

// callee is a SIPp that is called, and an agent that has it as its trunk.
func (o over) callee(cfg Config, in dialogs.Callers, change func(*Trunk), scenario string, args ...string) (*sipp, *gateway) {
	o.t.Helper()
	phone, trunk := o.trunk(scenario, args...)
	if change != nil {
		change(&trunk)
	}
	cfg.Trunks = append([]Trunk{trunk}, cfg.Trunks...)
	return phone, o.start(cfg, in)
}

func TestCallerIsAnsweredOverEachTransport(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		phone, g := o.callee(Config{}, newCallers(nil), nil, "uas_answer")
		leg := dial(t, g)
		await(t, leg, dialogs.LegAnswered)
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestCalleeIsCancelledOverEachTransport(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		phone, g := o.callee(Config{}, newCallers(nil), nil, "uas_cancel")
		leg := dial(t, g)
		await(t, leg, dialogs.LegRinging)
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}
