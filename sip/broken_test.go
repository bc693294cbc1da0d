package sip

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// wire is a far end that speaks SIP over TCP by hand, and whose connections break when a test wants it.
type wire struct {
	t      *testing.T
	listen net.Listener
	conn   net.Conn
	secure *tls.Config // nil: TCP
	number int         // of its requests within a call
}

func newWire(t *testing.T) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{t: t, listen: l}
	t.Cleanup(func() {
		_ = l.Close()
		if w.conn != nil {
			_ = w.conn.Close()
		}
	})
	return w
}

func (w *wire) trunk(name string, priority int) Trunk {
	return Trunk{Name: name, Account: "1", URI: "sip:" + w.listen.Addr().String() + ";transport=" + w.network(), Priority: priority}
}

// accept takes the next connection.
func (w *wire) accept() {
	w.t.Helper()
	listen, ok := w.listen.(*net.TCPListener)
	require.True(w.t, ok)
	require.NoError(w.t, listen.SetDeadline(time.Now().Add(patience)))
	conn, err := listen.Accept()
	require.NoError(w.t, err)
	if w.conn = conn; w.secure != nil {
		w.conn = tls.Server(conn, w.secure)
	}
}

// dial connects to the gateway.
func (w *wire) dial(g *gateway) {
	w.t.Helper()
	var err error
	if w.secure != nil {
		w.conn, err = tls.Dial("tcp", g.at("tls"), w.secure)
	} else {
		w.conn, err = net.Dial("tcp", g.at("tcp"))
	}
	require.NoError(w.t, err)
}

// breaks ends the connection.
func (w *wire) breaks() {
	w.t.Helper()
	require.NoError(w.t, w.conn.Close())
}

// refuses ends its listening. The port stays bound: over a free one the gateway might reach whatever listens there next.
func (w *wire) refuses() {
	w.t.Helper()
	at, ok := w.listen.Addr().(*net.TCPAddr)
	require.True(w.t, ok)
	require.NoError(w.t, w.listen.Close())
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = syscall.Close(socket) })
	require.NoError(w.t, syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)) // beside its connections
	require.NoError(w.t, syscall.Bind(socket, &syscall.SockaddrInet4{Port: at.Port, Addr: at.AddrPort().Addr().Unmap().As4()}))
}

// network is what it speaks.
func (w *wire) network() string {
	if w.secure != nil {
		return "tls"
	}
	return "tcp"
}

// resets ends the connection as a machine that was started again does.
func (w *wire) resets() {
	w.t.Helper()
	conn := w.conn
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	require.True(w.t, ok)
	require.NoError(w.t, tcp.SetLinger(0))
	require.NoError(w.t, tcp.Close())
}

// asks sends a request within the call that an INVITE of the gateway began.
func (w *wire) asks(method, invite, body string) {
	w.t.Helper()
	w.number++
	kind := ""
	if body != "" {
		kind = "Content-Type: application/sdp\r\n"
	}
	at := w.listen.Addr()
	w.send(fmt.Sprintf("%s sip:tandem@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bKasks%d\r\nFrom: %s;tag=wire\r\nTo: %s\r\nCall-ID: %s\r\n"+
		"CSeq: %d %s\r\nMax-Forwards: 70\r\nContact: <sip:wire@%s;transport=%s>\r\n%sContent-Length: %d\r\n\r\n%s",
		method, strings.ToUpper(w.network()), at, w.number, headerOf(invite, "To"), headerOf(invite, "From"), headerOf(invite, "Call-ID"),
		w.number, method, at, w.network(), kind, len(body), body))
}

// next returns the next message that starts so.
func (w *wire) next(start string) string {
	w.t.Helper()
	for {
		if text := readPiece(w.t, w.conn); strings.HasPrefix(text, start) {
			return text
		}
	}
}

func (w *wire) send(text string) {
	w.t.Helper()
	_, err := w.conn.Write([]byte(text))
	require.NoError(w.t, err)
}

