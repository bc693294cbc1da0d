package sip

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/trunks"
)

// The values of Config.TokenCalls.
const (
	TokenCallsAny    = "any"
	TokenCallsTrunks = "trunks"
)

type (
	// Trunk is that of package trunks.
	Trunk = trunks.Trunk
	// Secret is that of package trunks.
	Secret = trunks.Secret
)

// The values of Trunk.Identity: the header that carries the caller's number.
const (
	IdentityPAI  = trunks.IdentityPAI
	IdentityRPID = trunks.IdentityRPID
	IdentityFrom = trunks.IdentityFrom
)

// Config is what the user agent must know. The zero value of every field but Listen is usable.
type Config struct {
	Listen     []string     // udp://host:port, the same with tcp, tls, ws or wss; port 0: any
	Advertise  string       // [transport://]host[:port],… for Via and Contact behind NAT; empty: the address that is bound
	TLSCert    string       // file with our certificate and its chain (PEM), for tls:// and wss://, and shown to trunks
	TLSKey     string       // file with its private key
	TLSCA      string       // file of CAs that we trust beside the system's; set: who connects shows a certificate of one
	Domain     string       // realm of our challenges and host of our From; empty: the advertised address
	TokenCalls string       // TokenCallsAny (default) or TokenCallsTrunks: who may call without a trunk
	Trunks     []Trunk      // those of the Book that is made when Book is nil
	Book       *trunks.Book // where the trunks are looked up, as they are at that time
	NonceKey   []byte       // signs the nonces of our challenges; nodes that share it take each other's; empty: made at random
	Guard      GuardConfig
	// Health says why no call can be taken now, nil when calls can: OPTIONS is answered 503 then, as an INVITE would be. It may be
	// called from many goroutines at once; nil: calls always can.
	Health func(context.Context) error
	// DrainTimeout is how long Serve waits for calls to hang up; 0: 5 s.
	DrainTimeout time.Duration
	// SessionExpires is how long a call may go on without a refresh by either end (RFC 4028); 0: 30 min. At least 90 s.
	SessionExpires time.Duration

	minSession    time.Duration // the least that others may ask for; 0: 90 s
	maxRinging    time.Duration // 0: 10 min
	ringInterval  time.Duration // 0: 1 min
	failoverWait  time.Duration // 0: 6 s
	keepUDP       time.Duration // 0: 25 s
	registerRetry time.Duration // 0: 2 s
	streams       streamLimits

	nameservers []string // host:port, instead of those of this machine: for tests
}

// validate names the first field that is wrong.
func (c *Config) validate() error {
	if len(c.Listen) == 0 {
		return fmt.Errorf("sip.listen: at least one address is needed, such as udp://127.0.0.1:5060")
	}
	if !slices.Contains([]string{"", TokenCallsAny, TokenCallsTrunks}, c.TokenCalls) {
		return fmt.Errorf("sip.tokenCalls: %q is neither any nor trunks", c.TokenCalls)
	}
	if c.SessionExpires != 0 && c.minSession == 0 && c.SessionExpires < minSessionExpires {
		return fmt.Errorf("sip.sessionExpires: %s should be at least 90s", c.SessionExpires)
	}
	secure := slices.ContainsFunc(c.Listen, func(uri string) bool {
		return strings.HasPrefix(uri, "tls:") || strings.HasPrefix(uri, "wss:")
	})
	if secure && c.TLSCert == "" {
		return fmt.Errorf("sip.tlsCert: is missing; sip.listen has tls:// or wss://")
	}
	for i := range c.Trunks {
		if err := c.Trunks[i].Validate(); err != nil {
			return fmt.Errorf("trunks[%d].%w", i, err)
		}
	}
	return nil
}

// parseTrunkURI reads the address of a trunk and refuses transports that this agent does not speak.
func parseTrunkURI(s string) (sip.Uri, error) {
	var uri sip.Uri
	if err := sip.ParseUri(s, &uri); err != nil {
		return sip.Uri{}, fmt.Errorf("%q is no sip: URI: %w", s, err)
	}
	if (uri.Scheme != "sip" && uri.Scheme != "sips") || uri.Host == "" || uri.Wildcard {
		return sip.Uri{}, fmt.Errorf("%q is not sip:host[:port] or sips:host[:port]", s)
	}
	if _, err := transportOf(uri, ""); err != nil {
		return sip.Uri{}, err
	}
	return uri, nil
}

// transportOf returns the transport that uri asks for, or otherwise. A sips: URI is never sent in the clear
// (RFC 3261 §26.2.2): TCP in it means TLS.
func transportOf(uri sip.Uri, otherwise string) (string, error) {
	transport, _ := uri.UriParams.Get("transport")
	transport = strings.ToLower(transport)
	secure := uri.Scheme == "sips"
	switch {
	case transport == "" && !secure:
		return otherwise, nil
	case transport == "" && (otherwise == networkWS || otherwise == networkWSS):
		return networkWSS, nil
	case secure && (transport == "" || transport == networkTCP):
		return networkTLS, nil
	case secure && transport == networkWS:
		return networkWSS, nil
	case secure && transport == networkUDP:
		return "", fmt.Errorf("sips: does not go over UDP")
	case slices.Contains(networks, transport):
		return transport, nil
	}
	return "", fmt.Errorf("transport %q is none of udp, tcp, tls, ws, wss", printable(transport, 20))
}
