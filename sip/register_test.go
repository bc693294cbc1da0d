package sip

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/trunks"
)

var carrierKey = trunks.Key{Account: "1", Name: "carrier"}

func awaitRegistration(t *testing.T, g *gateway, state trunks.RegistrationState) trunks.Registration {
	t.Helper()
	require.Eventually(t, func() bool {
		r, _ := g.book.Registration(carrierKey)
		return r.State == state
	}, patience, time.Millisecond, "never %s", state)
	r, _ := g.book.Registration(carrierKey)
	return r
}

func TestTrunkIsRegisteredAndRefreshed(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, o over) {
		register := func(t *Trunk) { t.Register, t.Username, t.Password = true, "user", "secret" }
		registrar, g := o.callee(Config{}, newCallers(nil), register, "uas_registrar", "-key", "username", "user", "-key", "password", "secret")
		first := awaitRegistration(t, g, trunks.Registered)
		require.WithinDuration(t, time.Now().Add(2*time.Second), first.Expires, time.Second)
		require.Eventually(t, func() bool {
			now, _ := g.book.Registration(carrierKey)
			return now.Expires.After(first.Expires)
		}, patience, time.Millisecond, "never refreshed")
		g.stop()
		registrar.passed()
	})
}

// rawRegistrar answers REGISTERs over UDP by hand.
type rawRegistrar struct {
	t    *testing.T
	conn net.PacketConn
	from net.Addr // who sent the last request
	seen map[string]bool
}

func newRawRegistrar(t *testing.T) *rawRegistrar {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &rawRegistrar{t: t, conn: conn, seen: make(map[string]bool)}
}

func (r *rawRegistrar) trunk() Trunk {
	return Trunk{
		Name: "carrier", Account: "1", URI: "sip:" + r.conn.LocalAddr().String(), Register: true, Username: "user", Password: "secret",
	}
}

// next returns the next request of a method.
func (r *rawRegistrar) next(method string) string {
	r.t.Helper()
	buf := make([]byte, 65536)
	for {
		require.NoError(r.t, r.conn.SetReadDeadline(time.Now().Add(patience)))
		n, from, err := r.conn.ReadFrom(buf)
		require.NoError(r.t, err, "no %s came", method)
		if text := string(buf[:n]); strings.HasPrefix(text, method+" ") && !r.seen[method+branchOf(text)] {
			r.seen[method+branchOf(text)] = true // else it was sent again
			r.from = from
			return text
		}
	}
}

func (r *rawRegistrar) answer(request, status string, headers ...string) {
	r.t.Helper()
	text := "SIP/2.0 " + status + "\r\n"
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		text += name + ": " + headerOf(request, name) + "\r\n"
	}
	text += strings.Join(append(headers, "Content-Length: 0", "", ""), "\r\n")
	_, err := r.conn.WriteTo([]byte(text), r.from)
	require.NoError(r.t, err)
}

func TestRegistrationFailsAndIsForced(t *testing.T) {
	t.Parallel()
	r := newRawRegistrar(t)
	g := startAgent(t, Config{Trunks: []Trunk{r.trunk()}}, newCallers(nil))
	r.answer(r.next("REGISTER"), "403 Forbidden", "Retry-After: 200")
	failed := awaitRegistration(t, g, trunks.Failed)
	require.Contains(t, failed.LastError, "403 Forbidden")
	require.Zero(t, failed.Expires)
	require.True(t, g.book.Refresh(carrierKey), "the wait is 200 s, but it is asked for now")
	request := r.next("REGISTER")
	r.answer(request, "200 OK", "Contact: "+headerOf(request, "Contact"))
	registered := awaitRegistration(t, g, trunks.Registered)
	require.Empty(t, registered.LastError)
	require.WithinDuration(t, time.Now().Add(wantedExpiry), registered.Expires, patience)
	require.False(t, g.book.Refresh(trunks.Key{Account: "1", Name: "nobody"}))
}

func TestRegistrationEndsWithItsTrunk(t *testing.T) {
	t.Parallel()
	r := newRawRegistrar(t)
	g := startAgent(t, Config{Trunks: []Trunk{r.trunk()}}, newCallers(nil))
	r.answer(r.next("REGISTER"), "200 OK")
	awaitRegistration(t, g, trunks.Registered)
	g.book.SetTrunks(nil, nil)
	request := r.next("REGISTER")
	require.Contains(t, headerOf(request, "Contact"), ";expires=0")
	r.answer(request, "200 OK")
	require.Eventually(t, func() bool { _, ok := g.book.Registration(carrierKey); return !ok }, patience, time.Millisecond)
}

func TestRegistrarThatRedirectsGetsNoPassword(t *testing.T) {
	t.Parallel()
	r, other := newRawRegistrar(t), newRawRegistrar(t)
	g := startAgent(t, Config{Trunks: []Trunk{r.trunk()}}, newCallers(nil))
	r.answer(r.next("REGISTER"), "302 Moved Temporarily", "Contact: <sip:"+other.conn.LocalAddr().String()+">")
	require.Contains(t, awaitRegistration(t, g, trunks.Failed).LastError, "302")
	g.stop()
	require.Empty(t, cameTo(t, other.conn), "nothing was sent there")
}