// answer answers a request, with SDP if there is a body.
func (w *wire) answer(request, status, body string, headers ...string) {
	w.t.Helper()
	text := "SIP/2.0 " + status + "\r\n"
	for _, h := range headers {
		text += h + "\r\n"
	}
	for _, name := range []string{"Via", "From", "Call-ID", "CSeq"} {
		text += name + ": " + headerOf(request, name) + "\r\n"
	}
	to := headerOf(request, "To")
	if !strings.Contains(to, ";tag=") && status != "100 Trying" {
		to += ";tag=wire"
	}
	text += "To: " + to + "\r\nContact: <sip:wire@" + w.listen.Addr().String() + ";transport=" + w.network() + ">\r\n"
	if body != "" {
		text += "Content-Type: application/sdp\r\n"
	}
	w.send(text + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
}

// invites calls the gateway and returns the INVITE.
func (w *wire) invites(callID string) string {
	w.t.Helper()
	at := w.listen.Addr().String()
	text := fmt.Sprintf("INVITE sip:+15550100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP %s;branch=z9hG4bK%s\r\n"+
		"From: <sip:+15550123@x>;tag=wire\r\nTo: <sip:+15550100@x>\r\nCall-ID: %s\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n"+
		"Contact: <sip:wire@%s;transport=tcp>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s",
		at, callID, callID, at, len(talkerSDP), talkerSDP)
	w.send(text)
	return text
}

// acks acknowledges a 200 to an INVITE.
func (w *wire) acks(ok string) {
	w.t.Helper()
	w.send(fmt.Sprintf("ACK sip:tandem@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP %s;branch=z9hG4bKack\r\nFrom: %s\r\nTo: %s\r\n"+
		"Call-ID: %s\r\nCSeq: 1 ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
		w.listen.Addr(), headerOf(ok, "From"), headerOf(ok, "To"), headerOf(ok, "Call-ID")))
}

// TestBrokenConnectionFailsOver: an INVITE whose connection breaks before the callee rings goes to the next trunk, and
// does not wait for Timer B; one that was answered 100 is cancelled over another connection.
func TestBrokenConnectionFailsOver(t *testing.T) {
	t.Parallel()
	for _, trying := range []bool{false, true} {
		t.Run(fmt.Sprint("trying=", trying), func(t *testing.T) {
			t.Parallel()
			first, second := newWire(t), newWire(t)
			g := startAgent(t, Config{Trunks: []Trunk{first.trunk("first", 1), second.trunk("second", 2)}}, newCallers(nil))
			leg := dial(t, g)
			first.accept()
			invite := first.next("INVITE ")
			if trying {
				first.answer(invite, "100 Trying", "")
				first.send(options("one", "TCP"))
				first.next("SIP/2.0 200") // so the 100 was read
			}
			first.breaks()
			if trying {
				first.accept()
				cancel := first.next("CANCEL ")
				require.Equal(t, branchOf(invite), branchOf(cancel))
				first.answer(cancel, "200 OK", "")
				first.answer(invite, "487 Request Terminated", "")
			}
			second.accept()
			second.answer(second.next("INVITE "), "200 OK", talkerSDP)
			await(t, leg, dialogs.LegAnswered)
			second.next("ACK ")
			leg.Hangup(0)
			second.answer(second.next("BYE "), "200 OK", "")
			require.Equal(t, byThisEnd, end(t, leg).Details)
			g.idle(t)
		})
	}
}

// TestBrokenConnectionIsNamed: with no other trunk the call ends, and says why.
func TestBrokenConnectionIsNamed(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	g := startAgent(t, Config{Trunks: []Trunk{w.trunk("carrier", 1)}}, newCallers(nil))
	leg := dial(t, g)
	w.accept()
	w.next("INVITE ")
	w.breaks()
	require.Equal(t, "trunk carrier: the connection broke before an answer came", end(t, leg).Details)
	g.idle(t)
}

// TestRingingSurvivesABrokenConnection: who rings may answer over a connection of its own, and is cancelled over one of
// ours.
func TestRingingSurvivesABrokenConnection(t *testing.T) {
	t.Parallel()
	unbroken := func(t *testing.T) (w *wire, g *gateway, leg dialogs.Leg, invite string) {
		t.Helper()
		w = newWire(t)
		g = startAgent(t, Config{Trunks: []Trunk{w.trunk("carrier", 1)}}, newCallers(nil))
		leg = dial(t, g)
		w.accept()
		invite = w.next("INVITE ")
		w.answer(invite, "180 Ringing", "")
		await(t, leg, dialogs.LegRinging)
		return w, g, leg, invite
	}
	ringing := func(t *testing.T) (w *wire, g *gateway, leg dialogs.Leg, invite string) {
		t.Helper()
		w, g, leg, invite = unbroken(t)
		w.breaks()
		return w, g, leg, invite
	}
	t.Run("answered", func(t *testing.T) {
		t.Parallel()
		w, g, leg, invite := ringing(t)
		w.dial(g)
		w.answer(invite, "200 OK", talkerSDP)
		await(t, leg, dialogs.LegAnswered)
		w.next("ACK ")
		w.breaks()
		leg.Hangup(0) // in the instant of the break, which nobody has noticed yet
		w.accept()
		w.answer(w.next("BYE "), "200 OK", "")
		require.Equal(t, byThisEnd, end(t, leg).Details)
		g.idle(t)
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		w, g, leg, invite := ringing(t)
		leg.Hangup(0)
		w.accept()
		w.answer(w.next("CANCEL "), "200 OK", "")
		w.answer(invite, "487 Request Terminated", "")
		require.Equal(t, byThisEnd, end(t, leg).Details)
		g.idle(t)
	})
	t.Run("cancelled before the break is noticed", func(t *testing.T) {
		t.Parallel()
		w, g, leg, invite := unbroken(t)
		mute(t, g)
		leg.Hangup(0)
		w.accept()
		w.answer(w.next("CANCEL "), "200 OK", "")
		w.answer(invite, "487 Request Terminated", "")
		require.Equal(t, byThisEnd, end(t, leg).Details)
		require.NotEmpty(t, g.kept.lines("sending the CANCEL failed"))
		g.idle(t)
	})
}

// mute lets the gateway write no more on the one connection that it has.
func mute(t *testing.T, g *gateway) {
	t.Helper()
	g.streams.mu.Lock()
	defer g.streams.mu.Unlock()
	require.Len(t, g.streams.all, 1)
	for st := range g.streams.all {
		conn, ok := st.Conn.(*net.TCPConn)
		require.True(t, ok)
		require.NoError(t, conn.CloseWrite())
	}
}

// TestCallSurvivesABrokenConnection: requests of a call that is up go over another connection, and once more when that
// breaks under them.
func TestCallSurvivesABrokenConnection(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	g := startAgent(t, Config{Trunks: []Trunk{w.trunk("carrier", 1)}}, newCallers(nil))
	leg := dial(t, g)
	w.accept()
	w.answer(w.next("INVITE "), "200 OK", talkerSDP)
	await(t, leg, dialogs.LegAnswered)
	w.next("ACK ")
	w.breaks()
	leg.Hold(true)
	w.accept()
	w.answer(w.next("INVITE "), "200 OK", talkerSDP+"a=recvonly\r\n")
	require.True(t, await(t, leg, dialogs.LegHold).Hold.ByUs)
	w.next("ACK ")
	leg.Hangup(0)
	first := w.next("BYE ")
	w.breaks() // it was not answered
	w.accept()
	second := w.next("BYE ")
	require.NotEqual(t, headerOf(first, "CSeq"), headerOf(second, "CSeq"))
	w.answer(second, "200 OK", "")
	require.Equal(t, byThisEnd, end(t, leg).Details)
	g.idle(t)
}

// TestCallerComesBackAfterABrokenConnection: a caller whose connection breaks is answered, and hung up, at the address
// that its Via and its Contact name.
func TestCallerComesBackAfterABrokenConnection(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	for _, c := range []struct {
		name   string
		answer bool
	}{{"answered", true}, {"refused", false}} {
		w := newWire(t)
		w.dial(g)
		w.invites(c.name)
		leg := in.leg(t)
		w.next("SIP/2.0 180")
		w.breaks()
		require.Eventually(t, func() bool { return !anyStream(g) }, patience, time.Millisecond)
		if !c.answer {
			leg.Hangup(486)
			w.accept()
			w.next("SIP/2.0 486 ")
			require.Equal(t, byThisEnd, end(t, leg).Details)
			w.breaks()
			continue
		}
		leg.Answer()
		w.accept()
		ok := w.next("SIP/2.0 200 ")
		w.acks(ok)
		await(t, leg, dialogs.LegAnswered)
		w.breaks()
		leg.Hangup(0)
		w.accept()
		w.answer(w.next("BYE "), "200 OK", "")
		require.Equal(t, byThisEnd, end(t, leg).Details)
		w.breaks()
	}
	g.idle(t)
}

// TestCallerBehindAWebSocketIsGoneWithIt: nobody can reach a browser whose connection broke.
func TestCallerBehindAWebSocketIsGoneWithIt(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Listen: []string{"ws://127.0.0.1:0"}, Trunks: []Trunk{office}}, in)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	//nolint:bodyclose // the library closes it
	socket, _, err := websocket.Dial(ctx, "ws://"+g.at("ws"), &websocket.DialOptions{Subprotocols: []string{"sip"}})
	require.NoError(t, err)
	w := newWire(t)
	w.conn = websocket.NetConn(ctx, socket, websocket.MessageText)
	text := strings.Replace(fmt.Sprintf("INVITE sip:+15550100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP a.invalid;branch=z9hG4bKws\r\n"+
		"From: <sip:+15550123@x>;tag=wire\r\nTo: <sip:+15550100@x>\r\nCall-ID: ws\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n"+
		"Contact: <sip:wire@a.invalid;transport=ws>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(talkerSDP), talkerSDP), "/TCP ", "/WS ", 1)
	w.send(text)
	leg := in.leg(t)
	w.next("SIP/2.0 180")
	require.NoError(t, socket.CloseNow())
	require.Equal(t, callerLost, end(t, leg).Details)
	g.idle(t)
}

// anyStream says whether the gateway has a connection with anybody.
func anyStream(g *gateway) bool {
	g.streams.mu.Lock()
	defer g.streams.mu.Unlock()
	return len(g.streams.all) > 0
}
