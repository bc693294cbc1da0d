package sip

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// TestTalkKeepsNoStackOfItsBeginning: what begins a call needs a large stack, and has returned while the call talks. The
// runtime then takes back what is not in use, for as long as the call lasts.
func TestTalkKeepsNoStackOfItsBeginning(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T) (*talker, *gateway, dialogs.Leg){
		"called": func(t *testing.T) (*talker, *gateway, dialogs.Leg) {
			p, g := called(t, nil)
			leg := dial(t, g)
			p.respond(p.await("INVITE "), "200 OK", talkerSDP)
			p.await("ACK ")
			await(t, leg, dialogs.LegAnswered)
			return p, g, leg
		},
		"calling": func(t *testing.T) (*talker, *gateway, dialogs.Leg) {
			in := newCallers(nil)
			g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
			p, leg := talk(t, g, in)
			return p, g, leg
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, g, leg := begin(t)
			c, ok := leg.(*call)
			require.True(t, ok)
			stack := make(chan string, 1)
			c.inbox.post(func() { stack <- string(debug.Stack()) })
			frames := <-stack
			require.Contains(t, frames, "(*call).talk(")
			for _, beginning := range []string{"(*call).dial(", "(*call).ring(", "(*Agent).admit("} {
				require.NotContains(t, frames, beginning)
			}
			leg.Hangup(0)
			p.respond(p.await("BYE "), "200 OK", "")
			require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
			g.idle(t)
		})
	}
}
