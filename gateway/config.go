package gateway

import (
	"encoding/json"
	"log/slog"
	"time"
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
	Listen     string      `yaml:"listen" default:"127.0.0.1" placeholder:"ADDRESS" help:"Where RTP and WebRTC sockets are bound."`
	PublicIP   string      `name:"public-ip" yaml:"publicIP" default:"" placeholder:"ADDRESS" help:"The address put in SDP behind NAT; empty: media.listen."`
	RTPPorts   string      `name:"rtp-ports" yaml:"rtpPorts" default:"20000-29999" placeholder:"FIRST-LAST" help:"The UDP ports of phone legs, two for each."`
	WebRTCUDP  int         `name:"webrtc-udp" yaml:"webrtcUDP" default:"7882" placeholder:"PORT" help:"The one UDP port of all browsers."`
	WebRTCTCP  int         `name:"webrtc-tcp" yaml:"webrtcTCP" default:"7882" placeholder:"PORT" help:"The TCP port for browsers that can't use UDP."`
	ICEServers []ICEServer `kong:"-" yaml:"iceServers"`
}

// ICEServer is a STUN or TURN server that createParticipant hands on to the application.
type ICEServer struct {
	URLs       []string `yaml:"urls"`
	Username   string   `yaml:"username"`
	Credential Secret   `yaml:"credential"`
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
	Level  string `yaml:"level" default:"info" enum:"debug,info,warn,error" help:"The least important lines that are shown."`
	Format string `yaml:"format" default:"text" enum:"text,json" help:"How a line looks."`
}

// AccountConfig is an application that may use the API.
type AccountConfig struct {
	ID             string `yaml:"id"`
	Username       string `yaml:"username"`
	Password       Secret `yaml:"password"`
	PasswordHash   Secret `yaml:"passwordHash"`
	CallbackSecret Secret `yaml:"callbackSecret"`

	MaxCalls          int      `yaml:"maxCalls"`
	MaxCallsPerSecond int      `yaml:"maxCallsPerSecond"`
	MaxNewPerSecond   *int     `yaml:"maxNewPerSecond"` // nil: defaultNewPerSecond
	AllowedPrefixes   []string `yaml:"allowedPrefixes"`
	MinutesPerDay     *int     `yaml:"minutesPerDay"` // nil: defaultMinutesPerDay
	SIPURIs           bool     `yaml:"sipURIs"`
	HoldMusic         string   `yaml:"holdMusic"`
}

// TrunkConfig is a carrier or PBX.
type TrunkConfig struct {
	Name                string   `yaml:"name"`
	Account             string   `yaml:"account"`
	URI                 string   `yaml:"uri"`
	TLSCert             string   `yaml:"tlsCert"`
	TLSKey              string   `yaml:"tlsKey"`
	Username            string   `yaml:"username"`
	Password            Secret   `yaml:"password"`
	Register            bool     `yaml:"register"`
	Probe               string   `yaml:"probe"` // a duration: how often it is asked whether it takes calls; empty or 0: never
	Allow               []string `yaml:"allow"`
	InboundUsername     string   `yaml:"inboundUsername"`
	InboundPassword     Secret   `yaml:"inboundPassword"`
	Codecs              []string `yaml:"codecs"`
	SRTP                string   `yaml:"srtp"`
	DTMF                string   `yaml:"dtmf"`
	DTMFInBand          bool     `yaml:"dtmfInBand"`
	DelayedOffer        bool     `yaml:"delayedOffer"`
	Identity            string   `yaml:"identity"`
	CountryCode         string   `yaml:"countryCode"`
	NationalPrefix      string   `yaml:"nationalPrefix"`
	InternationalPrefix string   `yaml:"internationalPrefix"`
	NumberFormat        string   `yaml:"numberFormat"`
	Headers             []string `yaml:"headers"`
	Prefixes            []string `yaml:"prefixes"`
	Priority            int      `yaml:"priority"`
	Weight              int      `yaml:"weight"`
	MaxCalls            int      `yaml:"maxCalls"`
	MaxCallsPerSecond   int      `yaml:"maxCallsPerSecond"`
	AnswerTimeout       string   `yaml:"answerTimeout"` // a duration
	HoldMusic           string   `yaml:"holdMusic"`
	PublicIP            string   `yaml:"publicIP"`
	Realm               string   `yaml:"realm"`
}

// NumberConfig is a telephone number whose callers come in without a token.
type NumberConfig struct {
	Number      string `yaml:"number"`
	Account     string `yaml:"account"`
	CallbackURL string `yaml:"callbackUrl"`

	AnswerTimeout      string `yaml:"answerTimeout"` // a duration
	OnNoAnswer         string `yaml:"onNoAnswer"`
	Announcement       string `yaml:"announcement"`
	AnnouncementAnswer bool   `yaml:"announcementAnswer"`
	HoldMusic          string `yaml:"holdMusic"`
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
