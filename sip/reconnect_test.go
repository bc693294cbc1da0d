package sip

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// upOver has a call of the gateway's up with a far end that speaks SIP by hand over a stream.
func upOver(t *testing.T, network string, headers ...string) (w *wire, g *gateway, leg dialogs.Leg, invite string) {
	t.Helper()
	w = newWire(t)
	ca := newAuthority(t)
	if network == "tls" {
		w.secure = ca.config("carrier", "127.0.0.1")
	}
	cfg := Config{Listen: []string{"tcp://127.0.0.1:0", "tls://127.0.0.1:0"}, Trunks: []Trunk{w.trunk("carrier", 1)}}
	g = startAgent(t, ca.secured(quickly(cfg)), newCallers(nil))
	leg, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"})
	require.NoError(t, err)
	w.accept()
	invite = w.next("INVITE ")
	w.answer(invite, "200 OK", talkerSDP, headers...)
	await(t, leg, dialogs.LegAnswered)
	w.next("ACK ")
	return w, g, leg, invite
}

// eachBreak runs a test with each way in which a connection ends, over each transport that has them.
func eachBreak(t *testing.T, test func(t *testing.T, network string, breaks func(*wire))) {
	t.Helper()
	for _, network := range []string{"tcp", "tls"} {
		for name, breaks := range map[string]func(*wire){"closed": (*wire).breaks, "reset": (*wire).resets} {
			t.Run(network+" "+name, func(t *testing.T) {
				t.Parallel()
				test(t, network, breaks)
			})
		}
	}
}

// TestCallGoesOnOverAnotherConnection: when the connection of a call is gone, what either end wants goes over a new one.
func TestCallGoesOnOverAnotherConnection(t *testing.T) {
	t.Parallel()
	eachBreak(t, func(t *testing.T, network string, breaks func(*wire)) {
		w, g, leg, invite := upOver(t, network)
		breaks(w)
		leg.Hold(true)
		w.accept()
		w.answer(w.next("INVITE "), "200 OK", talkerSDP+"a=recvonly\r\n")
		require.Equal(t, dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: true}}, await(t, leg, dialogs.LegHold))
		w.next("ACK ")
		breaks(w)
		w.dial(g) // the far end comes by itself
		w.asks("OPTIONS", invite, "")
		w.next("SIP/2.0 200")
		w.asks("UPDATE", invite, talkerSDP+"a=inactive\r\n")
		w.next("SIP/2.0 200")
		require.Equal(t, dialogs.Hold{ByUs: true, ByFarEnd: true}, await(t, leg, dialogs.LegHold).Hold)
		w.asks("BYE", strings.Replace(invite, ";tag=", ";tag=x", 1), "")
		w.next("SIP/2.0 481")
		breaks(w)
		leg.Hangup(0)
		w.accept()
		w.answer(w.next("BYE "), "200 OK", "")
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		g.idle(t)
	})
}

// TestFarEndHangsUpOverAnotherConnection: a BYE belongs to its call by Call-ID and tags, whatever it comes over.
func TestFarEndHangsUpOverAnotherConnection(t *testing.T) {
	t.Parallel()
	eachBreak(t, func(t *testing.T, network string, breaks func(*wire)) {
		w, g, leg, invite := upOver(t, network)
		breaks(w)
		w.dial(g)
		w.asks("BYE", invite, "")
		w.next("SIP/2.0 200")
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
		g.idle(t)
	})
}

// TestSessionIsRefreshedOverAnotherConnection: the timer of a call does not care what the connection does.
func TestSessionIsRefreshedOverAnotherConnection(t *testing.T) {
	t.Parallel()
	eachBreak(t, func(t *testing.T, network string, breaks func(*wire)) {
		w, g, leg, _ := upOver(t, network, "Session-Expires: 3;refresher=uac", "Require: timer", "Allow: INVITE, ACK, BYE, UPDATE")
		for range 2 {
			breaks(w)
			w.accept()
			w.answer(w.next("UPDATE "), "200 OK", "", "Session-Expires: 3;refresher=uac", "Require: timer")
		}
		leg.Hangup(0)
		w.answer(w.next("BYE "), "200 OK", "")
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		g.idle(t)
	})
}

// TestCallWhoseFarEndCannotBeReached: a wish fails as with a 503 (RFC 3261 §8.1.3.1), soon and in words; the call itself
// goes on, since its media may, and ends at once when it is hung up.
func TestCallWhoseFarEndCannotBeReached(t *testing.T) {
	t.Parallel()
	eachBreak(t, func(t *testing.T, network string, breaks func(*wire)) {
		w, g, leg, _ := upOver(t, network)
		w.refuses()
		breaks(w)
		leg.Hold(true)
		require.Equal(t, dialogs.LegEvent{
			Kind: dialogs.LegHold, Cause: dialogs.Cause{Details: "503 The far end cannot be reached", SIPCode: 503},
		}, await(t, leg, dialogs.LegHold))
		leg.Refer(dialogs.Refer{To: "+15550177"})
		outcome := await(t, leg, dialogs.LegReferred)
		require.True(t, outcome.Final)
		require.Equal(t, 503, outcome.Cause.SIPCode, fmt.Sprintf("%+v", outcome))
		leg.Hangup(0)
		require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
		g.idle(t)
	})
}

// TestSessionThatCannotBeRefreshed: the call of a far end that cannot be reached any more ends with its session interval,
// and not before: somebody may come back.
func TestSessionThatCannotBeRefreshed(t *testing.T) {
	t.Parallel()
	w, g, leg, _ := upOver(t, "tcp", "Session-Expires: 3;refresher=uac", "Require: timer", "Allow: UPDATE")
	began := time.Now()
	w.refuses()
	w.breaks()
	require.Equal(t, "the session could not be refreshed", end(t, leg).Details)
	require.GreaterOrEqual(t, time.Since(began), time.Second)
	g.idle(t)
}
