package gateway

import (
	"encoding/json"
	"log/slog"
	"time"

	"tandem/transcode"
)

// Config is what tandem.yaml, the environment and the flags say. Load fills it in and checks it; every scalar has a
// flag and an environment variable (http.publicURL, --http-public-url, TANDEM_HTTP_PUBLIC_URL).
type Config struct {
	HTTP     HTTPConfig     `embed:"" prefix:"http-" yaml:"http"`
	Security SecurityConfig `embed:"" prefix:"security-" yaml:"security"`
	SIP      SIPConfig      `embed:"" prefix:"sip-" yaml:"sip"`
	Media    MediaConfig    `embed:"" prefix:"media-" yaml:"media"`
	Database DatabaseConfig `embed:"" prefix:"database-" yaml:"database"`
	Limits   LimitsConfig   `embed:"" prefix:"limits-" yaml:"limits"`
	Sounds   SoundsConfig   `embed:"" prefix:"sounds-" yaml:"sounds"`
	Log      LogConfig      `embed:"" prefix:"log-" yaml:"log"`
	Drain    DrainConfig    `embed:"" prefix:"drain-" yaml:"drain"`
	Admin    AdminConfig    `embed:"" prefix:"admin-" yaml:"admin"`

	Accounts []AccountConfig `kong:"-" yaml:"accounts"`
	Trunks   []TrunkConfig   `kong:"-" yaml:"trunks"`
	Numbers  []NumberConfig  `kong:"-" yaml:"numbers"`

	// Demo serves the demo page and lets it join a demo session. Never set on a gateway that strangers can reach.
	Demo bool `kong:"-" yaml:"-"`
}

// HTTPConfig is the listener of the REST API, the device connections and the pages.
type HTTPConfig struct {
	Listen    string `yaml:"listen" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where REST and WebSocket are served."`
	PublicURL string `name:"public-url" yaml:"publicURL" default:"" placeholder:"URL" help:"The address that pages and callbacks show; empty: made from http.listen."`
	TLSCert   string `name:"tls-cert" yaml:"tlsCert" default:"" placeholder:"FILE" help:"With http.tlsKey: serve HTTPS and WSS."`
	TLSKey    string `name:"tls-key" yaml:"tlsKey" default:"" placeholder:"FILE" help:"The private key of http.tlsCert."`
}

// SecurityConfig is about participants' tokens, and about who sends SIP and belongs to no trunk.
type SecurityConfig struct {
	TokenKey      Secret        `name:"token-key" yaml:"tokenKey" default:"" placeholder:"SECRET" help:"Signs participants' tokens; empty: made once and kept in the database."`
	TokenLifetime time.Duration `name:"token-lifetime" yaml:"tokenLifetime" default:"24h" help:"How long a participant's token is good."`

	BanAfter          int           `name:"ban-after" yaml:"banAfter" default:"10" placeholder:"N" help:"Failures within ten minutes after which a SIP sender outside every trunk is banned; 0: never."`
	BanFor            time.Duration `name:"ban-for" yaml:"banFor" default:"15m" help:"How long it is not listened to."`
	RequestsPerSecond float64       `name:"requests-per-second" yaml:"requestsPerSecond" default:"20" placeholder:"N" help:"SIP requests of one sender outside every trunk, in bursts of twice that; 0: no limit."`
}

// DrainConfig is about stopping without cutting calls.
type DrainConfig struct {
	Deadline time.Duration `yaml:"deadline" default:"20s" help:"How long calls may go on after SIGTERM or POST /admin/drain."`
}

// AdminConfig is who may use /admin. Without a user name it is served to this machine alone.
type AdminConfig struct {
	Username     string `yaml:"username" default:"" placeholder:"NAME" help:"Who may use /admin; empty: it is served to this machine alone."`
	Password     Secret `yaml:"password" default:"" placeholder:"SECRET" help:"With admin.username."`
	PasswordHash Secret `name:"password-hash" yaml:"passwordHash" default:"" placeholder:"HASH" help:"In the place of admin.password: what hash-password prints."`
}

