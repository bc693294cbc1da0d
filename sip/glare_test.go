package sip

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/trunks"
)

// talker is a caller that speaks SIP by hand once its call is up, for what crosses.
type talker struct {
	t    *testing.T
	conn net.Conn
	to   string // with the gateway's tag
	at   string // its Contact
	id   string
	seq  int
	seen map[string]bool // what is sent again is no news
}

const talkerSDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40002 RTP/AVP 0\r\n"

// newTalker is a caller that has not called yet.
func newTalker(t *testing.T, g *gateway) *talker {
	t.Helper()
	return newTalkerTo(t, g.at("udp"))
}

// newTalkerTo is newTalker for one of several listeners.
func newTalkerTo(t *testing.T, addr string) *talker {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &talker{t: t, conn: conn, to: "<sip:+15550100@x>", at: "sip:+15550100@" + addr, id: conn.LocalAddr().String()}
}

// talk calls the gateway and has the call answered. Its INVITE has headers beside the usual.
func talk(t *testing.T, g *gateway, in *callers, headers ...string) (*talker, dialogs.Leg) {
	t.Helper()
	p := newTalker(t, g)
	p.send("INVITE", talkerSDP, headers...)
	leg := in.leg(t)
	leg.Answer()
	ok := p.await("SIP/2.0 200")
	p.to = headerOf(ok, "To")
	p.send("ACK", "")
	await(t, leg, dialogs.LegAnswered)
	return p, leg
}

