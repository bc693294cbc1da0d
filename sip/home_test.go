package sip

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/trunks"
)

// asksInCarrier is a challenge in the realm of the trunks of these tests.
const asksInCarrier = `WWW-Authenticate: Digest realm="carrier", nonce="n", qop="auth", algorithm=MD5`

// TestOwnNetworks: what a trunk allows to call in is its own only where it is no more than a site has.
func TestOwnNetworks(t *testing.T) {
	for _, c := range []struct {
		allow, addr string
		own         bool
	}{
		{"198.51.100.7/32", "198.51.100.7", true},
		{"198.51.100.7/32", "::ffff:198.51.100.7", true},
		{"198.51.100.7/32", "198.51.100.8", false},
		{"198.51.100.0/24", "198.51.100.8", true},
		{"198.51.100.0/23", "198.51.100.8", false},
		{"10.0.0.0/8", "10.1.2.3", false},
		{"0.0.0.0/0", "198.51.100.8", false},
		{"2001:db8::7/128", "2001:db8::7", true},
		{"2001:db8::/64", "2001:db8::8", true},
		{"2001:db8::/63", "2001:db8::8", false},
		{"::/0", "2001:db8::8", false},
		{"::/0", "198.51.100.8", false},
	} {
		home := &trunk{Trunk: Trunk{Allow: []netip.Prefix{netip.MustParsePrefix(c.allow)}}}
		require.Equal(t, c.own, ownedBy(home, nil)(netip.MustParseAddr(c.addr)), "%+v", c)
		require.True(t, ownedBy(home, []netip.Addr{netip.MustParseAddr("192.0.2.1")})(netip.MustParseAddr("192.0.2.1")), "a host of its uri")
	}
}

// TestCalleeIsNoTrunkThoughItMayCallIn: a callee that is called by its own address gets no answer to a challenge where
// anybody may call in over the trunk, while the trunk does.
func TestCalleeIsNoTrunkThoughItMayCallIn(t *testing.T) {
	t.Parallel()
	h := newHandCarrier(t)
	trunk := h.trunk()
	trunk.Username, trunk.Password, trunk.Allow = "user", "secret", []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	g := startAgent(t, Config{Trunks: []Trunk{trunk}}, newCallers(nil))
	leg := dial(t, g)
	h.respond(h.invited(), "401 Unauthorized", "", asksInCarrier)
	h.await("ACK ")
	invite := h.invited()
	require.Contains(t, invite, "Authorization: Digest")
	conn, err := net.ListenPacket("udp", "127.0.0.2:0")
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	callee := &handCarrier{t: t, conn: conn, seen: make(map[string]bool), at: "sip:phone@" + conn.LocalAddr().String()}
	h.at = callee.at
	h.respond(invite, "200 OK", talkerSDP)
	require.NotContains(t, callee.await("ACK "), "Authorization:")
	await(t, leg, dialogs.LegAnswered)
	leg.Hangup(0)
	callee.respond(callee.await("BYE "), "401 Unauthorized", "", asksInCarrier)
	require.Equal(t, byThisEnd, end(t, leg).Details)
	g.idle(t)
	requireNoCredentials(t, conn, func(b []byte) (int, error) { return conn.WriteTo(b, callee.from) })
}

// requireNoCredentials reads what came to conn before the answer to an OPTIONS that write sends to the gateway.
func requireNoCredentials(t *testing.T, conn net.PacketConn, write func([]byte) (int, error)) {
	t.Helper()
	at := conn.LocalAddr()
	_, err := write(fmt.Appendf(nil, "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKlast;rport\r\nFrom: <sip:a@x>;tag=1\r\n"+
		"To: <sip:b@x>\r\nCall-ID: last-%s\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n", at, at))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 65536)
	for {
		n, _, err := conn.ReadFrom(buf)
		require.NoError(t, err, "no answer to the OPTIONS")
		require.NotContains(t, string(buf[:n]), "uthorization:")
		if strings.HasPrefix(string(buf[:n]), "SIP/2.0 ") && headerOf(string(buf[:n]), "CSeq") == "1 OPTIONS" {
			return
		}
	}
}

// TestCallerGetsNoPassword: who calls in over a trunk gets an answer to its challenge where it is the trunk: by its
// address, that of uri or a small network of allow, or by its password. A caller from anywhere does not.
func TestCallerGetsNoPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, allow, uri string
		password         bool // it shows the trunk's for callers
		answered         bool
	}{
		{"from a small network", "127.0.0.0/24", "sip:192.0.2.1", false, true},
		{"from a large network", "127.0.0.0/8", "sip:192.0.2.1", false, false},
		{"from anywhere", "0.0.0.0/0", "sip:192.0.2.1", false, false},
		{"from anywhere, where the trunk is nowhere", "0.0.0.0/0", "", false, false},
		{"from the address of uri", "0.0.0.0/0", "sip:127.0.0.1:5999", false, true},
		{"from the address of uri, by name", "0.0.0.0/0", "sip:localhost:5999", false, true},
		{"from anywhere, with a password", "0.0.0.0/0", "sip:192.0.2.1", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			trunk := Trunk{
				Name: "carrier", Account: "1", URI: c.uri, Username: "user", Password: "hunter2", Realm: "carrier",
				Allow: []netip.Prefix{netip.MustParsePrefix(c.allow)},
			}
			if c.password {
				trunk.InboundUsername, trunk.InboundPassword = "pbx", "secret"
			}
			in := newCallers(nil)
			g := startAgent(t, Config{Trunks: []Trunk{trunk}}, in)
			p := newTalker(t, g)
			if c.password {
				require.Contains(t, p.logIn("pbx", "secret", talkerSDP), "SIP/2.0 180 ")
			} else {
				p.send("INVITE", talkerSDP)
			}
			leg := in.leg(t)
			leg.Answer()
			p.to = headerOf(p.await("SIP/2.0 200 "), "To")
			p.send("ACK", "")
			await(t, leg, dialogs.LegAnswered)
			leg.Hangup(0)
			p.write(p.response(p.await("BYE "), "401 Unauthorized", "", asksInCarrier))
			if c.answered {
				again := p.await("BYE ")
				for !strings.Contains(again, "\r\nAuthorization: Digest username=\"user\"") { // the first is repeated when this machine is slow
					again = p.await("BYE ")
				}
				p.respond(again, "200 OK", "")
			}
			require.Equal(t, byThisEnd, end(t, leg).Details)
			g.idle(t)
			if !c.answered {
				conn, ok := p.conn.(*net.UDPConn)
				require.True(t, ok)
				requireNoCredentials(t, conn, conn.Write)
			}
		})
	}
}

