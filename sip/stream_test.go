package sip

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

func TestFrame(t *testing.T) {
	const head = "OPTIONS sip:a@b SIP/2.0\r\n"
	for _, c := range []struct {
		name, buf string
		n         int
		what      piece
		err       error
	}{
		{"nothing", "", 0, pieceNone, nil},
		{"half a CRLF", "\r", 0, pieceNone, nil},
		{"a ping", "\r\n\r\n", 2, pieceBlank, nil},
		{"a start", head, 0, pieceNone, nil},
		{"no body", head + "Content-Length: 0\r\n\r\nOPT", len(head) + 21, pieceMessage, nil},
		{"a body", head + "l : 3\r\n\r\nabcd", len(head) + 12, pieceMessage, nil},
		{"half a body", head + "L:3\r\n\r\nab", 0, pieceNone, nil},
		{"folded", head + "Content-Length:\r\n  3\r\n\r\nabc", len(head) + 27, pieceMessage, nil},
		{"twice the same", head + "l: 1\r\nContent-Length: 1\r\n\r\nx", len(head) + 28, pieceMessage, nil},
		{"two that differ", head + "l: 1\r\nContent-Length: 2\r\n\r\nx", len(head) + 27, pieceNone, errNoLength},
		{"none", head + "\r\nx", len(head) + 2, pieceNone, errNoLength},
		{"negative", head + "l: -1\r\n\r\n", len(head) + 9, pieceNone, errNoLength},
		{"huge", head + "l: 99999999999\r\n\r\n", len(head) + 18, pieceNone, errNoLength},
		{"too long", head + "l: 65535\r\n\r\n", len(head) + 12, pieceNone, errTooLong},
		{"a header without end", strings.Repeat("a", maxMessage+1), 0, pieceNone, errTooLong},
	} {
		n, what, err := frame([]byte(c.buf))
		require.Equal(t, c.err, err, c.name)
		require.Equal(t, c.n, n, c.name)
		require.Equal(t, c.what, what, c.name)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 3\r\n\r\nabc"))
	f.Add([]byte("\r\n\r\nX\r\nl:\r\n 1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, what, err := frame(data)
		require.True(t, n >= 0 && n <= len(data) && n <= maxMessage+len(data))
		require.True(t, err == nil || what == pieceNone)
		require.Equal(t, what != pieceNone, err == nil && n > 0)
		if what == pieceMessage { // what was cut off whole is whole by itself
			again, _, err := frame(data[:n])
			require.NoError(t, err)
			require.Equal(t, n, again)
		}
	})
}

// FuzzWithLength: what a WebSocket client sends frames as itself once it has a length.
func FuzzWithLength(f *testing.F) {
	f.Add([]byte("OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		made := withLength(data)
		require.GreaterOrEqual(t, len(made), len(data))
		if len(made) > len(data) && len(made) <= maxMessage && !strings.HasPrefix(string(made), "\r") {
			n, what, err := frame(made)
			require.NoError(t, err)
			require.Equal(t, pieceMessage, what)
			require.Equal(t, len(made), n)
		}
	})
}

// options is a whole OPTIONS over a stream.
func options(branch, via string) string {
	return fmt.Sprintf("OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/%s 127.0.0.1:9;branch=z9hG4bK%s;rport\r\n"+
		"From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
		via, branch, branch)
}

// readPiece returns the next message of a stream, or the CRLF between two.
func readPiece(t *testing.T, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	var buf []byte
	one := make([]byte, 1)
	for {
		_, err := io.ReadFull(conn, one)
		require.NoError(t, err)
		buf = append(buf, one...)
		if n, _, err := frame(buf); n > 0 || err != nil {
			require.NoError(t, err)
			return string(buf)
		}
	}
}

func TestPingIsAnsweredBetweenMessages(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	g := startAgent(t, ca.secured(Config{Listen: []string{"tcp://127.0.0.1:0", "tls://127.0.0.1:0"}}), newCallers(nil))
	plain := dialAlone(t, g.at("tcp"))
	secure, err := tls.Dial("tcp", g.at("tls"), ca.config("phone", "127.0.0.1"))
	require.NoError(t, err)
	for _, conn := range []net.Conn{plain, secure} {
		_, err = conn.Write([]byte(ping + options("one", "TCP")))
		require.NoError(t, err)
		require.Equal(t, pong, readPiece(t, conn))
		require.Contains(t, readPiece(t, conn), "SIP/2.0 200 OK")
		_, err = conn.Write([]byte("\r\n" + options("two", "TCP")[:100]))
		require.NoError(t, err)
		_, err = conn.Write([]byte(options("two", "TCP")[100:]))
		require.NoError(t, err)
		require.Contains(t, readPiece(t, conn), "SIP/2.0 200 OK")
		require.NoError(t, conn.Close())
	}
}

func TestBrokenStreamIsClosed(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{Listen: []string{"tcp://127.0.0.1:0"}}, newCallers(nil))
	for name, text := range map[string]string{
		"no length":          "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bKx\r\n\r\n",
		"two lengths":        "OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\nl: 5\r\n\r\n",
		"a body without end": "OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 99999999\r\n\r\n",
		"a header too long":  "OPTIONS sip:a@b SIP/2.0\r\nX: " + strings.Repeat("a", 70000),
	} {
		conn, err := net.Dial("tcp", g.at("tcp"))
		require.NoError(t, err)
		_, _ = conn.Write([]byte(text))
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		_, err = io.Copy(io.Discard, conn)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, name)
		_ = conn.Close()
	}
}

