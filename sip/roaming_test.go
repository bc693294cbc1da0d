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

// logIn calls, is asked for a password, calls again with it, and returns what is said to that beyond 100.
func (p *talker) logIn(username, password, sdp string, headers ...string) string {
	p.t.Helper()
	p.send("INVITE", sdp, headers...)
	refusal := p.await("SIP/2.0 4")
	require.Contains(p.t, refusal, "SIP/2.0 401 ")
	p.refused()
	p.send("INVITE", sdp, append([]string{credentialsFor(p.t, refusal, username, password)}, headers...)...)
	for {
		if text := p.await("SIP/2.0 "); !strings.HasPrefix(text, "SIP/2.0 100 ") {
			return text
		}
	}
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
		require.Contains(t, p.logIn("pbx", "secret", c.sdp), "SIP/2.0 "+c.want+" ")
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

// TestUsernameTellsWhichTrunk: of the trunks that may come from an address, it is the one whose password the caller has,
// wherever that one stands among them.
func TestUsernameTellsWhichTrunk(t *testing.T) {
	t.Parallel()
	network := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	first := Trunk{Name: "first", Account: "1", Allow: network, InboundUsername: "first", InboundPassword: "one"}
	second := Trunk{Name: "second", Account: "2", Allow: network, InboundUsername: "second", InboundPassword: "two", PublicIP: "203.0.113.7"}
	wide := Trunk{Name: "wide", Account: "3", Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, InboundUsername: "wide", InboundPassword: "three"}
	far := Trunk{Name: "far", Account: "4", Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, InboundUsername: "far", InboundPassword: "four"}
	in := newCallers(nil)
	g := startAgent(t, Config{Trunks: []Trunk{first, second, wide, far, roaming}}, in)
	for _, c := range []struct{ username, password, trunk, account string }{
		{"first", "one", "first", "1"},
		{"second", "two", "second", "2"},
		{"wide", "three", "wide", "3"},
		{"pbx", "secret", "roaming", "1"},
		{"second", "one", "", ""},
		{"far", "four", "", ""}, // right, but from nowhere that it may come from
	} {
		t.Run(c.username+" with "+c.password, func(t *testing.T) {
			before := len(in.calls())
			p := newTalker(t, g)
			answer := p.logIn(c.username, c.password, talkerSDP)
			if c.trunk == "" {
				require.Contains(t, answer, "SIP/2.0 401 ")
				p.refused()
				require.Len(t, in.calls(), before)
				return
			}
			require.Contains(t, answer, "SIP/2.0 180 ")
			require.Equal(t, c.trunk == "second", strings.Contains(headerOf(answer, "Contact"), "@203.0.113.7:"))
			leg := in.leg(t)
			leg.Answer()
			p.to = headerOf(p.await("SIP/2.0 200 "), "To")
			p.send("ACK", "")
			await(t, leg, dialogs.LegAnswered)
			p.bye(leg)
			seen := in.calls()[before]
			require.Equal(t, c.trunk, seen.Trunk)
			require.Equal(t, c.account, seen.Account)
		})
	}
	g.idle(t)
}
