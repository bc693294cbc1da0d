package sip

import (
	"bytes"
	"fmt"
	"net"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// Requests of ours that are wanted in one breath leave in the order of their CSeq.
func TestOwnRequestsLeaveInOrder(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	for range rounds {
		p, leg := talk(t, g, in)
		c := leg.(*call)
		c.inbox.post(func() { // what follows is wanted at once
			leg.SendKey('1', 100*time.Millisecond)
			leg.Refer(dialogs.Refer{To: "+15550177"})
			leg.Hold(true)
		})
		last := 0
		for range 3 {
			text := p.awaitRequest()
			number, _, _ := strings.Cut(headerOf(text, "CSeq"), " ")
			seq, err := strconv.Atoi(number)
			require.NoError(t, err)
			require.Greater(t, seq, last, "%s", text)
			last = seq
			p.respond(text, "486 Busy Here", "")
		}
		p.bye(leg)
	}
	g.idle(t)
}

// The far end takes a re-INVITE back before it is answered: everything is as it was, and may be changed again.
func TestReinviteIsCancelled(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	for name, sdp := range map[string]string{"with an offer": strings.Replace(talkerSDP, "40002", "40008", 1), "without one": ""} {
		p, leg := talk(t, g, in)
		c, busy := leg.(*call), make(chan struct{})
		c.inbox.post(func() { <-busy })
		p.send("INVITE", sdp)
		p.await("SIP/2.0 100")
		p.seq--
		cancel := strings.Replace(p.request("CANCEL", ""), "-cancel;", "-invite;", 1)
		_, err := p.conn.Write([]byte(cancel))
		require.NoError(t, err)
		require.Contains(t, p.await("SIP/2.0 487"), " INVITE\r\n", name)
		p.refused()
		close(busy)
		p.send("INVITE", talkerSDP+"a=inactive\r\n")
		require.True(t, strings.HasPrefix(p.answer(), "SIP/2.0 200"), name)
		p.send("ACK", "")
		await(t, leg, dialogs.LegHold)
		leg.Hangup(0)
		p.respond(p.await("BYE "), "200 OK", "")
		for e := range leg.Events() {
			require.NotEqual(t, uint16(40008), e.Media.Remote.Port(), name)
		}
	}
	g.idle(t)
}

// An INVITE that was given up and then rings for ever is given up for good.
func TestAbandonedInviteEnds(t *testing.T) {
	t.Parallel()
	p, g := called(t, func(trunk *Trunk) { trunk.AnswerTimeout = 20 * time.Millisecond })
	leg := dial(t, g)
	invite := p.await("INVITE ")
	end(t, leg)
	p.respond(invite, "180 Ringing", "")
	p.respond(p.await("CANCEL "), "200 OK", "") // and no 487
	require.Eventually(t, func() bool {
		var stacks bytes.Buffer
		require.NoError(t, pprof.Lookup("goroutine").WriteTo(&stacks, 1))
		return !strings.Contains(stacks.String(), "(*call).abandon")
	}, patience, 50*time.Millisecond)
	g.idle(t)
}

// A late answer, and that of a second phone, are hung up also where the trunk wants the password for that.
func TestLateAnswerIsHungUpWithThePassword(t *testing.T) {
	t.Parallel()
	p, g := called(t, func(trunk *Trunk) {
		trunk.Username, trunk.Password, trunk.Realm, trunk.AnswerTimeout = "us", "secret", "r", 20*time.Millisecond
	})
	leg := dial(t, g)
	invite := p.await("INVITE ")
	end(t, leg)
	p.respond(invite, "200 OK", talkerSDP)
	p.await("ACK ")
	p.write(p.response(p.await("BYE "), "407 Proxy Authentication Required", "", `Proxy-Authenticate: Digest realm="r", nonce="n"`))
	for {
		bye := p.await("BYE ")
		if headerOf(bye, "Proxy-Authorization") != "" {
			p.respond(bye, "200 OK", "")
			break
		}
	}
	g.idle(t)
}

// An answer whose Contact leads nowhere is a call at the far end all the same: it is acknowledged and hung up.
func TestAnswerWithoutUsableContact(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	ok := p.response(p.await("INVITE "), "200 OK", talkerSDP)
	p.write(strings.Replace(ok, "Contact: <sip:a@"+p.conn.LocalAddr().String(), "Contact: <tel:+15550100", 1))
	p.await("ACK ")
	p.respond(p.await("BYE "), "200 OK", "")
	require.Equal(t, dialogs.Error, end(t, leg).Reason)
	g.idle(t)
}

// A far end that wants another session interval with every answer is not asked for ever.
func TestIntervalThatNeverSuits(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	last := ""
	for i := range maxIntervals + 1 {
		invite := p.await("INVITE ")
		for headerOf(invite, "CSeq") == last { // it is repeated when this machine is slow
			invite = p.await("INVITE ")
		}
		last = headerOf(invite, "CSeq")
		p.write(p.response(invite, "422 Session Interval Too Small", "", "Min-SE: "+strconv.Itoa(5000+i)))
	}
	require.Equal(t, statusIntervalTooSmall, end(t, leg).SIPCode)
	g.idle(t)
}

// Whoever has our ACK may change the session in its turn: nothing is under way any more.
func TestReinviteBehindTheAck(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	for i := range changeBurst - 1 { // the far end may change it no more often
		leg.Hold(i%2 == 0)
		ours := p.await("INVITE ")
		direction := "a=sendrecv\r\n"
		if i%2 == 0 {
			direction = "a=recvonly\r\n"
		}
		p.respond(ours, "200 OK", talkerSDP+direction)
		p.await("ACK ")
		p.send("INVITE", talkerSDP+direction)
		require.True(t, strings.HasPrefix(p.answer(), "SIP/2.0 200"), i)
		p.send("ACK", "")
		await(t, leg, dialogs.LegHold)
	}
	p.bye(leg)
	g.idle(t)
}

// A phone that rings may send keys; it may not transfer yet.
func TestRequestsOfAPhoneThatRings(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	invite := p.await("INVITE ")
	ringing := p.response(invite, "180 Ringing", "")
	p.write(ringing)
	await(t, leg, dialogs.LegRinging)
	p.to = headerOf(invite, "From")
	p.at = strings.Trim(headerOf(invite, "Contact"), "<>")
	for _, c := range []struct{ method, body, want string }{
		{"INFO", "Signal=7\r\n", "200"}, {"REFER", "", "403"}, {"NOTIFY", "", "481"}, {"OPTIONS", "", "200"}, {"MESSAGE", "", "405"},
	} {
		text := strings.NewReplacer("From: <sip:+15550123@x>;tag=1", "From: "+headerOf(ringing, "To"), "Call-ID: "+p.id, "Call-ID: "+headerOf(invite, "Call-ID"),
			sdpType, relayType).Replace(p.request(c.method, c.body, "Event: refer"))
		p.write(text)
		require.True(t, strings.HasPrefix(p.answer(), "SIP/2.0 "+c.want), c.method)
	}
	require.Equal(t, byte('7'), await(t, leg, dialogs.LegKey).Key.Digit)
	p.respond(invite, "486 Busy Here", "")
	require.Equal(t, dialogs.FarEndBusy, end(t, leg).Reason)
	g.idle(t)
}

// A PRACK may offer again when the first offer is answered, and no sooner.
func TestOfferInAPrackBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	conn, err := net.Dial("udp", g.at("udp"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	p := &talker{t: t, conn: conn, to: "<sip:+15550100@x>", at: "sip:+15550100@" + g.at("udp"), id: conn.LocalAddr().String()}
	p.send("INVITE", talkerSDP, "Require: 100rel")
	ringing := p.await("SIP/2.0 180")
	p.to = headerOf(ringing, "To")
	leg := in.leg(t)
	p.send("PRACK", strings.Replace(talkerSDP, "40002", "40006", 1), "RAck: "+headerOf(ringing, "RSeq")+" 1 INVITE")
	p.await("SIP/2.0 491")
	leg.Answer()
	require.Contains(t, p.await("SIP/2.0 200"), "m=audio")
	p.seq--
	p.send("ACK", "")
	p.seq++
	require.Equal(t, uint16(40002), await(t, leg, dialogs.LegMedia).Media.Remote.Port())
	await(t, leg, dialogs.LegAnswered)
	p.bye(leg)
	g.idle(t)
}

// Who knows the Call-ID and the caller's tag, but not ours, knows no call.
func TestOurTagIsAsked(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newRawPeer(t, g)
	_, err := p.conn.Write([]byte(p.request("INVITE", "one")))
	require.NoError(t, err)
	leg := in.leg(t)
	for i, tag := range []string{"from:1:1", "from", `"from 1:1"`} {
		answer := p.ask(p.request("BYE", "bye"+strconv.Itoa(i), "To: <sip:+15550100@x>", "To: <sip:+15550100@x>;tag="+tag, "CSeq: 1", "CSeq: 2"))
		require.True(t, strings.HasPrefix(answer, "SIP/2.0 481"), "%s: %s", tag, answer)
	}
	leg.Hangup(0)
	require.Equal(t, byThisEnd, end(t, leg).Details)
	g.idle(t)
}

// TestGlareWithSIPp is TestGlare with either end as the one that placed the call, over each transport.
func TestGlareWithSIPp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scenario string
		port     uint16 // of the far end's own change
	}{{"uas_glare", 40510}, {"uac_glare", 40512}} {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				g, phone, leg := upWith(o, Config{}, c.scenario)
				leg.Hold(true)
				require.Equal(t, dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: true}}, await(t, leg, dialogs.LegHold))
				moved := c.scenario == "uas_glare" // before our hold
				for !moved {
					moved = await(t, leg, dialogs.LegMedia).Media.Remote.Port() == c.port
				}
				phone.sees(1, fmt.Sprintf("m=audio %d ", c.port))
				wind(t, g, phone, leg)
			})
		})
	}
}