func TestSourceHasBoundedConnections(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	known := netip.MustParsePrefix("192.0.2.0/24")
	s := newStreams(nil, nil, newFront(newGuard(GuardConfig{}, known.Contains, quiet), quiet), streamLimits{}, quiet)
	limits := s.limits
	take := func(addr string) (seat, bool) { return s.admit(netip.MustParseAddr(addr)) }
	fill := func(addr string, n int) {
		for range n {
			_, ok := take(addr)
			require.True(t, ok)
		}
		_, ok := take(addr)
		require.False(t, ok)
	}
	fill("198.51.100.1", limits.ofStranger)
	fill("2001:db8::1", limits.ofStranger)
	_, ok := take("2001:db8::2")
	require.False(t, ok, "who has an IPv6 network has all of its addresses")
	for i := 0; s.strangers < limits.strangers; i++ {
		_, ok := take(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
		require.True(t, ok)
	}
	_, ok = take("198.51.100.2")
	require.False(t, ok, "strangers have all that they get")
	at, ok := take("192.0.2.1")
	require.True(t, ok, "a trunk has its places all the same")
	fill("192.0.2.1", limits.ofSource-1)
	s.release(at, false)
	fill("192.0.2.1", 1)
	require.Equal(t, limits.accepted, s.accepted)
	_, ok = take("192.0.2.2")
	require.False(t, ok)
	require.Equal(t, uint64(7), s.counters.Refused)
}

// lingering is a connection whose end takes long, as that of TLS does with a peer that does not read.
type lingering struct {
	net.Conn
	ends chan struct{}
}

func (l lingering) Close() error {
	<-l.ends
	return l.Conn.Close()
}

// TestClosingWaitsForNobody: the library closes a connection under the lock of all of them. The agent's own end waits for it.
func TestClosingWaitsForNobody(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	all := newStreams(nil, nil, newFront(newGuard(GuardConfig{}, nil, quiet), quiet), streamLimits{}, quiet)
	near, far := net.Pipe()
	ends := make(chan struct{})
	s := streamOver(lingering{near, ends})
	s.network, s.spawn = networkTLS, all.spawn
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = s.Close()
		_ = s.Close()
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		require.Fail(t, "it waits")
	}
	close(ends)
	require.NoError(t, all.Close())
	_, err := far.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "it is closed")
	require.NoError(t, far.Close())
}

