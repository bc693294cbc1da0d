package sip

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/trunks"
)

// gate is a server of TLS that asks who comes for a certificate, and notes whose it was. It speaks no SIP, or accepts
// whatever it is asked and notes the method and whose connection it came over.
type gate struct {
	addr  string
	shown chan string // common names; empty: none
	asked chan string // nil: it speaks no SIP

	mu    sync.Mutex
	conns map[string]net.Conn // those on which it speaks, by whose they are
	heard chan string         // final answers to what it asked over one
}

// over is the connection of whom was shown that certificate.
func (g *gate) over(name string) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.conns[name]
}

func newGate(t *testing.T, ca *authority, host string) *gate {
	t.Helper()
	return openGate(t, ca, host, nil)
}

func openGate(t *testing.T, ca *authority, host string, asked chan string) *gate {
	t.Helper()
	cfg := ca.config("gate", host)
	cfg.ClientAuth = tls.RequestClientCert
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	g := &gate{addr: l.Addr().String(), shown: make(chan string, 8), asked: asked, conns: make(map[string]net.Conn), heard: make(chan string, 8)}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			secured := tls.Server(conn, cfg)
			_ = conn.SetDeadline(time.Now().Add(patience))
			if secured.Handshake() == nil {
				name := ""
				if peer := secured.ConnectionState().PeerCertificates; len(peer) > 0 {
					name = peer[0].Subject.CommonName
				}
				select {
				case g.shown <- name:
				default:
				}
				if g.asked != nil {
					work.Go(func() { g.speak(secured, name) })
					continue
				}
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); work.Wait() })
	return g
}

// speak accepts what comes over a connection, until that ends.
func (g *gate) speak(conn net.Conn, name string) {
	defer func() { _ = conn.Close() }()
	g.mu.Lock()
	g.conns[name] = conn
	g.mu.Unlock()
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		n, what, err := frame(buf)
		if err != nil {
			return
		}
		if n == 0 {
			n, err := conn.Read(chunk)
			if err != nil {
				return
			}
			buf = append(buf, chunk[:n]...)
			continue
		}
		text := string(buf[:n])
		buf = buf[n:]
		method, _, _ := strings.Cut(text, " ")
		if what != pieceMessage {
			continue
		}
		if strings.HasPrefix(method, "SIP/") {
			if !strings.HasPrefix(text, "SIP/2.0 1") {
				g.heard <- text
			}
			continue
		}
		g.asked <- method + " " + name
		if method == "ACK" {
			continue
		}
		answer := "SIP/2.0 200 OK\r\n"
		for _, h := range []string{"Via", "From", "Call-ID", "CSeq"} {
			answer += h + ": " + headerOf(text, h) + "\r\n"
		}
		to, contact, body := headerOf(text, "To"), "<sip:gate@"+g.addr+";transport=tls>", ""
		if !strings.Contains(to, ";tag=") {
			to += ";tag=gate"
		}
		switch method {
		case "INVITE":
			body = talkerSDP
		case "REGISTER":
			contact = headerOf(text, "Contact") + ";expires=600"
		}
		answer += "To: " + to + "\r\nContact: " + contact + "\r\nContent-Type: application/sdp\r\n"
		if _, err := fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", answer, len(body), body); err != nil {
			return
		}
	}
}

// TestTrunkIsShownItsOwnCertificate: a trunk with a certificate of its own is shown that one and not the gateway's, the
// others are shown the gateway's; and what its files hold later is shown after they are read again.
func TestTrunkIsShownItsOwnCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	apart, usual := newGate(t, ca, "127.0.0.1"), newGate(t, ca, "127.0.0.2")
	own := Trunk{Name: "own", Account: "1", URI: "sip:" + apart.addr + ";transport=tls"}
	own.TLSCert, own.TLSKey = ca.issue("customer", "customer.example")
	shared := Trunk{Name: "shared", Account: "1", URI: "sip:" + usual.addr + ";transport=tls"}
	g := startAgent(t, ca.secured(Config{Trunks: []Trunk{own, shared}}), newCallers(nil))
	shows := func(trunk Trunk, at *gate) string {
		t.Helper()
		leg, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199", Trunk: trunk.Name})
		require.NoError(t, err)
		var name string
		select {
		case name = <-at.shown:
		case <-time.After(patience):
			require.Fail(t, "nobody came to "+trunk.Name)
		}
		require.Equal(t, dialogs.Error, end(t, leg).Reason, "it speaks no SIP")
		for len(at.shown) > 0 { // where it was tried again
			require.Equal(t, name, <-at.shown)
		}
		return name
	}
	require.Equal(t, "customer", shows(own, apart))
	require.Equal(t, "gateway", shows(shared, usual))

	cert, key := ca.issue("customer renewed", "customer.example")
	replace(t, own.TLSCert, cert)
	replace(t, own.TLSKey, key)
	require.Equal(t, "customer", shows(own, apart), "not before they are read")
	require.NoError(t, g.ReloadCertificates())
	require.Equal(t, "customer renewed", shows(own, apart))
	require.Equal(t, "gateway", shows(shared, usual))
	g.idle(t)
}

