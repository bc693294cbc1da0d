package trunks

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tandem/errs"
)

const (
	maxName     = 64
	maxURI      = 1024
	maxSecret   = 256
	maxList     = 256 // entries of one list
	maxCallRate = 100_000
	maxPriority = 1_000_000
	minProbe    = time.Second
)

// MaxPatience is the longest Number.AnswerTimeout.
const MaxPatience = 10 * time.Minute

// transports are those that calls can be sent over.
func transports() []string { return []string{"", "udp", "tcp", "tls", "ws", "wss"} }

func invalid(format string, args ...any) error { return errs.New(errs.Invalid, format, args...) }

// Validate returns an errs.Invalid that begins with the key of the first field that is wrong.
func (t *Trunk) Validate() error {
	for _, check := range []func() error{
		t.validateName, t.validateURI, t.validateCredentials, t.validateMedia, t.validateNumbers, t.validateHeaders, t.validateLimits,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (t *Trunk) validateName() error {
	switch {
	case t.Name == "":
		return invalid("name: is missing; should be a name such as \"carrier\"")
	case len(t.Name) > maxName || strings.Contains(t.Name, "/") || strings.ContainsFunc(t.Name, unprintable):
		return invalid("name: should have at most %d bytes, no slash and no control character", maxName)
	}
	return nil
}

func (t *Trunk) validateURI() error {
	if t.URI == "" {
		if t.Register {
			return invalid("register: needs uri, the registrar's address")
		}
		return nil
	}
	a, ok := readAddress(t.URI)
	if !ok || len(t.URI) > maxURI || strings.ContainsFunc(t.URI, unprintable) || strings.ContainsAny(t.URI, " <>\"") {
		return invalid("uri: %q should be a SIP URI, such as sip:carrier.example.com;transport=udp, or empty", clip(t.URI))
	}
	if !slices.Contains(transports(), a.transport) || (a.secure && a.transport == "udp") {
		return invalid("uri: %q should have the transport udp, tcp, tls, ws or wss, and sips: not udp", clip(t.URI))
	}
	if (t.TLSCert == "") != (t.TLSKey == "") {
		return invalid("tlsCert and tlsKey: both should be set, or neither")
	}
	if t.Register && t.Username == "" {
		return invalid("register: needs username")
	}
	if t.Probe != 0 && t.Probe < minProbe {
		return invalid("probe: %s should be 0 (never) or at least %s", t.Probe, minProbe)
	}
	return nil
}

func (t *Trunk) validateCredentials() error {
	for _, f := range []struct{ key, value string }{
		{"username", t.Username},
		{"realm", t.Realm},
		{"password", string(t.Password)},
		{"inboundUsername", t.InboundUsername},
		{"inboundPassword", string(t.InboundPassword)},
	} {
		if len(f.value) > maxSecret || strings.ContainsFunc(f.value, unprintable) {
			return invalid("%s: should have at most %d bytes and no control character", f.key, maxSecret)
		}
	}
	if t.InboundUsername != "" && t.InboundPassword == "" {
		return invalid("inboundPassword: is missing; inboundUsername is set")
	}
	if len(t.Allow) > maxList {
		return invalid("allow: should have at most %d networks", maxList)
	}
	return nil
}

func (t *Trunk) validateMedia() error {
	if t.PublicIP != "" {
		addr, err := netip.ParseAddr(t.PublicIP)
		if err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
			return invalid("publicIP: %q should be the IP address at which this trunk reaches the gateway, or empty", clip(t.PublicIP))
		}
	}
	for i, codec := range t.Codecs {
		if !slices.Contains([]string{"PCMU", "PCMA", "G722", "opus"}, codec) {
			return invalid("codecs[%d]: %q should be PCMU, PCMA, G722 or opus", i, clip(codec))
		}
		if slices.Contains(t.Codecs[:i], codec) {
			return invalid("codecs[%d]: %s is there twice", i, codec)
		}
	}
	switch {
	case !slices.Contains([]string{"", IdentityPAI, IdentityRPID, IdentityFrom}, t.Identity):
		return invalid("identity: %q should be pai, rpid or from", clip(t.Identity))
	case !slices.Contains([]string{"", SRTPOff, SRTPOptional, SRTPRequired}, t.SRTP):
		return invalid("srtp: %q should be off, optional or required", clip(t.SRTP))
	case !slices.Contains([]string{"", DTMFEvents, DTMFInfo}, t.DTMF):
		return invalid("dtmf: %q should be rfc4733 or info", clip(t.DTMF))
	}
	return nil
}

func (t *Trunk) validateNumbers() error {
	switch {
	case t.CountryCode != "" && (!isDigits(t.CountryCode) || len(t.CountryCode) > 3 || t.CountryCode[0] == '0'):
		return invalid("countryCode: %q should be one to three digits, such as \"49\", or empty", clip(t.CountryCode))
	case t.NationalPrefix != "" && t.NationalPrefix != NoPrefix && (!isDigits(t.NationalPrefix) || len(t.NationalPrefix) > 5):
		return invalid("nationalPrefix: %q should be up to five digits, such as \"0\", or none", clip(t.NationalPrefix))
	case t.InternationalPrefix != "" && (!isDigits(t.InternationalPrefix) || len(t.InternationalPrefix) > 5):
		return invalid("internationalPrefix: %q should be up to five digits, such as \"00\"", clip(t.InternationalPrefix))
	case !slices.Contains([]string{"", FormatE164, FormatPlain, FormatNational, FormatInternational}, t.NumberFormat):
		return invalid("numberFormat: %q should be e164, plain, national or international", clip(t.NumberFormat))
	case t.NumberFormat == FormatNational && t.CountryCode == "":
		return invalid("countryCode: is missing; numberFormat is national")
	}
	if len(t.Prefixes) > maxList {
		return invalid("prefixes: should have at most %d entries", maxList)
	}
	for i, prefix := range t.Prefixes {
		if !isPrefix(prefix) && !isURI(prefix) || len(prefix) > maxURI || strings.ContainsFunc(prefix, unprintable) {
			return invalid("prefixes[%d]: %q should be + with the first digits of a number, such as +49, or sip:", i, clip(prefix))
		}
	}
	return nil
}

// isPrefix says whether s is the beginning of an E.164 number.
func isPrefix(s string) bool {
	return s == "+" || strings.HasPrefix(s, "+") && isDigits(s[1:]) && len(s) <= 1+maxDigits
}

func (t *Trunk) validateHeaders() error {
	if len(t.Headers) > maxList {
		return invalid("headers: should have at most %d names", maxList)
	}
	for i, name := range t.Headers {
		if !IsExtraHeader(strings.TrimSuffix(name, "*")) && !strings.EqualFold(name, "X-*") {
			return invalid("headers[%d]: %q should be the name of a header that begins with X-, such as X-Customer", i, clip(name))
		}
	}
	return nil
}

// IsExtraHeader says whether name is a token that begins with X-: what an application may send and be told.
func IsExtraHeader(name string) bool {
	if len(name) < 3 || len(name) > maxName || !strings.EqualFold(name[:2], "X-") {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-.!%*_+`'~", r)
	}) < 0
}

func (t *Trunk) validateLimits() error {
	for _, f := range []struct {
		key        string
		value, max int
	}{
		{"priority", t.Priority, maxPriority},
		{"weight", t.Weight, maxPriority},
		{"maxCalls", t.MaxCalls, maxPriority},
		{"maxCallsPerSecond", t.MaxCallsPerSecond, maxCallRate},
	} {
		if f.value < 0 || f.value > f.max {
			return invalid("%s: %d should be 0 or more, and at most %d", f.key, f.value, f.max)
		}
	}
	if t.AnswerTimeout < 0 || t.AnswerTimeout > maxAnswerTimeout {
		return invalid("answerTimeout: %s should be at most %s, which is when RFC 3261 gives up", t.AnswerTimeout, maxAnswerTimeout)
	}
	if !isSound(t.HoldMusic) {
		return invalid("holdMusic: should be the name of a sound, of at most %d bytes", maxURI)
	}
	return nil
}

// Validate returns an errs.Invalid that begins with the key of the first field that is wrong.
func (n *Number) Validate() error {
	if !IsE164(n.Number) {
		return invalid("number: %q should be a number in E.164 format, such as +15550199", clip(n.Number))
	}
	if err := n.validateAnswer(); err != nil || n.CallbackURL == "" {
		return err
	}
	u, err := url.Parse(n.CallbackURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || len(n.CallbackURL) > maxURI ||
		strings.ContainsFunc(n.CallbackURL, unprintable) {
		return invalid("callbackUrl: %q should be an http or https address", clip(n.CallbackURL))
	}
	return nil
}

// validateAnswer checks what becomes of a call that the application does not answer.
func (n *Number) validateAnswer() error {
	switch {
	case n.AnswerTimeout < 0 || n.AnswerTimeout > MaxPatience:
		return invalid("answerTimeout: %s should be at most %s", n.AnswerTimeout, MaxPatience)
	case !slices.Contains([]string{"", NoAnswerReject, NoAnswerAnnouncement}, n.OnNoAnswer):
		return invalid("onNoAnswer: %q should be reject or announcement", clip(n.OnNoAnswer))
	case n.OnNoAnswer == NoAnswerAnnouncement && n.Announcement == "":
		return invalid("announcement: is missing; onNoAnswer is announcement")
	case n.OnNoAnswer != NoAnswerAnnouncement && (n.Announcement != "" || n.AnnouncementAnswer):
		return invalid("onNoAnswer: should be announcement when announcement or announcementAnswer is set")
	case !isSound(n.Announcement):
		return invalid("announcement: should be the name of a sound, of at most %d bytes", maxURI)
	case !isSound(n.HoldMusic):
		return invalid("holdMusic: should be the name of a sound, of at most %d bytes", maxURI)
	}
	return nil
}

// isSound says whether s can be the name of a sound; whether there is one shows when it is played.
func isSound(s string) bool {
	return len(s) <= maxURI && utf8.ValidString(s) && !strings.ContainsFunc(s, unprintable)
}

// Validate returns an errs.Invalid that begins with the key of the first field that is wrong.
func (a *Account) Validate() error {
	if !isSound(a.HoldMusic) {
		return invalid("holdMusic: should be the name of a sound, of at most %d bytes", maxURI)
	}
	for _, f := range []struct {
		key   string
		value int
	}{
		{"maxCalls", a.MaxCalls},
		{"maxCallsPerSecond", a.MaxCallsPerSecond},
		{"maxNewPerSecond", a.MaxNewPerSecond},
		{"minutesPerDay", a.MinutesPerDay},
		{"maxTrunks", a.MaxTrunks},
		{"maxNumbers", a.MaxNumbers},
	} {
		if f.value < 0 {
			return invalid("%s: %d should be 0 (no limit) or more", f.key, f.value)
		}
	}
	for i, prefix := range a.AllowedPrefixes {
		if !isPrefix(prefix) {
			return invalid("allowedPrefixes[%d]: %q should be + with the first digits of a number, such as +49", i, clip(prefix))
		}
	}
	return nil
}

func unprintable(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }

// clip shortens what a message repeats.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// ParseNetwork reads an address or a network.
func ParseNetwork(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// ParseNetworks reads the entries of Trunk.Allow. The error begins with the key.
func ParseNetworks(list []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for i, s := range list {
		p, ok := ParseNetwork(s)
		if !ok {
			return nil, invalid("allow[%d]: %q should be an address or a network, such as 192.0.2.0/24", i, clip(s))
		}
		networks = append(networks, p)
	}
	return networks, nil
}
