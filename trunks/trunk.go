// Package trunks says which carrier or PBX a call takes: trunks, numbers and the accounts they belong to, the choice
// among them, their limits, and which of them is out of service.
package trunks

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The values of Trunk.Identity: the header that carries the caller's number.
const (
	IdentityPAI  = "pai"
	IdentityRPID = "rpid"
	IdentityFrom = "from"
)

// The values of Trunk.SRTP.
const (
	SRTPOff      = "off"
	SRTPOptional = "optional"
	SRTPRequired = "required"
)

// The values of Trunk.DTMF.
const (
	DTMFEvents = "rfc4733"
	DTMFInfo   = "info"
)

// The values of Trunk.NumberFormat: how a number is written towards the trunk.
const (
	FormatE164          = "e164"          // +493012345
	FormatPlain         = "plain"         // 493012345
	FormatNational      = "national"      // 03012345 at home, 00331234 abroad
	FormatInternational = "international" // 00493012345
)

// The values of Origin: who made a trunk or a number.
const (
	OriginFile = "file" // the configuration file; it is written again whenever the file is read
	OriginREST = "rest"
)

// NoPrefix is the NationalPrefix of a country whose national numbers have none.
const NoPrefix = "none"

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
func (s Secret) GoString() string { return fmt.Sprintf("trunks.Secret(%q)", s.String()) }

// MarshalText hides it from JSON and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Trunk is a carrier or PBX that calls go to and come from. One that a Book holds is never changed, so that a call
// keeps what it began with.
type Trunk struct {
	Name            string
	Account         string
	URI             string         // where calls go: sip[s]:host[:port][;transport=udp|tcp|tls|ws|wss]; empty: it only calls in
	TLSCert         string         // file with the certificate that it is shown; empty: the gateway's own
	TLSKey          string         // file with its private key
	Username        string         // answers the trunk's 401 and 407
	Password        Secret         // with Username
	Realm           string         // in which it asks for the password; "*": any; empty: its registrar's, else the first of a call
	Register        bool           // keep a registration with the trunk
	Probe           time.Duration  // how often it is asked whether it takes calls (OPTIONS); 0: never
	Allow           []netip.Prefix // who may call in over this trunk
	InboundUsername string         // set: who calls in is challenged too
	InboundPassword Secret         // with InboundUsername
	Codecs          []string       // offered in this order; empty: PCMU, PCMA, G722, opus
	SRTP            string         // SRTPOff (default), SRTPOptional or SRTPRequired: SDES (RFC 4568)
	DTMF            string         // DTMFEvents (default) or DTMFInfo: how keys are sent
	DTMFInBand      bool           // listen for keys in the sound too, unless that is Opus
	DelayedOffer    bool           // our INVITE has no SDP: its 200 brings the offer, our ACK the answer
	Identity        string         // IdentityPAI (default), IdentityRPID or IdentityFrom

	CountryCode         string // "1": national numbers become +1…; empty: numbers are E.164 only
	NationalPrefix      string // before national numbers; empty: the country's usual one; NoPrefix: none
	InternationalPrefix string // before international ones; empty: the country's usual one
	NumberFormat        string // FormatE164 (default), FormatPlain, FormatNational or FormatInternational

	Headers           []string      // X- headers that may pass, both ways; one that ends in * is a beginning
	Prefixes          []string      // what it takes, the longest match wins; empty: "+"; "sip:" takes URIs
	Priority          int           // of equal prefixes, the lower priority is tried first
	Weight            int           // of equal priorities, the share of calls; 0 counts as 1
	MaxCalls          int           // at once, both ways; 0: no limit
	MaxCallsPerSecond int           // both ways; 0: no limit
	AnswerTimeout     time.Duration // the wait for its first answer to an INVITE; 0: 6 s while the call can go elsewhere, else Timer B of RFC 3261, 32 s
	HoldMusic         string        // a sound, for phones of this trunk that wait; empty: the account's
	PublicIP          string        // our address as this trunk reaches us, for SDP, Contact and Via; empty: the gateway's
	Shared            bool          // of the file: trunks that other accounts make by REST may go to the host of URI too

	Origin string // OriginFile or OriginREST
}

// Key names a trunk: two accounts may each have one of the same name.
type Key struct{ Account, Name string }

// Key returns the trunk's.
func (t *Trunk) Key() Key { return Key{t.Account, t.Name} }

// WithDefaults returns the trunk with what its empty fields mean filled in.
func (t Trunk) WithDefaults() Trunk {
	if len(t.Codecs) == 0 {
		t.Codecs = []string{"PCMU", "PCMA", "G722", "opus"}
	}
	if len(t.Prefixes) == 0 {
		t.Prefixes = []string{"+"}
	}
	for field, otherwise := range map[*string]string{
		&t.Identity: IdentityPAI, &t.SRTP: SRTPOff, &t.DTMF: DTMFEvents, &t.NumberFormat: FormatE164, &t.Origin: OriginREST,
	} {
		if *field == "" {
			*field = otherwise
		}
	}
	for _, field := range []*int{&t.Priority, &t.Weight} {
		if *field == 0 {
			*field = 1
		}
	}
	return t
}

// Passes says whether a header may travel over the trunk. Case does not matter.
func (t *Trunk) Passes(header string) bool {
	header = strings.ToLower(header)
	return slices.ContainsFunc(t.Headers, func(allowed string) bool {
		allowed = strings.ToLower(allowed)
		if beginning, ok := strings.CutSuffix(allowed, "*"); ok {
			return strings.HasPrefix(header, beginning)
		}
		return header == allowed
	})
}

// Number is a telephone number whose callers come in without a token.
type Number struct {
	Number      string // E.164
	Account     string
	CallbackURL string // where onIncomingCall is sent

	AnswerTimeout      time.Duration // how long the application may take to answer a call; 0: 30 s
	OnNoAnswer         string        // NoAnswerReject (default) or NoAnswerAnnouncement: what becomes of a call after that
	Announcement       string        // a sound, for NoAnswerAnnouncement
	AnnouncementAnswer bool          // answer the call for the announcement; false: it is played as early media
	HoldMusic          string        // a sound; empty: the trunk's

	Origin string // OriginFile or OriginREST
}

// What becomes of a call to a number that the application does not answer.
const (
	NoAnswerReject       = "reject"       // 480
	NoAnswerAnnouncement = "announcement" // Announcement is played, then 480 or BYE
)

// Account is what is fixed for an account by the configuration. The zero value of each limit is none.
type Account struct {
	ID                string
	MaxCalls          int      // at once, both ways
	MaxCallsPerSecond int      // both ways
	MaxNewPerSecond   int      // calls that the account places
	AllowedPrefixes   []string // whom it may call; empty: every number but those of Costly
	MinutesPerDay     int      // of the calls that it places, answered, in a day (UTC)
	SIPURIs           bool     // it may call sip: URIs
	HoldMusic         string   // a sound, for phones that wait; empty: silence
	MaxTrunks         int      // that it makes by REST
	MaxNumbers        int      // that it makes by REST
}