// between is a connection between two addresses.
type between struct {
	net.Conn
	local, remote netip.AddrPort
}

func (p between) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(p.local) }

func (p between) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.remote) }

// TestPeerIsAnsweredOverWhatIsLeft: a peer that connects from the port where it listens may have been connected to meanwhile. Whichever
// of the two connections ends, it is answered over the other.
func TestPeerIsAnsweredOverWhatIsLeft(t *testing.T) {
	t.Parallel()
	for _, oursFirst := range []bool{false, true} {
		for _, oursEnds := range []bool{false, true} {
			t.Run(fmt.Sprint("ours first ", oursFirst, ", ours ends ", oursEnds), func(t *testing.T) {
				t.Parallel()
				g := startAgent(t, Config{Trunks: []Trunk{office}}, newCallers(nil))
				remote, local := netip.MustParseAddrPort("127.0.0.1:9"), netip.MustParseAddrPort(g.at("tcp"))
				far := map[bool]net.Conn{}
				for _, ours := range []bool{oursFirst, !oursFirst} {
					if ours {
						local = netip.AddrPortFrom(local.Addr(), 7)
					} else {
						local = netip.MustParseAddrPort(g.at("tcp"))
					}
					near, end := net.Pipe()
					far[ours] = end
					st := &stream{Conn: between{near, local, remote}, network: networkTCP, remote: remote, dialled: ours, gone: make(chan struct{})}
					require.NoError(t, g.streams.enter(st))
				}
				require.NoError(t, far[oursEnds].Close())
				require.Eventually(t, func() bool {
					g.streams.mu.Lock()
					defer g.streams.mu.Unlock()
					return len(g.streams.all) == 1
				}, patience, time.Millisecond)
				left := far[!oursEnds]
				require.Eventually(t, func() bool {
					conn := g.tp.Pool(networkTCP).Get(remote.String())
					if conn == nil {
						return false
					}
					_, _ = conn.TryClose() // what Get counted
					return true
				}, patience, time.Millisecond, "the library does not find it")
				_, err := io.WriteString(left, options("left", "TCP"))
				require.NoError(t, err)
				require.Contains(t, readPiece(t, left), "SIP/2.0 200 OK")
				require.NoError(t, left.Close())
			})
		}
	}
}

// streamOver is a stream on one end of a pipe that is registered already.
func streamOver(conn net.Conn) *stream {
	s := &stream{
		Conn: conn, dialled: true, registered: make(chan struct{}), gone: make(chan struct{}), onClose: func(*stream) {}, spoken: time.Now(),
		spawn:  func(func()) bool { return false },
		limits: streamLimits{}.orDefaults(), count: func(func(*StreamStats)) {}, writing: make(chan struct{}, 1),
	}
	close(s.registered)
	return s
}

func TestDeadConnectionIsFound(t *testing.T) {
	near, far := net.Pipe()
	s := streamOver(near)
	pings := make(chan string, 8)
	go func() {
		defer close(pings)
		for buf := make([]byte, len(ping)); ; {
			if _, err := io.ReadFull(far, buf); err != nil {
				return
			}
			pings <- string(buf)
		}
	}()
	now := time.Now()
	require.False(t, s.keep(now), "it is not silent yet")
	require.True(t, s.pinged.IsZero())
	now = now.Add(pingInterval + time.Second)
	require.False(t, s.keep(now))
	require.Equal(t, now, s.pinged)
	require.Equal(t, "\r\n\r\n", <-pings)
	require.False(t, s.keep(now.Add(pongTimeout+1)), "it never answered a ping: perhaps it does not know what that is")

	require.NoError(t, s.blank())
	require.True(t, s.answers && s.pinged.IsZero())
	now = time.Now().Add(pingInterval + time.Second)
	require.False(t, s.keep(now))
	require.False(t, s.keep(now.Add(pongTimeout-1)))
	require.True(t, s.keep(now.Add(pongTimeout+1)), "it answered once, and now does not")
	require.NoError(t, s.Close())
	require.NoError(t, far.Close())
}

