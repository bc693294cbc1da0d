package sip

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"tandem/dialogs"
	"tandem/media"
)

// What users of other gateways met and their makers had to repair; docs/known-traps.md says which test is about which.

// TestTrunkHasAnAddressOfItsOwn: what a trunk reaches us at is in every SDP and Contact that it gets, and in nobody
// else's.
func TestTrunkHasAnAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	const mine = "203.0.113.7"
	h := newHandCarrier(t)
	out := h.trunk()
	out.PublicIP = mine
	inside := Trunk{Name: "inside", Account: "1", Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}
	in := newCallers(nil)
	g := startAgentOn(t, Config{Trunks: []Trunk{out, inside}}, in, media.PortsConfig{From: 40000, To: 49999, Public: []netip.Addr{netip.MustParseAddr("198.51.100.9")}})
	leg := dial(t, g)
	invite := h.invited()
	shows := func(text, address string) {
		require.Contains(t, text, "c=IN IP4 "+address+"\r\n")
		require.Contains(t, text, "o=tandem ")
		require.Contains(t, text, " IN IP4 "+address+"\r\ns=-\r\n")
	}
	shows(invite, mine)
	require.Contains(t, headerOf(invite, "Contact"), "@"+mine+":")
	require.Contains(t, headerOf(invite, "Via"), " "+mine+":")
	h.respond(invite, "200 OK", talkerSDP)
	h.await("ACK ")
	await(t, leg, dialogs.LegAnswered)
	leg.Hold(true) // a re-INVITE of ours
	again := h.await("INVITE ")
	shows(again, mine)
	require.Contains(t, headerOf(again, "Contact"), "@"+mine+":")
	h.respond(again, "200 OK", strings.Replace(talkerSDP, "40002", "40006", 1)+"a=recvonly\r\n")
	h.await("ACK ")
	require.Equal(t, uint16(40006), await(t, leg, dialogs.LegMedia).Media.Remote.Port(), "an answer may change the address, too")
	h.send("INVITE", talkerSDP) // and theirs
	shows(h.await("SIP/2.0 200"), mine)
	h.send("ACK", "")
	h.send("UPDATE", talkerSDP)
	updated := h.await("SIP/2.0 200")
	shows(updated, mine)
	require.Contains(t, headerOf(updated, "Contact"), "@"+mine+":")
	h.send("BYE", "")
	require.Equal(t, byFarEnd, end(t, leg).Details)

	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.2:0")), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(g.at("udp"))))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	p := &talker{t: t, conn: conn, to: "<sip:+15550100@x>", at: "sip:+15550100@" + g.at("udp"), id: conn.LocalAddr().String()}
	p.send("INVITE", talkerSDP)
	other := in.leg(t)
	other.Answer()
	ok := p.await("SIP/2.0 200")
	shows(ok, "198.51.100.9")
	require.NotContains(t, headerOf(ok, "Contact"), mine)
	p.to = headerOf(ok, "To")
	p.send("ACK", "")
	await(t, other, dialogs.LegAnswered)
	p.send("INVITE", talkerSDP)
	shows(p.await("SIP/2.0 200"), "198.51.100.9")
	p.send("ACK", "")
	p.bye(other)
	g.idle(t)
}

func TestFacingIsBounded(t *testing.T) {
	var f facing
	here := &trunk{Trunk: Trunk{PublicIP: "203.0.113.7"}}
	for i := range 2 * maxFacing {
		f.learn(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), here)
	}
	require.LessOrEqual(t, len(*f.known.Load()), maxFacing)
	last := netip.AddrFrom4([4]byte{10, 0, byte((2*maxFacing - 1) >> 8), byte((2*maxFacing - 1) & 0xff)})
	public, ok := f.towards(last)
	require.True(t, ok)
	require.Equal(t, "203.0.113.7", public.String())
	f.learn(last, &trunk{})
	_, ok = f.towards(last)
	require.False(t, ok, "the trunk says nothing any more")
}

// TestLoopOfReoffersIsBroken: a far end that changes the session again and again is told to wait, and the call goes on.
func TestLoopOfReoffersIsBroken(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	c := g.anyCall()
	c.inbox.post(func() { c.change.pace = rate.NewLimiter(0, changeBurst) }) // however slow this machine is
	for range changeBurst {
		p.send("UPDATE", talkerSDP)
		require.Contains(t, p.answer(), "SIP/2.0 200 ", "whoever changes it as often as a person does is served")
	}
	for _, method := range []string{"UPDATE", "INVITE"} {
		p.send(method, talkerSDP)
		answer := p.answer()
		require.Contains(t, answer, "SIP/2.0 500 ")
		require.NotEmpty(t, headerOf(answer, "Retry-After"))
	}
	p.refused()
	p.bye(leg)
	g.idle(t)
}

