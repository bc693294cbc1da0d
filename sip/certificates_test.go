package sip

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// gate is a server of TLS that asks who comes for a certificate, notes whose it was, and speaks no SIP.
type gate struct {
	addr  string
	shown chan string // common names; empty: none
}

func newGate(t *testing.T, ca *authority, host string) *gate {
	t.Helper()
	cfg := ca.config("gate", host)
	cfg.ClientAuth = tls.RequestClientCert
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	g := &gate{addr: l.Addr().String(), shown: make(chan string, 8)}
	done := make(chan struct{})
	go func() {
		defer close(done)
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
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return g
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