func TestServerNameIsChecked(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	trusted := ca.config("any", "x").ClientCAs
	for _, c := range []struct {
		name string
		peer *tls.Config
		ok   bool
	}{
		{"the trunk's name", ca.config("right", "localhost"), true},
		{"another name", ca.config("other", "other.example"), false},
		{"only its address", ca.config("address", "127.0.0.1"), false},
		{"another authority", stranger.config("stranger", "localhost"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			phone := startSIPp(t, "uas_answer", "tcp")
			awaitTCP(t, phone.addr)
			cfg := c.peer.Clone()
			cfg.ClientAuth = tls.RequireAndVerifyClientCert // and ours is demanded
			cfg.ClientCAs = trusted
			r := relayToSIPp(t, phone.addr, cfg)
			trunk := Trunk{Name: "carrier", Account: "1", URI: "sips:localhost:" + portOf(r.addr)}
			listen := []string{"udp://127.0.0.1:0", "tls://127.0.0.1:0"}
			g := startAgent(t, ca.secured(Config{Listen: listen, Trunks: []Trunk{trunk}}), newCallers(nil))
			leg, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"})
			require.NoError(t, err)
			if !c.ok {
				require.Contains(t, end(t, leg).Details, "cannot be reached")
				return
			}
			await(t, leg, dialogs.LegAnswered)
			leg.Hangup(0)
			require.Equal(t, byThisEnd, end(t, leg).Details)
			phone.passed()
			require.Contains(t, phone.messages(), "Contact: <sips:tandem@", "the call is a sips: one")
		})
	}
}

func TestCertificateIsDemanded(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg := ca.secured(Config{Listen: []string{"tls://127.0.0.1:0"}})
	g := startAgent(t, cfg, newCallers(nil))
	talk := func(mine *tls.Config) error {
		conn, err := tls.Dial("tcp", g.at("tls"), mine)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte(ping)); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err = io.ReadFull(conn, make([]byte, len(pong)))
		return err
	}
	mine := ca.config("phone", "127.0.0.1")
	require.NoError(t, talk(mine))
	mine.Certificates = nil
	require.ErrorContains(t, talk(mine), "certificate required")

	// The files change, and are read again.
	before := g.certs.now.Load().own[0].Certificate[0]
	other := newAuthority(t)
	cert, key := other.issue("fresh", "127.0.0.1")
	replace(t, cfg.TLSCert, cert)
	replace(t, cfg.TLSKey, key)
	require.NoError(t, g.ReloadCertificates())
	require.NotEqual(t, before, g.certs.now.Load().own[0].Certificate[0])
	require.Error(t, talk(ca.config("phone2", "127.0.0.1")), "the old authority does not know the new certificate")
	require.NoError(t, os.WriteFile(cfg.TLSKey, []byte("nonsense"), 0o600))
	require.ErrorContains(t, g.ReloadCertificates(), "sip.tlsKey")
	require.NotEqual(t, before, g.certs.now.Load().own[0].Certificate[0], "an error changes nothing")
}