// The far end may change the session in a burst, and then as often as changeRate says.
func TestPaceOfChanges(t *testing.T) {
	t.Parallel()
	var c change
	now := time.Now()
	for range changeBurst {
		require.False(t, c.hurried(now))
	}
	require.True(t, c.hurried(now))
	now = now.Add(time.Second)
	for range changeRate {
		require.False(t, c.hurried(now))
	}
	require.True(t, c.hurried(now))
}

// TestCarrierRefreshesOurCall: the session of a call that we placed is the carrier's to refresh, by re-INVITE, with our
// tag in To. The call lives as long as it does so, and not longer.
func TestCarrierRefreshesOurCall(t *testing.T) {
	t.Parallel()
	h := newHandCarrier(t)
	g := startAgent(t, quickly(Config{Trunks: []Trunk{h.trunk()}}), newCallers(nil))
	leg := dial(t, g)
	timer := []string{"Session-Expires: 6;refresher=uas", "Supported: timer"}
	h.respond(h.invited(), "200 OK", talkerSDP, timer...)
	h.await("ACK ")
	await(t, leg, dialogs.LegAnswered)
	timer[0] = "Session-Expires: 6;refresher=uac"
	for _, sdp := range []string{talkerSDP, "", talkerSDP, talkerSDP} { // 4 s after the last one the call would be hung up
		select {
		case e := <-leg.Events():
			require.Fail(t, "the call did not stay up", "%+v", e)
		case <-time.After(1400 * time.Millisecond):
		}
		h.send("INVITE", sdp, timer...)
		ok := h.await("SIP/2.0 ")
		for strings.HasPrefix(ok, "SIP/2.0 1") {
			ok = h.await("SIP/2.0 ")
		}
		require.True(t, strings.HasPrefix(ok, "SIP/2.0 200"), ok)
		require.Equal(t, "6;refresher=uac", headerOf(ok, "Session-Expires"))
		if sdp == "" { // our 200 had the offer
			h.send("ACK", talkerSDP)
			continue
		}
		h.send("ACK", "")
	}
	bye := h.await("BYE ")
	h.respond(bye, "200 OK", "")
	require.Contains(t, end(t, leg).Details, "did not refresh the session in time")
	g.idle(t)
}

// TestFarEndWithoutTimers is asked all the same whether it is there: whatever it answers shows that. On hold it sends nothing
// else, and nothing else would end the call.
func TestFarEndWithoutTimers(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]string{"481 Call Does Not Exist": "knows the call no more", "200 OK": "", "": "could not be refreshed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newCallers(nil)
			g := startAgent(t, quickly(Config{Trunks: []Trunk{office}, SessionExpires: 2 * time.Second}), in)
			p, leg := talk(t, g, in, "Allow: INVITE, ACK, BYE")
			require.False(t, leg.Watched())
			p.send("INVITE", talkerSDP+"a=sendonly\r\n")
			p.await("SIP/2.0 200")
			p.send("ACK", "")
			for _, status := range []string{"488 Not Acceptable Here", "200 OK"} {
				asked := p.await("INVITE ")
				require.Contains(t, asked, "a=recvonly", "on hold as before")
				if status == "200 OK" {
					p.write(p.response(asked, status, talkerSDP+"a=sendonly\r\n"))
				} else {
					p.write(p.response(asked, status, ""))
				}
				p.await("ACK ")
			}
			asked := p.await("INVITE ")
			switch name {
			case "":
				// It is gone.
			case "200 OK":
				p.write(p.response(asked, name, talkerSDP, "Session-Expires: 2;refresher=uac", "Require: timer"))
				p.await("ACK ")
				p.await("INVITE ")
				require.True(t, leg.Watched(), "it has learned")
				leg.Hangup(0)
			default:
				p.write(p.response(asked, name, ""))
				p.await("ACK ")
			}
			p.respond(p.await("BYE "), "200 OK", "")
			if got := end(t, leg); last != "" {
				require.Equal(t, dialogs.Error, got.Reason)
				require.Contains(t, got.Details, last)
			}
			g.idle(t)
		})
	}
}

