package gateway_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
)

const goodFile = `
http:
  listen: 127.0.0.1:9090
security:
  tokenLifetime: 12h
sip:
  listen: [udp://127.0.0.1:6060]
accounts:
  - {id: "9900000", username: api-user, password: api-pass, callbackSecret: whsec_dGVzdA==}
trunks:
  - name: carrier
    account: "9900000"
    uri: sip:127.0.0.1:5090;transport=udp
    register: false
    allow: [127.0.0.1/32, 192.0.2.7]
    codecs: [PCMU, PCMA, G722, opus]
    srtp: off
    dtmf: rfc4733
    identity: pai
    countryCode: ""
    headers: []
    prefixes: ["+"]
    priority: 1
    weight: 1
`

func TestLoad(t *testing.T) {
	t.Setenv("TANDEM_MEDIA_WEBRTC_UDP", "7900")
	t.Setenv("TANDEM_SIP_LISTEN", "udp://127.0.0.1:7060,tcp://127.0.0.1:7060")
	cfg, err := gateway.Load([]byte(goodFile))
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9090", cfg.HTTP.Listen, "the file beats the default")
	require.Equal(t, 12*time.Hour, cfg.Security.TokenLifetime)
	require.Equal(t, []string{"udp://127.0.0.1:7060", "tcp://127.0.0.1:7060"}, cfg.SIP.Listen, "the environment beats the file")
	require.Equal(t, 7900, cfg.Media.WebRTCUDP, "the environment beats the default")
	require.Equal(t, "20000-29999", cfg.Media.RTPPorts, "the default stands where nothing is said")
	require.Len(t, cfg.Accounts, 1)
	require.Equal(t, "carrier", cfg.Trunks[0].Name)
}

// TestMediaAddresses: one address, or one of each family, however it is written.
func TestMediaAddresses(t *testing.T) {
	for _, c := range []struct {
		text           string
		listen, public gateway.Words
	}{
		{"{}", gateway.Words{"127.0.0.1"}, nil},
		{"{listen: 127.0.0.2}", gateway.Words{"127.0.0.2"}, nil},
		{"{listen: '::1', publicIP: '2001:db8::7'}", gateway.Words{"::1"}, gateway.Words{"2001:db8::7"}},
		{"{listen: 0.0.0.0, publicIP: 203.0.113.7}", gateway.Words{"0.0.0.0"}, gateway.Words{"203.0.113.7"}},
		{"{listen: [127.0.0.1, '::1']}", gateway.Words{"127.0.0.1", "::1"}, nil},
		{"{listen: [0.0.0.0, '::'], publicIP: [203.0.113.7, '2001:db8::7']}", gateway.Words{"0.0.0.0", "::"}, gateway.Words{"203.0.113.7", "2001:db8::7"}},
		{"{listen: ['::1', 0.0.0.0], publicIP: 203.0.113.7}", gateway.Words{"::1", "0.0.0.0"}, gateway.Words{"203.0.113.7"}},
	} {
		cfg, err := gateway.Load([]byte(goodFile + "media: " + c.text + "\n"))
		require.NoError(t, err, c.text)
		require.Equal(t, c.listen, cfg.Media.Listen, c.text)
		require.Equal(t, c.public, cfg.Media.PublicIP, c.text)
	}
	_, err := gateway.Load([]byte(goodFile + "media: {publicIP: ''}\n"))
	require.NoError(t, err)
	t.Setenv("TANDEM_MEDIA_LISTEN", "127.0.0.1,::1")
	t.Setenv("TANDEM_MEDIA_PUBLIC_IP", "")
	cfg, err := gateway.Load([]byte(goodFile))
	require.NoError(t, err)
	require.Equal(t, gateway.Words{"127.0.0.1", "::1"}, cfg.Media.Listen)
}

