package sip

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// TestPhoneRingsNoLongerThanAllowed: a phone that says again and again that it rings is told of once, and gets no more time
// by it. Then it is cancelled, and the call's end says why.
func TestPhoneRingsNoLongerThanAllowed(t *testing.T) {
	t.Parallel()
	h := newHandCarrier(t)
	g := startAgent(t, Config{Trunks: []Trunk{h.trunk()}, maxRinging: 3 * time.Second}, newCallers(nil))
	leg := dial(t, g)
	invite := h.invited()
	cancel, buf := "", make([]byte, 65536)
	for until := time.Now().Add(patience); cancel == ""; {
		require.True(t, time.Now().Before(until), "it may ring for ever")
		h.respond(invite, "180 Ringing", "")
		require.NoError(t, h.conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		n, _, err := h.conn.ReadFrom(buf)
		if strings.HasPrefix(string(buf[:n]), "CANCEL ") {
			cancel = string(buf[:n])
		} else if err != nil {
			require.True(t, errors.Is(err, os.ErrDeadlineExceeded), "%v", err)
		}
	}
	h.respond(cancel, "200 OK", "")
	h.respond(invite, "487 Request Terminated", "")
	var kinds []dialogs.LegEventKind
	for e := range leg.Events() {
		kinds = append(kinds, e.Kind)
		if e.Kind == dialogs.LegEnded {
			require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: "nobody answered"}, e.Cause)
		}
	}
	require.Equal(t, []dialogs.LegEventKind{dialogs.LegRinging, dialogs.LegEnded}, kinds, "that it rings is told once")
	h.await("ACK ")
	g.idle(t)
}

// TestCallerHearsAgainThatItRings: a 180 is repeated, lest a proxy gives the call up (RFC 3261 §13.3.1.1).
func TestCallerHearsAgainThatItRings(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}, ringInterval: 20 * time.Millisecond}, in)
	p := newTalker(t, g)
	p.send("INVITE", talkerSDP)
	leg := in.leg(t)
	for range 3 {
		p.again("SIP/2.0 180 ")
	}
	leg.Hangup(486)
	p.await("SIP/2.0 486 ")
	p.refused()
	end(t, leg)
	g.idle(t)
}

// TestCallerRingsNoLongerThanAllowed: who rings too long gets a 480, however often it was told that it rings.
func TestCallerRingsNoLongerThanAllowed(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}, maxRinging: 500 * time.Millisecond, ringInterval: 50 * time.Millisecond}, in)
	p := newTalker(t, g)
	p.send("INVITE", talkerSDP)
	leg := in.leg(t)
	final := ""
	for rang := 0; final == ""; rang++ {
		require.Less(t, rang, 200, "it may ring for ever")
		if text := p.await("SIP/2.0 "); !strings.HasPrefix(text, "SIP/2.0 1") {
			final = text
		}
	}
	require.Contains(t, final, "SIP/2.0 480 ")
	p.refused()
	require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: "nobody answered"}, end(t, leg))
	g.idle(t)
}
