package sip

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
)

func TestCauseOfEveryStatus(t *testing.T) {
	special := map[int]dialogs.Reason{
		486: dialogs.FarEndBusy, 600: dialogs.FarEndBusy,
		403: dialogs.FarEndDeclined, 603: dialogs.FarEndDeclined,
		404: dialogs.FarEndNotFound, 410: dialogs.FarEndNotFound, 484: dialogs.FarEndNotFound, 604: dialogs.FarEndNotFound,
	}
	for status := 300; status <= 699; status++ {
		want, ok := special[status]
		if !ok {
			want = dialogs.Error
		}
		cause := causeOf(status, "Some Words")
		require.Equal(t, dialogs.Cause{Reason: want, Details: fmt.Sprintf("%d Some Words", status), SIPCode: status}, cause)
		require.NotEmpty(t, reasonPhrase(status))
		require.Equal(t, status, refusal(status))
		if ok { // and back: the refusal has the same meaning
			require.Equal(t, want, reasonOf(statusOfReason(want)))
		}
	}
	require.Equal(t, "480 Temporarily Unavailable", causeOf(480, "").Details)
	require.Equal(t, "486 BusyX", causeOf(486, "Busy\r\n\x00X").Details)
	for _, status := range []int{0, 100, 200, 299, 700, -1} {
		require.Equal(t, 603, refusal(status))
	}
}

func TestStatusOfEveryCode(t *testing.T) {
	want := map[errs.Code]int{
		errs.Internal: 500, errs.Invalid: 400, errs.Unauthenticated: 401, errs.Forbidden: 403, errs.NotFound: 404,
		errs.Conflict: 486, errs.TooMany: 503, errs.Unavailable: 503,
	}
	for _, code := range errs.Codes() {
		require.Equal(t, want[code], statusOf(errs.New(code, "x")), code.String())
	}
	require.Equal(t, 500, statusOf(fmt.Errorf("plain")))
}

func TestTargetOfACall(t *testing.T) {
	a, err := readTrunk(&Trunk{Name: "a", URI: "sip:a.example:5070;transport=tcp"})
	require.NoError(t, err)
	for _, c := range []struct{ to, target, route string }{
		{"+15550100", "sip:+15550100@a.example:5070;transport=tcp", ""},
		{"sip:bob@a.example:5070", "sip:bob@a.example:5070", ""},
		{"sip:bob@b.example;x=y?Subject=z", "sip:bob@b.example;x=y", "sip:a.example:5070;transport=tcp;lr"},
	} {
		target, route, err := a.target(c.to)
		require.NoError(t, err)
		require.Equal(t, c.target, target.String())
		if c.route == "" {
			require.Nil(t, route)
		} else {
			require.Equal(t, c.route, route.String())
		}
	}
	_, _, err = a.target("sip:")
	require.Equal(t, errs.Invalid, errs.CodeOf(err))
}

// parse reads a request of the given extra header lines.
func parse(t *testing.T, from string, lines ...string) *sip.Request {
	t.Helper()
	text := "INVITE sip:+15550100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: " + from +
		"\r\nTo: <sip:+15550100@127.0.0.1>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n" + strings.Join(append(lines, ""), "\r\n") + "Content-Length: 0\r\n\r\n"
	msg, err := sip.ParseMessage([]byte(text))
	require.NoError(t, err)
	return msg.(*sip.Request)
}