// SIPConfig is the SIP user agent.
type SIPConfig struct {
	Listen      []string      `yaml:"listen" default:"udp://127.0.0.1:5060,tcp://127.0.0.1:5060" placeholder:"URL" help:"Where SIP is served: udp://host:port, and the same with tcp, tls, ws, wss."`
	Advertise   string        `yaml:"advertise" default:"" placeholder:"HOST[:PORT]" help:"Host for Via and Contact behind NAT; with commas one for each family, or for one transport as tls://host:port."`
	TLSCert     string        `name:"tls-cert" yaml:"tlsCert" default:"" placeholder:"FILE" help:"With sip.tlsKey: the certificate for tls:// and wss://, shown to trunks as well."`
	TLSKey      string        `name:"tls-key" yaml:"tlsKey" default:"" placeholder:"FILE" help:"The private key of sip.tlsCert."`
	TLSCA       string        `name:"tls-ca" yaml:"tlsCA" default:"" placeholder:"FILE" help:"Authorities that are trusted beside the system's; set: who connects over TLS must show a certificate of one of them."`
	TokenCalls  string        `name:"token-calls" yaml:"tokenCalls" default:"any" placeholder:"any|trunks" help:"May a caller with a valid token come from outside every trunk."`
	RingTimeout time.Duration `name:"ring-timeout" yaml:"ringTimeout" default:"60s" help:"How long an outbound call may ring."`
	// SessionExpires is the session interval of RFC 4028.
	SessionExpires time.Duration `name:"session-expires" yaml:"sessionExpires" default:"30m" help:"How long a call goes on without a refresh by either end (session timer, RFC 4028); at least 90s."`
	// TransferTimeout is renewed by every report of the far end, for ten minutes at most.
	TransferTimeout time.Duration `name:"transfer-timeout" yaml:"transferTimeout" default:"60s" help:"How long the far end may be silent about a transfer before that has failed."`
}

// MediaConfig is where RTP and WebRTC flow.
type MediaConfig struct {
	Listen    Words  `yaml:"listen" default:"127.0.0.1" placeholder:"ADDRESS" help:"Where RTP and WebRTC sockets are bound: one address, or one of IPv4 and one of IPv6. Phones are served in the families that it has, browsers on the first."`
	PublicIP  Words  `name:"public-ip" yaml:"publicIP" placeholder:"ADDRESS" help:"The address put in SDP behind NAT, of each family at most one; none: that of media.listen."`
	RTPPorts  string `name:"rtp-ports" yaml:"rtpPorts" default:"20000-29999" placeholder:"FIRST-LAST" help:"The UDP ports of phone legs, two for each; each IP family has them for itself."`
	WebRTCUDP int    `name:"webrtc-udp" yaml:"webrtcUDP" default:"7882" placeholder:"PORT" help:"The one UDP port of all browsers."`
	WebRTCTCP int    `name:"webrtc-tcp" yaml:"webrtcTCP" default:"7882" placeholder:"PORT" help:"The TCP port for browsers that can't use UDP."`
	// SilenceTimeout does not run while a call is on hold.
	SilenceTimeout time.Duration `name:"silence-timeout" yaml:"silenceTimeout" default:"5m" help:"How long the far end of an answered call may send neither RTP nor RTCP before the call ends; 0: for ever. A hold does not count, nor does a far end that keeps a session timer."`
	// The Opus of phones' voices, as browsers get it.
	OpusComplexity   int         `name:"opus-complexity" yaml:"opusComplexity" default:"0" placeholder:"N" help:"Of the encoder of phones' voices, 1 to 10: better sound for more CPU; 0 is 5 for wideband, and for narrowband 1 where sound begins and 0 elsewhere. While the machine is short of CPU it is less."`
	OpusBitrate      int         `name:"opus-bitrate" yaml:"opusBitrate" default:"0" placeholder:"BITS" help:"Per second; 0: 32000, and 48000 for wideband phones."`
	OpusFEC          bool        `name:"opus-fec" yaml:"opusFEC" default:"true" help:"Send each frame again, smaller, with the next one, so that a lost packet can be made up for."`
	OpusExpectedLoss int         `name:"opus-expected-loss" yaml:"opusExpectedLoss" default:"0" placeholder:"PERCENT" help:"What FEC is made for at least; what browsers report counts if it is more. FEC takes bits from the sound."`
	OpusDTX          bool        `name:"opus-dtx" yaml:"opusDTX" default:"false" help:"Send next to nothing while a phone is silent."`
	ICEServers       []ICEServer `kong:"-" yaml:"iceServers"`
}

