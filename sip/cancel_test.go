package sip

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// cancels takes the last INVITE back.
func (p *talker) cancels() {
	p.t.Helper()
	p.seq-- // it has the number of the INVITE
	p.write(strings.Replace(p.request("CANCEL", ""), "-cancel;", "-invite;", 1))
}

// inTurn returns the next answer with a status to a request of a method.
func (p *talker) inTurn(status, method string) string {
	p.t.Helper()
	for {
		if text := p.await("SIP/2.0 " + status); strings.HasSuffix(headerOf(text, "CSeq"), " "+method) {
			return text
		}
	}
}

// TestCancelBehindOurAnswer: a CANCEL that crosses our 200 is answered 200 and changes nothing (RFC 3261 §9.2), before the
// ACK and behind it.
func TestCancelBehindOurAnswer(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newTalker(t, g)
	p.send("INVITE", talkerSDP)
	leg := in.leg(t)
	leg.Answer()
	ok := p.inTurn("200", "INVITE")
	unanswered := p.to
	p.cancels()
	require.Equal(t, headerOf(ok, "To"), headerOf(p.inTurn("200", "CANCEL"), "To"), "the tag is that of the call")
	p.to = headerOf(ok, "To")
	p.send("ACK", "")
	await(t, leg, dialogs.LegAnswered)
	p.to = unanswered
	clear(p.seen) // the same is sent and answered again
	p.cancels()
	p.inTurn("200", "CANCEL")
	p.to = headerOf(ok, "To")
	p.send("OPTIONS", "")
	require.Contains(t, p.inTurn("200", "OPTIONS"), "SIP/2.0 200 ", "the call is up")
	p.bye(leg)
	g.idle(t)
}

// TestCancelledCallerMissesThe487: a caller whose CANCEL was answered and who misses the 487 gets it again, with the same
// tag and until its ACK; a CANCEL or an INVITE that is repeated meanwhile starts nothing.
func TestCancelledCallerMissesThe487(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newTalker(t, g)
	invite := p.request("INVITE", talkerSDP)
	p.write(invite)
	leg := in.leg(t)
	p.inTurn("180", "INVITE")
	p.cancels()
	p.inTurn("200", "CANCEL")
	first := p.inTurn("487", "INVITE") // which gets lost
	require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
	clear(p.seen)
	p.cancels() // as when the 200 to it was lost
	p.inTurn("200", "CANCEL")
	p.write(invite)
	for range 2 {
		clear(p.seen)
		require.Equal(t, first, p.inTurn("487", "INVITE"))
	}
	p.to = headerOf(first, "To")
	p.refused()
	p.send("OPTIONS", "")
	p.inTurn("481", "OPTIONS")
	require.Len(t, in.calls(), 1)
	g.idle(t)
}

// TestOurCancelWhoseAnswerIsLost: the far end's first 487, and its first 200 to our CANCEL, are lost. The CANCEL comes
// again, the 487 that comes in the end is acknowledged, once for each time that it comes, and the call has ended once.
func TestOurCancelWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	invite := p.await("INVITE ")
	p.respond(invite, "180 Ringing", "")
	await(t, leg, dialogs.LegRinging)
	leg.Hangup(0)
	first := p.await("CANCEL ") // neither its 200 nor the 487 gets through
	again := p.again("CANCEL ")
	require.Equal(t, first, again, "the same transaction")
	require.Equal(t, branchOf(invite), branchOf(again))
	p.respond(again, "200 OK", "")
	refusal := p.response(invite, "487 Request Terminated", "")
	p.write(refusal)
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	ack := p.await("ACK ")
	require.Equal(t, branchOf(invite), branchOf(ack))
	p.write(refusal) // our ACK was lost
	require.Equal(t, ack, p.again("ACK "))
	g.idle(t)
}

// TestOurCancelThatGetsNo487: the 200 to our CANCEL comes and no 487 ever does: the call ends, and an answer that comes
// after all is hung up (RFC 3261 §9.1).
func TestOurCancelThatGetsNo487(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	invite := p.await("INVITE ")
	p.respond(invite, "180 Ringing", "")
	await(t, leg, dialogs.LegRinging)
	leg.Hangup(0)
	p.respond(p.await("CANCEL "), "200 OK", "")
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	p.respond(invite, "487 Request Terminated", "") // too late for anybody
	g.idle(t)
}
