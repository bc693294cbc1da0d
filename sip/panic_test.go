package sip

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// fails is a bug of ours.
func fails() { panic("injected") }

// TestPanicEndsOneCall: what fails on the goroutine of a leg ends that leg, with its last event, a BYE and its port given
// back, and is logged with its stack; a call beside it goes on.
func TestPanicEndsOneCall(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	broken, brokenLeg := talk(t, g, in)
	sound, soundLeg := talk(t, g, in)
	c, ok := brokenLeg.(*call)
	require.True(t, ok)
	open, _ := g.ports.InUse()
	require.Equal(t, 2, open)

	c.inbox.post(fails)
	bye := broken.await("BYE ")
	broken.respond(bye, "200 OK", "")
	require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: "internal error"}, end(t, brokenLeg))
	require.Len(t, g.kept.lines("level=ERROR", "sip: call failed", "panic=injected", "stack=", "tandem/sip.fails("), 1)
	broken.send("OPTIONS", "")
	broken.await("SIP/2.0 481")

	sound.send("INVITE", talkerSDP) // the other can still do all that it could
	sound.await("SIP/2.0 200")
	sound.send("ACK", "")
	sound.bye(soundLeg)
	g.idle(t)
}

// TestPanicBesideACall: what fails on a goroutine that works for a call ends that call as well.
func TestPanicBesideACall(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	broken, brokenLeg := talk(t, g, in)
	sound, soundLeg := talk(t, g, in)
	c, ok := brokenLeg.(*call)
	require.True(t, ok)
	require.True(t, g.spawn(func(context.Context) { panic("injected") }), "of no call")
	require.True(t, c.spawn(func(context.Context) { panic("injected") }))
	broken.respond(broken.await("BYE "), "200 OK", "")
	require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: "internal error"}, end(t, brokenLeg))
	sound.bye(soundLeg)
	g.idle(t)
}

// TestPanicWhileItRings: nobody is left with a phone that rings, whatever of ours has failed.
func TestPanicWhileItRings(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*call){
		"the call": func(c *call) { c.requests <- request{} },
		"beside":   func(c *call) { c.spawn(func(context.Context) { panic("injected") }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, g := called(t, nil)
			leg := dial(t, g)
			invite := p.await("INVITE ")
			p.respond(invite, "180 Ringing", "")
			await(t, leg, dialogs.LegRinging)
			c, ok := leg.(*call)
			require.True(t, ok)
			fail(c)
			p.respond(p.await("CANCEL "), "200 OK", "")
			p.respond(invite, "487 Request Terminated", "")
			require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: "internal error"}, end(t, leg))
			p.await("ACK ")
			g.idle(t)
		})
	}
}

// TestPanicDropsOneMessage: a message that we fail at is dropped, and those behind it are read.
func TestPanicDropsOneMessage(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	f := newFront(newGuard(GuardConfig{}, func(netip.Addr) bool { return true }, log), log)
	text := []byte(newTalker(t, startAgent(t, Config{}, newCallers(nil))).request("OPTIONS", ""))
	from := netip.MustParseAddrPort("127.0.0.1:5060")
	require.NotEmpty(t, f.judge(text, from).pass)
	parser := f.parser
	f.parser = nil
	require.Equal(t, verdict{}, f.judge(text, from))
	f.parser = parser
	require.NotEmpty(t, f.judge(text, from).pass)
}