// TestPhoneOverWebSocket calls in from a WebSocket, as a browser's SIP library does: its Contact leads nowhere.
func TestPhoneOverWebSocket(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for _, network := range []string{"ws", "wss"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			in := newCallers(nil)
			cfg := Config{Listen: []string{"udp://127.0.0.1:0", network + "://127.0.0.1:0"}, Trunks: []Trunk{office}}
			g := startAgent(t, ca.secured(cfg), in)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client := (&messagesClient{tls: ca.config("browser"+network, "127.0.0.1")}).http()
			defer client.CloseIdleConnections()
			ws, res, err := websocket.Dial(ctx, network+"://"+g.at(network), &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"sip"}}) //nolint:bodyclose // the library takes it
			require.NoError(t, err)
			require.Equal(t, "sip", res.Header.Get("Sec-WebSocket-Protocol"))
			defer func() { _ = ws.CloseNow() }()
			send := func(text string) { require.NoError(t, ws.Write(ctx, websocket.MessageText, []byte(text))) }
			receive := func(beginning string) string {
				for {
					_, message, err := ws.Read(ctx)
					require.NoError(t, err, "waiting for %q", beginning)
					if strings.HasPrefix(string(message), beginning) {
						return string(message)
					}
				}
			}
			send(ping)
			receive("\r\n")
			via := "Via: SIP/2.0/" + strings.ToUpper(network) + " x.invalid;branch=z9hG4bK%s\r\n"
			common := "From: <sip:+15550123@x>;tag=1\r\nTo: <sip:+15550100@x>%s\r\nCall-ID: ws\r\nCSeq: 1 %s\r\n" +
				"Contact: <sip:a@x.invalid;transport=ws>\r\nMax-Forwards: 70\r\n"
			sdp := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
			send("INVITE sip:+15550100@127.0.0.1 SIP/2.0\r\n" + fmt.Sprintf(via, "i") + fmt.Sprintf(common, "", "INVITE") +
				"Content-Type: application/sdp\r\n\r\n" + sdp) // no Content-Length: the message ends with the frame
			leg := in.leg(t)
			leg.Answer()
			ok := receive("SIP/2.0 200")
			require.Contains(t, headerOf(ok, "Contact"), ";transport=ws")
			send("ACK sip:tandem@127.0.0.1 SIP/2.0\r\n" + fmt.Sprintf(via, "a") +
				strings.Replace(fmt.Sprintf(common, "", "ACK"), "To: <sip:+15550100@x>", "To: "+headerOf(ok, "To"), 1) + "\r\n")
			await(t, leg, dialogs.LegAnswered)
			leg.Hangup(0)
			bye := receive("BYE sip:a@x.invalid;transport=ws SIP/2.0")
			require.Contains(t, headerOf(bye, "Via"), "SIP/2.0/"+strings.ToUpper(network)+" ")
			answer := "SIP/2.0 200 OK\r\n"
			for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
				answer += name + ": " + headerOf(bye, name) + "\r\n"
			}
			send(answer + "\r\n")
			require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
			g.idle(t)
		})
	}
}

func TestWebSocketWithoutSIPIsRefused(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{Listen: []string{"ws://127.0.0.1:0"}}, newCallers(nil))
	client := (&messagesClient{}).http()
	defer client.CloseIdleConnections()
	ws, _, err := websocket.Dial(t.Context(), "ws://"+g.at("ws"), &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // the library takes it
	require.NoError(t, err)
	_, _, err = ws.Read(t.Context())
	require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
	_ = ws.CloseNow()
}

// TestTrunkOverWebSocket has one gateway call another over WebSocket, both ways over the one connection.
func TestTrunkOverWebSocket(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"ws", "wss", "tls"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			in := newCallers(nil)
			called := startAgent(t, ca.secured(Config{Listen: []string{transport + "://127.0.0.1:0"}, Trunks: []Trunk{office}}), in)
			trunk := Trunk{Name: "carrier", Account: "1", URI: "sip:" + called.at(transport) + ";transport=" + transport}
			g := startAgent(t, ca.secured(Config{Listen: []string{"udp://127.0.0.1:0"}, Trunks: []Trunk{trunk}}), newCallers(nil))
			for range 2 {
				leg, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"})
				require.NoError(t, err)
				there := in.leg(t)
				there.Answer()
				await(t, leg, dialogs.LegAnswered)
				await(t, there, dialogs.LegAnswered)
				there.Hangup(0)
				require.Equal(t, byFarEnd, end(t, leg).Details)
				end(t, there)
			}
			called.streams.mu.Lock()
			defer called.streams.mu.Unlock()
			require.Equal(t, 1, called.streams.accepted, "one connection carried both calls")
		})
	}
}

