package sip

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/trunks"
)

// station is a proxy, or another place of a far end, that is played by hand.
type station struct {
	t *testing.T
	net.PacketConn
	from net.Addr // who sent the last message
	seen map[string]bool
}

func newStation(t *testing.T) *station {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &station{t: t, PacketConn: conn, seen: make(map[string]bool)}
}

// route is how a Record-Route names it.
func (s *station) route() string { return "<sip:" + s.LocalAddr().String() + ";lr>" }

// await returns the next message that begins so, and not a second time what is sent again.
func (s *station) await(prefix string) string {
	s.t.Helper()
	require.NoError(s.t, s.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 65536)
	for {
		n, from, err := s.ReadFrom(buf)
		require.NoError(s.t, err, "no %s came", prefix)
		text := string(buf[:n])
		if strings.HasPrefix(text, prefix) && !s.seen[text] {
			s.seen[text], s.from = true, from
			return text
		}
	}
}

func (s *station) write(text string) {
	s.t.Helper()
	_, err := s.WriteTo([]byte(text), s.from)
	require.NoError(s.t, err)
}

// untouched checks that nothing has come.
func (s *station) untouched() {
	s.t.Helper()
	conn, err := net.Dial("udp", s.LocalAddr().String())
	require.NoError(s.t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte("the first"))
	require.NoError(s.t, err)
	require.Equal(s.t, "the first", s.await(""))
}

// The route set is that of the message which made the dialog: what later ones name leads nowhere (RFC 3261 §12.2).
func TestRouteSetIsBuiltOnce(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	proxy, other := newStation(t), newStation(t)
	p, leg := talk(t, g, in, "Record-Route: "+proxy.route())
	p.send("INVITE", talkerSDP, "Record-Route: "+other.route())
	require.Contains(t, p.answer(), "SIP/2.0 200")
	p.send("ACK", "")

	leg.Hold(true)
	invite := proxy.await("INVITE ")
	require.Equal(t, proxy.route(), headerOf(invite, "Route"))
	proxy.write(p.response(invite, "200 OK", talkerSDP+"a=recvonly\r\n", "Record-Route: "+other.route()))
	require.Equal(t, proxy.route(), headerOf(proxy.await("ACK "), "Route"))
	await(t, leg, dialogs.LegHold)

	leg.Hangup(0)
	bye := proxy.await("BYE ")
	require.Equal(t, proxy.route(), headerOf(bye, "Route"))
	proxy.write(p.response(bye, "200 OK", ""))
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	other.untouched()
	g.idle(t)
}

// The answer to a re-INVITE of ours may name another Contact: that is where the call is from then on (RFC 3261 §12.2.1.2).
func TestAnswerMovesTheTarget(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	elsewhere := newStation(t)
	p, leg := talk(t, g, in)
	leg.Hold(true)
	ok := p.response(p.await("INVITE "), "200 OK", talkerSDP+"a=recvonly\r\n")
	p.write(strings.Replace(ok, "Contact: <sip:a@"+p.conn.LocalAddr().String(), "Contact: <sip:b@"+elsewhere.LocalAddr().String(), 1))
	require.Contains(t, elsewhere.await("ACK "), "ACK sip:b@")
	await(t, leg, dialogs.LegHold)
	leg.Hangup(0)
	bye := elsewhere.await("BYE ")
	require.Contains(t, bye, "BYE sip:b@")
	elsewhere.write(p.response(bye, "200 OK", ""))
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	g.idle(t)
}

// The ACK to another INVITE ends no wait: the 2xx comes again until its own is there (RFC 3261 §13.3.1.4).
func TestAckOfAnotherInvite(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newTalker(t, g)
	p.send("INVITE", talkerSDP)
	leg := in.leg(t)
	leg.Answer()
	p.to = headerOf(p.await("SIP/2.0 200"), "To")
	p.seq = 7
	p.send("ACK", "")
	p.send("OPTIONS", "") // whoever is asked behind it has dealt with it
	require.Contains(t, p.answer(), "SIP/2.0 200")
	require.Contains(t, p.again("SIP/2.0 200"), "CSeq: 1 INVITE\r\n")
	p.seq = 1
	p.send("ACK", "")
	await(t, leg, dialogs.LegAnswered)
	p.seq = 8
	p.bye(leg)
	g.idle(t)
}

// Both ends hang up at once: each is answered.
func TestByesCross(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	leg.Hangup(0)
	ours := p.await("BYE ")
	p.send("BYE", "")
	require.Contains(t, p.answer(), "SIP/2.0 200")
	p.respond(ours, "200 OK", "")
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	g.idle(t)
}