// TestConnectionBelongsToACertificate: trunks at one address have a connection for each certificate, and all that belongs to
// a trunk goes over its own: another account's calls are not those of who showed its certificate.
func TestConnectionBelongsToACertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	asked := make(chan string, 64)
	at := openGate(t, ca, "127.0.0.1", asked)
	uri := "sip:" + at.addr + ";transport=tls"
	first := Trunk{Name: "first", Account: "1", URI: uri, Shared: true, Origin: trunks.OriginFile}
	first.TLSCert, first.TLSKey = ca.issue("one", "one.example")
	second := Trunk{Name: "second", Account: "2", URI: uri, Shared: true, Origin: trunks.OriginFile}
	second.TLSCert, second.TLSKey = ca.issue("two", "two.example")
	plain := Trunk{Name: "plain", Account: "3", URI: uri} // made by REST, where nobody names certificates
	same := first
	same.Name, same.Account = "same", "4"
	g := startAgent(t, ca.secured(Config{Trunks: []Trunk{first, second, plain, same}}), newCallers(nil))
	shows := map[string]string{"first": "one", "second": "two", "plain": "gateway", "same": "one"}
	next := func(want string) {
		t.Helper()
		select {
		case got := <-asked:
			require.Equal(t, want, got)
		case <-time.After(patience):
			require.Fail(t, "no "+want)
		}
	}
	var legs []dialogs.Leg
	order := []Trunk{first, second, plain, same, second, first}
	for _, trunk := range order {
		leg, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: trunk.Account, To: "+15550100", From: "+15550199", Trunk: trunk.Name})
		require.NoError(t, err)
		await(t, leg, dialogs.LegAnswered)
		next("INVITE " + shows[trunk.Name])
		next("ACK " + shows[trunk.Name])
		legs = append(legs, leg)
	}
	for i, leg := range legs { // all of them are up
		leg.Hold(true)
		next("INVITE " + shows[order[i].Name])
		next("ACK " + shows[order[i].Name])
	}
	for i, leg := range legs {
		leg.Hangup(0)
		next("BYE " + shows[order[i].Name])
		require.Equal(t, byThisEnd, end(t, leg).Details)
	}
	require.Len(t, at.shown, 3, "one connection for each certificate")
	g.idle(t)
}

// calls sends a request by hand over the connection of whom was shown that certificate.
func (g *gate) calls(t *testing.T, over, method, to string) {
	t.Helper()
	_, err := fmt.Fprintf(g.over(over), "%s sip:+15550100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TLS %s;branch=z9hG4bK%s%s\r\n"+
		"From: <sip:+15550123@x>;tag=gate\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: 1 %s\r\nMax-Forwards: 70\r\n"+
		"Contact: <sip:gate@%s;transport=tls>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s",
		method, g.addr, over, method, to, over, method, g.addr, len(talkerSDP), talkerSDP)
	require.NoError(t, err)
}

// TestCallStaysOnTheConnectionOfItsCertificate: a call of no trunk that comes in over a connection of ours goes on over that
// one.
func TestCallStaysOnTheConnectionOfItsCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	asked := make(chan string, 64)
	at := openGate(t, ca, "127.0.0.1", asked)
	own := Trunk{Name: "own", Account: "1", URI: "sip:" + at.addr + ";transport=tls", Probe: time.Hour}
	own.TLSCert, own.TLSKey = ca.issue("one", "one.example")
	in := newCallers(nil)
	g := startAgent(t, ca.secured(Config{Trunks: []Trunk{own}}), in)
	require.Equal(t, "OPTIONS one", <-asked)
	at.calls(t, "one", "INVITE", "<sip:+15550100@x>")
	leg := in.leg(t)
	leg.Answer()
	ok := <-at.heard
	require.Contains(t, ok, "SIP/2.0 200 ")
	at.calls(t, "one", "ACK", headerOf(ok, "To"))
	await(t, leg, dialogs.LegAnswered)
	leg.Hangup(0)
	require.Equal(t, "BYE one", <-asked)
	require.Equal(t, byThisEnd, end(t, leg).Details)
	require.Empty(t, in.calls()[0].Trunk)
	require.Len(t, at.shown, 1)
	g.idle(t)
}