// TestSessionTimerOfFortyMinutes lets the carrier refresh every 15 minutes, in minutes of a clock of the test's own.
func TestSessionTimerOfFortyMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &call{inbox: newInbox(), timer: sessionTimer{wanted: defaultSessionExpires, least: minSessionExpires}}
		refresh := parse(t, "<sip:+15550101@x>;tag=1", "Supported: timer", "Session-Expires: 1800;refresher=uac")
		began := time.Now()
		c.timer.answer(refresh)
		c.timed()
		next := time.NewTicker(15 * time.Minute)
		defer next.Stop()
		for range 3 { // at 15, 30 and 45 minutes
			select {
			case <-c.inbox.ready:
				c.inbox.run()
				require.Nil(t, c.fault, "after %s", time.Since(began))
			case <-next.C:
				c.timer.answer(refresh)
				c.timed()
			}
		}
		require.Equal(t, 45*time.Minute, time.Since(began))
		<-c.inbox.ready
		c.inbox.run()
		require.NotNil(t, c.fault)
		require.Equal(t, 75*time.Minute-expiryMargin, time.Since(began))
		c.untimed()
	})
}

// TestAckAtOnce: an ACK that comes on the heels of the 200 ends its repetition.
func TestAckAtOnce(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	const calls = 20
	type up struct {
		p   *talker
		leg dialogs.Leg
	}
	var all []up
	for range calls {
		p, leg := talk(t, g, in)
		all = append(all, up{p, leg})
	}
	deadline := time.Now().Add(4 * sip.T1) // for all of them
	for _, u := range all {
		require.NoError(t, u.p.conn.SetReadDeadline(deadline))
		buf := make([]byte, 65536)
		n, err := u.p.conn.Read(buf)
		require.Error(t, err, "sent again: %s", buf[:n])
		u.p.bye(u.leg)
	}
	g.idle(t)
}

// TestChallengeEndsNoEarlyMedia: what comes in the 183 to the INVITE with credentials is heard.
func TestChallengeEndsNoEarlyMedia(t *testing.T) {
	t.Parallel()
	h := newHandCarrier(t)
	trunk := h.trunk()
	trunk.Username, trunk.Password = "user", "secret"
	g := startAgent(t, Config{Trunks: []Trunk{trunk}}, newCallers(nil))
	leg := dial(t, g)
	first := h.invited()
	h.respond(first, "407 Proxy Authentication Required", "", `Proxy-Authenticate: Digest realm="carrier", nonce="a", qop="auth", algorithm=MD5`)
	h.await("ACK ")
	second := h.invited()
	require.Contains(t, second, `Proxy-Authorization: Digest`)
	port := portInSDP(t, first)
	require.Equal(t, port, portInSDP(t, second))
	h.respond(second, "183 Session Progress", talkerSDP)
	early := await(t, leg, dialogs.LegMedia)
	require.True(t, early.Media.Receive)
	require.Equal(t, port, fmt.Sprint(early.Port.Local().Port()), "it listens where the INVITE says")
	h.respond(second, "200 OK", talkerSDP)
	h.await("ACK ")
	await(t, leg, dialogs.LegAnswered)
	h.send("BYE", "")
	require.Equal(t, byFarEnd, end(t, leg).Details)
	g.idle(t)
}

// portInSDP returns the port of the audio stream in a message.
func portInSDP(t *testing.T, text string) string {
	t.Helper()
	_, after, ok := strings.Cut(text, "\r\nm=audio ")
	require.True(t, ok, text)
	port, _, _ := strings.Cut(after, " ")
	return port
}

