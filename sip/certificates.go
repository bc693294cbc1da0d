package sip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
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
	own     []tls.Certificate            // none: no tls:// or wss:// here
	trusted *x509.CertPool               // who may be a server: the system's, and those of sip.tlsCA
	clients *x509.CertPool               // who may be a client; nil: anybody
	trunks  map[string][]tls.Certificate // by the host of the trunk's URI
}

func (c *certificates) load() error {
	id := &identity{trunks: make(map[string][]tls.Certificate)}
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
		if uri, err := parseTrunkURI(t.URI); err == nil {
			id.trunks[strings.ToLower(hostOf(uri))] = []tls.Certificate{pair}
		}
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

// client is the configuration of a connection to the host name, whose certificate has to name it (RFC 5922 §7.3).
func (c *certificates) client(name string) *tls.Config {
	id := c.now.Load()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: id.trusted, Certificates: id.own}
	if own, ok := id.trunks[strings.ToLower(name)]; ok {
		cfg.Certificates = own
	}
	return cfg
}

// secure puts TLS and WebSocket onto a connection of ours, as its target asks.
func (s *streams) secure(ctx context.Context, conn net.Conn, t target) (net.Conn, error) {
	if t.network == networkTLS || t.network == networkWSS {
		secured := tls.Client(conn, s.certs.client(t.name))
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