func TestCallerOf(t *testing.T) {
	pai, rpid, plain := &trunk{Trunk: Trunk{Identity: IdentityPAI}}, &trunk{Trunk: Trunk{Identity: IdentityRPID}}, &trunk{Trunk: Trunk{Identity: IdentityFrom}}
	const from = "<sip:+15550101@x>;tag=1"
	for _, c := range []struct {
		name  string
		trunk *trunk
		from  string
		lines []string
		want  string
	}{
		{"from", nil, from, nil, "+15550101"},
		{"a stranger asserts nothing", nil, from, []string{"P-Asserted-Identity: <sip:+15550102@x>"}, "+15550101"},
		{"asserted", pai, from, []string{"P-Asserted-Identity: <sip:+15550102@x>"}, "+15550102"},
		{"asserted as tel, after a name", pai, from, []string{`P-Asserted-Identity: "a, b" <sip:alice@x>, <tel:+1-555-0102>`}, "+15550102"},
		{"asserted but not trusted for it", plain, from, []string{"P-Asserted-Identity: <sip:+15550102@x>"}, "+15550101"},
		{"remote party", rpid, from, []string{"Remote-Party-ID: <sip:+15550103@x>;party=calling;privacy=off"}, "+15550103"},
		{"private remote party", rpid, from, []string{"Remote-Party-ID: <sip:+15550103@x>;party=calling;privacy=full"}, dialogs.FromRestricted},
		{"privacy", pai, from, []string{"P-Asserted-Identity: <sip:+15550102@x>", "Privacy: user;id"}, dialogs.FromRestricted},
		{"no privacy", pai, from, []string{"Privacy: none"}, "+15550101"},
		{"anonymous", nil, "<sip:anonymous@anonymous.invalid>;tag=1", nil, dialogs.FromRestricted},
		{"a name", nil, "<sip:alice@x>;tag=1", nil, dialogs.FromUnknown},
		{"a national number", nil, "<sip:030123@x>;tag=1", nil, dialogs.FromUnknown},
		{"parameters in the user", nil, "<sip:+1(555)010.1;phone-context=x@x;user=phone>;tag=1", nil, "+15550101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, callerOf(parse(t, c.from, c.lines...), c.trunk))
		})
	}
}

func TestWriteCaller(t *testing.T) {
	for _, c := range []struct {
		identity, number string
		want             string
	}{
		{IdentityPAI, "+15550101", "From: <sip:+15550101@d>;tag=t\r\nP-Asserted-Identity: <sip:+15550101@d>\r\n"},
		{IdentityRPID, "+15550101", "From: <sip:+15550101@d>;tag=t\r\nRemote-Party-ID: <sip:+15550101@d>;party=calling;privacy=off\r\n"},
		{IdentityFrom, "+15550101", "From: <sip:+15550101@d>;tag=t\r\n"},
		{IdentityPAI, dialogs.FromRestricted, "From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=t\r\nPrivacy: id\r\n"},
		{IdentityPAI, dialogs.FromUnknown, "From: <sip:unavailable@unknown.invalid>;tag=t\r\n"},
	} {
		req := sip.NewRequest(sip.INVITE, sip.Uri{Scheme: "sip", Host: "h"})
		writeCaller(req, &trunk{Trunk: Trunk{Identity: c.identity}}, c.number, "d", "t")
		require.Equal(t, "INVITE sip:h SIP/2.0\r\n"+c.want+"\r\n", req.String())
	}
}

func TestCredentialsAnswerOncePerNonce(t *testing.T) {
	req := parse(t, "<sip:a@x>;tag=1")
	challenge := func(nonce, realm string, stale bool) *sip.Response {
		res := sip.NewResponseFromRequest(req, 401, "Unauthorized", nil)
		made := digest.Challenge{Realm: realm, Nonce: nonce, Stale: stale, Algorithm: "MD5", QOP: []string{"auth-int", " auth"}}
		res.AppendHeader(sip.NewHeader("WWW-Authenticate", "Bearer realm=\"x\""))
		res.AppendHeader(sip.NewHeader("WWW-Authenticate", made.String()))
		return res
	}
	c := &credentials{username: "u", password: "p"}
	header, err := c.answer(req, challenge("1", "r", false))
	require.NoError(t, err)
	require.Equal(t, "Authorization", header.Name())
	require.NotContains(t, header.Value(), `"p"`)
	for name, res := range map[string]*sip.Response{
		"the same nonce":       challenge("1", "r", false),
		"the same, stale":      challenge("1", "r", true),
		"another, not stale":   challenge("2", "r", false),
		"another realm, stale": challenge("2", "s", true),
	} {
		_, err := c.answer(req, res)
		require.Error(t, err, name)
	}
	_, err = c.answer(req, challenge("2", "r", true))
	require.NoError(t, err)
	_, err = c.answer(req, challenge("3", "r", true))
	require.NoError(t, err)
	_, err = c.answer(req, challenge("4", "r", true))
	require.Error(t, err, "again and again")
	_, err = (&credentials{}).answer(req, challenge("1", "r", false))
	require.Error(t, err, "no password")
}

