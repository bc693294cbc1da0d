package sip

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

const rounds = 60 // a message overtakes another now and then only

// hasty is a far end that says all that it has to say to an INVITE in one breath.
type hasty struct {
	addr   string
	says   []string // first lines; one that ends in "+" comes with SDP, "BYE" is a request
	inOne  bool     // TCP: all in one write
	closed func()
}

func startHasty(t *testing.T, transport string, says ...string) *hasty {
	t.Helper()
	h := &hasty{says: says}
	var running sync.WaitGroup
	if transport == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		h.addr = conn.LocalAddr().String()
		running.Go(func() { h.serveUDP(conn) })
		h.closed = func() { _ = conn.Close(); running.Wait() }
	} else {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		h.addr = listener.Addr().String()
		running.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				running.Go(func() { h.serveTCP(conn) })
			}
		})
		h.closed = func() { _ = listener.Close(); running.Wait() }
	}
	return h
}

func (h *hasty) serveUDP(conn net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		for _, text := range h.answers(string(buf[:n])) {
			_, _ = conn.WriteTo([]byte(text), from)
		}
	}
}

func (h *hasty) serveTCP(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	for {
		text, err := readMessage(reader)
		if err != nil {
			return
		}
		answers := h.answers(text)
		if h.inOne {
			answers = []string{strings.Join(answers, "")}
		}
		for _, text := range answers {
			_, _ = conn.Write([]byte(text))
		}
	}
}

// readMessage reads one message of a stream.
func readMessage(r *bufio.Reader) (string, error) {
	var text strings.Builder
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		text.WriteString(line)
		if value, ok := strings.CutPrefix(line, "Content-Length:"); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return "", err
			}
		}
		if line == "\r\n" {
			body := make([]byte, length)
			_, err := io.ReadFull(r, body)
			return text.String() + string(body), err
		}
	}
}

// answers is what the far end sends when it gets text.
func (h *hasty) answers(text string) []string {
	switch {
	case strings.HasPrefix(text, "INVITE "):
		var all []string
		for _, line := range h.says {
			if line == "BYE" {
				all = append(all, h.bye(text))
				continue
			}
			first, sdp := strings.CutSuffix(line, "+")
			all = append(all, h.response(text, first, sdp))
		}
		return all
	case strings.HasPrefix(text, "BYE "):
		return []string{h.response(text, "200 OK", false)}
	}
	return nil
}

func (h *hasty) response(request, status string, withSDP bool) string {
	to := headerOf(request, "To")
	if !strings.Contains(to, ";tag=") {
		to += ";tag=hasty"
	}
	body, kind := "", ""
	if withSDP {
		kind = "Content-Type: application/sdp\r\n"
		body = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 8 101\r\n" +
			"a=rtpmap:101 telephone-event/8000\r\n"
	}
	return fmt.Sprintf("SIP/2.0 %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\nContact: <sip:hasty@%s>\r\n%sContent-Length: %d\r\n\r\n%s",
		status, headerOf(request, "Via"), headerOf(request, "From"), to, headerOf(request, "Call-ID"), headerOf(request, "CSeq"), h.addr,
		kind, len(body), body)
}

// bye hangs up the call of an INVITE.
func (h *hasty) bye(invite string) string {
	_, contact, _ := strings.Cut(headerOf(invite, "Contact"), "<")
	target, _, _ := strings.Cut(contact, ">")
	protocol, _, _ := strings.Cut(headerOf(invite, "Via"), " ")
	return fmt.Sprintf("BYE %s SIP/2.0\r\nVia: %s %s;branch=z9hG4bK%s;rport\r\nFrom: %s;tag=hasty\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: 1 BYE\r\n"+
		"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
		target, protocol, h.addr, headerOf(invite, "Call-ID"), headerOf(invite, "To"), headerOf(invite, "From"), headerOf(invite, "Call-ID"))
}

func headerOf(text, name string) string {
	_, after, _ := strings.Cut(text, "\r\n"+name+": ")
	value, _, _ := strings.Cut(after, "\r\n")
	return value
}

// happened lists the kinds of a leg's events until it has one of the kind last, and the cause of that.
func happened(t *testing.T, l dialogs.Leg, last dialogs.LegEventKind) ([]dialogs.LegEventKind, dialogs.Cause) {
	t.Helper()
	var kinds []dialogs.LegEventKind
	for {
		e := next(t, l)
		kinds = append(kinds, e.Kind)
		if e.Kind == last || e.Kind == dialogs.LegEnded {
			return kinds, e.Cause
		}
	}
}