func TestLongRequestGoesOverTCP(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"tcp", "udp"} { // what the phone takes; its trunk says UDP
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			phone := startSIPp(t, "uas_answer", transport)
			if transport == "tcp" {
				awaitTCP(t, phone.addr)
			}
			g := startAgent(t, Config{Trunks: []Trunk{carrier(phone, "udp")}}, newCallers(nil))
			leg, err := g.Dial(t.Context(), dialogs.Dial{
				Dialog: "d", Account: "1", To: "+15550100", From: "+15550199", UserToUser: strings.Repeat("x", 1500),
			})
			require.NoError(t, err)
			await(t, leg, dialogs.LegAnswered)
			leg.Hangup(0)
			require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
			phone.passed()
			g.idle(t)
			invite := phone.messages()[strings.Index(phone.messages(), "INVITE "):]
			require.Contains(t, headerOf(invite, "Via"), "SIP/2.0/"+strings.ToUpper(transport)+" 127.0.0.1:"+portOf(g.at(transport)))
			require.Equal(t, transport == "tcp", strings.Contains(headerOf(invite, "Contact"), ";transport=tcp"))
			require.Contains(t, headerOf(invite, "Contact"), "@"+g.at(transport))
		})
	}
}

// TestLongMessagesArriveWhole: a request of ours that does not fit into a datagram goes to where the phone takes TCP too,
// though its trunk says UDP, and everything within the call likewise. A long answer goes the way that its request came.
func TestLongMessagesArriveWhole(t *testing.T) {
	t.Parallel()
	t.Run("a phone with UDP and TCP", func(t *testing.T) {
		t.Parallel()
		port := freePort(t)
		phone, datagrams := startSIPpAt(t, "127.0.0.1", port, "uas_long", "tcp"), startSIPpAt(t, "127.0.0.1", port, "uas_long", "udp")
		awaitTCP(t, phone.addr)
		g := startAgent(t, Config{Trunks: []Trunk{withHeaders(carrier(phone, "udp"))}}, newCallers(nil))
		leg := dialLong(t, g)
		wind(t, g, phone, leg)
		require.Contains(t, headerOf(phone.messages(), "Via"), "SIP/2.0/TCP ")
		require.Empty(t, datagrams.messages(), "nothing came over UDP")
	})
	eachTransport(t, func(t *testing.T, o over) { // the trunk says so
		phone, g := o.callee(Config{}, newCallers(nil), func(t *Trunk) { *t = withHeaders(*t) }, "uas_long")
		wind(t, g, phone, dialLong(t, g))
		require.Contains(t, headerOf(phone.messages(), "Via"), "SIP/2.0/"+strings.ToUpper(o.transport)+" ")
	})
	t.Run("to a caller", func(t *testing.T) {
		t.Parallel()
		eachTransport(t, func(t *testing.T, o over) {
			g, phone, leg := answered(o, Config{}, "uac_long")
			await(t, leg, dialogs.LegAnswered)
			wind(t, g, phone, leg)
			lengths := regexp.MustCompile(`message received \[(\d+)\] bytes :\s+(\S+ \S+)`).FindAllStringSubmatch(phone.messages(), -1)
			long := 0
			for _, m := range lengths {
				if n, _ := strconv.Atoi(m[1]); n > maxUDPRequest {
					long++
				}
			}
			require.GreaterOrEqual(t, long, 3, "180, 200 and BYE: %v", lengths)
		}, "udp", "tcp") // the proxies that SIPp names speak no TLS
	})
}

func withHeaders(t Trunk) Trunk {
	t.Headers = []string{"X-*"}
	return t
}

// dialLong places a call with a User-to-User and headers of the application's that are long, until it is answered.
func dialLong(t *testing.T, g *gateway) dialogs.Leg {
	t.Helper()
	leg, err := g.Dial(t.Context(), dialogs.Dial{
		Dialog: "d", Account: "1", To: "+15550100", From: "+15550199", UserToUser: strings.Repeat("y", 500),
		Headers: map[string]string{"X-Case": strings.Repeat("x", 500), "X-Queue": strings.Repeat("x", 500)},
	})
	require.NoError(t, err)
	await(t, leg, dialogs.LegAnswered)
	return leg
}