// TestMistakes holds every mistake that stops the start: one line that names the key and what it should be.
func TestMistakes(t *testing.T) {
	t.Parallel()
	const account = "accounts: [{id: a, username: u, password: p}]\n"
	const trunk = "trunks: [{name: t, account: a, uri: 'sip:127.0.0.1', "
	cases := []struct{ name, text, key, should string }{
		{"unknown section", "htpt: {}", "htpt", "unknown field"},
		{"unknown key", "http: {lisen: x}", "lisen", "unknown field"},
		{"not YAML", "http: [", "", ""},
		{"wrong type", "accounts: 7", "", "int"},
		{"bad address", account + "http: {listen: nowhere}", "http.listen", "host:port"},
		{"bad port", account + "http: {listen: '127.0.0.1:99999'}", "http.listen", "no port"},
		{"bad public URL", account + "http: {publicURL: 'ftp://x'}", "http.publicURL", "http or https"},
		{"half of TLS", account + "http: {tlsCert: x}", "http.tlsKey", "both"},
		{"short key", account + "security: {tokenKey: short}", "security.tokenKey", "at least 32"},
		{"lifetime", account + "security: {tokenLifetime: -1h}", "security.tokenLifetime", "longer than 0"},
		{"duration", account + "security: {tokenLifetime: soon}", "security.tokenLifetime", "soon"},
		{"no SIP", account + "sip: {listen: ['ftp://x']}", "sip.listen[0]", "udp://host:port"},
		{"advertised address", account + "sip: {advertise: 'a b'}", "sip.advertise", "host"},
		{"calls", account + trunk + "maxCalls: -1}]", "trunks[0].maxCalls", "0 or more"},
		{"number", account + "numbers: [{number: '555', account: a}]", "numbers[0].number", "E.164"},
		{"a number's patience", account + "numbers: [{number: '+15550199', account: a, answerTimeout: soon}]", "numbers[0].answerTimeout", "duration"},
		{"a number's policy", account + "numbers: [{number: '+15550199', account: a, onNoAnswer: sing}]", "numbers[0].onNoAnswer", "reject or announcement"},
		{"an announcement of nothing", account + "numbers: [{number: '+15550199', account: a, onNoAnswer: announcement}]", "numbers[0].announcement", "missing"},
		{"no folder", account + "sounds: {folder: /does/not/exist}", "sounds.folder", "folder"},
		{"no address", account + "sounds: {allow: ['app.example.com']}", "sounds.allow[0]", "http or https"},
		{"endless sounds", account + "sounds: {maxLength: 2h}", "sounds.maxLength", "at most 1h"},
		{"no time for a transfer", account + "sip: {transferTimeout: 0s}", "sip.transferTimeout", "longer than 0"},
		{"token calls", account + "sip: {tokenCalls: all}", "sip.tokenCalls", "any or trunks"},
		{"media address", account + "media: {listen: localhost}", "media.listen", "IP address"},
		{"everywhere and nowhere", account + "media: {listen: 0.0.0.0}", "media.publicIP", "phones and browsers reach"},
		{"public IP", account + "media: {publicIP: x}", "media.publicIP", "IP address"},
		{"two media addresses of a family", account + "media: {listen: [127.0.0.1, 127.0.0.2]}", "media.listen", "one address of a family"},
		{"the second is no address", account + "media: {listen: [127.0.0.1, x]}", "media.listen", "IP address"},
		{"no media address", account + "media: {listen: []}", "media.listen", "IP address"},
		{"media addresses by name", account + "media: {listen: {four: 127.0.0.1}}", "", ""},
		{"everywhere in one family", account + "media: {listen: [0.0.0.0, '::'], publicIP: 203.0.113.7}", "media.publicIP", "media.listen :: names none"},
		{"public IP of another family", account + "media: {publicIP: '2001:db8::7'}", "media.publicIP", "media.listen should have"},
		{"two public IPs of a family", account + "media: {publicIP: [203.0.113.7, 203.0.113.8]}", "media.publicIP", "one address of a family"},
		{"RTP range", account + "media: {rtpPorts: 5000}", "media.rtpPorts", "first-last"},
		{"RTP range backwards", account + "media: {rtpPorts: 30000-20000}", "media.rtpPorts", "first-last"},
		{"browsers' port in it", account + "media: {webrtcUDP: 20002}", "media.webrtcUDP", "overlap"},
		{"SIP port in it", account + "sip: {listen: ['udp://127.0.0.1:20004']}", "sip.listen[0]", "overlap"},
		{"database", account + "database: {url: 'mysql://x'}", "database.url", "sqlite:FILE or postgres://"},
		{"limit", account + "limits: {participantsPerSession: 0}", "limits.participantsPerSession", "at least 1"},
		{"session lifetime", account + "limits: {sessionLifetime: 0s}", "limits.sessionLifetime", "longer than 0"},
		{"no account", "", "accounts", "at least one"},
		{"no user name", "accounts: [{id: a, password: p}]", "accounts[0].username", "should be set"},
		{"no password", "accounts: [{id: a, username: u}]", "accounts[0]", "password or passwordHash"},
		{"two of one name", "accounts: [{id: a, username: u, password: p}, {id: a, username: v, password: p}]", "accounts[1].id", "twice"},
		{"callback secret", "accounts: [{id: a, username: u, password: p, callbackSecret: x}]", "accounts[0].callbackSecret", "whsec_"},
		{"callback secret that is no base64", "accounts: [{id: a, username: u, password: p, callbackSecret: 'whsec_%'}]", "accounts[0].callbackSecret", "base64"},
		{"password hash", "accounts: [{id: a, username: u, passwordHash: x}]", "accounts[0].passwordHash", "argon2id"},
		{"trunk without a name", account + "trunks: [{account: a}]", "trunks[0].name", "name"},
		{"trunk of nobody", account + "trunks: [{name: t, account: b, uri: 'sip:x'}]", "trunks[0].account", "accounts"},
		{"trunk to nowhere", account + "trunks: [{name: t, account: a, uri: 'tel:1'}]", "trunks[0].uri", "SIP URI"},
		{"network", account + trunk + "allow: [x]}]", "trunks[0].allow[0]", "network"},
		{"codec", account + trunk + "codecs: [GSM]}]", "trunks[0].codecs[0]", "PCMU"},
		{"codecs that we can't speak", account + trunk + "codecs: [GSM]}]", "trunks[0].codecs", "PCMU, PCMA, G722 or opus"},
		{"too complex an encoder", account + "media: {opusComplexity: 11}", "media.opusComplexity", "0, or 1 to 10"},
		{"a bitrate for video", account + "media: {opusBitrate: 510000}", "media.opusBitrate", "6000 to 128000"},
		{"loss that nothing helps", account + "media: {opusExpectedLoss: 31}", "media.opusExpectedLoss", "0 to 30"},
		{"registration of nobody", account + trunk + "register: true}]", "trunks[0].register", "needs username"},
		{"probing too often", account + trunk + "probe: 10ms}]", "trunks[0].probe", "at least 1s"},
		{"half of a trunk's TLS", account + trunk + "tlsCert: x}]", "trunks[0].tlsCert", "both"},
		{"TLS without a certificate", account + "sip: {listen: ['tls://127.0.0.1:0']}", "sip.tlsCert", "missing"},
		{"half of SIP's TLS", account + "sip: {tlsCert: x}", "sip.tlsKey", "both"},
		{"SRTP", account + trunk + "srtp: yes}]", "trunks[0].srtp", "required"},
		{"keys", account + trunk + "dtmf: tones}]", "trunks[0].dtmf", "rfc4733 or info"},
		{"session interval", account + "sip: {sessionExpires: 30s}", "sip.sessionExpires", "at least 90s"},
		{"inbound secret", account + trunk + "inboundUsername: u}]", "trunks[0].inboundPassword", "missing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := gateway.Load([]byte(c.text))
			require.Error(t, err)
			require.Contains(t, err.Error(), c.key)
			require.Contains(t, err.Error(), c.should)
			require.NotContains(t, err.Error(), "\n", "one line")
		})
	}
}

func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	cfg, err := gateway.Load([]byte(strings.ReplaceAll(goodFile, "api-pass", "hunter2")))
	require.NoError(t, err)
	require.Equal(t, gateway.Secret("hunter2"), cfg.Accounts[0].Password)
	text, err := json.Marshal(cfg)
	require.NoError(t, err)
	for _, shown := range []string{string(text), fmt.Sprintf("%v %+v %#v %s", cfg, cfg, cfg, cfg.Accounts[0].Password)} {
		require.NotContains(t, shown, "hunter2")
		require.NotContains(t, shown, "whsec_")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(goodFile))
	f.Add([]byte("http: {listen: [1]}"))
	f.Add([]byte("accounts: [{id: {}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, err := gateway.Load(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("not one line: %q", err)
			}
			return
		}
		if err := cfg.Check(); err != nil {
			t.Fatalf("accepted, and then not: %v", err)
		}
	})
}