// TestPasswordIsForTheTrunk: neither the callee at its own address nor somebody behind the trunk gets the trunk's
// password to chew on.
func TestPasswordIsForTheTrunk(t *testing.T) {
	t.Parallel()
	challenge := func(realm, nonce string) string {
		return fmt.Sprintf(`WWW-Authenticate: Digest realm="%s", nonce="%s", qop="auth", algorithm=MD5`, realm, nonce)
	}
	for _, c := range []struct {
		name     string
		realm    string // of the trunk
		inINVITE string // the realm that challenges the INVITE
		inBye    string
		elsewhere,
		answers bool
	}{
		{"the trunk", "", "carrier", "carrier", false, true},
		{"the trunk, in the BYE alone, by the name of its host", "", "", "127.0.0.1", false, true},
		{"somebody, in the BYE alone", "", "", "carrier", false, false},
		{"the trunk, configured", "carrier", "", "carrier", false, true},
		{"the trunk, in several realms", "*", "carrier", "registrar", false, true},
		{"another realm than that of the INVITE", "", "carrier", "evil", false, false},
		{"another realm than the configured one", "carrier", "", "evil", false, false},
		{"the callee itself", "carrier", "", "carrier", true, false},
		{"the callee itself, in the trunk's realm", "carrier", "carrier", "carrier", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHandCarrier(t)
			trunk := h.trunk()
			trunk.Username, trunk.Password, trunk.Realm = "user", "secret", c.realm
			g := startAgent(t, Config{Trunks: []Trunk{trunk}}, newCallers(nil))
			leg := dial(t, g)
			invite := h.invited()
			if c.inINVITE != "" {
				h.respond(invite, "401 Unauthorized", "", challenge(c.inINVITE, "a"))
				h.await("ACK ")
				invite = h.invited()
				require.Contains(t, invite, `Authorization: Digest`)
			}
			who := h
			if c.elsewhere {
				conn, err := net.ListenPacket("udp", "127.0.0.2:0")
				require.NoError(t, err)
				defer func() { _ = conn.Close() }()
				who = &handCarrier{t: t, conn: conn, seen: make(map[string]bool), at: "sip:phone@" + conn.LocalAddr().String()}
				h.at = who.at
			}
			h.respond(invite, "200 OK", talkerSDP)
			ack := who.await("ACK ")
			require.Equal(t, c.inINVITE != "" && !c.elsewhere, strings.Contains(ack, "Authorization:"), ack)
			await(t, leg, dialogs.LegAnswered)
			leg.Hangup(0)
			bye := who.await("BYE ")
			who.respond(bye, "401 Unauthorized", "", challenge(c.inBye, "b"))
			if c.answers {
				again := who.await("BYE ")
				require.Contains(t, again, `Authorization: Digest username="user"`)
				who.respond(again, "200 OK", "")
			}
			require.Equal(t, byThisEnd, end(t, leg).Details)
			g.idle(t)
			if !c.answers {
				requireNoCredentials(t, who.conn, func(b []byte) (int, error) { return who.conn.WriteTo(b, who.from) })
			}
		})
	}
}

func TestRealmOfARegistrar(t *testing.T) {
	var r realms
	key := Trunk{Name: "a", Account: "1", URI: "sip:a", Register: true}
	here := &trunk{Trunk: key}
	require.Empty(t, r.of(here))
	r.learn(here, "first")
	require.Equal(t, "first", r.of(here))
	configured, moved, left := key, key, key
	configured.Realm, moved.URI, left.Register = "said", "sip:b", false
	require.Equal(t, "said", r.of(&trunk{Trunk: configured}))
	require.Empty(t, r.of(&trunk{Trunk: moved}), "another registrar")
	require.Empty(t, r.of(&trunk{Trunk: left}), "it registers no more")
}

// TestClosedConnectionsAreForgotten: whatever was sent over a connection, nothing of it is left when it is closed.
func TestClosedConnectionsAreForgotten(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	for i := range 30 {
		conn, err := net.Dial("tcp", g.at("tcp"))
		require.NoError(t, err)
		_, err = conn.Write([]byte(options(fmt.Sprint("ref", i), "TCP")))
		require.NoError(t, err)
		require.Contains(t, readPiece(t, conn), "SIP/2.0 200")
		require.NoError(t, conn.Close())
	}
	require.Eventually(t, func() bool {
		g.streams.mu.Lock()
		defer g.streams.mu.Unlock()
		return len(g.streams.all) == 0 && len(g.streams.peers) == 0 && g.streams.accepted == 0 && len(g.streams.sources) == 0
	}, patience, time.Millisecond)
	require.Eventually(t, func() bool { return g.tp.Pool("tcp").Size() == 0 }, patience, time.Millisecond, "the library keeps them")
}

