package sip

import (
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
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
