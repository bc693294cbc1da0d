package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tandem/api"
	"tandem/webhooks"
)

// minTokenKey is the least length of a key for HMAC-SHA256, in bytes (RFC 7518 §3.2).
const minTokenKey = 32

var (
	hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
	e164     = regexp.MustCompile(`^\+[1-9][0-9]{2,14}$`)
)

// sipTransports are those of sip.listen and sip.advertise.
//
//nolint:gochecknoglobals // a constant in all but the language
var sipTransports = []string{"udp", "tcp", "tls", "ws", "wss"}

// Check fills in what follows from other keys and checks everything. Its error is one line that names the key and
// what it should be.
// It is not called Validate: kong would call that before the file is merged.
func (c *Config) Check() error {
	for _, check := range []func() error{
		c.validateHTTP, c.validateSecurity, c.validateSIP, c.validateMedia, c.validateDatabase, c.validateLimits,
		c.validateAccounts, c.validateTrunks, c.validateNumbers,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// Warnings lists what the configuration asks for and this version does not do, a sentence each.
func (c *Config) Warnings() []string {
	var all []string
	if len(c.Numbers) > 0 {
		all = append(all, "numbers: callers without a participant's token are refused in this version")
	}
	for i, t := range c.Trunks {
		if t.MaxCalls > 0 || t.MaxCallsPerSecond > 0 {
			all = append(all, fmt.Sprintf("trunks[%d].maxCalls, maxCallsPerSecond: are not enforced in this version", i))
		}
	}
	return all
}

func (c *Config) validateHTTP() error {
	if _, err := hostPort(c.HTTP.Listen); err != nil {
		return fmt.Errorf("http.listen: %q should be host:port, such as 127.0.0.1:8080 (%w)", c.HTTP.Listen, err)
	}
	if (c.HTTP.TLSCert == "") != (c.HTTP.TLSKey == "") {
		return fmt.Errorf("http.tlsCert and http.tlsKey: both should be set, or neither")
	}
	if c.HTTP.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(c.HTTP.PublicURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("http.publicURL: %q should be an http or https address, such as https://tandem.example.com", c.HTTP.PublicURL)
	}
	return nil
}

func hostPort(s string) (port int, err error) {
	_, text, err := net.SplitHostPort(s)
	if err != nil {
		return 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return 0, fmt.Errorf("%q is no port", text)
	}
	return port, nil
}

// isHostPort says whether s is host or host:port.
func isHostPort(s string) bool {
	host := s
	if h, _, err := net.SplitHostPort(s); err == nil {
		if _, err := hostPort(s); err != nil {
			return false
		}
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return hostName.MatchString(host)
}

func (c *Config) validateSecurity() error {
	if key := string(c.Security.TokenKey); key != "" && len(key) < minTokenKey {
		return fmt.Errorf("security.tokenKey: has %d bytes, should have at least %d; leave it empty to have one made", len(key), minTokenKey)
	}
	if c.Security.TokenLifetime <= 0 {
		return fmt.Errorf("security.tokenLifetime: %s should be longer than 0, such as 24h", c.Security.TokenLifetime)
	}
	return nil
}

func (c *Config) validateSIP() error {
	if len(c.SIP.Listen) == 0 {
		return fmt.Errorf("sip.listen: should name at least one address, such as udp://127.0.0.1:5060")
	}
	for i, raw := range c.SIP.Listen {
		u, err := url.Parse(raw)
		if err != nil || !slices.Contains(sipTransports, u.Scheme) {
			return fmt.Errorf("sip.listen[%d]: %q should be udp://host:port, or the same with tcp, tls, ws or wss", i, raw)
		}
		if _, err := hostPort(u.Host); err != nil {
			return fmt.Errorf("sip.listen[%d]: %q should be %s://host:port (%w)", i, raw, u.Scheme, err)
		}
		if (u.Scheme == "tls" || u.Scheme == "wss") && c.SIP.TLSCert == "" {
			return fmt.Errorf("sip.tlsCert: is missing; sip.listen[%d] is %s", i, raw)
		}
	}
	for one := range strings.SplitSeq(c.SIP.Advertise, ",") {
		address := strings.TrimSpace(one)
		if network, rest, ok := strings.Cut(address, "://"); ok && slices.Contains(sipTransports, network) {
			address = rest
		}
		if c.SIP.Advertise != "" && !isHostPort(address) {
			return fmt.Errorf("sip.advertise: %q should be a host name or an address, with or without a port", strings.TrimSpace(one))
		}
	}
	if (c.SIP.TLSCert == "") != (c.SIP.TLSKey == "") {
		return fmt.Errorf("sip.tlsCert and sip.tlsKey: both should be set, or neither")
	}
	if c.SIP.TokenCalls != "any" && c.SIP.TokenCalls != "trunks" {
		return fmt.Errorf("sip.tokenCalls: %q should be any or trunks", c.SIP.TokenCalls)
	}
	if c.SIP.SessionExpires < 90*time.Second {
		return fmt.Errorf("sip.sessionExpires: %s should be at least 90s, such as 30m", c.SIP.SessionExpires)
	}
	if c.SIP.RingTimeout <= 0 {
		return fmt.Errorf("sip.ringTimeout: %s should be longer than 0, such as 60s", c.SIP.RingTimeout)
	}
	if c.SIP.TransferTimeout <= 0 {
		return fmt.Errorf("sip.transferTimeout: %s should be longer than 0, such as 60s", c.SIP.TransferTimeout)
	}
	return nil
}

func (c *Config) validateMedia() error {
	listen, err := netip.ParseAddr(c.Media.Listen)
	if err != nil {
		return fmt.Errorf("media.listen: %q should be an IP address, such as 127.0.0.1", c.Media.Listen)
	}
	if listen.IsUnspecified() && c.Media.PublicIP == "" {
		return fmt.Errorf("media.publicIP: should be the address that phones and browsers reach; media.listen %s names none", listen)
	}
	if c.Media.PublicIP != "" {
		if _, err := netip.ParseAddr(c.Media.PublicIP); err != nil {
			return fmt.Errorf("media.publicIP: %q should be an IP address, or empty", c.Media.PublicIP)
		}
	}
	first, last, err := c.rtpPorts()
	if err != nil {
		return err
	}
	for _, p := range []struct {
		key  string
		port int
	}{{"media.webrtcUDP", c.Media.WebRTCUDP}, {"media.webrtcTCP", c.Media.WebRTCTCP}} {
		if p.port < 0 || p.port > 65535 {
			return fmt.Errorf("%s: %d should be a port", p.key, p.port)
		}
	}
	if udp := c.Media.WebRTCUDP; udp >= int(first) && udp <= int(last) {
		return fmt.Errorf("media.webrtcUDP: %d lies in media.rtpPorts %s; the two should not overlap", udp, c.Media.RTPPorts)
	}
	for i, raw := range c.SIP.Listen {
		if u, err := url.Parse(raw); err == nil && u.Scheme == "udp" {
			if port, err := hostPort(u.Host); err == nil && port >= int(first) && port <= int(last) {
				return fmt.Errorf("sip.listen[%d]: port %d lies in media.rtpPorts %s; the two should not overlap", i, port, c.Media.RTPPorts)
			}
		}
	}
	return nil
}

// rtpPorts returns the first and the last port of media.rtpPorts.
func (c *Config) rtpPorts() (first, last uint16, err error) {
	from, to, ok := strings.Cut(c.Media.RTPPorts, "-")
	a, errA := strconv.ParseUint(strings.TrimSpace(from), 10, 16)
	b, errB := strconv.ParseUint(strings.TrimSpace(to), 10, 16)
	if !ok || errA != nil || errB != nil || a < 1024 || b < a+1 {
		return 0, 0, fmt.Errorf("media.rtpPorts: %q should be first-last with ports above 1023, such as 20000-29999", c.Media.RTPPorts)
	}
	return uint16(a), uint16(b), nil
}

func (c *Config) validateDatabase() error {
	raw := string(c.Database.URL)
	if path, ok := strings.CutPrefix(raw, "sqlite:"); ok && path != "" {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || (u.Host == "" && !u.Query().Has("host")) {
		return fmt.Errorf("database.url: should be sqlite:FILE or postgres://user:pass@host/db")
	}
	return nil
}

func (c *Config) validateLimits() error {
	if c.Limits.ParticipantsPerSession < 1 {
		return fmt.Errorf("limits.participantsPerSession: %d should be at least 1", c.Limits.ParticipantsPerSession)
	}
	if c.Limits.SessionLifetime <= 0 {
		return fmt.Errorf("limits.sessionLifetime: %s should be longer than 0, such as 9h", c.Limits.SessionLifetime)
	}
	return nil
}

func (c *Config) validateAccounts() error {
	if len(c.Accounts) == 0 {
		return fmt.Errorf("accounts: should list at least one account with id, username and password")
	}
	ids, users := map[string]bool{}, map[string]bool{}
	for i, a := range c.Accounts {
		key := "accounts[" + strconv.Itoa(i) + "]"
		switch {
		case a.ID == "" || strings.ContainsAny(a.ID, "/ "):
			return fmt.Errorf("%s.id: %q should be a name without blanks and slashes, such as \"9900000\"", key, a.ID)
		case ids[a.ID]:
			return fmt.Errorf("%s.id: %q is there twice", key, a.ID)
		case a.Username == "" || strings.Contains(a.Username, ":"):
			return fmt.Errorf("%s.username: should be set, and have no colon", key)
		case users[a.Username]:
			return fmt.Errorf("%s.username: %q is there twice", key, a.Username)
		case (a.Password == "") == (a.PasswordHash == ""):
			return fmt.Errorf("%s: either password or passwordHash should be set", key)
		case a.CallbackSecret != "" && webhooks.Secret(a.CallbackSecret).Validate() != nil:
			return fmt.Errorf("%s.callbackSecret: should be whsec_ followed by base64", key)
		}
		if a.PasswordHash != "" {
			if err := api.CheckHash(string(a.PasswordHash)); err != nil {
				return fmt.Errorf("%s.passwordHash: %w", key, err)
			}
		}
		ids[a.ID], users[a.Username] = true, true
	}
	return nil
}

func (c *Config) validateTrunks() error {
	names := map[string]bool{}
	for i := range c.Trunks {
		t := &c.Trunks[i]
		key := "trunks[" + strconv.Itoa(i) + "]"
		if t.Name == "" || names[t.Name] {
			return fmt.Errorf("%s.name: %q should be a name that no other trunk has", key, t.Name)
		}
		names[t.Name] = true
		if !slices.ContainsFunc(c.Accounts, func(a AccountConfig) bool { return a.ID == t.Account }) {
			return fmt.Errorf("%s.account: %q should be the id of an account in accounts", key, t.Account)
		}
		if t.URI != "" && !strings.HasPrefix(t.URI, "sip:") && !strings.HasPrefix(t.URI, "sips:") {
			return fmt.Errorf("%s.uri: %q should be a SIP URI, such as sip:carrier.example.com;transport=udp, or empty", key, t.URI)
		}
		if probe, err := duration(t.Probe); err != nil || (probe != 0 && probe < time.Second) {
			return fmt.Errorf("%s.probe: %q should be 0 (never) or a duration of at least 1s, such as 30s", key, t.Probe)
		}
		if t.Register && (t.URI == "" || t.Username == "") {
			return fmt.Errorf("%s.register: needs %s.uri and %s.username", key, key, key)
		}
		if (t.TLSCert == "") != (t.TLSKey == "") {
			return fmt.Errorf("%s.tlsCert and %s.tlsKey: both should be set, or neither", key, key)
		}
		if err := t.validateUnsupported(key); err != nil {
			return err
		}
		for j, a := range t.Allow {
			if _, err := parsePrefix(a); err != nil {
				return fmt.Errorf("%s.allow[%d]: %q should be an address or a network, such as 192.0.2.0/24", key, j, a)
			}
		}
		if t.MaxCalls < 0 || t.MaxCallsPerSecond < 0 {
			return fmt.Errorf("%s.maxCalls, %s.maxCallsPerSecond: should be 0 or more", key, key)
		}
		if t.InboundUsername != "" && t.InboundPassword == "" {
			return fmt.Errorf("%s.inboundPassword: is missing; %s.inboundUsername is set", key, key)
		}
		t.fillIn()
	}
	return nil
}

// fillIn sets what an empty key means.
func (t *TrunkConfig) fillIn() {
	if len(t.Codecs) == 0 {
		t.Codecs = []string{"PCMU", "PCMA"}
	}
	if len(t.Prefixes) == 0 {
		t.Prefixes = []string{"+"}
	}
	if t.Identity == "" {
		t.Identity = "pai"
	}
	if t.Priority == 0 {
		t.Priority = 1
	}
	if t.Weight == 0 {
		t.Weight = 1
	}
}

// validateUnsupported refuses what the contract has and this version can't do: better than not doing it in silence.
func (t *TrunkConfig) validateUnsupported(key string) error {
	for j, codec := range t.Codecs {
		if !slices.Contains([]string{"PCMU", "PCMA", "G722", "opus"}, codec) {
			return fmt.Errorf("%s.codecs[%d]: %q should be PCMU, PCMA, G722 or opus", key, j, codec)
		}
	}
	if len(t.Codecs) > 0 && !slices.Contains(t.Codecs, "PCMU") && !slices.Contains(t.Codecs, "PCMA") {
		return fmt.Errorf("%s.codecs: should have PCMU or PCMA; this version speaks no other towards phones", key)
	}
	switch {
	case !slices.Contains([]string{"", "pai", "rpid", "from"}, t.Identity):
		return fmt.Errorf("%s.identity: %q should be pai, rpid or from", key, t.Identity)
	case !slices.Contains([]string{"", "off", "optional", "required"}, t.SRTP):
		return fmt.Errorf("%s.srtp: %q should be off, optional or required", key, t.SRTP)
	case !slices.Contains([]string{"", "rfc4733", "info"}, t.DTMF):
		return fmt.Errorf("%s.dtmf: %q should be rfc4733 or info", key, t.DTMF)
	case t.CountryCode != "":
		return fmt.Errorf("%s.countryCode: should be empty; numbers are E.164 in this version", key)
	case len(t.Headers) > 0:
		return fmt.Errorf("%s.headers: should be empty; extra headers are not supported by this version", key)
	}
	return nil
}

func (c *Config) validateNumbers() error {
	for i, n := range c.Numbers {
		key := "numbers[" + strconv.Itoa(i) + "]"
		if !e164.MatchString(n.Number) {
			return fmt.Errorf("%s.number: %q should be a number in E.164 format, such as +15550199", key, n.Number)
		}
		if !slices.ContainsFunc(c.Accounts, func(a AccountConfig) bool { return a.ID == n.Account }) {
			return fmt.Errorf("%s.account: %q should be the id of an account in accounts", key, n.Account)
		}
	}
	return nil
}

// duration reads a duration where none is 0.
func duration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	return time.ParseDuration(s)
}

func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