// TestAllowIsWhatWeDo: of the methods that Allow names none is refused within a call, and every other one is.
func TestAllowIsWhatWeDo(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	for _, method := range []string{"OPTIONS", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY"} {
		require.Contains(t, allowed, method)
		p.send(method, "")
		answer := p.answer()
		require.False(t, strings.HasPrefix(answer, "SIP/2.0 405") || strings.HasPrefix(answer, "SIP/2.0 501"), "%s: %s", method, answer)
	}
	for _, method := range []string{"SUBSCRIBE", "MESSAGE", "PUBLISH", "REGISTER", "DANCE"} {
		require.NotContains(t, allowed, method)
		p.send(method, "")
		answer := p.answer()
		want := "SIP/2.0 405"
		if method == "DANCE" { // a method that is none anywhere (RFC 3261 §21.5.2)
			want = "SIP/2.0 501"
		}
		require.True(t, strings.HasPrefix(answer, want), "%s: %s", method, answer)
		require.Equal(t, allowed, headerOf(answer, "Allow"))
	}
	p.bye(leg)
	g.idle(t)
}

// TestWebSocketMessageIsBounded: one that is too large ends its connection and nothing else.
func TestWebSocketMessageIsBounded(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{Listen: []string{"udp://127.0.0.1:0", "ws://127.0.0.1:0"}}, newCallers(nil))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := (&messagesClient{}).http()
	defer client.CloseIdleConnections()
	open := func() *websocket.Conn {
		ws, _, err := websocket.Dial(ctx, "ws://"+g.at("ws"), &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"sip"}}) //nolint:bodyclose // the library takes it
		require.NoError(t, err)
		return ws
	}
	large, other := open(), open()
	_ = large.Write(ctx, websocket.MessageText, []byte("OPTIONS sip:a@b SIP/2.0\r\nX: "+strings.Repeat("a", maxMessage)))
	_, _, err := large.Read(ctx)
	require.Error(t, err)
	require.NoError(t, ctx.Err(), "it was closed")
	require.NoError(t, other.Write(ctx, websocket.MessageText, []byte(options("small", "WS"))))
	_, answer, err := other.Read(ctx)
	require.NoError(t, err)
	require.Contains(t, string(answer), "SIP/2.0 200")
	require.NoError(t, other.CloseNow())
	_ = large.CloseNow()
}

// hostile are ways to end a line or a value.
func hostile() []string {
	return []string{
		"\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "\x00", "\r\n\r\nINVITE sip:evil@x SIP/2.0", "\u0085X-Evil: 1", "\x7f",
		">\r\nX-Evil: 1", "%0d%0aX-Evil: 1", ";x=\r\n X-Evil: 1",
	}
}

// TestNothingBreaksOutOfItsHeader: of what an application gives, nothing becomes a line of its own.
func TestNothingBreaksOutOfItsHeader(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{}, newCallers(nil))
	for _, evil := range hostile() {
		plain := dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"}
		for name, change := range map[string]func(*dialogs.Dial){
			"to":          func(d *dialogs.Dial) { d.To = "+15550100" + evil },
			"to, URI":     func(d *dialogs.Dial) { d.To = "sip:bob@a.example" + evil },
			"to, user":    func(d *dialogs.Dial) { d.To = "sip:bob" + evil + "@a.example" },
			"to, param":   func(d *dialogs.Dial) { d.To = "sip:bob@a.example;x=" + evil },
			"from":        func(d *dialogs.Dial) { d.From = "+15550199" + evil },
			"userToUser":  func(d *dialogs.Dial) { d.UserToUser = "00" + evil },
			"header":      func(d *dialogs.Dial) { d.Headers = map[string]string{"X-Good": "a" + evil} },
			"header name": func(d *dialogs.Dial) { d.Headers = map[string]string{"X-Good" + evil: "a"} },
			"replaces":    func(d *dialogs.Dial) { d.Replaces = "a;to-tag=b;from-tag=c" + evil },
			"referredBy":  func(d *dialogs.Dial) { d.ReferredBy = "<sip:a@b>" + evil },
		} {
			d := plain
			change(&d)
			requireOneInvite(t, g, d, fmt.Sprintf("%s: %q", name, evil))
		}
	}
}

