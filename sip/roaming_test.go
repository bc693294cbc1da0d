package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/icholy/digest"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/media"
	"tandem/trunks"
)

// roaming is a trunk that is known by its username alone.
var roaming = Trunk{Name: "roaming", Account: "1", InboundUsername: "pbx", InboundPassword: "secret"}

// credentialsFor renders the answer to the first challenge of a 401.
func credentialsFor(t *testing.T, refusal, username, password string) string {
	t.Helper()
	asked, err := digest.ParseChallenge(headerOf(refusal, "WWW-Authenticate"))
	require.NoError(t, err)
	made, err := digest.Digest(asked, digest.Options{Method: "INVITE", URI: "sip:x", Username: username, Password: password, Count: 1})
	require.NoError(t, err)
	return "Authorization: " + made.String()
}

// logIn calls, is asked for a password, and calls again with it.
func (p *talker) logIn(username, password, sdp string, headers ...string) {
	p.t.Helper()
	p.send("INVITE", sdp, headers...)
	refusal := p.await("SIP/2.0 4")
	require.Contains(p.t, refusal, "SIP/2.0 401 ")
	p.refused()
	p.send("INVITE", sdp, append([]string{credentialsFor(p.t, refusal, username, password)}, headers...)...)
}

// TestCallerIsKnownByItsPassword: whoever comes from an address that no trunk names, and answers the challenge, has the
// trunk's terms and addresses. Before that nothing is judged by them, and nothing is spent.
func TestCallerIsKnownByItsPassword(t *testing.T) {
	t.Parallel()
	secureSDP := strings.Replace(talkerSDP, "RTP/AVP", "RTP/SAVP", 1) +
		"a=crypto:1 " + media.SRTPSuites()[0] + " inline:" + keyFor(t, media.SRTPSuites()[0]) + "\r\n"
	const mine = "203.0.113.7"
	for _, c := range []struct {
		name, sdp, userToUser string
		edit                  func(*Trunk)
	}{
		{"as it is", talkerSDP, "", func(*Trunk) {}},
		{"with data for the application", talkerSDP, "cafe;encoding=hex", func(*Trunk) {}},
		{"with data in a list", talkerSDP, "cafe;encoding=hex;purpose=call-center,a.b", func(*Trunk) {}},
		{"with SRTP", secureSDP, "", func(t *Trunk) { t.SRTP = trunks.SRTPRequired }},
		{"on another side of a NAT", talkerSDP, "", func(t *Trunk) { t.PublicIP = mine }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			trunk := roaming
			c.edit(&trunk)
			in := newCallers(nil)
			g := startAgent(t, Config{Trunks: []Trunk{trunk}}, in)
			p := newTalker(t, g)
			var headers []string
			if c.userToUser != "" {
				headers = []string{"User-to-User: " + c.userToUser}
			}
			p.send("INVITE", c.sdp, headers...)
			refusal := p.await("SIP/2.0 ")
			require.Contains(t, refusal, "SIP/2.0 401 ")
			p.refused()
			open, resting := g.ports.InUse()
			require.Zero(t, open+resting, "a media port was spent")
			require.Empty(t, in.calls())
			require.Zero(t, g.GuardStats().Failures, "the first round of a challenge is none")

			p.send("INVITE", c.sdp, append([]string{credentialsFor(t, refusal, "pbx", "secret")}, headers...)...)
			ringing := p.await("SIP/2.0 180 ")
			leg := in.leg(t)
			leg.Answer()
			ok := p.await("SIP/2.0 200 ")
			p.to = headerOf(ok, "To")
			p.send("ACK", "")
			agreed := await(t, leg, dialogs.LegMedia)
			require.Equal(t, trunk.SRTP == trunks.SRTPRequired, agreed.Media.Inbound != nil)
			await(t, leg, dialogs.LegAnswered)
			at := "127.0.0.1"
			if trunk.PublicIP != "" {
				at = trunk.PublicIP
			}
			require.Contains(t, headerOf(ringing, "Contact"), "@"+at+":")
			require.Contains(t, headerOf(ok, "Contact"), "@"+at+":")
			require.Contains(t, ok, "\r\nc=IN IP4 "+at+"\r\n")
			p.bye(leg)
			require.Len(t, in.calls(), 1)
			seen := in.calls()[0]
			seen.Source = netip.AddrPort{}
			require.Equal(t, dialogs.Incoming{Trunk: "roaming", Account: "1", To: "+15550100", From: "+15550123", UserToUser: c.userToUser}, seen)
			g.idle(t)
		})
	}
}

// TestOfferIsJudgedByTheTrunksTerms: where a password tells which trunk it is, what that trunk does not take is refused
// afterwards, and a caller with a token and no trunk has no SRTP.
func TestOfferIsJudgedByTheTrunksTerms(t *testing.T) {
	t.Parallel()
	trunk := roaming
	trunk.SRTP = trunks.SRTPRequired
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{trunk}}, in)
	for i, c := range []struct {
		sdp  string
		want string
	}{
		{talkerSDP, "488"},
		{"hello", "400"},
	} {
		p := newTalker(t, g)
		p.id = fmt.Sprint(p.id, "-", i)
		p.logIn("pbx", "secret", c.sdp)
		require.Contains(t, p.answer(), "SIP/2.0 "+c.want+" ")
		p.refused()
	}
	p := newTalker(t, g)
	p.send("INVITE", strings.Replace(talkerSDP, "RTP/AVP", "RTP/SAVP", 1), "User-to-User: a.b.c;encoding=jwt")
	require.Contains(t, p.answer(), "SIP/2.0 488 ")
	p.refused()
	require.Empty(t, in.calls())
	require.Zero(t, g.GuardStats().Failures)
	g.idle(t)
}
