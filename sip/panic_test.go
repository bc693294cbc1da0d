package sip

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// TestPanicEndsOneCall: what fails on the goroutine of a leg ends that leg, with its last event, a BYE and its port given
// back; a call beside it goes on.
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

	c.inbox.post(func() { panic("injected") })
	bye := broken.await("BYE ")
	broken.respond(bye, "200 OK", "")
	require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: "internal error"}, end(t, brokenLeg))
	broken.send("OPTIONS", "")
	broken.await("SIP/2.0 481")

	sound.send("INVITE", talkerSDP) // the other can still do all that it could
	sound.await("SIP/2.0 200")
	sound.send("ACK", "")
	sound.bye(soundLeg)
	g.idle(t)
}
