package sip

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// TestOutcomeIsToldBeforeTheBye: a far end whose transfer is under way when its call ends is told so before the BYE, and
// one that does not answer that is hung up all the same.
func TestOutcomeIsToldBeforeTheBye(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(leg dialogs.Leg)
		frag   string
		silent bool
	}{
		"told by whoever hangs up": {func(leg dialogs.Leg) { leg.Referred(486); leg.Hangup(0) }, "SIP/2.0 486 ", false},
		"told by nobody":           {func(leg dialogs.Leg) { leg.Hangup(0) }, "SIP/2.0 503 ", false},
		"not answered":             {func(leg dialogs.Leg) { leg.Referred(200); leg.Hangup(0) }, "SIP/2.0 200 ", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, w := newCallers(nil), newWire(t)
			g := startAgent(t, Config{Trunks: []Trunk{pbx("sip:pbx.example")}}, in)
			w.dial(g)
			w.invites("report")
			leg := in.leg(t)
			leg.Answer()
			ok := w.next("SIP/2.0 200 ")
			w.acks(ok)
			await(t, leg, dialogs.LegAnswered)
			w.send(fmt.Sprintf("REFER sip:tandem@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP %s;branch=z9hG4bKrefer\r\nFrom: %s\r\nTo: %s\r\n"+
				"Call-ID: %s\r\nCSeq: 2 REFER\r\nMax-Forwards: 70\r\nContact: <sip:wire@%s;transport=tcp>\r\n"+
				"Refer-To: <sip:+15550105@pbx.example>\r\nContent-Length: 0\r\n\r\n",
				w.listen.Addr(), headerOf(ok, "From"), headerOf(ok, "To"), headerOf(ok, "Call-ID"), w.listen.Addr()))
			w.next("SIP/2.0 202 ")
			trying := w.next("NOTIFY ")
			require.Contains(t, trying, "SIP/2.0 100 ")
			w.answer(trying, "200 OK", "")
			await(t, leg, dialogs.LegRefer)
			c.end(leg)
			last := readPiece(t, w.conn)
			require.Contains(t, last, "NOTIFY ")
			require.Contains(t, last, c.frag)
			require.Contains(t, headerOf(last, "Subscription-State"), "terminated")
			if !c.silent {
				w.answer(last, "200 OK", "")
			}
			bye := readPiece(t, w.conn)
			require.Contains(t, bye, "BYE ", "right after it")
			w.answer(bye, "200 OK", "")
			require.Equal(t, byThisEnd, end(t, leg).Details)
			g.idle(t)
		})
	}
}