// TestRegistrarIsTheTrunk: a call to the Contact that a registrar was given comes from the trunk, whatever the DNS says of
// it now.
func TestRegistrarIsTheTrunk(t *testing.T) {
	t.Parallel()
	registrar := netip.MustParseAddr("192.0.2.9")
	home := &trunk{Trunk: Trunk{Name: "home", Account: "1", Username: "user", URI: "sip:192.0.2.1"}, uri: sip.Uri{Scheme: "sip", Host: "192.0.2.1"}}
	g := startAgent(t, Config{Trunks: []Trunk{home.Trunk}}, newCallers(nil))
	r := &registration{trunk: home, line: "abc"}
	g.lines.add(r)
	g.lines.at(r, hop{networkUDP, "192.0.2.9:5060"})
	req := parse(t, "<sip:a@x>;tag=1")
	require.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, g.callersHosts(t.Context(), home, req, registrar))
	req.Recipient.UriParams = sip.HeaderParams{{K: lineParam, V: "abc"}}
	require.Equal(t, []netip.Addr{registrar}, g.callersHosts(t.Context(), home, req, registrar))
	require.Empty(t, g.callersHosts(t.Context(), &trunk{}, req, registrar), "it has no password for anybody")
	require.Empty(t, g.callersHosts(t.Context(), nil, req, registrar))
}

// TestRealmsThatAskAnINVITE: whose realm is known, configured or by its registrar, has no other one answered, as that of a
// callee behind the trunk's proxy. Where none is known the first that asks in a call is answered (docs/security.md), no
// other one beside it, and nothing is learned for the next call: a trunk may ask in several.
func TestRealmsThatAskAnINVITE(t *testing.T) {
	t.Parallel()
	type asked struct {
		status, realm string
		answered      bool
	}
	const byProxy, byCallee = "407 Proxy Authentication Required", "401 Unauthorized"
	for _, c := range []struct {
		name     string
		register bool
		realm    string
		calls    [][]asked
	}{
		{"of the registrar", true, "", [][]asked{
			{{byCallee, "callee", false}},
			{{byProxy, "carrier", true}, {byCallee, "callee", false}},
			{{byProxy, "carrier", true}},
		}},
		{"configured", false, "carrier", [][]asked{
			{{byCallee, "callee", false}},
			{{byProxy, "carrier", true}, {byCallee, "callee", false}},
			{{byProxy, "carrier", true}},
		}},
		{"not known", false, "", [][]asked{
			{{byProxy, "carrier", true}, {byCallee, "callee", false}},
			{{byCallee, "another", true}},
			{{byProxy, "carrier", true}},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHandCarrier(t)
			trunk := h.trunk()
			trunk.Username, trunk.Password, trunk.Register, trunk.Realm = "user", "secret", c.register, c.realm
			g := startAgent(t, Config{Trunks: []Trunk{trunk}}, newCallers(nil))
			challenge := func(request, status, realm, nonce string) {
				header := "WWW-Authenticate"
				if status == byProxy {
					header = "Proxy-Authenticate"
				}
				h.respond(request, status, "", fmt.Sprintf(`%s: Digest realm="%s", nonce="%s", qop="auth", algorithm=MD5`, header, realm, nonce))
			}
			if c.register {
				challenge(h.await("REGISTER "), byCallee, "carrier", "r")
				h.respond(h.await("REGISTER "), "200 OK", "")
				awaitRegistration(t, g, trunks.Registered)
			}
			for i, asks := range c.calls {
				leg := dial(t, g)
				invite := h.invited()
				require.NotContains(t, invite, "uthorization:", "nothing is shown unasked")
				for j, ask := range asks {
					challenge(invite, ask.status, ask.realm, fmt.Sprint("n", i, j))
					h.await("ACK ")
					if !ask.answered {
						continue // and there is no other
					}
					invite = h.invited()
					require.Contains(t, invite, `uthorization: Digest username="user", realm="`+ask.realm+`"`)
				}
				last := asks[len(asks)-1]
				if last.answered {
					h.respond(invite, "486 Busy Here", "")
					h.await("ACK ")
					require.Equal(t, 486, end(t, leg).SIPCode)
					continue
				}
				code, err := strconv.Atoi(last.status[:3])
				require.NoError(t, err)
				require.Equal(t, code, end(t, leg).SIPCode, "the refusal stands")
			}
			if c.register {
				g.book.SetTrunks(nil, nil)
				h.respond(h.await("REGISTER "), "200 OK", "")
			}
			g.idle(t)
		})
	}
}
