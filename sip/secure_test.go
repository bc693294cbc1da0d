package sip

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/media"
	"tandem/trunks"
)

// heard is what a port hands out.
type heard chan rtp.Packet

func (h heard) ReceiveRTP(p *rtp.Packet, _ time.Time) {
	got := *p
	got.Payload = append([]byte(nil), p.Payload...)
	select {
	case h <- got:
	default:
	}
}

func (h heard) Broke(panicked any) { panic(panicked) }

// joined is a call between two gateways, with both legs and what comes out of their ports.
type joined struct {
	t        *testing.T
	out, in  dialogs.Leg
	from, to dialogs.LegEvent // LegMedia of each
	hears    [2]heard
}

// callBetween has one gateway call another, each with its own idea of SRTP.
func callBetween(t *testing.T, calling, called string) (*joined, func()) {
	t.Helper()
	pbx := office
	pbx.SRTP = called
	callees := newCallers(nil)
	b := startAgent(t, Config{Trunks: []Trunk{pbx}}, callees)
	a := startAgent(t, Config{Trunks: []Trunk{{Name: "pbx", Account: "1", URI: "sip:" + b.at("udp"), SRTP: calling}}}, newCallers(nil))
	j := &joined{t: t, out: dial(t, a), hears: [2]heard{make(heard, 64), make(heard, 64)}}
	if called == trunks.SRTPRequired && calling == trunks.SRTPOff {
		return j, func() { a.idle(t); b.idle(t) }
	}
	j.in = callees.leg(t)
	j.in.Answer()
	j.from, j.to = await(t, j.out, dialogs.LegMedia), await(t, j.in, dialogs.LegMedia)
	await(t, j.out, dialogs.LegAnswered)
	await(t, j.in, dialogs.LegAnswered)
	j.update()
	j.from.Port.Start(j.hears[0])
	j.to.Port.Start(j.hears[1])
	return j, func() {
		j.out.Hangup(0)
		end(t, j.out)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, j.in))
		a.idle(t)
		b.idle(t)
	}
}

func (j *joined) update() {
	j.from.Port.Update(j.from.Media)
	j.to.Port.Update(j.to.Media)
}

// says sends packets from one end until the other one hears the payload.
func (j *joined) says(from dialogs.LegEvent, ear heard, payload string) {
	j.t.Helper()
	require.Eventually(j.t, func() bool {
		from.Port.Send(from.Media.Audio(), false, 0, []byte(payload))
		select {
		case p := <-ear:
			return string(p.Payload) == payload
		default:
			return false
		}
	}, patience, time.Millisecond)
}

func (j *joined) talk(word string) {
	j.t.Helper()
	j.says(j.from, j.hears[1], "out "+word)
	j.says(j.to, j.hears[0], "in "+word)
}

func TestSRTPBetweenTwoGateways(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		calling, called string
		secure          bool
	}{
		{trunks.SRTPRequired, trunks.SRTPRequired, true},
		{trunks.SRTPRequired, trunks.SRTPOptional, true},
		{trunks.SRTPOptional, trunks.SRTPRequired, true},
		{trunks.SRTPOptional, trunks.SRTPOff, false},
	} {
		t.Run(c.calling+" to "+c.called, func(t *testing.T) {
			t.Parallel()
			j, done := callBetween(t, c.calling, c.called)
			require.Equal(t, c.secure, j.from.Media.Outbound != nil)
			require.True(t, j.from.Media.Outbound.Equal(j.to.Media.Inbound))
			require.True(t, j.from.Media.Inbound.Equal(j.to.Media.Outbound))
			j.talk("hello")

			j.out.Hold(true)
			j.from = await(t, j.out, dialogs.LegMedia)
			j.to = await(t, j.in, dialogs.LegMedia)
			require.True(t, await(t, j.in, dialogs.LegHold).Hold.ByFarEnd)
			j.update()
			require.False(t, j.to.Port.Send(0, false, 0, []byte("held")), "who is held says nothing")
			j.out.Hold(false)
			j.from = await(t, j.out, dialogs.LegMedia)
			j.to = await(t, j.in, dialogs.LegMedia)
			j.update()
			j.talk("again")
			done()
		})
	}
}

func TestSRTPRequiredRefusesPlain(t *testing.T) {
	t.Parallel()
	j, done := callBetween(t, trunks.SRTPOff, trunks.SRTPRequired)
	require.Equal(t, 488, end(t, j.out).SIPCode)
	done()
}

