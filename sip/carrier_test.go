package sip

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// handCarrier is a carrier that takes one call and speaks SIP over UDP by hand.
type handCarrier struct {
	t    *testing.T
	conn net.PacketConn
	from net.Addr // who sent the last message
	seen map[string]bool
	call string // the INVITE that made the call
	at   string // its own Contact
	seq  int
}

func newHandCarrier(t *testing.T) *handCarrier {
	t.Helper()
	return newHandCarrierOn(t, "127.0.0.1")
}

// newHandCarrierOn is newHandCarrier on another address of this machine.
func newHandCarrierOn(t *testing.T, host string) *handCarrier {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &handCarrier{t: t, conn: conn, seen: make(map[string]bool), at: "sip:phone@" + conn.LocalAddr().String()}
}

func (h *handCarrier) trunk() Trunk {
	return Trunk{Name: "carrier", Account: "1", URI: "sip:" + h.conn.LocalAddr().String()}
}

// await returns the next message that begins so, and not a second time what is sent again.
func (h *handCarrier) await(prefix string) string {
	h.t.Helper()
	buf := make([]byte, 65536)
	for {
		require.NoError(h.t, h.conn.SetReadDeadline(time.Now().Add(patience)))
		n, from, err := h.conn.ReadFrom(buf)
		require.NoError(h.t, err, "no %s came", prefix)
		text := string(buf[:n])
		key := text
		if !strings.HasPrefix(text, "SIP/") {
			key = strings.Fields(text)[0] + branchOf(text)
		}
		if !strings.HasPrefix(text, prefix) || h.seen[key] {
			continue
		}
		h.seen[key], h.from = true, from
		return text
	}
}

// invited returns the INVITE of a new call.
func (h *handCarrier) invited() string {
	h.t.Helper()
	h.call = h.await("INVITE ")
	return h.call
}

func (h *handCarrier) respond(request, status, sdp string, headers ...string) {
	h.t.Helper()
	to := headerOf(request, "To")
	if !strings.Contains(to, ";tag=") {
		to += ";tag=phone"
	}
	if sdp != "" {
		headers = append(headers, "Content-Type: application/sdp")
	}
	text := fmt.Sprintf("SIP/2.0 %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\nContact: <%s>\r\n%sContent-Length: %d\r\n\r\n%s",
		status, headerOf(request, "Via"), headerOf(request, "From"), to, headerOf(request, "Call-ID"), headerOf(request, "CSeq"), h.at,
		headerLines(headers), len(sdp), sdp)
	_, err := h.conn.WriteTo([]byte(text), h.from)
	require.NoError(h.t, err)
}

func headerLines(headers []string) string {
	var all strings.Builder
	for _, h := range headers {
		all.WriteString(h + "\r\n")
	}
	return all.String()
}

// send sends a request of the carrier within the call that it answered. An ACK is that of its last INVITE.
func (h *handCarrier) send(method, sdp string, headers ...string) {
	h.t.Helper()
	if method != "ACK" {
		h.seq++
	}
	if sdp != "" {
		headers = append(headers, "Content-Type: application/sdp")
	}
	target := strings.Trim(strings.TrimPrefix(headerOf(h.call, "Contact"), "<"), ">")
	text := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d-%s;rport\r\nFrom: %s;tag=phone\r\nTo: %s\r\nCall-ID: %s\r\n"+
		"CSeq: %d %s\r\nContact: <%s>\r\nMax-Forwards: 70\r\n%sContent-Length: %d\r\n\r\n%s",
		method, target, h.conn.LocalAddr(), h.seq, strings.ToLower(method), headerOf(h.call, "To"), headerOf(h.call, "From"),
		headerOf(h.call, "Call-ID"), h.seq, method, h.at, headerLines(headers), len(sdp), sdp)
	_, err := h.conn.WriteTo([]byte(text), h.from)
	require.NoError(h.t, err)
}