// requireOneInvite checks that an INVITE for d, if there is one at all, has exactly the lines that it should have.
func requireOneInvite(t testing.TB, g *gateway, d dialogs.Dial, about string) {
	t.Helper()
	if checkDial(d) != nil {
		return
	}
	made, err := readTrunk(&Trunk{Name: "carrier", Account: "1", URI: "sip:192.0.2.1", Identity: IdentityPAI})
	require.NoError(t, err)
	port, err := g.ports.Open()
	require.NoError(t, err)
	defer func() { require.NoError(t, port.Close()) }()
	c := g.newCall(g.log)
	c.port, c.trunk = port, made
	c.sdp = newDescription(1, c.local(), termsOf(made))
	defer g.forget(c)
	req, err := c.invite(d, made, networkUDP, "192.0.2.1:5060")
	if err != nil {
		return
	}
	head, _, _ := strings.Cut(req.String(), "\r\n\r\n")
	require.Equal(t, 1+len(req.Headers()), len(strings.Split(head, "\r\n")), "%s:\n%s", about, head)
	require.Falsef(t, strings.ContainsFunc(strings.ReplaceAll(head, "\r\n", ""), func(r rune) bool { return r < ' ' || r == 0x7f }), "%s:\n%s", about, head)
	parsed, err := sip.ParseMessage([]byte(req.String()))
	require.NoError(t, err, "%s:\n%s", about, head)
	again, ok := parsed.(*sip.Request)
	require.True(t, ok)
	require.Nil(t, again.GetHeader("X-Evil"), "%s:\n%s", about, head)
	if d.UserToUser != "" {
		require.Equal(t, strings.TrimSpace(d.UserToUser), again.GetHeader(headerUUI).Value(), about)
	}
}

// FuzzInvite: whatever an application gives is refused, or is one value of one header.
func FuzzInvite(f *testing.F) {
	f.Add("+15550100", "+15550199", "00;encoding=hex", "X-Customer", "42")
	f.Add("sip:bob@a.example;x=y?Subject=z", "RESTRICTED", "", "X-A", "a, b")
	f.Add("sip:%0d%0a@a", "UNKNOWN", "a\r\nb", "X-", "\x00")
	f.Fuzz(func(t *testing.T, to, from, uui, name, value string) {
		d := dialogs.Dial{To: to, From: from, UserToUser: uui, Headers: map[string]string{name: value}}
		if checkDial(d) != nil {
			return
		}
		made := &trunk{Trunk: Trunk{Name: "carrier", URI: "sip:192.0.2.1", Identity: IdentityPAI}, uri: sip.Uri{Scheme: "sip", Host: "192.0.2.1"}}
		target, route, err := made.target(to)
		if err != nil {
			return
		}
		req := sip.NewRequest(sip.INVITE, target)
		if route != nil {
			req.AppendHeader(&sip.RouteHeader{Address: *route})
		}
		writeCaller(req, made, from, "x", "t")
		req.AppendHeader(&sip.ToHeader{Address: target, Params: sip.NewParams()})
		if uui != "" {
			req.AppendHeader(sip.NewHeader(headerUUI, uui))
		}
		appendExtra(req, d.Headers)
		head, _, _ := strings.Cut(req.String(), "\r\n\r\n")
		if lines := strings.Split(head, "\r\n"); len(lines) != 1+len(req.Headers()) {
			t.Fatalf("%d lines for %d headers:\n%q", len(lines), len(req.Headers()), head)
		}
		if strings.ContainsAny(strings.ReplaceAll(head, "\r\n", ""), "\r\n\x00") {
			t.Fatalf("a line breaks:\n%q", head)
		}
	})
}

// TestReferTargetBreaksOutOfNothing is the same for what an application transfers to.
func TestReferTargetBreaksOutOfNothing(t *testing.T) {
	c := &call{trunk: &trunk{uri: sip.Uri{Scheme: "sip", Host: "192.0.2.1"}}}
	for _, evil := range hostile() {
		for _, r := range []dialogs.Refer{{To: "sip:bob@a.example" + evil}, {To: "sip:bob" + evil + "@a"}, {To: "+15550100" + evil}, {To: "+15550100", Replaces: "a;to-tag=b;from-tag=c" + evil}} {
			value, err := c.referTo(r)
			if err == nil {
				require.False(t, hasControl(value), "%q", value)
				require.Equal(t, 1, strings.Count(value, ">"), "%q", value)
			}
		}
	}
}

