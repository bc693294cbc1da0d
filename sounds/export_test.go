package sounds

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
)

// Trust lets the library take the certificates of roots instead of the system's. Nothing else of its client changes.
func (l *Library) Trust(roots *x509.CertPool) {
	l.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}
