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
	"tandem/media"
	"tandem/webhooks"
)

// minTokenKey is the least length of a key for HMAC-SHA256, in bytes (RFC 7518 §3.2).
const minTokenKey = 32

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// sipTransports are those of sip.listen and sip.advertise.
//
//nolint:gochecknoglobals // a constant in all but the language
var sipTransports = []string{"udp", "tcp", "tls", "ws", "wss"}

// Check fills in what follows from other keys and checks everything. Its error is one line that names the key and
// what it should be.
// It is not called Validate: kong would call that before the file is merged.
func (c *Config) Check() error {
	for _, check := range []func() error{
		c.validateHTTP, c.validateSecurity, c.validateAdmin, c.validateSIP, c.validateMedia, c.validateDatabase, c.validateLimits,
		c.validateAccounts, c.validateDirectory, c.validateSounds,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
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
	switch {
	case c.Security.BanAfter < 0:
		return fmt.Errorf("security.banAfter: %d should be the number of failures, such as 10, or 0 for never", c.Security.BanAfter)
	case c.Security.BanFor <= 0:
		return fmt.Errorf("security.banFor: %s should be longer than 0, such as 15m", c.Security.BanFor)
	case !(c.Security.RequestsPerSecond >= 0) || c.Security.RequestsPerSecond > 1e6:
		return fmt.Errorf("security.requestsPerSecond: %v should be a number such as 20, or 0 for no limit", c.Security.RequestsPerSecond)
	}
	return nil
}

func (c *Config) validateAdmin() error {
	if c.Drain.Deadline < 0 {
		return fmt.Errorf("drain.deadline: %s should not be negative", c.Drain.Deadline)
	}
	a := c.Admin
	switch {
	case a.Username == "" && (a.Password != "" || a.PasswordHash != ""):
		return fmt.Errorf("admin.username: should be set; there is a password for it")
	case strings.Contains(a.Username, ":"):
		return fmt.Errorf("admin.username: should have no colon")
	case a.Username != "" && (a.Password == "") == (a.PasswordHash == ""):
		return fmt.Errorf("admin: either password or passwordHash should be set beside username")
	case a.PasswordHash != "":
		if err := api.CheckHash(string(a.PasswordHash)); err != nil {
			return fmt.Errorf("admin.passwordHash: %w", err)
		}
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

func (m *MediaConfig) validateOpus() error {
	switch {
	case m.OpusComplexity < 0 || m.OpusComplexity > 10:
		return fmt.Errorf("media.opusComplexity: %d should be 0, or 1 to 10", m.OpusComplexity)
	case m.OpusBitrate != 0 && (m.OpusBitrate < 6000 || m.OpusBitrate > 128000):
		return fmt.Errorf("media.opusBitrate: %d should be 6000 to 128000, or 0 for what suits the phone", m.OpusBitrate)
	case m.OpusExpectedLoss < 0 || m.OpusExpectedLoss > 30:
		return fmt.Errorf("media.opusExpectedLoss: %d should be 0 to 30 percent", m.OpusExpectedLoss)
	}
	return nil
}

// addresses returns media.listen and media.publicIP. Each has one of an IP family at most.
func (m *MediaConfig) addresses() (listen, public []netip.Addr, err error) {
	bound, shown := make(map[media.Family]netip.Addr), make(map[media.Family]netip.Addr)
	for _, text := range m.Listen {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, nil, fmt.Errorf("media.listen: %q should be an IP address, such as 127.0.0.1", text)
		}
		f := media.FamilyOf(addr)
		if other, ok := bound[f]; ok {
			return nil, nil, fmt.Errorf("media.listen: %s and %s are both %s; there should be one address of a family", other, addr, f)
		}
		bound[f] = addr
		listen = append(listen, addr)
	}
	if len(listen) == 0 {
		return nil, nil, fmt.Errorf("media.listen: should be an IP address, such as 127.0.0.1")
	}
	for _, text := range m.PublicIP {
		if text == "" {
			continue
		}
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, nil, fmt.Errorf("media.publicIP: %q should be an IP address, or empty", text)
		}
		f := media.FamilyOf(addr)
		if _, ok := bound[f]; !ok {
			return nil, nil, fmt.Errorf("media.publicIP: %s is %s; media.listen should have an address of that family", addr, f)
		}
		if other, ok := shown[f]; ok {
			return nil, nil, fmt.Errorf("media.publicIP: %s and %s are both %s; there should be one address of a family", other, addr, f)
		}
		shown[f] = addr
		public = append(public, addr)
	}
	for _, addr := range listen {
		if _, ok := shown[media.FamilyOf(addr)]; addr.IsUnspecified() && !ok {
			return nil, nil, fmt.Errorf("media.publicIP: should be the address that phones and browsers reach; media.listen %s names none", addr)
		}
	}
	return listen, public, nil
}

func (c *Config) validateMedia() error {
	if _, _, err := c.Media.addresses(); err != nil {
		return err
	}
	if t := c.Media.SilenceTimeout; t < 0 || t > 0 && t < 10*time.Second {
		return fmt.Errorf("media.silenceTimeout: %s should be at least 10s, such as 5m, or 0 for no limit", t)
	}
	if err := c.Media.validateOpus(); err != nil {
		return err
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