// An offer of ours in a 183 waits for its answer in the PRACK: an offer that crosses it is refused (RFC 3311 §5.2).
func TestUpdateCrossesOurEarlyOffer(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newTalker(t, g)
	p.send("INVITE", "", "Supported: 100rel")
	leg := in.leg(t)
	leg.Progress(true)
	offer := p.await("SIP/2.0 183")
	require.Contains(t, offer, "m=audio")
	p.to = headerOf(offer, "To")
	p.send("UPDATE", talkerSDP)
	require.Contains(t, p.answer(), "SIP/2.0 491")
	leg.Hangup(0)
	p.await("SIP/2.0 603")
	p.seq = 1
	p.refused()
	require.Equal(t, byThisEnd, end(t, leg).Details)
	g.idle(t)
}

// Of two phones that are heard before the answer the second one gives up: the first one is heard again (RFC 6228).
func TestWhoIsLeftIsHeardAgain(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	invite := p.await("INVITE ")
	early := func(tag, status, sdp string) {
		p.write(strings.Replace(p.response(invite, status, sdp), ";tag=far", ";tag="+tag, 1))
	}
	port := func() uint16 { return await(t, leg, dialogs.LegMedia).Media.Remote.Port() }
	early("a", "183 Session Progress", talkerSDP)
	require.Equal(t, uint16(40002), port())
	early("b", "183 Session Progress", strings.Replace(talkerSDP, "40002", "40004", 1))
	require.Equal(t, uint16(40004), port())
	early("b", "199 Early Dialog Terminated", "")
	require.Equal(t, uint16(40002), port())
	early("a", "486 Busy Here", "")
	require.Equal(t, dialogs.FarEndBusy, end(t, leg).Reason)
	g.idle(t)
}

// A session interval that is too short is refused in a call that is up, too, with the least that is taken (RFC 4028 §9).
func TestShortIntervalInACall(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	for _, method := range []string{"UPDATE", "INVITE"} {
		p.send(method, "", "Supported: timer", "Session-Expires: 60")
		refusal := p.answer()
		require.Contains(t, refusal, "SIP/2.0 422 ")
		require.Equal(t, "90", headerOf(refusal, "Min-SE"))
	}
	p.refused()
	p.bye(leg)
	g.idle(t)
}

// Whoever lists UPDATE and does not take it gets a re-INVITE, and the session goes on (RFC 4028 §7.4).
func TestRefreshWithoutUpdate(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in, "Allow: INVITE, ACK, BYE, UPDATE", "Supported: timer", "Session-Expires: 600;refresher=uas")
	c := leg.(*call)
	c.inbox.post(func() { c.timer.due = true }) // as after half of it
	p.respond(p.await("UPDATE "), "405 Method Not Allowed", "")
	invite := p.await("INVITE ")
	require.Equal(t, "600;refresher=uac", headerOf(invite, "Session-Expires"))
	p.write(p.response(invite, "200 OK", talkerSDP, "Session-Expires: 600;refresher=uac"))
	p.await("ACK ")
	p.bye(leg)
	g.idle(t)
}

// Once the callee rang the call has found its way: no other trunk is tried, whatever comes of it.
func TestNoOtherTrunkOnceItRang(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after  func(p *talker, invite string)
		status int
	}{
		"503": {func(p *talker, invite string) { p.respond(invite, "503 Service Unavailable", "") }, 503},
		"a challenge, and silence": {func(p *talker, invite string) {
			p.write(p.response(invite, "401 Unauthorized", "", `WWW-Authenticate: Digest realm="r", nonce="n"`))
			for headerOf(invite, "Authorization") == "" {
				invite = p.await("INVITE ")
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := newStation(t)
			p, g := called(t, nil)
			first := trunks.Trunk{
				Name: "first", Account: "1", URI: "sip:" + p.conn.LocalAddr().String(), Prefixes: []string{"+1555"},
				Username: "us", Password: "secret", Realm: "r",
			}
			second := trunks.Trunk{Name: "second", Account: "1", URI: "sip:" + other.LocalAddr().String()}
			g.book.SetTrunks([]Trunk{first, second}, nil)
			leg := dial(t, g)
			invite := p.await("INVITE ")
			p.respond(invite, "180 Ringing", "")
			await(t, leg, dialogs.LegRinging)
			c.after(p, invite)
			cause := end(t, leg)
			require.Equal(t, dialogs.Error, cause.Reason)
			require.Equal(t, c.status, cause.SIPCode)
			g.idle(t)
			other.untouched()
		})
	}
}