// TestNothingIsOvertaken has far ends say everything back to back: what came first is told first, every time.
func TestNothingIsOvertaken(t *testing.T) {
	t.Parallel()
	const (
		ringing, agreed, answered, ended = dialogs.LegRinging, dialogs.LegMedia, dialogs.LegAnswered, dialogs.LegEnded
		ring, early, ok, busy            = "180 Ringing", "183 Session Progress+", "200 OK+", "486 Busy Here"
	)
	for _, c := range []struct {
		name string
		says []string
		want []dialogs.LegEventKind
	}{
		{"rings and answers", []string{ring, ok}, []dialogs.LegEventKind{ringing, agreed, answered}},
		{"early media and answer", []string{early, ok}, []dialogs.LegEventKind{agreed, ringing, answered}},
		{"rings, early media and answer", []string{"100 Trying", ring, early, ok}, []dialogs.LegEventKind{ringing, agreed, answered}},
		{"early media, answer without SDP", []string{early, "200 OK"}, []dialogs.LegEventKind{agreed, ringing, answered}},
		{"answers, and a ringing comes late", []string{ok, ring}, []dialogs.LegEventKind{agreed, answered}},
		{"rings and refuses", []string{ring, busy}, []dialogs.LegEventKind{ringing, ended}},
		{"rings, answers and hangs up", []string{ring, ok, "BYE"}, []dialogs.LegEventKind{ringing, agreed, answered, ended}},
	} {
		for _, transport := range []string{"udp", "tcp", "tcp in one"} {
			t.Run(c.name+" over "+transport, func(t *testing.T) {
				t.Parallel()
				network, _, inOne := strings.Cut(transport, " ")
				far := startHasty(t, network, c.says...)
				far.inOne = inOne
				trunk := Trunk{Name: "hasty", Account: "1", URI: "sip:" + far.addr + ";transport=" + network}
				g := startAgent(t, Config{Trunks: []Trunk{trunk}}, newCallers(nil))
				defer far.closed()
				defer g.stop() // gives up its connection
				for round := range rounds {
					leg := dial(t, g)
					got, cause := happened(t, leg, c.want[len(c.want)-1])
					require.Equal(t, c.want, got, "round %d: %+v", round, cause)
					switch {
					case got[len(got)-1] == answered:
						leg.Hangup(0)
						require.Equal(t, byThisEnd, end(t, leg).Details)
					case len(got) == 2:
						require.Equal(t, 486, cause.SIPCode)
					default:
						require.Equal(t, byFarEnd, cause.Details)
					}
				}
				g.idle(t)
			})
		}
	}
}

// TestByeBehindTheAck has a caller hang up in the same breath as it acknowledges: it was answered all the same.
func TestByeBehindTheAck(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	p := newRawPeer(t, g)
	offer := "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n"
	for round := range rounds {
		id := fmt.Sprint("breath", round)
		own := []string{"Call-ID: raw", "Call-ID: " + id}
		_, err := p.conn.Write([]byte(p.request("INVITE", id, append(own, "Content-Length: 0\r\n\r\n",
			fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(offer), offer))...)))
		require.NoError(t, err)
		leg := in.leg(t)
		leg.Answer()
		answer := p.final(id)
		require.True(t, strings.HasPrefix(answer, "SIP/2.0 200 "), answer)
		within := append(own, "To: <sip:+15550100@x>", "To: "+headerOf(answer, "To"))
		_, err = p.conn.Write([]byte(p.request("ACK", id+"a", within...)))
		require.NoError(t, err)
		bye := p.ask(p.request("BYE", id+"b", append(within, "CSeq: 1", "CSeq: 2")...))
		require.True(t, strings.HasPrefix(bye, "SIP/2.0 200 "), bye)
		got, cause := happened(t, leg, dialogs.LegEnded)
		require.Equal(t, []dialogs.LegEventKind{dialogs.LegMedia, dialogs.LegAnswered, dialogs.LegEnded}, got, "round %d", round)
		require.Equal(t, dialogs.Cause{Details: byFarEnd}, cause)
	}
	g.idle(t)
}
