package sip

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
)

// office is a trunk from which this machine may call in.
var office = Trunk{Name: "office", Account: "1", Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// elsewhere is a trunk from which others may call in.
var elsewhere = Trunk{Name: "elsewhere", Account: "1", Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.9/32")}}

// callIn starts a scenario of a caller towards g.
func callIn(t *testing.T, g *gateway, scenario, transport string, args ...string) *sipp {
	t.Helper()
	at := g.at(transport)
	if transport == "tls" {
		at = relayToAgent(t, at, g.ca.config("caller", "127.0.0.1")).addr
	}
	fixed := []string{at, "-s", "+15550100", "-key", "caller", "+15550123", "-key", "token", "a.b.c", "-d", "50"}
	return startSIPp(t, scenario, transport, append(fixed, args...)...)
}

func TestIncomingCallIsAnswered(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			in := newCallers(nil)
			g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
			phone := callIn(t, g, "uac_token", transport)
			leg := in.leg(t)
			leg.Answer()
			agreed := next(t, leg)
			require.Equal(t, dialogs.LegMedia, agreed.Kind)
			require.Equal(t, media.PCMU, agreed.Media.Speech)
			require.Equal(t, 101, agreed.Media.EventType)
			require.Equal(t, dialogs.LegAnswered, next(t, leg).Kind)
			require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
			phone.passed()
			g.idle(t)

			seen := in.calls()
			require.Len(t, seen, 1)
			require.Equal(t, phone.addr, net.JoinHostPort(seen[0].Source.Addr().String(), portOf(phone.addr)))
			seen[0].Source = netip.AddrPort{}
			require.Equal(t, dialogs.Incoming{
				Trunk: "office", Account: "1", To: "+15550100", From: "+15550123", UserToUser: "a.b.c;encoding=jwt",
			}, seen[0])
		})
	}
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func TestIncomingCallIsHungUpHere(t *testing.T) {
	t.Parallel()
	for _, scenario := range []string{"uac_wait_bye", "uac_late_ack", "uac_no_ack"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(t *testing.T, transport string) {
				in := newCallers(nil)
				g := newOver(t, transport).agent(in, office)
				phone := callIn(t, g, scenario, transport, "-nr")
				leg := in.leg(t)
				leg.Answer()
				want := dialogs.Cause{Details: byThisEnd}
				switch scenario {
				case "uac_no_ack":
					want = dialogs.Cause{Reason: dialogs.Error, Details: "no ACK came"}
				case "uac_late_ack":
					phone.sees(1, "SIP/2.0 200 ")
					leg.Hangup(0)
				default:
					await(t, leg, dialogs.LegAnswered)
					leg.Hangup(0)
				}
				require.Equal(t, want, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestIncomingCallVariants(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scenario string
		args     []string
		to, uui  string
	}{
		{"uac_no_user", nil, "", "a.b.c;encoding=jwt"},
		{"uac_two_headers", nil, "+15550100", "1234;encoding=base64,a.b.c;encoding=jwt"},
		{"uac_header", []string{"-key", "uui", `"a.b.c";encoding=jwt,MTIz;encoding=base64`}, "+15550100", `"a.b.c";encoding=jwt,MTIz;encoding=base64`},
		{"uac_repeat", []string{"-nr"}, "+15550100", "a.b.c;encoding=jwt"},
		{"uac_lost_ack", []string{"-nr"}, "+15550100", "a.b.c;encoding=jwt"},
		{"uac_late_offer", nil, "+15550100", "a.b.c;encoding=jwt"},
		{"uac_methods", nil, "+15550100", "a.b.c;encoding=jwt"},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			transports := []string{"udp", "tcp", "tls"}
			if c.scenario == "uac_repeat" { // over TCP nothing is repeated
				transports = transports[:1]
			}
			overEach(t, transports, func(t *testing.T, transport string) {
				in := newCallers(nil)
				g := newOver(t, transport).agent(in, office)
				phone := callIn(t, g, c.scenario, transport, c.args...)
				leg := in.leg(t)
				leg.Answer()
				agreed := await(t, leg, dialogs.LegMedia)
				if c.scenario == "uac_late_offer" {
					require.Equal(t, media.PCMA, agreed.Media.Speech)
				}
				await(t, leg, dialogs.LegAnswered)
				require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
				phone.passed()
				g.idle(t)
				seen := in.calls()
				require.Len(t, seen, 1)
				require.Equal(t, c.to, seen[0].To)
				require.Equal(t, c.uui, seen[0].UserToUser)
			})
		})
	}
}

func TestMergedInviteIsRefused(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		in := newCallers(nil)
		g := o.agent(in, office)
		phone := o.caller(g, "uac_merged")
		leg := in.leg(t)
		phone.sees(1, "SIP/2.0 482 ")
		leg.Answer()
		await(t, leg, dialogs.LegAnswered)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		phone.passed()
		require.Len(t, in.calls(), 1, "the application was asked once")
		g.idle(t)
	})
}