// A PRACK that names another answer acknowledges nothing (RFC 3262 §3).
func TestPrackOfAnotherAnswer(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newTalker(t, g)
	p.send("INVITE", talkerSDP, "Supported: 100rel")
	leg := in.leg(t)
	leg.Progress(true)
	early := p.await("SIP/2.0 183")
	p.to = headerOf(early, "To")
	number, err := strconv.Atoi(headerOf(early, "RSeq"))
	require.NoError(t, err)
	for _, rack := range []string{
		fmt.Sprint(number+1, " 1 INVITE"), fmt.Sprint(number-1, " 1 INVITE"), fmt.Sprint(number, " 2 INVITE"), fmt.Sprint(number, " 1 UPDATE"),
	} {
		p.send("PRACK", "", "RAck: "+rack)
		require.Contains(t, p.answer(), "SIP/2.0 481 ", rack)
	}
	p.send("PRACK", "", "RAck: "+fmt.Sprint(number, " 1 INVITE"))
	require.Contains(t, p.answer(), "SIP/2.0 200 ")
	leg.Hangup(0)
	p.await("SIP/2.0 603")
	p.seq = 1
	p.refused()
	require.Equal(t, byThisEnd, end(t, leg).Details)
	g.idle(t)
}

// The answer to a CANCEL has the tag of the call that it ends (RFC 3261 §9.2).
func TestCancelHasTheTagOfItsCall(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newTalker(t, g)
	p.send("INVITE", talkerSDP)
	leg := in.leg(t)
	ringing := p.await("SIP/2.0 180")
	p.seq--
	p.write(strings.Replace(p.request("CANCEL", ""), "-cancel;", "-invite;", 1))
	var cancelled, refused string
	for cancelled == "" || refused == "" {
		switch text := p.await("SIP/2.0 "); {
		case strings.HasPrefix(text, "SIP/2.0 200") && strings.Contains(headerOf(text, "CSeq"), "CANCEL"):
			cancelled = text
		case strings.HasPrefix(text, "SIP/2.0 487"):
			refused = text
		}
	}
	p.refused()
	want, ok := tagIn(headerOf(ringing, "To"))
	require.True(t, ok)
	for _, text := range []string{cancelled, refused} {
		got, _ := tagIn(headerOf(text, "To"))
		require.Equal(t, want, got, text)
	}
	require.Equal(t, byFarEnd, end(t, leg).Details)
	g.idle(t)
}

// Whoever wants no report of its transfer gets none, and is told so (RFC 4488 §4).
func TestTransferorWantsNoReport(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	p.send("REFER", "", "Refer-To: <sip:+15550105@127.0.0.1>", "Refer-Sub: false")
	accepted := p.answer()
	require.Contains(t, accepted, "SIP/2.0 202 ")
	require.Equal(t, "false", headerOf(accepted, "Refer-Sub"))
	await(t, leg, dialogs.LegRefer)
	leg.Referred(200)
	leg.Hangup(0)
	bye := p.awaitRequest()
	require.True(t, strings.HasPrefix(bye, "BYE "), bye)
	p.respond(bye, "200 OK", "")
	require.Equal(t, byThisEnd, end(t, leg).Details)
	g.idle(t)
}

// A report of another transfer is none of ours (RFC 3515 §2.4.6).
func TestReportOfAnotherTransfer(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	leg.Refer(dialogs.Refer{To: "+15550105"})
	refer := p.await("REFER ")
	p.respond(refer, "202 Accepted", "")
	ours, _, _ := strings.Cut(headerOf(refer, "CSeq"), " ")
	for id, want := range map[string]string{"4711": "SIP/2.0 481 ", ours: "SIP/2.0 200 "} {
		p.send("NOTIFY", "", "Event: refer;id="+id, "Subscription-State: active")
		require.Contains(t, p.answer(), want, id)
	}
	p.bye(leg)
	g.idle(t)
}

// A call that is to take another's place says so to whoever does not know that, who would take it beside (RFC 3891 §3).
func TestReplacesIsRequired(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	const value = "a@b;to-tag=1;from-tag=2"
	leg, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199", Replaces: value})
	require.NoError(t, err)
	invite := p.await("INVITE ")
	require.Equal(t, value, headerOf(invite, "Replaces"))
	require.Equal(t, "replaces", headerOf(invite, "Require"))
	p.respond(invite, "420 Bad Extension", "")
	require.Equal(t, 420, end(t, leg).SIPCode)
	g.idle(t)
}

// What a stranger is refused for counts against it, and who is banned is not heard, over UDP and over a connection that
// it had before.
func TestRefusedStrangersAreBanned(t *testing.T) {
	t.Parallel()
	for method, reason := range map[string]string{"INVITE": "refused calls", "REGISTER": "refused registrations"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			in := newCallers(func(dialogs.Incoming) error { return errs.New(errs.NotFound, "nobody") })
			g := startAgent(t, Config{Guard: GuardConfig{BanAfter: 3}}, in)
			p := newRawPeer(t, g)
			stream, err := net.Dial("tcp", g.at("tcp"))
			require.NoError(t, err)
			defer func() { _ = stream.Close() }()
			require.NoError(t, stream.SetReadDeadline(time.Now().Add(patience)))
			_, err = stream.Write([]byte(options("before", "TCP")))
			require.NoError(t, err)
			_, err = stream.Read(make([]byte, 1)) // it is answered, and so is a connection by now
			require.NoError(t, err)
			for i := range 3 {
				_, err := p.conn.Write([]byte(p.request(method, fmt.Sprint("no", i), "Call-ID: raw", fmt.Sprint("Call-ID: no", i))))
				require.NoError(t, err)
			}
			require.Eventually(t, func() bool { return len(g.Bans()) == 1 }, patience, time.Millisecond)
			require.Equal(t, reason, g.Bans()[0].Reason)
			before := g.Bans()[0].Dropped
			_, err = p.conn.Write([]byte(p.request("OPTIONS", "after")))
			require.NoError(t, err)
			require.Eventually(t, func() bool { return g.Bans()[0].Dropped > before }, patience, time.Millisecond, "over UDP")
			_, err = stream.Write([]byte(options("after", "TCP")))
			require.NoError(t, err)
			rest, err := io.ReadAll(stream)
			require.NoError(t, err, "the connection is closed")
			require.NotContains(t, string(rest), "after")

			require.True(t, g.Pardon(netip.MustParseAddr("127.0.0.1")))
			_, err = p.conn.Write([]byte(p.request("OPTIONS", "again")))
			require.NoError(t, err)
			require.NoError(t, p.conn.SetReadDeadline(time.Now().Add(patience)))
			for branch := ""; branch != "again"; {
				buf := make([]byte, 65536)
				n, err := p.conn.Read(buf)
				require.NoError(t, err)
				branch = branchOf(string(buf[:n]))
				require.NotEqual(t, "after", branch, "it was answered while it was banned")
			}
		})
	}
}

// A scanner that names itself in From alone is one, too.
func TestScannerInFrom(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{}, newCallers(nil))
	p := newRawPeer(t, g)
	_, err := p.conn.Write([]byte(p.request("OPTIONS", "scan", "From: <sip:", `From: "sipvicious"<sip:`)))
	require.NoError(t, err)
	require.Contains(t, p.ask(p.request("OPTIONS", "honest")), "SIP/2.0 200")
	require.EqualValues(t, 1, g.GuardStats().Scanners)
}

// What was agreed, and how far the phone had counted, before the answer holds after it (RFC 3261 §12.1, §12.3).
func TestEarlyDialogGoesOn(t *testing.T) {
	t.Parallel()
	p, g := called(t, nil)
	leg := dial(t, g)
	invite := p.await("INVITE ")
	p.write(p.response(invite, "183 Session Progress", talkerSDP, "Require: 100rel", "RSeq: 7"))
	p.respond(p.await("PRACK "), "200 OK", "")
	p.to, p.at = headerOf(invite, "From"), strings.Trim(headerOf(invite, "Contact"), "<>")
	ask := func(method string, seq int) string {
		p.seq = seq - 1
		p.write(strings.NewReplacer(
			"From: <sip:+15550123@x>;tag=1", "From: "+headerOf(invite, "To")+";tag=far", "Call-ID: "+p.id, "Call-ID: "+headerOf(invite, "Call-ID"),
		).Replace(p.request(method, "")))
		return p.answer()
	}
	require.Contains(t, ask("OPTIONS", 10), "SIP/2.0 200 ")
	p.respond(invite, "200 OK", "")
	p.await("ACK ")
	await(t, leg, dialogs.LegAnswered)
	require.Contains(t, ask("OPTIONS", 9), "SIP/2.0 500 ", "it is older than what came before the answer")
	leg.Hold(true)
	hold := p.await("INVITE ")
	for strings.HasPrefix(headerOf(hold, "CSeq"), "1 ") { // the first one is repeated when this machine is slow
		hold = p.await("INVITE ")
	}
	require.Contains(t, hold, "a=sendonly\r\n")
	p.respond(hold, "200 OK", talkerSDP+"a=recvonly\r\n")
	p.await("ACK ")
	require.True(t, await(t, leg, dialogs.LegHold).Hold.ByUs)
	require.Contains(t, ask("BYE", 11), "SIP/2.0 200 ")
	require.Equal(t, byFarEnd, end(t, leg).Details)
	g.idle(t)
}

// A hook flash is no key.
func TestHookFlashIsNoKey(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	for _, signal := range []string{"16", "!", "5"} {
		p.write(strings.Replace(p.request("INFO", "Signal="+signal+"\r\n"), sdpType, relayType, 1))
		require.Contains(t, p.answer(), "SIP/2.0 200 ", signal)
	}
	require.Equal(t, byte('5'), await(t, leg, dialogs.LegKey).Key.Digit)
	p.bye(leg)
	g.idle(t)
}