// transcoding is what transcode wants of it.
func (m *MediaConfig) transcoding() transcode.Config {
	return transcode.Config{
		OpusComplexity: m.OpusComplexity, Bitrate: m.OpusBitrate, NoFEC: !m.OpusFEC, ExpectedLoss: m.OpusExpectedLoss, DTX: m.OpusDTX,
	}
}

// ICEServer is a STUN or TURN server that createParticipant hands on to the application.
type ICEServer struct {
	URLs       []string `yaml:"urls" placeholder:"URL" help:"Such as 'stun:stun.example.com' or 'turn:turn.example.com?transport=udp'."`
	Username   string   `yaml:"username" placeholder:"NAME" help:"For TURN."`
	Credential Secret   `yaml:"credential" placeholder:"SECRET" help:"The password of 'username'."`
}

// Words are a list of which one entry may be written without brackets.
type Words []string

// UnmarshalYAML is part of yaml.InterfaceUnmarshaler.
func (w *Words) UnmarshalYAML(decode func(any) error) error {
	var one string
	if decode(&one) == nil {
		*w = Words{one}
		return nil
	}
	return decode((*[]string)(w))
}

// DatabaseConfig is where everything is kept.
type DatabaseConfig struct {
	URL Secret `name:"url" yaml:"url" default:"sqlite:data/tandem.db" placeholder:"URL" help:"sqlite:FILE or postgres://user:pass@host/db."`
}

// LimitsConfig bounds what applications may ask for.
type LimitsConfig struct {
	ParticipantsPerSession int           `name:"participants-per-session" yaml:"participantsPerSession" default:"20" placeholder:"N" help:"How many participants a session may hold."`
	SessionLifetime        time.Duration `name:"session-lifetime" yaml:"sessionLifetime" default:"9h" help:"When a session ends by itself."`
}

// LogConfig is about the log on standard error.
type LogConfig struct {
	Level  string `yaml:"level" default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" help:"The least important lines that are shown: debug, info, warn or error."`
	Format string `yaml:"format" default:"text" enum:"text,json" placeholder:"FORMAT" help:"How a line looks: text or json."`
}

// AccountConfig is an application that may use the API.
type AccountConfig struct {
	ID             string `yaml:"id" placeholder:"NAME" help:"Names the account, in the paths of the API too."`
	Username       string `yaml:"username" placeholder:"NAME" help:"Its user of the API."`
	Password       Secret `yaml:"password" placeholder:"SECRET" help:"The password of 'username'."`
	PasswordHash   Secret `yaml:"passwordHash" placeholder:"HASH" help:"In the place of 'password': what 'tandem hash-password' prints."`
	CallbackSecret Secret `yaml:"callbackSecret" placeholder:"SECRET" help:"Signs its callbacks ([Standard Webhooks](https://www.standardwebhooks.com)): whsec_ and base64; empty: they are not signed."`

	MaxCalls          int      `yaml:"maxCalls" default:"no limit" placeholder:"N" help:"Calls at once, both ways: 503 with Retry-After, 429 in REST."`
	MaxCallsPerSecond int      `yaml:"maxCallsPerSecond" default:"no limit" placeholder:"N" help:"New calls, both ways: likewise."`
	MaxNewPerSecond   *int     `yaml:"maxNewPerSecond" placeholder:"N" help:"Calls that it places; 0: no limit."` // nil: defaultNewPerSecond
	AllowedPrefixes   []string `yaml:"allowedPrefixes" default:"every number" placeholder:"+DIGITS" help:"Whom it may call: else 403. +870, +878, +881, +882, +883, +888 and +979, which belong to no country, must be named by a prefix of their own."`
	MinutesPerDay     *int     `yaml:"minutesPerDay" placeholder:"N" help:"Of the calls that it places, answered, in a day (UTC); calls that are up go on; 0: no limit."` // nil: defaultMinutesPerDay
	SIPURIs           bool     `yaml:"sipURIs" default:"false" help:"It may call 'sip:' URIs. Those at the address of one of its own trunks, such as an extension of its PBX, it may always. A number in a URI is judged as that number."`
	HoldMusic         string   `yaml:"holdMusic" default:"silence" placeholder:"SOUND" help:"What its phones hear while they wait."`
	MaxTrunks         *int     `yaml:"maxTrunks" placeholder:"N" help:"Trunks that it makes by REST: one more is 409; those of this file do not count; 0: no limit."` // nil: defaultTrunks
	MaxNumbers        *int     `yaml:"maxNumbers" placeholder:"N" help:"Numbers that it makes by REST: likewise."`                                                    // nil: defaultNumbers
}