// keyFor is a key for a suite, as it stands in SDP.
func keyFor(t *testing.T, suite string) string {
	t.Helper()
	key, err := media.NewSRTPKey(suite)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(key.Key)
}

// TestSRTPKeysChange: of a call with SRTP in either role, with each suite, the keys change when the far end's do, and
// else never.
func TestSRTPKeysChange(t *testing.T) {
	t.Parallel()
	for i, suite := range media.SRTPSuites() {
		for _, scenario := range []string{"uas_srtp", "uac_srtp"} {
			t.Run(scenario+" "+suite, func(t *testing.T) {
				t.Parallel()
				transports := []string{"udp", "tcp", "tls"}
				if i > 0 {
					transports = transports[i%3 : i%3+1]
				}
				eachTransport(t, func(t *testing.T, o over) {
					first, second := keyFor(t, suite), keyFor(t, suite)
					args := []string{"-key", "suite", suite, "-key", "first", first, "-key", "second", second, "-key", "tag", strconv.Itoa(i + 1)}
					demands := func(t *Trunk) { t.SRTP = trunks.SRTPRequired }
					var g *gateway
					var phone *sipp
					var leg dialogs.Leg
					if scenario == "uas_srtp" {
						g, phone, leg = placed(o, Config{}, demands, scenario, args...)
					} else {
						secure := office
						demands(&secure)
						g, phone, leg = answered(o, Config{Trunks: []Trunk{secure}}, scenario, args...)
					}
					var ours, theirs []string // the keys of each agreement
					for e := next(t, leg); e.Kind != dialogs.LegEnded; e = next(t, leg) {
						if e.Kind == dialogs.LegMedia {
							theirs = append(theirs, base64.StdEncoding.EncodeToString(e.Media.Inbound.Key))
							ours = append(ours, base64.StdEncoding.EncodeToString(e.Media.Outbound.Key))
							require.Equal(t, suite, e.Media.Outbound.Suite)
						}
					}
					require.Equal(t, first, theirs[0])
					require.Equal(t, second, theirs[len(theirs)-1])
					phone.passed()
					for _, key := range ours {
						require.Contains(t, phone.messages(), "inline:"+key)
					}
					g.idle(t)
				}, transports...)
			})
		}
	}
}

// TestSRTPAsTheTrunkSays is who may speak what: neither end falls back to what the other refused.
func TestSRTPAsTheTrunkSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, scenario, policy, suite string
		want                          dialogs.Cause // of a call that we place
	}{
		{"SRTP where there is none", "uac_srtp_refused", trunks.SRTPOff, media.SRTPSuites()[0], dialogs.Cause{}},
		{"a suite that nobody knows", "uac_srtp_refused", trunks.SRTPRequired, "F8_128_HMAC_SHA1_80", dialogs.Cause{}},
		{"plain where SRTP is demanded", "uac_srtp_missing", trunks.SRTPRequired, "", dialogs.Cause{}},
		{
			"refused by the phone", "uas_srtp_refused", trunks.SRTPRequired, "",
			dialogs.Cause{Reason: dialogs.Error, Details: "488 Not Acceptable Here", SIPCode: 488},
		},
		{
			"passed over by the phone", "uas_srtp_missing", trunks.SRTPRequired, "",
			dialogs.Cause{Reason: dialogs.Error, Details: "no stream in it that can be taken: the trunk takes SRTP only"},
		},
		{"plain, since the phone may choose", "uas_srtp_optional", trunks.SRTPOptional, "", dialogs.Cause{Details: byThisEnd}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				says := func(t *Trunk) { t.SRTP = c.policy }
				if strings.HasPrefix(c.scenario, "uac_") {
					trunk := office
					says(&trunk)
					in := newCallers(nil)
					g := o.agent(in, trunk)
					o.caller(g, c.scenario, "-key", "suite", c.suite, "-key", "first", keyFor(t, media.SRTPSuites()[0])).passed()
					require.Empty(t, in.calls())
					g.idle(t)
					return
				}
				phone, g := o.callee(Config{}, newCallers(nil), says, c.scenario)
				leg := dial(t, g)
				if c.policy == trunks.SRTPOptional {
					agreed := await(t, leg, dialogs.LegMedia)
					require.Nil(t, agreed.Media.Outbound)
					require.Nil(t, agreed.Media.Inbound)
					await(t, leg, dialogs.LegAnswered)
					leg.Hangup(0)
				}
				require.Equal(t, c.want, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}