// TestHoldWaitsAfterA491: the far end has something under way that we do not see.
func TestHoldWaitsAfterA491(t *testing.T) {
	t.Parallel()
	for _, scenario := range []string{"uas_hold_pending", "uac_hold_pending"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				g, phone, leg := upWith(o, Config{}, scenario)
				leg.Hold(true)
				require.Equal(t, dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: true}}, await(t, leg, dialogs.LegHold), "nobody hears of the 491")
				wind(t, g, phone, leg)
			})
		})
	}
}

// TestByeAndReinviteCross: of a BYE and a re-INVITE that are under way at once, whoever sent which, none is left without
// its answer, and the call is over.
func TestByeAndReinviteCross(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scenario   string
		hold, ours bool // we change the session, we hang up
	}{
		{"uas_bye_cross", true, false},
		{"uac_bye_cross", true, false},
		{"uas_bye_unacked", false, false},
		{"uac_bye_unacked", false, false},
		{"uas_reinvite_cross", false, true},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				g, phone, leg := upWith(o, Config{}, c.scenario)
				want := dialogs.Cause{Details: byFarEnd}
				if c.hold {
					leg.Hold(true)
				}
				if c.ours {
					leg.Hangup(0)
					want.Details = byThisEnd
				}
				require.Equal(t, want, end(t, leg))
				phone.passed()
				g.idle(t)
			})
		})
	}
}

func TestRequestsWithAnotherTag(t *testing.T) {
	t.Parallel()
	for _, scenario := range []string{"uas_wrong_tag", "uac_wrong_tag"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				g, phone, leg := upWith(o, Config{}, scenario)
				require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
				phone.passed()
				require.Equal(t, scenario == "uac_wrong_tag", strings.Contains(phone.messages(), "CSeq: 8 BYE"), "the call went on until its own BYE")
				g.idle(t)
			})
		})
	}
}