// TrunkConfig is a carrier or PBX.
type TrunkConfig struct {
	Name                string   `yaml:"name" placeholder:"NAME" help:"Names it in the account."`
	Account             string   `yaml:"account" placeholder:"NAME" help:"The 'id' of its account."`
	URI                 string   `yaml:"uri" placeholder:"URI" help:"Where calls go: 'sip:' or 'sips:', host, port, and ';transport=' udp, tcp, tls, ws or wss; empty: it only calls in."`
	TLSCert             string   `yaml:"tlsCert" placeholder:"FILE" help:"With 'tlsKey': what this trunk is shown in the place of 'sip.tlsCert'."`
	TLSKey              string   `yaml:"tlsKey" placeholder:"FILE" help:"The private key of 'tlsCert'."`
	Username            string   `yaml:"username" placeholder:"NAME" help:"Answers its 401 and 407: only where the request went to an address of 'uri' or of a small network in 'allow', and only in its 'realm'."`
	Password            Secret   `yaml:"password" placeholder:"SECRET" help:"The password of 'username'."`
	Register            bool     `yaml:"register" default:"false" help:"Keeps a registration with it; needs 'username'."`
	Probe               string   `yaml:"probe" default:"never" placeholder:"DURATION" help:"How often OPTIONS asks whether it takes calls; at least 1s."` // a duration
	Allow               []string `yaml:"allow" default:"nobody" placeholder:"ADDRESS[/BITS]" help:"Addresses and networks that may call in."`
	InboundUsername     string   `yaml:"inboundUsername" placeholder:"NAME" help:"Set: who calls in is challenged, and without 'allow' known by this name from any address."`
	InboundPassword     Secret   `yaml:"inboundPassword" placeholder:"SECRET" help:"The password of 'inboundUsername'."`
	Codecs              []string `yaml:"codecs" placeholder:"PCMU|PCMA|G722|opus" help:"What is offered, in this order, and taken. Empty: all, in the order shown."`
	SRTP                string   `yaml:"srtp" placeholder:"off|optional|required" help:"SDES; with optional, a far end that refuses RTP/AVP with keys is asked once more with RTP/SAVP. What each word offers and takes: [in a call that is up](sip-session.md)."`
	DTMF                string   `yaml:"dtmf" placeholder:"rfc4733|info" help:"How keys are sent to it: telephone-events or SIP INFO."`
	DTMFInBand          bool     `yaml:"dtmfInBand" default:"false" help:"Keys are looked for in its sound too, unless that is Opus, which is not listened to."`
	DelayedOffer        bool     `yaml:"delayedOffer" default:"false" help:"Our INVITE has no SDP: the 200 brings the offer, the ACK our answer."`
	Identity            string   `yaml:"identity" placeholder:"pai|rpid|from" help:"Where the caller's number is read and written: P-Asserted-Identity, Remote-Party-ID or From."`
	CountryCode         string   `yaml:"countryCode" placeholder:"DIGITS" help:"\"49\": its national numbers become +49…; empty: numbers are E.164 or none."`
	NationalPrefix      string   `yaml:"nationalPrefix" default:"the country's" placeholder:"DIGITS|none" help:"What stands before national numbers; 'none' where nothing does."`
	InternationalPrefix string   `yaml:"internationalPrefix" default:"the country's" placeholder:"DIGITS" help:"What stands before international ones."`
	NumberFormat        string   `yaml:"numberFormat" placeholder:"e164|plain|national|international" help:"How numbers are written: +493012345, 493012345, 03012345 or 00493012345."`
	Headers             []string `yaml:"headers" default:"none" placeholder:"X-NAME" help:"The X- headers that may pass, both ways; 'X-Acme-*' is all that begin so."`
	Prefixes            []string `yaml:"prefixes" placeholder:"+DIGITS" help:"Which calls it takes: the longest match wins. 'sip:' takes URIs."`
	Priority            int      `yaml:"priority" placeholder:"N" help:"Of equal prefixes, the lower one is tried first."`
	Weight              int      `yaml:"weight" placeholder:"N" help:"Of equal priorities, its share of the calls."`
	MaxCalls            int      `yaml:"maxCalls" default:"no limit" placeholder:"N" help:"Calls at once, both ways: callers get 503 with Retry-After, POST dialog goes on to the next trunk, or gets 429."`
	MaxCallsPerSecond   int      `yaml:"maxCallsPerSecond" default:"no limit" placeholder:"N" help:"New calls, both ways: likewise."`
	AnswerTimeout       string   `yaml:"answerTimeout" default:"6s or 32s" placeholder:"DURATION" help:"The wait for a first answer to an INVITE; empty: 6s while another address of the trunk or another trunk could take the call, else 32s."` // a duration
	HoldMusic           string   `yaml:"holdMusic" default:"the account's" placeholder:"SOUND" help:"What phones on it hear while they wait."`
	PublicIP            string   `yaml:"publicIP" default:"the gateway's" placeholder:"ADDRESS" help:"The gateway's address as this trunk reaches it, in SDP, Contact and Via: for a trunk on another side of a NAT than the rest. It counts where the trunk is reached in its IP family. Trunks that share an address should share this too."`
	Shared              bool     `yaml:"shared" default:"false" help:"Trunks that other accounts make by REST may go to the host of 'uri' too, and those of this account even if it has 'allowedPrefixes'."`
	Realm               string   `yaml:"realm" default:"the first" placeholder:"REALM|*" help:"In which it asks for the password; empty: the one that its registrar named, else that in which the INVITE of a call is asked; '*' is any."`
}

