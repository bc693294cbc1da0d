package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rawPeer speaks SIP by hand, for what sipp cannot or will not say.
type rawPeer struct {
	t    *testing.T
	conn net.Conn
}

func newRawPeer(t *testing.T, g *gateway) *rawPeer {
	t.Helper()
	conn, err := net.Dial("udp", g.at("udp"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &rawPeer{t, conn}
}

// request renders a request; edit replaces pairs of old and new in it.
func (p *rawPeer) request(method, branch string, edit ...string) string {
	text := fmt.Sprintf("%s sip:+15550100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s;rport\r\n"+
		"From: <sip:+15550123@x>;tag=1\r\nTo: <sip:+15550100@x>\r\nCall-ID: raw\r\nCSeq: 1 %s\r\n"+
		"Contact: <sip:a@%s>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
		method, p.conn.LocalAddr(), branch, method, p.conn.LocalAddr())
	return strings.NewReplacer(edit...).Replace(text)
}

// ask sends text and returns the first answer to it that is final.
func (p *rawPeer) ask(text string) string {
	p.t.Helper()
	_, err := p.conn.Write([]byte(text))
	require.NoError(p.t, err)
	return p.final(branchOf(text))
}

// final returns the next final answer in a transaction.
func (p *rawPeer) final(branch string) string {
	p.t.Helper()
	require.NoError(p.t, p.conn.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 65536)
	for {
		n, err := p.conn.Read(buf)
		require.NoError(p.t, err, "no answer in %s", branch)
		answer := string(buf[:n])
		if !strings.HasPrefix(answer, "SIP/2.0 1") && branchOf(answer) == branch {
			return answer
		}
	}
}

// read returns the next message.
func (p *rawPeer) read() string {
	p.t.Helper()
	require.NoError(p.t, p.conn.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 65536)
	n, err := p.conn.Read(buf)
	require.NoError(p.t, err)
	return string(buf[:n])
}

// cameTo returns what came to conn so far and was not read yet.
func cameTo(t *testing.T, conn net.PacketConn) []string {
	t.Helper()
	const last = "the last"
	_, err := conn.WriteTo([]byte(last), conn.LocalAddr())
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	var all []string
	buf := make([]byte, 65536)
	for {
		n, _, err := conn.ReadFrom(buf)
		require.NoError(t, err)
		if string(buf[:n]) == last {
			return all
		}
		all = append(all, string(buf[:n]))
	}
}

// branchOf names the transaction of a message.
func branchOf(text string) string {
	_, after, _ := strings.Cut(headerOf(text, "Via"), ";branch=z9hG4bK")
	branch, _, _ := strings.Cut(after, ";")
	return branch
}

// TestOptionsKnowsHealth: who asks by OPTIONS whether calls may come is told as its INVITE would be.
func TestOptionsKnowsHealth(t *testing.T) {
	t.Parallel()
	ill := errors.New("the database is away")
	for _, err := range []error{nil, ill} {
		g := startAgent(t, Config{Trunks: []Trunk{office}, Health: func(context.Context) error { return err }}, newCallers(nil))
		p := newRawPeer(t, g)
		answer := p.ask(p.request("OPTIONS", "health"))
		if err == nil {
			require.True(t, strings.HasPrefix(answer, "SIP/2.0 200 "), answer)
			continue
		}
		require.True(t, strings.HasPrefix(answer, "SIP/2.0 503 "), answer)
		require.Equal(t, "10", headerOf(answer, "Retry-After"))
		require.NotContains(t, answer, "database", "that is nobody's business")
	}
}

func TestRequestsOutsideCalls(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newRawPeer(t, g)
	sdp := []string{"Content-Length: 0\r\n\r\n", "Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nhello"}
	for i, c := range []struct {
		name, method string
		edit         []string
		want         string
		contains     string
	}{
		{"ping", "OPTIONS", nil, "200", "Allow: " + allowed},
		{"registration", "REGISTER", nil, "405", "Allow: " + allowed},
		{"unknown method", "DANCE", nil, "501", "Allow: " + allowed},
		{"hang-up of nothing", "BYE", nil, "481", ""},
		{"hang-up of a stranger", "BYE", []string{"To: <sip:+15550100@x>", "To: <sip:+15550100@x>;tag=x"}, "481", ""},
		{"cancel of nothing", "CANCEL", nil, "481", ""},
		{"re-INVITE of nothing", "INVITE", []string{"To: <sip:+15550100@x>", "To: <sip:+15550100@x>;tag=x"}, "481", ""},
		{"no tag", "INVITE", []string{";tag=1", ""}, "400", "Warning: 399"},
		{"CSeq of another method", "INVITE", []string{"CSeq: 1 INVITE", "CSeq: 1 OPTIONS"}, "400", ""},
		{"no Contact", "INVITE", []string{"Contact: <sip:a", "X-Contact: <sip:a"}, "400", ""},
		{"a Contact that is no place", "INVITE", []string{"Contact: <sip:a", "Contact: <tel:a"}, "400", ""},
		{"an extension", "INVITE", []string{"Max-Forwards: 70", "Require: 100rel, sec-agree"}, "420", "Unsupported: sec-agree"},
		{"another scheme", "INVITE", []string{"INVITE sip:", "INVITE mailto:"}, "416", ""},
		{"another body", "INVITE", []string{"Content-Length: 0\r\n\r\n", "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"}, "415", "Accept: application/sdp"},
		{"a body of no type", "INVITE", []string{"Content-Length: 0\r\n\r\n", "Content-Length: 5\r\n\r\nhello"}, "400", ""},
		{"no SDP", "INVITE", sdp, "400", ""},
	} {
		answer := p.ask(p.request(c.method, fmt.Sprint("b", i), append([]string{"Call-ID: raw", fmt.Sprint("Call-ID: raw", i)}, c.edit...)...))
		require.True(t, strings.HasPrefix(answer, "SIP/2.0 "+c.want+" "), "%s: %s", c.name, answer)
		require.Contains(t, answer, c.contains, c.name)
	}
	require.Empty(t, in.calls())
	g.idle(t)
}

func TestSameCallByTwoWaysIsOne(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newRawPeer(t, g)
	_, err := p.conn.Write([]byte(p.request("INVITE", "one")))
	require.NoError(t, err)
	leg := in.leg(t)
	require.Contains(t, p.ask(p.request("INVITE", "two")), "SIP/2.0 482 Loop Detected")
	_, err = p.conn.Write([]byte(p.request("INVITE", "three", "CSeq: 1", "CSeq: 2"))) // another try, with credentials say
	require.NoError(t, err)
	other := in.leg(t)
	other.Hangup(0)
	require.Equal(t, byThisEnd, end(t, other).Details)
	leg.Hangup(0)
	require.Equal(t, byThisEnd, end(t, leg).Details)
	g.idle(t)
}

func TestGarbageHurtsNobody(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{Trunks: []Trunk{office}}, newCallers(nil))
	p := newRawPeer(t, g)
	tcp, err := net.Dial("tcp", g.at("tcp"))
	require.NoError(t, err)
	defer func() { _ = tcp.Close() }()
	for _, text := range []string{
		"", "\x00", "\r\n\r\n", "INVITE", "INVITE sip:a SIP/2.0\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n", "SIP/2.0 -1 \r\nVia: x\r\n\r\n",
		"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP\r\nCSeq: 1 INVITE\r\n\r\n",
		"ACK sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nCSeq: 1 ACK\r\n\r\n",
		p.request("ACK", "ack"), p.request("INVITE", "x", "Content-Length: 0", "Content-Length: 99999999"),
		p.request("INVITE", "x", "<sip:+15550123@x>", "\"\\"), strings.Repeat("A", 60000),
	} {
		_, _ = p.conn.Write([]byte(text))
		_, _ = tcp.Write([]byte(text))
	}
	fresh := newRawPeer(t, g)
	require.Contains(t, fresh.ask(fresh.request("OPTIONS", "after")), "SIP/2.0 200 OK")
}