// called makes a far end that is called by hand, over a trunk of its own of which edit may change what it likes.
func called(t *testing.T, edit func(*Trunk)) (*talker, *gateway) {
	t.Helper()
	book := trunks.NewBook()
	g := startAgent(t, Config{Book: book}, newCallers(nil))
	conn, err := net.Dial("udp", g.at("udp"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	trunk := Trunk{Name: "carrier", Account: "1", URI: "sip:" + conn.LocalAddr().String(), Prefixes: []string{"+"}}
	if edit != nil {
		edit(&trunk)
	}
	book.SetTrunks([]Trunk{trunk}, nil)
	return &talker{t: t, conn: conn, id: conn.LocalAddr().String()}, g
}

// send sends a request; an ACK is that of the last INVITE.
func (p *talker) send(method, sdp string, headers ...string) {
	p.t.Helper()
	_, err := p.conn.Write([]byte(p.request(method, sdp, headers...)))
	require.NoError(p.t, err)
}

func (p *talker) request(method, sdp string, headers ...string) string {
	if method != "ACK" {
		p.seq++
	}
	if sdp != "" {
		headers = append(headers, "Content-Type: application/sdp")
	}
	var extra strings.Builder
	for _, h := range headers {
		extra.WriteString(h + "\r\n")
	}
	return fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s-%d-%s;rport\r\nFrom: <sip:+15550123@x>;tag=1\r\n"+
		"To: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:a@%s>\r\nMax-Forwards: 70\r\n%sContent-Length: %d\r\n\r\n%s",
		method, p.at, p.conn.LocalAddr(), p.id, p.seq, strings.ToLower(method), p.to, p.id, p.seq, method, p.conn.LocalAddr(),
		extra.String(), len(sdp), sdp)
}

// await returns the next message that begins so; what comes before it is passed over, and so is what came before.
func (p *talker) await(prefix string) string {
	p.t.Helper()
	if p.seen == nil {
		p.seen = make(map[string]bool)
	}
	require.NoError(p.t, p.conn.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 65536)
	for {
		n, err := p.conn.Read(buf)
		require.NoError(p.t, err, "no %s came", prefix)
		text := string(buf[:n])
		if !p.seen[text] && strings.HasPrefix(text, prefix) {
			p.seen[text] = true
			return text
		}
	}
}

// again is await where what is sent again is what is waited for.
func (p *talker) again(prefix string) string {
	p.t.Helper()
	clear(p.seen)
	return p.await(prefix)
}

// awaitRequest returns the next request of the gateway; what comes before it is passed over.
func (p *talker) awaitRequest() string {
	p.t.Helper()
	for {
		if text := p.await(""); !strings.HasPrefix(text, "SIP/2.0 ") {
			return text
		}
	}
}

// answer returns the final answer to the last request.
func (p *talker) answer() string {
	p.t.Helper()
	for {
		text := p.await("SIP/2.0 ")
		if strings.HasPrefix(headerOf(text, "CSeq"), fmt.Sprint(p.seq, " ")) && !strings.HasPrefix(text, "SIP/2.0 1") {
			return text
		}
	}
}

// respond answers a request of the gateway.
func (p *talker) respond(request, status, sdp string) {
	p.t.Helper()
	p.write(p.response(request, status, sdp))
}

// response renders an answer; headers come in addition.
func (p *talker) response(request, status, sdp string, headers ...string) string {
	if sdp != "" {
		headers = append(headers, "Content-Type: application/sdp")
	}
	var extra strings.Builder
	for _, h := range headers {
		extra.WriteString(h + "\r\n")
	}
	to := headerOf(request, "To")
	if !strings.Contains(to, ";tag=") {
		to += ";tag=far"
	}
	return fmt.Sprintf("SIP/2.0 %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\nContact: <sip:a@%s>\r\n%sContent-Length: %d\r\n\r\n%s",
		status, headerOf(request, "Via"), headerOf(request, "From"), to, headerOf(request, "Call-ID"),
		headerOf(request, "CSeq"), p.conn.LocalAddr(), extra.String(), len(sdp), sdp)
}

// write sends a message as it is.
func (p *talker) write(text string) {
	p.t.Helper()
	_, err := p.conn.Write([]byte(text))
	require.NoError(p.t, err)
}

// refused sends the ACK to a refusal of its INVITE.
func (p *talker) refused() {
	p.t.Helper()
	_, err := p.conn.Write([]byte(strings.ReplaceAll(p.request("ACK", ""), "-ack;", "-invite;")))
	require.NoError(p.t, err)
}

// bye hangs up.
func (p *talker) bye(leg dialogs.Leg) {
	p.t.Helper()
	p.send("BYE", "")
	require.Contains(p.t, p.answer(), "SIP/2.0 200 ")
	require.Equal(p.t, dialogs.Cause{Details: byFarEnd}, end(p.t, leg))
}

// Who has our ACK may change the session at once: what this end asked for is over, whether it was granted or refused.
func TestReinviteRightBehindOurAck(t *testing.T) {
	t.Parallel()
	for status, sdp := range map[string]string{"200 OK": talkerSDP, "488 Not Acceptable Here": ""} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			in := newCallers(nil)
			g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
			p, leg := talk(t, g, in)
			last := ""
			for round := range 20 {
				leg.Hold(round%2 == 0 || sdp == "")
				ours := p.await("INVITE ")
				for headerOf(ours, "CSeq") == last { // it is repeated when this machine is slow
					ours = p.await("INVITE ")
				}
				last = headerOf(ours, "CSeq")
				p.respond(ours, status, sdp)
				for seq := strings.TrimSuffix(last, "INVITE") + "ACK"; headerOf(p.await("ACK "), "CSeq") != seq; {
					continue
				}
				p.send("INVITE", talkerSDP)
				theirs := fmt.Sprintf("%d INVITE", p.seq)
				answer := p.await("SIP/2.0 ")
				for headerOf(answer, "CSeq") != theirs || strings.HasPrefix(answer, "SIP/2.0 1") {
					answer = p.await("SIP/2.0 ")
				}
				require.Contains(t, answer, "SIP/2.0 200 ")
				p.send("ACK", "")
				await(t, leg, dialogs.LegHold)
			}
			p.bye(leg)
			g.idle(t)
		})
	}
}

// Both ends change the session at once: both are told to wait, the far end is quicker, then the gateway's wish is
// fulfilled (RFC 3261 §14.1, §14.2).
func TestGlare(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	leg.Hold(true)
	ours := p.await("INVITE ")
	require.Contains(t, ours, "a=sendonly\r\n")
	p.send("UPDATE", talkerSDP) // its offer crosses ours, too (RFC 3311 §5.2)
	require.Contains(t, p.await("SIP/2.0 491"), " UPDATE\r\n")
	p.send("INVITE", talkerSDP)
	require.Contains(t, p.await("SIP/2.0 491"), " INVITE\r\n")
	p.refused()
	p.respond(ours, "491 Request Pending", "")
	p.await("ACK ")

	for range maxGlares - 1 {
		p.send("INVITE", strings.Replace(talkerSDP, "40002", "40004", 1)) // while the gateway waits
		if answer := p.answer(); strings.HasPrefix(answer, "SIP/2.0 200") {
			break
		} else if !strings.HasPrefix(answer, "SIP/2.0 491") {
			require.Fail(t, "neither granted nor in glare", answer)
		}
		p.refused() // this machine is slow, and the gateway has waited
		p.respond(p.await("INVITE "), "491 Request Pending", "")
		p.await("ACK ")
	}
	p.send("ACK", "")
	require.Equal(t, uint16(40004), await(t, leg, dialogs.LegMedia).Media.Remote.Port())

	again := p.await("INVITE ")
	require.Contains(t, again, "a=sendonly\r\n")
	p.respond(again, "200 OK", talkerSDP+"a=recvonly\r\n")
	p.await("ACK ")
	require.Equal(t, dialogs.LegEvent{Kind: dialogs.LegHold, Hold: dialogs.Hold{ByUs: true}}, await(t, leg, dialogs.LegHold))
	p.bye(leg)
	g.idle(t)
}