// NumberConfig is a telephone number whose callers come in without a token.
type NumberConfig struct {
	Number      string `yaml:"number" placeholder:"E.164" help:"As callers dial it."`
	Account     string `yaml:"account" placeholder:"NAME" help:"The 'id' of its account. The number is reached over the trunks of that account only."`
	CallbackURL string `yaml:"callbackUrl" placeholder:"URL" help:"Where 'onIncomingCall' is sent."`

	AnswerTimeout      string `yaml:"answerTimeout" default:"30s" placeholder:"DURATION" help:"How long the application may take; at most 10m."` // a duration
	OnNoAnswer         string `yaml:"onNoAnswer" default:"reject" placeholder:"reject|announcement" help:"What becomes of a call after that: 480, or 'announcement' and then 480."`
	Announcement       string `yaml:"announcement" placeholder:"SOUND" help:"For 'onNoAnswer: announcement'."`
	AnnouncementAnswer bool   `yaml:"announcementAnswer" default:"false" help:"The call is answered for the announcement; false: it is early media."`
	HoldMusic          string `yaml:"holdMusic" default:"the trunk's" placeholder:"SOUND" help:"What its callers hear while they wait."`
}

// Secret is a string that shows itself nowhere but where it is used.
type Secret string

const redacted = "[redacted]"

// LogValue keeps the secret out of the log.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// String keeps the secret out of formatted text.
func (Secret) String() string { return redacted }

// GoString keeps the secret out of %#v.
func (Secret) GoString() string { return redacted }

// MarshalJSON keeps the secret out of JSON.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }
