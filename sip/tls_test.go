package sip

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority makes certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string // its own certificate

	serials atomic.Int64 // of the certificates it issued
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.file = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	file := filepath.Join(a.dir, name)
	require.NoError(a.t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return file
}

// issue makes a certificate for names or addresses, and returns its files.
func (a *authority) issue(name string, hosts ...string) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serials.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	require.NoError(a.t, err)
	secret, err := x509.MarshalECPrivateKey(private)
	require.NoError(a.t, err)
	// Tests at once may ask for the same name: each has its own files.
	file := name + template.SerialNumber.String()
	return a.write(file+".pem", "CERTIFICATE", der), a.write(file+".key", "EC PRIVATE KEY", secret)
}

// config is the side of a peer: it trusts the authority, and shows a certificate for hosts.
func (a *authority) config(name string, hosts ...string) *tls.Config {
	a.t.Helper()
	cert, key := a.issue(name, hosts...)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(a.t, err)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool}
}

// replace puts what one file holds into another one.
func replace(t *testing.T, file, by string) {
	t.Helper()
	text, err := os.ReadFile(by)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
}

// secured is a Config whose agent speaks TLS with what the authority made.
func (a *authority) secured(cfg Config) Config {
	cfg.TLSCert, cfg.TLSKey = a.issue("gateway", "127.0.0.1", "::1", "localhost")
	cfg.TLSCA = a.file
	return cfg
}

// relay stands between SIPp, which Debian builds without TLS, and the agent. It passes whole messages on, and says TLS
// where SIPp says TCP.
type relay struct {
	t      *testing.T
	addr   string
	listen net.Listener
	dial   func() (net.Conn, error)
	plain  bool // the listening side is SIPp's

	work sync.WaitGroup
	mu   sync.Mutex
	open []net.Conn
}

// relayToAgent listens for a SIPp that calls, and connects to the agent with TLS.
func relayToAgent(t *testing.T, agent string, cfg *tls.Config) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return startRelay(&relay{t: t, listen: l, plain: true, dial: func() (net.Conn, error) { return tls.Dial("tcp", agent, cfg) }})
}

// relayToSIPp listens for the agent with TLS, and connects to a SIPp that is called.
func relayToSIPp(t *testing.T, sipp string, cfg *tls.Config) *relay {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	return startRelay(&relay{t: t, listen: l, dial: func() (net.Conn, error) { return net.Dial("tcp", sipp) }})
}

func startRelay(r *relay) *relay {
	r.addr = r.listen.Addr().String()
	r.work.Go(func() {
		for {
			near, err := r.listen.Accept()
			if err != nil {
				return
			}
			far, err := r.dial()
			if err != nil {
				_ = near.Close()
				continue
			}
			r.mu.Lock()
			r.open = append(r.open, near, far)
			r.mu.Unlock()
			r.work.Go(func() { pump(near, far, r.plain) })
			r.work.Go(func() { pump(far, near, !r.plain) })
		}
	})
	r.t.Cleanup(func() {
		_ = r.listen.Close()
		r.mu.Lock()
		for _, c := range r.open {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.work.Wait()
	})
	return r
}

// pump passes messages from one side to the other; those of SIPp are made messages over TLS. Where one side has said all,
// the other is told so: what it says itself is not cut off.
func pump(from, to net.Conn, ofSIPp bool) {
	defer func() {
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		for {
			n, _, err := frame(buf)
			if n == 0 || err != nil {
				break
			}
			message := buf[:n]
			if ofSIPp {
				message = bytes.ReplaceAll(message, []byte("SIP/2.0/TCP"), []byte("SIP/2.0/TLS"))
				message = bytes.ReplaceAll(message, []byte("transport=TCP"), []byte("transport=TLS"))
			}
			if _, err := to.Write(message); err != nil {
				return
			}
			buf = buf[n:]
		}
		n, err := from.Read(chunk)
		if err != nil {
			return
		}
		buf = append(buf, chunk[:n]...)
	}
}

// messagesClient makes HTTP clients for WebSockets.
type messagesClient struct{ tls *tls.Config }

func (c *messagesClient) http() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls, DisableKeepAlives: true}}
}