// TestPasswordIsInNoRefusal: why a challenge is not answered is logged; the password is not, nor a hash of it.
func TestPasswordIsInNoRefusal(t *testing.T) {
	creds := &credentials{username: "u", password: "hunter2", realm: "carrier", own: func(netip.Addr) bool { return false }}
	req := parse(t, "<sip:a@x>;tag=1")
	req.SetDestination("192.0.2.66:5060")
	res := sip.NewResponseFromRequest(req, 401, "Unauthorized", nil)
	res.AppendHeader(sip.NewHeader("WWW-Authenticate", `Digest realm="evil", nonce="x"`))
	_, err := creds.answer(req, res)
	require.ErrorContains(t, err, "192.0.2.66:5060 asks for the password")
	creds.own = nil
	_, err = creds.answer(req, res)
	require.ErrorContains(t, err, `the realm "evil"`)
	require.NotContains(t, err.Error(), "hunter2")
	require.NotContains(t, err.Error(), fmt.Sprintf("%x", sha256.Sum256([]byte("hunter2"))))
}

// TestOwnDescriptionIsChecked: what no far end could read is not sent, and nothing is changed by it.
func TestOwnDescriptionIsChecked(t *testing.T) {
	const theirs = "v=0\r\nc=IN IP4 198.51.100.7\r\nm=audio 4000 RTP/AVP 0\r\n"
	for name, spoil := range map[string]func(*description, *standing){
		"an address of nobody": func(d *description, _ *standing) { d.local = netip.AddrPortFrom(netip.Addr{}, 20000) },
		"SRTP without a key":   func(_ *description, s *standing) { s.profile = secureProfile },
		"a type of two laws":   func(_ *description, s *standing) { s.types = map[media.Speech]uint8{media.PCMU: 0, media.PCMA: 0} },
		"a line that breaks":   func(_ *description, s *standing) { s.said = "sendrecv\r\n[object Object]" },
	} {
		d := newDescription(7, here, termsOf(nil))
		next := d.standing
		next.said = "sendrecv"
		spoil(d, &next)
		before := d.standing
		err := d.write(&next, d.terms.codecs, ownEventType)
		require.ErrorIs(t, err, errOwnSDP, name)
		require.Equal(t, 500, offerStatus(err), name)
		require.Equal(t, before, d.standing, name)
	}
	d := newDescription(7, here, termsOf(nil))
	_, _, err := d.answer([]byte(theirs))
	require.NoError(t, err, "whole as it is, it is fine")
}

// TestSessionIDFitsEverybody: some read the session id and its version as signed numbers of 32 bits.
func TestSessionIDFitsEverybody(t *testing.T) {
	for range 1000 {
		require.LessOrEqual(t, newSession(), uint64(1)<<31-1)
	}
	d := newDescription(1<<31-1, here, termsOf(nil))
	require.Contains(t, string(offerOf(t, d)), "o=tandem 2147483647 ")
	theirs := "v=0\r\no=x 340282366920938463463374607431768211456 18446744073709551616 IN IP4 h\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 4001 RTP/AVP 0\r\n"
	_, agreed, err := newDescription(7, here, termsOf(nil)).answer([]byte(theirs))
	require.NoError(t, err, "nor do we mind theirs")
	require.Equal(t, "198.51.100.7:4001", agreed.Remote.String(), "an odd port is as good as an even one")
	require.Equal(t, "198.51.100.7:4002", agreed.RemoteRTCP.String())
}

// TestNoCallIsTriedTwice: what a trunk refuses for good is neither sent to it again nor to another one.
func TestNoCallIsTriedTwice(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"482 Loop Detected", "500 Server Internal Error", "603 Decline"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			h, other := newHandCarrier(t), newHandCarrier(t)
			first, second := h.trunk(), other.trunk()
			first.Prefixes, second.Name = []string{"+1555"}, "other"
			g := startAgent(t, Config{Trunks: []Trunk{first, second}}, newCallers(nil))
			leg := dial(t, g)
			h.respond(h.invited(), status, "")
			h.await("ACK ")
			require.Equal(t, status, end(t, leg).Details)
			g.idle(t)
			require.Empty(t, cameTo(t, other.conn))
			for _, text := range cameTo(t, h.conn) { // what is sent again when this machine is slow
				require.Equal(t, headerOf(h.call, "CSeq"), strings.Replace(headerOf(text, "CSeq"), "ACK", "INVITE", 1), text)
				require.Equal(t, headerOf(h.call, "Call-ID"), headerOf(text, "Call-ID"))
			}
		})
	}
}

// TestKeyOutsideACallIsNone: an INFO that belongs to no call is answered so, and presses nothing.
func TestKeyOutsideACallIsNone(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newRawPeer(t, g)
	const key = "Signal=5\r\nDuration=160\r\n"
	answer := p.ask(p.request("INFO", "key", "Content-Length: 0\r\n\r\n", fmt.Sprintf("Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s", relayType, len(key), key)))
	require.True(t, strings.HasPrefix(answer, "SIP/2.0 481 "), answer)
	require.Empty(t, in.calls())
}

