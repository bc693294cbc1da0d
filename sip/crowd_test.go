package sip

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// tagged gives an answer of the far end another tag and another port for its media.
func tagged(answer string, i int) string {
	return strings.NewReplacer(";tag=far", fmt.Sprint(";tag=far", i), "m=audio 40002", fmt.Sprint("m=audio ", 41000+2*i)).Replace(answer)
}

// asksWhileRinging sends a request in the early dialog that ringing made and waits until it is answered: what came
// before it was dealt with. It returns what else came meanwhile.
func (p *talker) asksWhileRinging(ringing string) (passed []string) {
	p.t.Helper()
	p.to, p.at = headerOf(ringing, "From"), "sip:tandem@127.0.0.1"
	text := strings.NewReplacer("From: <sip:+15550123@x>;tag=1", "From: "+headerOf(ringing, "To"), "Call-ID: "+p.id, "Call-ID: "+headerOf(ringing, "Call-ID")).
		Replace(p.request("OPTIONS", ""))
	p.write(text)
	for {
		got := p.await("")
		if strings.HasPrefix(got, "SIP/2.0 200") && branchOf(got) == branchOf(text) {
			return passed
		}
		passed = append(passed, got)
	}
}

// TestReliableAnswersWithoutEnd: a far end that sends one reliable 183 after the other and answers no PRACK is owed a few
// of them, not thousands; its answer counts all the same.
func TestReliableAnswersWithoutEnd(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	invite := p.await("INVITE ")
	pracks := map[string]bool{}
	const sent = 90
	for i := range sent {
		ringing := p.response(invite, "183 Session Progress", talkerSDP, "Require: 100rel", fmt.Sprint("RSeq: ", i+1))
		p.write(ringing)
		for _, text := range p.asksWhileRinging(ringing) {
			if strings.HasPrefix(text, "PRACK ") {
				pracks[headerOf(text, "RAck")] = true
			}
		}
	}
	require.NotEmpty(t, pracks)
	require.Less(t, len(pracks), sent/2, "some may have timed out meanwhile, and made room")
	p.respond(invite, "200 OK", talkerSDP)
	await(t, leg, dialogs.LegAnswered)
	leg.Hangup(0)
	p.respond(p.await("BYE "), "200 OK", "")
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	require.True(t, leg.(*call).crowded, "the log says so")
	g.idle(t)
}

// TestForksWithoutEnd: of an INVITE that is forked to hundreds of phones a few are followed, and whichever answers has
// the call.
func TestForksWithoutEnd(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	invite := p.await("INVITE ")
	ringing := p.response(invite, "183 Session Progress", talkerSDP)
	const forks = 90
	for i := range forks {
		p.write(tagged(ringing, i))
		p.asksWhileRinging(tagged(ringing, 0))
	}
	p.write(tagged(p.response(invite, "200 OK", talkerSDP), forks-1))
	var ports []uint16
	for {
		e := next(t, leg)
		require.NotEqual(t, dialogs.LegEnded, e.Kind)
		if e.Kind == dialogs.LegMedia {
			ports = append(ports, e.Media.Remote.Port())
		}
		if e.Kind == dialogs.LegAnswered {
			break
		}
	}
	require.LessOrEqual(t, len(ports), maxForks+1)
	require.Equal(t, uint16(41000+2*(forks-1)), ports[len(ports)-1], "the one that answered is heard")
	leg.Hangup(0)
	p.respond(p.await("BYE "), "200 OK", "")
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	require.Len(t, leg.(*call).phones, maxForks)
	require.True(t, leg.(*call).crowded, "the log says so")
	g.idle(t)
}

// TestProvisionalAnswersWithoutEnd: thousands of 183 in a row are passed over, but for the first.
func TestProvisionalAnswersWithoutEnd(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	invite := p.await("INVITE ")
	ringing := p.response(invite, "183 Session Progress", talkerSDP)
	p.write(ringing)
	await(t, leg, dialogs.LegRinging)
	for i := range 3000 {
		p.write(strings.Replace(ringing, "m=audio 40002", fmt.Sprint("m=audio ", 40004+2*i), 1))
		if i%10 == 0 {
			p.asksWhileRinging(ringing)
		}
	}
	p.respond(invite, "200 OK", talkerSDP)
	changes := 0
	for {
		e := next(t, leg)
		require.NotEqual(t, dialogs.LegEnded, e.Kind)
		if e.Kind == dialogs.LegMedia {
			changes++
		}
		if e.Kind == dialogs.LegAnswered {
			break
		}
	}
	require.Less(t, changes, 1000)
	leg.Hangup(0)
	p.respond(p.await("BYE "), "200 OK", "")
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	require.True(t, leg.(*call).crowded, "the log says so")
	g.idle(t)
}