// TestPeerIsAnsweredAfterOneOfItsConnectionsIsGone: whichever of those to one address that was.
func TestPeerIsAnsweredAfterOneOfItsConnectionsIsGone(t *testing.T) {
	t.Parallel()
	for gone, left := range map[string]string{"one": "gateway", "gateway": "one"} {
		ca := newAuthority(t)
		asked := make(chan string, 64)
		at := openGate(t, ca, "127.0.0.1", asked)
		own := Trunk{Name: "own", Account: "1", URI: "sip:" + at.addr + ";transport=tls", Probe: time.Hour}
		own.TLSCert, own.TLSKey = ca.issue("one", "one.example")
		other := Trunk{Name: "other", Account: "1", URI: own.URI, Probe: time.Hour}
		g := startAgent(t, ca.secured(Config{Trunks: []Trunk{own, other}}), newCallers(nil))
		require.ElementsMatch(t, []string{"OPTIONS one", "OPTIONS gateway"}, []string{<-asked, <-asked})
		require.NoError(t, at.over(gone).Close())
		kept := at.over(left).RemoteAddr().String()
		require.Eventually(t, func() bool {
			conn := g.tp.Pool(networkTCP).Get(at.addr)
			if conn == nil {
				return false
			}
			defer func() { _, _ = conn.TryClose() }()
			return conn.LocalAddr().String() == kept
		}, patience, time.Millisecond)
		at.calls(t, left, "OPTIONS", "<sip:+15550100@x>")
		require.Contains(t, <-at.heard, "SIP/2.0 200 ")
		g.stop()
	}
}

// TestRegistrationShowsTheTrunksCertificate: what is asked outside calls goes over the trunk's own connection, too.
func TestRegistrationShowsTheTrunksCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	asked := make(chan string, 64)
	at := openGate(t, ca, "127.0.0.1", asked)
	uri := "sip:" + at.addr + ";transport=tls"
	registers := Trunk{Name: "carrier", Account: "1", URI: uri, Register: true, Username: "user", Password: "secret"}
	registers.TLSCert, registers.TLSKey = ca.issue("one", "one.example")
	probed := Trunk{Name: "probed", Account: "1", URI: uri, Probe: time.Hour}
	probed.TLSCert, probed.TLSKey = ca.issue("two", "two.example")
	other := Trunk{Name: "other", Account: "1", URI: uri, Probe: time.Hour}
	g := startAgent(t, ca.secured(Config{Trunks: []Trunk{registers, probed, other}}), newCallers(nil))
	var got []string
	for range 3 {
		select {
		case a := <-asked:
			got = append(got, a)
		case <-time.After(patience):
			require.Fail(t, "somebody is not asked", "%q", got)
		}
	}
	require.ElementsMatch(t, []string{"REGISTER one", "OPTIONS two", "OPTIONS gateway"}, got)
	awaitRegistration(t, g, trunks.Registered)
	g.stop()
	select {
	case a := <-asked:
		require.Equal(t, "REGISTER one", a, "it is taken back")
	case <-time.After(patience):
		require.Fail(t, "the registration is not taken back")
	}
}

// TestTrunkWhoseCertificateIsNotKnownConnectsToNobody: it is not shown as somebody else.
func TestTrunkWhoseCertificateIsNotKnownConnectsToNobody(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	at := newGate(t, ca, "127.0.0.1")
	book := trunks.NewBook()
	g := startAgent(t, ca.secured(Config{Book: book}), newCallers(nil))
	own := Trunk{Name: "own", Account: "1", URI: "sip:" + at.addr + ";transport=tls", Prefixes: []string{"+"}}
	own.TLSCert, own.TLSKey = ca.issue("customer", "customer.example")
	book.SetTrunks([]Trunk{own}, nil)
	call := func() string {
		t.Helper()
		leg, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"})
		require.NoError(t, err)
		return end(t, leg).Details
	}
	require.Contains(t, call(), "cannot be reached")
	require.Empty(t, at.shown)
	require.NoError(t, g.ReloadCertificates())
	call()
	require.Equal(t, "customer", <-at.shown)
	g.idle(t)

	// What was read is kept for calls that are up on a trunk that is gone.
	book.SetTrunks(nil, nil)
	require.NoError(t, g.ReloadCertificates())
	cfg, err := g.certs.client("127.0.0.1", certFiles{own.TLSCert, own.TLSKey})
	require.NoError(t, err)
	require.Len(t, cfg.Certificates, 1)
}