// TestColdBurst: 200 calls that come within a second, to a gateway that has just begun, are all answered or told to come later.
func TestColdBurst(t *testing.T) {
	t.Parallel()
	const calls, phones = 200, 10 // what one socket can hold of the answers to all of them is not enough
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	type heardOf struct {
		p    *rawPeer
		text string
	}
	came := make(chan heardOf)
	all := make([]*rawPeer, phones)
	var reading sync.WaitGroup
	defer reading.Wait()
	over := make(chan struct{})
	defer close(over)
	for i := range all {
		p := newRawPeer(t, g)
		all[i] = p
		defer func() { _ = p.conn.Close() }()
		reading.Go(func() {
			buf := make([]byte, 65536)
			for {
				n, err := p.conn.Read(buf)
				if err != nil {
					return
				}
				select {
				case came <- heardOf{p, string(buf[:n])}:
				case <-over:
					return
				}
			}
		})
	}
	ending := make(chan struct{})
	ended := make(chan int)
	go func() {
		legs := 0
		for {
			select {
			case l := <-in.legs:
				legs++
				l.Answer()
			case <-ending:
				ended <- legs
				return
			}
		}
	}()
	body := fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(talkerSDP), talkerSDP)
	var heard sync.Map // Call-IDs that have any answer
	sent := make(chan struct{})
	go func() { // within a second; what the kernel drops is sent again, as every phone does (RFC 3261 §17.1.1.2)
		defer close(sent)
		pace := time.NewTicker(time.Second / calls)
		defer pace.Stop()
		for range 10 {
			again := false
			for i := range calls {
				if _, ok := heard.Load(fmt.Sprint("burst", i)); ok {
					continue
				}
				again = true
				p := all[i%phones]
				text := p.request("INVITE", fmt.Sprint("burst", i), "Call-ID: raw", fmt.Sprint("Call-ID: burst", i), "Content-Length: 0\r\n\r\n", body)
				_, _ = p.conn.Write([]byte(text))
				<-pace.C
			}
			if !again {
				return
			}
		}
	}()
	finals, trying := map[string]string{}, map[string]bool{}
	deadline := time.After(patience)
	for len(finals) < calls {
		var p *rawPeer
		var text string
		select {
		case h := <-came:
			p, text = h.p, h.text
		case <-deadline:
			require.Fail(t, "not all were answered", "%d of %d", len(finals), calls)
		}
		id := headerOf(text, "Call-ID")
		status, _, _ := strings.Cut(strings.TrimPrefix(text, "SIP/2.0 "), " ")
		heard.Store(id, true)
		switch {
		case !strings.HasPrefix(text, "SIP/2.0 "): // a BYE, of a call that had no ACK
		case status < "200":
			trying[id] = true
		case status >= "200":
			finals[id] = status
			ack := p.request("ACK", "ack"+id, "Call-ID: raw", "Call-ID: "+id, "To: <sip:+15550100@x>", "To: "+headerOf(text, "To"))
			if status != "200" {
				ack = strings.Replace(ack, "z9hG4bKack"+id, branchOf(text), 1)
			}
			_, err := p.conn.Write([]byte(ack))
			require.NoError(t, err)
		}
	}
	<-sent
	answered := 0
	for id, status := range finals {
		require.Contains(t, []string{"200", "503"}, status, id)
		require.True(t, trying[id], "no provisional answer before the final one of %s", id)
		if status == "200" {
			answered++
		}
	}
	close(ending)
	require.Equal(t, answered, <-ended)
	require.Greater(t, answered, calls/2)
	g.draining.set(func() {}) // whoever is up is hung up
	go func() {
		for {
			select {
			case <-over:
				return
			case h := <-came:
				if text := h.text; strings.HasPrefix(text, "BYE ") {
					_, _ = fmt.Fprintf(h.p.conn, "SIP/2.0 200 OK\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\nContent-Length: 0\r\n\r\n",
						headerOf(text, "Via"), headerOf(text, "From"), headerOf(text, "To"), headerOf(text, "Call-ID"), headerOf(text, "CSeq"))
				}
			}
		}
	}()
	g.idle(t)
}
