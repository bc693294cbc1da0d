package sip

import (
	"net/netip"
	"testing"

	"github.com/icholy/digest"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
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

// TestCallerIsKnownByItsPassword: whoever comes from an address that no trunk names, and answers the challenge, comes over
// the trunk, whatever it has for the application. Before that nothing is spent.
func TestCallerIsKnownByItsPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, userToUser string
	}{
		{"as it is", ""},
		{"with data for the application", "cafe;encoding=hex"},
		{"with data in a list", "cafe;encoding=hex;purpose=call-center,a.b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := newCallers(nil)
			g := startAgent(t, Config{Trunks: []Trunk{roaming}}, in)
			p := newTalker(t, g)
			var headers []string
			if c.userToUser != "" {
				headers = []string{"User-to-User: " + c.userToUser}
			}
			p.send("INVITE", talkerSDP, headers...)
			refusal := p.await("SIP/2.0 ")
			require.Contains(t, refusal, "SIP/2.0 401 ")
			p.refused()
			open, resting := g.ports.InUse()
			require.Zero(t, open+resting, "a media port was spent")
			require.Empty(t, in.calls())
			require.Zero(t, g.GuardStats().Failures, "the first round of a challenge is none")

			p.send("INVITE", talkerSDP, append([]string{credentialsFor(t, refusal, "pbx", "secret")}, headers...)...)
			p.await("SIP/2.0 180 ")
			leg := in.leg(t)
			leg.Answer()
			ok := p.await("SIP/2.0 200 ")
			p.to = headerOf(ok, "To")
			p.send("ACK", "")
			await(t, leg, dialogs.LegAnswered)
			p.bye(leg)
			require.Len(t, in.calls(), 1)
			seen := in.calls()[0]
			seen.Source = netip.AddrPort{}
			require.Equal(t, dialogs.Incoming{Trunk: "roaming", Account: "1", To: "+15550100", From: "+15550123", UserToUser: c.userToUser}, seen)
			g.idle(t)
		})
	}
}