func TestRegistrarCallsOurContact(t *testing.T) {
	t.Parallel()
	r, stranger := newRawRegistrar(t), newRawRegistrar(t)
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{r.trunk()}}, in)
	request := r.next("REGISTER")
	contact := headerOf(request, "Contact")
	r.answer(request, "200 OK", "Contact: "+contact)
	awaitRegistration(t, g, trunks.Registered)

	target, _, _ := strings.Cut(strings.TrimPrefix(contact, "<"), ">")
	invite := func(from *rawRegistrar, call, uri string) {
		at := from.conn.LocalAddr()
		text := fmt.Sprintf("INVITE %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\nFrom: <sip:+15550123@x>;tag=1\r\n"+
			"To: <sip:+15550199@x>\r\nCall-ID: %s\r\nCSeq: 1 INVITE\r\nContact: <sip:a@%s>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
			uri, at, call, call, at)
		to, err := net.ResolveUDPAddr("udp", g.at("udp"))
		require.NoError(t, err)
		_, err = from.conn.WriteTo([]byte(text), to)
		require.NoError(t, err)
	}
	invite(r, "known", target)
	leg := in.leg(t)
	leg.Hangup(0)
	require.Equal(t, byThisEnd, end(t, leg).Details)
	seen := in.calls()[0]
	require.Equal(t, "carrier", seen.Trunk)
	require.Equal(t, "1", seen.Account)
	require.Equal(t, "+15550199", seen.To, "the Request-URI names only us, To the number that was dialled")

	invite(stranger, "guess", "sip:user@x;line=guess")
	leg = in.leg(t)
	leg.Hangup(0)
	end(t, leg)
	require.Empty(t, in.calls()[1].Trunk)
	require.Nil(t, g.lineCalled(mustURI(t, target), netip.MustParseAddr("192.0.2.1")), "overheard, and used from elsewhere")
}

func mustURI(t *testing.T, text string) sip.Uri {
	t.Helper()
	var uri sip.Uri
	require.NoError(t, sip.ParseUri(text, &uri))
	return uri
}

// A registration is refreshed long before it expires, and not at once.
func TestRefreshLeavesRoom(t *testing.T) {
	for _, granted := range []time.Duration{time.Second, time.Minute, time.Hour, maxExpiry} {
		for range 100 {
			require.LessOrEqual(t, refreshAfter(granted), granted*3/4)
			require.GreaterOrEqual(t, refreshAfter(granted), granted*2/3)
		}
	}
}

func TestBackoffGrowsWithinBounds(t *testing.T) {
	for failures, most := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300} {
		for range 50 {
			wait := backoff(minRetry, failures)
			require.LessOrEqual(t, wait, most*time.Second)
			require.GreaterOrEqual(t, wait, most*time.Second/2)
		}
	}
}

func TestTrunkIsProbed(t *testing.T) {
	t.Parallel()
	r := newRawRegistrar(t)
	trunk := r.trunk()
	trunk.Register, trunk.Probe = false, time.Second
	g := startAgent(t, Config{Trunks: []Trunk{trunk}}, newCallers(nil))
	for range 3 {
		r.answer(r.next("OPTIONS"), "503 Service Unavailable")
	}
	require.Eventually(t, func() bool { return !g.book.State(carrierKey).OpenTill.IsZero() }, patience, time.Millisecond)
	require.Contains(t, g.book.State(carrierKey).Why, "503")
	_, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"})
	require.Error(t, err, "the trunk is out of service")
	r.answer(r.next("OPTIONS"), "404 Not Found")
	require.Eventually(t, func() bool { return g.book.State(carrierKey).OpenTill.IsZero() }, patience, time.Millisecond)
}

// TestLostConnectionIsRegisteredAgain: a registrar reaches us over the connection on which we registered, so when that
// is gone we register over another at once, and take the old Contact back when ours has changed.
func TestLostConnectionIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	trunk := Trunk{
		Name: "carrier", Account: "1", URI: "sip:" + l.Addr().String() + ";transport=tcp", Register: true, Username: "user", Password: "secret",
	}
	g := startAgent(t, Config{Trunks: []Trunk{trunk}}, newCallers(nil))
	serve := func() (net.Conn, string) {
		conn, err := l.Accept()
		require.NoError(t, err)
		request := readPiece(t, conn)
		require.True(t, strings.HasPrefix(request, "REGISTER "), request)
		answer := "SIP/2.0 200 OK\r\n"
		for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq", "Contact"} {
			answer += name + ": " + headerOf(request, name) + "\r\n"
		}
		_, err = conn.Write([]byte(answer + "Content-Length: 0\r\n\r\n"))
		require.NoError(t, err)
		return conn, headerOf(request, "CSeq")
	}
	conn, first := serve()
	awaitRegistration(t, g, trunks.Registered)
	require.NoError(t, conn.Close())
	conn, second := serve()
	require.NotEqual(t, first, second)
	require.NoError(t, conn.Close())
}

func TestChangedContactReplacesTheOld(t *testing.T) {
	g := startAgent(t, Config{}, newCallers(nil))
	trunk, err := readTrunk(&Trunk{Name: "carrier", URI: "sip:192.0.2.1", Username: "user"})
	require.NoError(t, err)
	r := newRegistration(g.Agent, trunk)
	at := hop{networkUDP, "192.0.2.1:5060"}
	require.False(t, r.moved(), "nothing is registered")
	r.at, r.contact = at, r.address(at)
	require.False(t, r.moved())
	require.Len(t, r.request(at, r.address(at), time.Minute).GetHeaders("Contact"), 1)
	old := r.contact.String()
	g.advertise, err = parseAdvertise("203.0.113.9")
	require.NoError(t, err)
	require.True(t, r.moved())
	contacts := r.request(at, r.address(at), time.Minute).GetHeaders("Contact")
	require.Len(t, contacts, 2)
	require.Contains(t, contacts[0].Value(), "<sip:user@203.0.113.9:")
	require.Contains(t, contacts[0].Value(), ";expires=60")
	require.Equal(t, "<"+old+">;expires=0", contacts[1].Value())
}