func TestIncomingCallIsRefused(t *testing.T) {
	t.Parallel()
	refusing := func(code errs.Code) func(dialogs.Incoming) error {
		return func(dialogs.Incoming) error { return errs.New(code, "because") }
	}
	for _, c := range []struct {
		name, scenario, status string
		decide                 func(dialogs.Incoming) error
		trunks                 []Trunk
		tokenCalls             string
		asked                  int // how often Callers was
		contains               string
	}{
		{"expired token", "uac_refused", "401", refusing(errs.Unauthenticated), []Trunk{office}, "", 1, `WWW-Authenticate: Bearer realm="tandem", error="invalid_token"`},
		{"foreign token", "uac_refused", "403", refusing(errs.Forbidden), []Trunk{office}, "", 1, `Warning: 399 127.0.0.1 "because"`},
		{"no such number", "uac_refused_bare", "404", refusing(errs.NotFound), []Trunk{office}, "", 1, ""},
		{"on the phone already", "uac_refused", "486", refusing(errs.Conflict), []Trunk{office}, "", 1, ""},
		{"too many calls", "uac_refused", "503", refusing(errs.TooMany), []Trunk{office}, "", 1, "Retry-After: 10"},
		{"unavailable", "uac_refused", "503", refusing(errs.Unavailable), []Trunk{office}, "", 1, "Retry-After: 10"},
		{"malformed token", "uac_refused", "400", refusing(errs.Invalid), []Trunk{office}, "", 1, ""},
		{"our fault", "uac_refused", "500", refusing(errs.Internal), []Trunk{office}, "", 1, "internal error"},
		{"outside every trunk", "uac_refused", "403", nil, nil, TokenCallsTrunks, 0, ""},
		{"outside the allow list", "uac_refused", "403", nil, []Trunk{elsewhere}, TokenCallsTrunks, 0, `Warning: 399 127.0.0.1 "the sender belongs to no trunk"`},
		{"no codec in common", "uac_no_codec", "488", nil, []Trunk{office}, "", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(t *testing.T, transport string) {
				in := newCallers(c.decide)
				g := newOver(t, transport).start(Config{Trunks: c.trunks, TokenCalls: c.tokenCalls}, in)
				phone := callIn(t, g, c.scenario, transport, "-key", "status", c.status)
				phone.passed()
				require.Len(t, in.calls(), c.asked)
				require.Contains(t, phone.messages(), c.contains)
				open, resting := g.ports.InUse()
				require.Zero(t, open+resting, "a media port was spent")
				g.idle(t)
			})
		})
	}
}

func TestIncomingCallFromOutsideEveryTrunk(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{}, in)
	phone := callIn(t, g, "uac_token", "udp")
	leg := in.leg(t)
	leg.Answer()
	end(t, leg)
	phone.passed()
	require.Empty(t, in.calls()[0].Trunk)
	require.Empty(t, in.calls()[0].Account)
}

func TestRingingCallEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, scenario string
		args           []string
		act            func(*gateway, dialogs.Leg)
		want           string
	}{
		{"cancelled", "uac_cancel", nil, func(*gateway, dialogs.Leg) {}, byFarEnd},
		{"declined", "uac_refused", []string{"-key", "status", "603"}, func(_ *gateway, l dialogs.Leg) { l.Hangup(0) }, byThisEnd},
		{"busy", "uac_refused", []string{"-key", "status", "486"}, func(_ *gateway, l dialogs.Leg) { l.Hangup(486) }, byThisEnd},
		{"stopping", "uac_refused", []string{"-key", "status", "503"}, func(g *gateway, _ dialogs.Leg) { g.stop() }, byThisEnd},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			transports := []string{"udp", "tcp", "tls"}
			if c.name == "stopping" { // it takes the connection along, before the ACK
				transports = transports[:1]
			}
			overEach(t, transports, func(t *testing.T, transport string) {
				in := newCallers(nil)
				g := newOver(t, transport).agent(in, office)
				phone := callIn(t, g, c.scenario, transport, c.args...)
				leg := in.leg(t)
				c.act(g, leg)
				require.Equal(t, dialogs.Cause{Details: c.want}, end(t, leg))
				leg.Answer() // comes too late and changes nothing
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestCallerHolds(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			in := newCallers(nil)
			g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
			phone := callIn(t, g, "uac_hold", transport)
			leg := in.leg(t)
			leg.Answer()
			await(t, leg, dialogs.LegAnswered)
			held := await(t, leg, dialogs.LegMedia)
			require.False(t, held.Media.Send)
			require.True(t, held.Media.Receive)
			resumed := await(t, leg, dialogs.LegMedia)
			require.True(t, resumed.Media.Send)
			end(t, leg)
			phone.passed()
			g.idle(t)
		})
	}
}

func TestCallerIsAskedForAPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, scenario, password string
		known                    bool
	}{{"right", "uac_digest", "secret", true}, {"wrong", "uac_digest_wrong", "guess", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			overAll(t, func(t *testing.T, transport string) {
				trunk := office
				trunk.InboundUsername, trunk.InboundPassword = "pbx", "secret"
				in := newCallers(nil)
				g := newOver(t, transport).agent(in, trunk)
				phone := callIn(t, g, c.scenario, transport, "-au", "pbx", "-ap", c.password)
				calls := 0
				if c.known {
					leg := in.leg(t)
					leg.Answer()
					end(t, leg)
					calls = 1
				}
				phone.passed()
				require.Len(t, in.calls(), calls)
				g.idle(t)
			})
		})
	}
}

// A drain refuses what is new and leaves alone what is up.
func TestDrainRefusesWhatIsNew(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		in := newCallers(nil)
		g := o.agent(in, office)
		phone := o.caller(g, "uac_wait_bye", "-nr")
		leg := in.leg(t)
		leg.Answer()
		await(t, leg, dialogs.LegAnswered)
		g.Drain()
		o.caller(g, "uac_drain").passed()
		require.Len(t, in.calls(), 1, "the application is not asked")
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		phone.passed()
		g.idle(t)
	})
}

func TestNobodyNeedReadTheEvents(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	phone := callIn(t, g, "uac_hold", "udp")
	leg := in.leg(t)
	leg.Answer()
	phone.passed()
	g.idle(t)
	end(t, leg)
}

func TestNoFreePortEndsTheLeg(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgentOn(t, Config{Trunks: []Trunk{office}}, in, media.PortsConfig{From: 39990, To: 39991})
	taken, err := g.ports.Open()
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	phone := callIn(t, g, "uac_refused", "udp", "-key", "status", "503")
	require.Equal(t, dialogs.Error, end(t, in.leg(t)).Reason)
	phone.passed()
}

// panicky fails where a bug of ours would.
type panicky struct{ accept bool }

func (p panicky) Incoming(context.Context, dialogs.Incoming) (func(dialogs.Leg), error) {
	if !p.accept {
		panic("incoming")
	}
	return func(dialogs.Leg) { panic("accept") }, nil
}

func TestPanicRefusesTheCallOnly(t *testing.T) {
	t.Parallel()
	for _, accept := range []bool{false, true} {
		g := startAgent(t, Config{Trunks: []Trunk{office}}, panicky{accept})
		for range 2 {
			callIn(t, g, "uac_refused", "udp", "-key", "status", "500").passed()
			g.idle(t)
		}
		words := []string{"sip: request failed", "method=INVITE", "panic=incoming", "stack=", "tandem/sip.panicky.Incoming("}
		if accept {
			words = []string{"sip: call failed", "panic=accept", "stack=", "panicky.Incoming.func1("}
		}
		require.Len(t, g.kept.lines(append(words, "level=ERROR")...), 2)
	}
}
