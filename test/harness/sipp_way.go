package harness

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
)

// Way is a transport between SIPp and a gateway: udp, tcp or tls. Debian's SIPp has no TLS, so that a relay speaks it.
type Way struct {
	Transport string
	authority Authority
}

// NewWay makes one; over TLS it brings the certificates.
func NewWay(tb testing.TB, transport string) Way {
	tb.Helper()
	w := Way{Transport: transport}
	if transport == "tls" {
		w.authority = NewAuthority(tb)
	}
	return w
}

// Prepare has a gateway listen on the transport.
func (w Way) Prepare(tb testing.TB, cfg *gateway.Config) {
	tb.Helper()
	if w.Transport != "tls" {
		return
	}
	cfg.SIP.Listen = append(cfg.SIP.Listen, "tls://127.0.0.1:0")
	cfg.SIP.TLSCert = w.authority.Issue(tb, tb.TempDir(), "127.0.0.1")
	cfg.SIP.TLSKey, cfg.SIP.TLSCA = cfg.SIP.TLSCert, w.authority.File
}

// Caller is a SIPp that calls a gateway.
func (w Way) Caller(tb testing.TB, g *Gateway, scenario string, args ...string) *SIPp {
	tb.Helper()
	to := g.SIPAddr(tb, w.Transport)
	if w.Transport == "tls" {
		listen, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(tb, err)
		agent, cfg := to, w.authority.peer(tb)
		to = relayTLS(tb, listen, true, func() (net.Conn, error) { return tls.Dial("tcp", agent, cfg) })
	}
	return StartSIPp(tb, scenario, append(append([]string{to}, w.mode()...), args...)...)
}

// Callee is a SIPp that is called, and the URI of a trunk to it.
func (w Way) Callee(tb testing.TB, scenario string, args ...string) (phone *SIPp, uri string) {
	tb.Helper()
	phone = StartSIPp(tb, scenario, append(w.mode(), args...)...)
	at := phone.Addr
	if w.Transport != "udp" {
		require.Eventually(tb, func() bool {
			conn, err := net.Dial("tcp", phone.Addr)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		}, Patience, Patience/1000, "SIPp does not listen")
	}
	if w.Transport == "tls" {
		listen, err := tls.Listen("tcp", "127.0.0.1:0", w.authority.peer(tb))
		require.NoError(tb, err)
		at = relayTLS(tb, listen, false, func() (net.Conn, error) { return net.Dial("tcp", phone.Addr) })
	}
	return phone, "sip:" + at + ";transport=" + w.Transport
}

func (w Way) mode() []string {
	if w.Transport == "udp" {
		return nil
	}
	return []string{"-t", "t1"}
}

// relayTLS carries SIP between SIPp, at the listening side or at the other, and a gateway that speaks TLS.
func relayTLS(tb testing.TB, listen net.Listener, atSIPp bool, dial func() (net.Conn, error)) (addr string) {
	tb.Helper()
	var work sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	work.Go(func() {
		for {
			near, err := listen.Accept()
			if err != nil {
				return
			}
			far, err := dial()
			if err != nil {
				_ = near.Close()
				continue
			}
			mu.Lock()
			open = append(open, near, far)
			mu.Unlock()
			work.Go(func() { carrySIP(near, far, atSIPp) })
			work.Go(func() { carrySIP(far, near, !atSIPp) })
		}
	})
	tb.Cleanup(func() {
		_ = listen.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return listen.Addr().String()
}

// carrySIP passes messages on; what SIPp says of TCP is said of TLS.
func carrySIP(from, to net.Conn, ofSIPp bool) {
	defer func() { _ = to.Close() }()
	in := bufio.NewReader(from)
	for {
		head, length := []byte(nil), 0
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			head = append(head, line...)
			if len(bytes.TrimSpace(line)) == 0 {
				break
			}
			if name, value, found := bytes.Cut(line, []byte(":")); found && textproto.CanonicalMIMEHeaderKey(string(name)) == "Content-Length" {
				if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
					return
				}
			}
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if ofSIPp {
			head = bytes.ReplaceAll(head, []byte("SIP/2.0/TCP"), []byte("SIP/2.0/TLS"))
			head = bytes.ReplaceAll(head, []byte("transport=TCP"), []byte("transport=TLS"))
		}
		if _, err := to.Write(append(head, body...)); err != nil {
			return
		}
	}
}
