package sip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"os"
	"sync/atomic"

	"tandem/trunks"
)

// certificates are our own and those whom we trust. They are read from their files by load, which may be called again
// while connections are up: those made from then on see what is new.
type certificates struct {
	certFile, keyFile, caFile string
	book                      *trunks.Book // whose trunks have certificates of their own

	now atomic.Pointer[identity]
}

// identity is what one reading of the files gave. It never changes.
type identity struct {
	own     []tls.Certificate // none: no tls:// or wss:// here
	trusted *x509.CertPool    // who may be a server: the system's, and those of sip.tlsCA
	clients *x509.CertPool    // who may be a client; nil: anybody
	trunks  map[certFiles][]tls.Certificate
}

// certFiles are the files of the certificate that a connection of ours shows; the zero value is that of sip.tlsCert.
type certFiles struct{ cert, key string }

// shows is what a trunk is shown; nil is no trunk.
func (t *trunk) shows() certFiles {
	if t == nil {
		return certFiles{}
	}
	return certFiles{t.TLSCert, t.TLSKey}
}

// over is what is shown over a network: nothing without TLS.
func (f certFiles) over(network string) certFiles {
	if network == networkTLS || network == networkWSS {
		return f
	}
	return certFiles{}
}

func (c *certificates) load() error {
	id := &identity{trunks: make(map[certFiles][]tls.Certificate)}
	if before := c.now.Load(); before != nil {
		maps.Copy(id.trunks, before.trunks) // a call on a trunk that is gone may still need its own
	}
	if c.certFile != "" || c.keyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
		if err != nil {
			return fmt.Errorf("sip.tlsCert, sip.tlsKey: %w", err)
		}
		id.own = []tls.Certificate{pair}
	}
	var err error
	if id.trusted, err = x509.SystemCertPool(); err != nil {
		id.trusted = x509.NewCertPool()
	}
	if c.caFile != "" {
		text, err := os.ReadFile(c.caFile)
		if err != nil {
			return fmt.Errorf("sip.tlsCA: %w", err)
		}
		id.clients = x509.NewCertPool()
		if !id.clients.AppendCertsFromPEM(text) || !id.trusted.AppendCertsFromPEM(text) {
			return fmt.Errorf("sip.tlsCA: %s has no certificate in it", c.caFile)
		}
	}
	all, _ := c.book.Trunks()
	for _, t := range all {
		if t.TLSCert == "" {
			continue
		}
		pair, err := tls.LoadX509KeyPair(t.TLSCert, t.TLSKey)
		if err != nil {
			return fmt.Errorf("trunk %s: tlsCert, tlsKey: %w", t.Name, err)
		}
		id.trunks[certFiles{t.TLSCert, t.TLSKey}] = []tls.Certificate{pair}
	}
	c.now.Store(id)
	return nil
}

// server is the configuration of a listener. Each handshake sees the certificates of its time.
func (c *certificates) server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			id := c.now.Load()
			cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: id.own}
			if id.clients != nil {
				cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, id.clients
			}
			return cfg, nil
		},
	}
}

// client is the configuration of a connection to the host name, whose certificate has to name it (RFC 5922 §7.3), and
// which is shown what shows says.
func (c *certificates) client(name string, shows certFiles) (*tls.Config, error) {
	id := c.now.Load()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: id.trusted, Certificates: id.own}
	if shows != (certFiles{}) {
		own, ok := id.trunks[shows]
		if !ok {
			return nil, fmt.Errorf("tlsCert: %s was not read yet", shows.cert)
		}
		cfg.Certificates = own
	}
	return cfg, nil
}

// secure puts TLS and WebSocket onto a connection of ours, as its target asks.
func (s *streams) secure(ctx context.Context, conn net.Conn, t target) (net.Conn, error) {
	if t.network == networkTLS || t.network == networkWSS {
		cfg, err := s.certs.client(t.name, t.shows)
		if err != nil {
			return nil, err
		}
		secured := tls.Client(conn, cfg)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secured
	}
	if t.network == networkWS || t.network == networkWSS {
		host := t.addr.String()
		if t.name != "" {
			host = net.JoinHostPort(t.name, fmt.Sprint(t.addr.Port()))
		}
		return upgrade(ctx, conn, host, s.limits.whole)
	}
	return conn, nil
}
