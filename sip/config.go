package sip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

// The values of Config.TokenCalls.
const (
	TokenCallsAny    = "any"
	TokenCallsTrunks = "trunks"
)

// The values of Trunk.Identity: the header that carries the caller's number.
const (
	IdentityPAI  = "pai"
	IdentityRPID = "rpid"
	IdentityFrom = "from"
)

// Secret is a password that shows itself to nobody: not in logs, not in JSON.
type Secret string

const redacted = "[secret]"

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString hides it from %#v.
func (s Secret) GoString() string { return fmt.Sprintf("sip.Secret(%q)", s.String()) }

// MarshalText hides it from JSON and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Config is what the user agent must know. The zero value of every field but Listen is usable.
type Config struct {
	Listen     []string // udp://host:port or tcp://host:port; port 0: any
	Advertise  string   // host[:port] for Via and Contact behind NAT; empty: the address that is bound
	Domain     string   // realm of our challenges and host of our From; empty: the advertised address
	TokenCalls string   // TokenCallsAny (default) or TokenCallsTrunks: who may call without a trunk
	Trunks     []Trunk
	// DrainTimeout is how long Serve waits for calls to hang up; 0: 5 s.
	DrainTimeout time.Duration
}

// Trunk is a carrier or PBX that calls go to and come from.
type Trunk struct {
	Name            string
	Account         string
	URI             string         // where calls go: sip:host[:port][;transport=udp|tcp]; empty: it only calls in
	Username        string         // answers the trunk's 401 and 407
	Password        Secret         // with Username
	Allow           []netip.Prefix // who may call in over this trunk
	InboundUsername string         // set: who calls in is challenged too
	InboundPassword Secret         // with InboundUsername
	Codecs          []string       // offered in this order: PCMU, PCMA; empty: both
	Identity        string         // IdentityPAI (default), IdentityRPID or IdentityFrom
	Prefixes        []string       // what it takes, the longest match wins; empty: "+"; "sip:" takes URIs
	Priority        int            // of equal prefixes, the lower priority is tried first
	Weight          int            // of equal priorities, the share of calls; 0 counts as 1

	Register          bool     // keep a registration with the trunk
	SRTP              string   // off (default), optional or required: SDES (RFC 4568)
	DTMF              string   // rfc4733 (default) or info: how keys are sent
	DTMFInBand        bool     // listen for keys in the sound too
	CountryCode       string   // "1": national numbers become +1…
	Headers           []string // X- headers that may pass, both ways
	MaxCalls          int      // at once; 0: no limit
	MaxCallsPerSecond int      // 0: no limit
}

// validate names the first field that is wrong.
func (c *Config) validate() error {
	if len(c.Listen) == 0 {
		return fmt.Errorf("sip.listen: at least one address is needed, such as udp://127.0.0.1:5060")
	}
	if !slices.Contains([]string{"", TokenCallsAny, TokenCallsTrunks}, c.TokenCalls) {
		return fmt.Errorf("sip.tokenCalls: %q is neither any nor trunks", c.TokenCalls)
	}
	for i := range c.Trunks {
		if err := c.Trunks[i].validate(); err != nil {
			return fmt.Errorf("trunks[%d].%w", i, err)
		}
	}
	return nil
}

func (t *Trunk) validate() error {
	if t.Name == "" {
		return fmt.Errorf("name: is missing")
	}
	if t.URI != "" {
		if _, err := parseTrunkURI(t.URI); err != nil {
			return fmt.Errorf("uri: %w", err)
		}
	}
	if !slices.Contains([]string{"", IdentityPAI, IdentityRPID, IdentityFrom}, t.Identity) {
		return fmt.Errorf("identity: %q is none of pai, rpid, from", t.Identity)
	}
	if t.InboundUsername != "" && t.InboundPassword == "" {
		return fmt.Errorf("inboundPassword: is missing beside inboundUsername")
	}
	return nil
}

// parseTrunkURI reads the address of a trunk and refuses transports that this agent does not speak.
func parseTrunkURI(s string) (sip.Uri, error) {
	var uri sip.Uri
	if err := sip.ParseUri(s, &uri); err != nil {
		return sip.Uri{}, fmt.Errorf("%q is no sip: URI: %w", s, err)
	}
	if uri.Scheme != "sip" || uri.Host == "" || uri.Wildcard {
		return sip.Uri{}, fmt.Errorf("%q is not sip:host[:port]", s)
	}
	if _, err := transportOf(uri, ""); err != nil {
		return sip.Uri{}, err
	}
	return uri, nil
}

// transportOf returns "udp" or "tcp": what uri asks for, or otherwise.
func transportOf(uri sip.Uri, otherwise string) (string, error) {
	if uri.Scheme == "sips" {
		return "", fmt.Errorf("sips: needs TLS, which is not configured")
	}
	transport, _ := uri.UriParams.Get("transport")
	switch strings.ToLower(transport) {
	case "":
		return otherwise, nil
	case "udp":
		return "udp", nil
	case "tcp":
		return "tcp", nil
	}
	return "", fmt.Errorf("transport %q is neither udp nor tcp", transport)
}
