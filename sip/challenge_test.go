package sip

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
	"github.com/stretchr/testify/require"

	"tandem/trunks"
)

var candidates = []*trunks.Trunk{{Name: "pbx", InboundUsername: "pbx", InboundPassword: "secret"}}

// shows renders the answer to a challenge.
func shows(t *testing.T, challenge sip.Header, user, password string, count int, edit func(*digest.Credentials)) *sip.Request {
	t.Helper()
	asked, err := digest.ParseChallenge(challenge.Value())
	require.NoError(t, err)
	made, err := digest.Digest(asked, digest.Options{Method: "INVITE", URI: "sip:x", Username: user, Password: password, Count: count})
	require.NoError(t, err)
	if edit != nil {
		edit(made)
	}
	return parse(t, "<sip:a@x>;tag=1", "Authorization: "+made.String())
}

func TestChallenger(t *testing.T) {
	for i, algorithm := range []string{"MD5", "SHA-256"} {
		t.Run(algorithm, func(t *testing.T) {
			now := time.Unix(1000, 0)
			c := newChallenger("tandem", nil)
			c.now = func() time.Time { return now }
			req := parse(t, "<sip:a@x>;tag=1")
			_, what := c.check(req, candidates)
			require.Equal(t, proofNone, what)
			asked := c.ask(req, false)
			require.Len(t, asked, 2)
			challenge := asked[i]
			require.Contains(t, challenge.Value(), "algorithm="+algorithm)
			require.NotContains(t, challenge.Value(), "stale=true")
			require.Contains(t, c.ask(req, true)[i].Value(), "stale=true")

			who, what := c.check(shows(t, challenge, "pbx", "secret", 1, nil), candidates)
			require.Equal(t, proofRight, what)
			require.Same(t, candidates[0], who)
			_, what = c.check(shows(t, challenge, "pbx", "secret", 1, nil), candidates)
			require.Equal(t, proofWrong, what, "a nonce count that was used is a replay")
			_, what = c.check(shows(t, challenge, "pbx", "secret", 2, nil), candidates)
			require.Equal(t, proofRight, what, "the next count is not")

			for name, wrong := range map[string]*sip.Request{
				"password": shows(t, challenge, "pbx", "guess", 3, nil),
				"user":     shows(t, challenge, "root", "secret", 3, nil),
				"name":     shows(t, challenge, "pbx", "secret", 3, func(d *digest.Credentials) { d.Username = "root" }),
				"nonce":    shows(t, challenge, "pbx", "secret", 3, func(d *digest.Credentials) { d.Nonce = "AAAA" }),
				"response": shows(t, challenge, "pbx", "secret", 3, func(d *digest.Credentials) { d.Response = "" }),
				"cnonce":   shows(t, challenge, "pbx", "secret", 3, func(d *digest.Credentials) { d.Cnonce = "" }),
				"count":    shows(t, challenge, "pbx", "secret", 3, func(d *digest.Credentials) { d.Nc = 4 }),
				"hash":     shows(t, challenge, "pbx", "secret", 3, func(d *digest.Credentials) { d.Algorithm = "SHA-512-256" }),
				"qop":      shows(t, challenge, "pbx", "secret", 3, func(d *digest.Credentials) { d.QOP = "auth-int" }),
			} {
				_, what = c.check(wrong, candidates)
				require.Equal(t, proofWrong, what, name)
			}
			elsewhere := sip.NewHeader("WWW-Authenticate", strings.Replace(challenge.Value(), `realm="tandem"`, `realm="elsewhere"`, 1))
			_, what = c.check(shows(t, elsewhere, "pbx", "secret", 3, nil), candidates)
			require.Equal(t, proofNone, what, "another realm is none of ours, whoever has the same password there")
			now = now.Add(nonceLifetime)
			_, what = c.check(shows(t, challenge, "pbx", "secret", 3, nil), candidates)
			require.Equal(t, proofStale, what, "an expired nonce is stale, not wrong")
		})
	}
}

// Whoever has the password and a nonce of another call is told so, and not to ask its user again (RFC 7616 §3.3).
func TestStaleNonceIsCalledStale(t *testing.T) {
	t.Parallel()
	trunk := office
	trunk.InboundUsername, trunk.InboundPassword = "pbx", "secret"
	g := startAgent(t, Config{Trunks: []Trunk{trunk}}, newCallers(nil))
	p := newRawPeer(t, g)
	first := p.ask(p.request("INVITE", "one"))
	require.Contains(t, first, "SIP/2.0 401 ")
	require.NotContains(t, first, "stale")
	asked, err := digest.ParseChallenge(headerOf(first, "WWW-Authenticate"))
	require.NoError(t, err)
	made, err := digest.Digest(asked, digest.Options{Method: "INVITE", URI: "sip:x", Username: "pbx", Password: "secret", Count: 1})
	require.NoError(t, err)
	again := p.ask(p.request("INVITE", "two", "Call-ID: raw", "Call-ID: raw2", "Max-Forwards: 70", "Max-Forwards: 70\r\nAuthorization: "+made.String()))
	require.Contains(t, again, "SIP/2.0 401 ")
	require.Contains(t, headerOf(again, "WWW-Authenticate"), "stale=true")
	g.idle(t)
}

// TestAnyNodeChecksNonces: two nodes with one key, and one with another.
func TestAnyNodeChecksNonces(t *testing.T) {
	key := []byte("the key that the nodes of a cluster share")
	here, there, elsewhere := newChallenger("tandem", key), newChallenger("tandem", key), newChallenger("tandem", []byte("another"))
	req := parse(t, "<sip:a@x>;tag=1")
	reply := shows(t, here.ask(req, false)[0], "pbx", "secret", 1, nil)
	_, what := there.check(reply, candidates)
	require.Equal(t, proofRight, what)
	_, what = elsewhere.check(reply, candidates)
	require.Equal(t, proofStale, what)
	other := parse(t, "<sip:a@x>;tag=1", "Authorization: "+reply.GetHeader("Authorization").Value())
	callID := sip.CallIDHeader("another call")
	other.ReplaceHeader(&callID)
	_, what = there.check(other, candidates)
	require.Equal(t, proofStale, what, "a nonce that was overheard opens no other call")
}

// TestNonceCountsAreForgotten keeps the memory of nonces bounded and takes none twice.
func TestNonceCountsAreForgotten(t *testing.T) {
	now := time.Unix(1000, 0)
	c := newChallenger("tandem", nil)
	c.now = func() time.Time { return now }
	require.True(t, c.first("a", 1))
	now = now.Add(nonceLifetime)
	require.False(t, c.first("a", 1), "it may still be in its time")
	now = now.Add(nonceLifetime)
	require.True(t, c.first("b", 1))
	now = now.Add(nonceLifetime)
	require.True(t, c.first("b", 2))
	require.Len(t, c.counts, 1)
	for i := range maxNonces {
		c.counts[strconv.Itoa(i)] = 1
	}
	require.False(t, c.first("one too many", 1))
}