// TestCredentialsChoose: of several challenges the strongest that is the trunk's is answered, and qop only as auth.
func TestCredentialsChoose(t *testing.T) {
	req := parse(t, "<sip:a@x>;tag=1")
	const (
		md5    = `Digest realm="r", nonce="m", qop="auth", algorithm=MD5`
		sha    = `Digest realm="r", nonce="s", qop="auth,auth-int", algorithm=SHA-256`
		strong = `Digest realm="r", nonce="t", qop="auth", algorithm=SHA-512-256`
		whole  = `Digest realm="r", nonce="w", qop="auth-int", algorithm=SHA-256`
		old    = `Digest realm="r", nonce="o"`
		evil   = `Digest realm="evil", nonce="e", qop="auth", algorithm=SHA-256`
	)
	for name, c := range map[string]struct {
		offered []string
		want    string // of the answer; empty: there is none
	}{
		"one":                     {[]string{md5}, `nonce="m"`},
		"SHA-256 after MD5":       {[]string{md5, sha}, `nonce="s"`},
		"SHA-256 before MD5":      {[]string{sha, md5}, `nonce="s"`},
		"SHA-512/256":             {[]string{md5, strong, sha}, `nonce="t"`},
		"no qop":                  {[]string{old}, `nonce="o"`},
		"auth-int alone":          {[]string{whole}, ""},
		"auth-int beside auth":    {[]string{whole, md5}, `nonce="m"`},
		"another realm beside it": {[]string{evil, md5}, `nonce="m"`},
		"another realm":           {[]string{evil}, ""},
		"unknown algorithm":       {[]string{`Digest realm="r", nonce="x", algorithm=MD4`}, ""},
		"broken":                  {[]string{`Digest realm="r`, "Digest", ""}, ""},
		"none":                    {nil, ""},
	} {
		res := sip.NewResponseFromRequest(req, 401, "Unauthorized", nil)
		for _, value := range c.offered {
			res.AppendHeader(sip.NewHeader("WWW-Authenticate", value))
		}
		made, err := (&credentials{username: "u", password: "p", realm: "r"}).answer(req, res)
		if c.want == "" {
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		require.Contains(t, made.Value(), c.want, name)
		require.Contains(t, made.Value(), `realm="r"`, name)
		require.NotContains(t, made.Value(), "auth-int", name)
	}
}

// TestCredentialsStayAtHome: the request went to the trunk and the challenge came from it, or there is no answer.
func TestCredentialsStayAtHome(t *testing.T) {
	home := &trunk{Trunk: Trunk{Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}}
	for _, c := range []struct {
		to, from string
		answered bool
	}{
		{"192.0.2.1:5060", "192.0.2.1:5060", true},
		{"192.0.2.1:5060", "192.0.2.1:40000", true},
		{"192.0.2.1:5060", "[::ffff:192.0.2.1]:5060", true},
		{"192.0.2.1:5060", "198.51.100.7:5060", true},
		{"198.51.100.7:5060", "192.0.2.1:5060", true},
		{"192.0.2.1:5060", "203.0.113.1:5060", false},
		{"203.0.113.1:5060", "192.0.2.1:5060", false},
		{"203.0.113.1:5060", "203.0.113.1:5060", false},
		{"192.0.2.1:5060", "", false},
	} {
		req := parse(t, "<sip:a@x>;tag=1")
		req.SetDestination(c.to)
		res := sip.NewResponseFromRequest(req, 407, "Proxy Authentication Required", nil)
		res.SetSource(c.from)
		res.AppendHeader(sip.NewHeader("Proxy-Authenticate", `Digest realm="r", nonce="n"`))
		creds := &credentials{username: "u", password: "p", own: ownedBy(home, []netip.Addr{netip.MustParseAddr("192.0.2.1")})}
		_, err := creds.answer(req, res)
		require.Equal(t, c.answered, err == nil, "%s → %s: %v", c.from, c.to, err)
	}
}

func TestSecretIsNotShown(t *testing.T) {
	trunk := Trunk{Name: "a", Password: "hunter2", InboundPassword: "hunter3"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "trunk", trunk, "password", trunk.Password)
	text, err := json.Marshal(trunk)
	require.NoError(t, err)
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s", trunk, trunk, trunk, trunk.Password), log.String(), string(text)} {
		require.NotContains(t, shown, "hunter")
	}
}