func TestGlareWaits(t *testing.T) {
	for range 1000 {
		placed := (&call{peer: peer{placed: true}}).glareWait()
		require.GreaterOrEqual(t, placed, 2100*time.Millisecond)
		require.LessOrEqual(t, placed, 4*time.Second)
		called := (&call{}).glareWait()
		require.GreaterOrEqual(t, called, time.Duration(0))
		require.LessOrEqual(t, called, 2*time.Second)
		require.Zero(t, (placed+called)%(10*time.Millisecond))
	}
}

// A re-INVITE comes again before the ACK to the one before: that is not over.
func TestReinviteBeforeTheAck(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	p.send("INVITE", talkerSDP)
	p.await("SIP/2.0 200")
	p.send("INVITE", talkerSDP)
	p.await("SIP/2.0 491")
	p.refused()
	p.seq--
	p.send("ACK", "")
	p.seq++
	p.send("INVITE", talkerSDP+"a=inactive\r\n")
	require.Contains(t, p.await("SIP/2.0 200 OK"), "a=inactive\r\n")
	p.send("ACK", "")
	p.bye(leg)
	g.idle(t)
}

// Requests of the far end that leave it in one breath are dealt with in the order in which they left.
func TestByeBehindAReinvite(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	for range rounds {
		p, leg := talk(t, g, in)
		first, second := p.request("INVITE", talkerSDP), p.request("BYE", "")
		_, err := p.conn.Write([]byte(first))
		require.NoError(t, err)
		_, err = p.conn.Write([]byte(second))
		require.NoError(t, err)
		require.Contains(t, p.await("SIP/2.0 200"), " INVITE\r\n", "the BYE overtook the re-INVITE")
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, leg))
	}
	g.idle(t)
}

// BYE of either end while its own re-INVITE or the other's is under way.
func TestByeCrossesAReinvite(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	leg.Hold(true)
	ours := p.await("INVITE ")
	p.bye(leg)
	p.respond(ours, "487 Request Terminated", "")
	p.await("ACK ")
	g.idle(t)
}

// The far end may change where it is reached; requests within the call go there.
func TestTargetRefresh(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	elsewhere, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = elsewhere.Close() }()
	text := strings.Replace(p.request("UPDATE", ""), "Contact: <sip:a@"+p.conn.LocalAddr().String(), "Contact: <sip:a@"+elsewhere.LocalAddr().String(), 1)
	_, err = p.conn.Write([]byte(text))
	require.NoError(t, err)
	p.await("SIP/2.0 200")
	leg.Hangup(0)
	require.NoError(t, elsewhere.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 65536)
	n, from, err := elsewhere.ReadFrom(buf)
	require.NoError(t, err)
	bye := string(buf[:n])
	require.True(t, strings.HasPrefix(bye, "BYE sip:a@"+elsewhere.LocalAddr().String()), bye)
	_, err = fmt.Fprintf(writerTo{elsewhere, from}, "SIP/2.0 200 OK\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\nContent-Length: 0\r\n\r\n",
		headerOf(bye, "Via"), headerOf(bye, "From"), headerOf(bye, "To"), headerOf(bye, "Call-ID"), headerOf(bye, "CSeq"))
	require.NoError(t, err)
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	g.idle(t)
}

// writerTo writes to one address.
type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

// What is no request of this call changes nothing in it: another tag, an older CSeq.
func TestRequestsOfAnotherCall(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p, leg := talk(t, g, in)
	for _, c := range []struct{ old, changed, want string }{
		{"tag=1\r", "tag=2\r", "SIP/2.0 481"},
		{"Call-ID: ", "Call-ID: x", "SIP/2.0 481"},
		{";tag=", ";tag=x", "SIP/2.0 481"},
		{fmt.Sprintf("CSeq: %d ", p.seq+4), "CSeq: 0 ", "SIP/2.0 500"},
	} {
		text := strings.Replace(p.request("BYE", ""), c.old, c.changed, 1)
		_, err := p.conn.Write([]byte(text))
		require.NoError(t, err)
		p.await(c.want)
	}
	p.bye(leg)
	g.idle(t)
}
