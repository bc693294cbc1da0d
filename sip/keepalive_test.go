package sip

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/trunks"
)

// TestTrunkConnectionIsKeptAlive: the agent pings the connection to a trunk, closes it when a peer that answered does not
// any more, and registers over another.
func TestTrunkConnectionIsKeptAlive(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			w, ca := newWire(t), newAuthority(t)
			if network == "tls" {
				w.secure = ca.config("carrier", "127.0.0.1")
			}
			trunk := w.trunk("carrier", 1)
			trunk.Register, trunk.Username, trunk.Password = true, "user", "secret"
			g := startAgent(t, ca.secured(Config{
				Listen: []string{"tcp://127.0.0.1:0", "tls://127.0.0.1:0"}, Trunks: []Trunk{trunk}, streams: streamLimits{ping: soon, pong: soon},
			}), newCallers(nil))
			w.accept()
			w.answer(w.next("REGISTER "), "200 OK", "")
			awaitRegistration(t, g, trunks.Registered)

			require.NoError(t, w.conn.SetReadDeadline(time.Now().Add(patience)))
			got := make([]byte, len(ping))
			for range 2 { // it never answered: perhaps it does not know what that is
				_, err := io.ReadFull(w.conn, got)
				require.NoError(t, err)
				require.Equal(t, "\r\n\r\n", string(got))
			}
			_, err := io.WriteString(w.conn, "\r\n")
			require.NoError(t, err)
			rest, err := io.ReadAll(w.conn)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is open")
			require.Empty(t, strings.ReplaceAll(string(rest), ping, ""))
			w.accept()
			w.answer(w.next("REGISTER "), "200 OK", "")
		})
	}
}

// TestRegistrationOverUDPIsKeptAlive: the registrar hears of us between two REGISTERs, from the address that they come from,
// so that a NAT before us does not forget the way back.
func TestRegistrationOverUDPIsKeptAlive(t *testing.T) {
	t.Parallel()
	r := newRawRegistrar(t)
	g := startAgent(t, Config{Trunks: []Trunk{r.trunk()}, keepUDP: soon}, newCallers(nil))
	r.answer(r.next("REGISTER"), "200 OK")
	awaitRegistration(t, g, trunks.Registered)
	buf := make([]byte, 65536)
	for pings := 0; pings < 3; {
		require.NoError(t, r.conn.SetReadDeadline(time.Now().Add(patience)))
		n, from, err := r.conn.ReadFrom(buf)
		require.NoError(t, err, "no keep-alive came")
		if text := string(buf[:n]); !strings.HasPrefix(text, "REGISTER ") { // sent again
			require.Equal(t, "\r\n\r\n", text)
			require.Equal(t, g.at("udp"), from.String())
			pings++
		}
	}
}

// TestOnlyRegistrationsOverUDPSendKeepAlives: a connection has its own, and who is not registered needs none.
func TestOnlyRegistrationsOverUDPSendKeepAlives(t *testing.T) {
	t.Parallel()
	far := newRawRegistrar(t)
	g := startAgent(t, Config{}, newCallers(nil))
	trunk, err := readTrunk(&Trunk{Name: "carrier", URI: "sip:" + far.conn.LocalAddr().String(), Username: "user"})
	require.NoError(t, err)
	r := newRegistration(g.Agent, trunk)
	r.keepAlive()
	r.at = hop{networkTCP, far.conn.LocalAddr().String()}
	r.contact, r.until = r.address(r.at), time.Now().Add(time.Hour)
	r.keepAlive()
	r.at.network, r.until = networkUDP, time.Now().Add(-time.Second)
	r.keepAlive()
	conn, err := net.Dial("udp", far.conn.LocalAddr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte("the first"))
	require.NoError(t, err)
	r.until = time.Now().Add(time.Hour)
	r.keepAlive()
	for _, want := range []string{"the first", "\r\n\r\n"} {
		buf := make([]byte, 100)
		require.NoError(t, far.conn.SetReadDeadline(time.Now().Add(patience)))
		n, _, err := far.conn.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, want, string(buf[:n]))
	}
}