func TestConfigIsJudged(t *testing.T) {
	listen := []string{"udp://127.0.0.1:0"}
	for _, c := range []struct {
		key string
		cfg Config
	}{
		{"sip.listen", Config{}},
		{"sip.listen", Config{Listen: []string{"tls://127.0.0.1:0"}}},
		{"sip.listen", Config{Listen: []string{"udp://nowhere.invalid:1"}}},
		{"sip.tokenCalls", Config{Listen: listen, TokenCalls: "all"}},
		{"sip.advertise", Config{Listen: listen, Advertise: "a:b:c"}},
		{"sip.advertise", Config{Listen: listen, Advertise: "a:port"}},
		{"trunks[0].name", Config{Listen: listen, Trunks: []Trunk{{}}}},
		{"trunks[0].uri", Config{Listen: listen, Trunks: []Trunk{{Name: "a", URI: "http://x"}}}},
		{"trunks[0].uri", Config{Listen: listen, Trunks: []Trunk{{Name: "a", URI: "sip:x;transport=sctp"}}}},
		{"trunks[0].identity", Config{Listen: listen, Trunks: []Trunk{{Name: "a", Identity: "x"}}}},
		{"trunks[0].inboundPassword", Config{Listen: listen, Trunks: []Trunk{{Name: "a", InboundUsername: "x"}}}},
	} {
		_, err := Listen(c.cfg, nil, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, c.key)
	}
	a, err := Listen(Config{Listen: listen, Advertise: "198.51.100.1"}, nil, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	host, port := a.address("udp", "192.0.2.1:5060")
	require.Equal(t, "198.51.100.1", host)
	require.Equal(t, int(a.listeners[0].addr.Port()), port)
	require.NoError(t, a.Close())
}

func TestListenerFitsTheFarEnd(t *testing.T) {
	a := &Agent{}
	for _, l := range []string{"udp 127.0.0.1:5060", "tcp 127.0.0.1:5060", "udp 192.0.2.1:5061", "udp [2001:db8::1]:5062"} {
		network, addr, _ := strings.Cut(l, " ")
		a.listeners = append(a.listeners, &listener{network: network, addr: netip.MustParseAddrPort(addr)})
	}
	for _, c := range []struct {
		network, remote string
		want            uint16
	}{
		{"udp", "127.0.0.2:9", 5060},
		{"udp", "198.51.100.1:9", 5061},
		{"udp", "[2001:db8::2]:9", 5062},
		{"udp", "carrier.example:9", 5060},
		{"udp", "[::1]:9", 5060},
		{"tcp", "198.51.100.1:9", 5060},
	} {
		require.Equal(t, c.want, a.own(c.network, c.remote).addr.Port(), "%+v", c)
	}
	require.Nil(t, a.own("tls", "127.0.0.1:9"))
	all := &listener{addr: netip.MustParseAddrPort("[::]:5060")}
	require.True(t, all.reaches(netip.MustParseAddr("192.0.2.1")) && all.reaches(netip.MustParseAddr("::1")))
}
