package sip

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/media"
)

func startAgentOnIPv6(t *testing.T, cfg Config, in dialogs.Callers) *gateway {
	t.Helper()
	return startAgentOn(t, cfg, in, media.PortsConfig{Listen: []netip.Addr{netip.IPv6Loopback()}, From: 40000, To: 49999})
}

func TestCallsOverIPv6(t *testing.T) {
	t.Parallel()
	listen := []string{"udp://127.0.0.1:0", "udp://[::1]:0", "tcp://[::1]:0"}
	lab := Trunk{Name: "lab", Account: "1", Allow: []netip.Prefix{netip.MustParsePrefix("::1/128")}}
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			phone := startSIPpOn(t, "::1", "uas_answer", transport)
			if transport == "tcp" {
				awaitTCP(t, phone.addr)
			}
			in := newCallers(nil)
			g := startAgentOnIPv6(t, Config{Listen: listen, Trunks: []Trunk{carrier(phone, transport), lab}}, in)
			leg := dial(t, g)
			agreed := await(t, leg, dialogs.LegMedia)
			require.Equal(t, netip.IPv6Loopback(), agreed.Media.Remote.Addr())
			await(t, leg, dialogs.LegAnswered)
			leg.Hangup(0)
			require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
			phone.passed()
			require.Contains(t, phone.messages(), "c=IN IP6 ::1")
			require.Contains(t, phone.messages(), "Contact: <sip:tandem@[::1]:")

			at := ""
			for _, uri := range g.Addrs() {
				if rest, ok := strings.CutPrefix(uri, transport+"://[::1]"); ok {
					at = "[::1]" + rest
				}
			}
			caller := startSIPpOn(t, "::1", "uac_token", transport, at,
				"-s", "+15550100", "-key", "caller", "+15550123", "-key", "token", "a.b.c", "-d", "50")
			there := in.leg(t)
			there.Answer()
			require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, there))
			caller.passed()
			require.Contains(t, caller.messages(), "c=IN IP6 ::1")
			require.Equal(t, "lab", in.calls()[0].Trunk)
			g.idle(t)
		})
	}
}

func TestTLSOverIPv6(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	in := newCallers(nil)
	called := startAgentOnIPv6(t, ca.secured(Config{Listen: []string{"tls://[::1]:0"}}), in)
	trunk := Trunk{Name: "carrier", Account: "1", URI: "sips:" + called.at("tls")}
	g := startAgentOnIPv6(t, ca.secured(Config{Listen: []string{"udp://[::1]:0", "tls://[::1]:0"}, Trunks: []Trunk{trunk}}), newCallers(nil))
	leg := dial(t, g)
	there := in.leg(t)
	there.Answer()
	await(t, leg, dialogs.LegAnswered)
	await(t, there, dialogs.LegAnswered)
	leg.Hangup(0)
	require.Equal(t, byThisEnd, end(t, leg).Details)
	require.Equal(t, byFarEnd, end(t, there).Details)
	g.idle(t)
}

func TestListenerIsChosenByTheRoute(t *testing.T) {
	a := &Agent{routes: routes{lookup: func(to netip.AddrPort) (netip.Addr, bool) {
		switch to.Addr().String() {
		case "10.9.9.9":
			return netip.MustParseAddr("10.0.0.5"), true
		case "203.0.113.9":
			return netip.MustParseAddr("198.51.100.5"), true
		case "172.16.0.9":
			return netip.MustParseAddr("172.16.0.1"), true
		}
		return netip.Addr{}, false
	}}}
	for _, l := range []string{"udp 10.0.0.5:1", "udp 198.51.100.5:2", "udp 0.0.0.0:3", "tls 198.51.100.5:4", "udp [2001:db8::5]:5"} {
		network, addr, _ := strings.Cut(l, " ")
		a.listeners = append(a.listeners, &listener{network: network, addr: netip.MustParseAddrPort(addr)})
	}
	for remote, want := range map[string]uint16{
		"10.9.9.9:9": 1, "203.0.113.9:9": 2, "172.16.0.9:9": 3, "192.0.2.77:9": 3, "[2001:db8::9]:9": 5,
	} {
		require.Equal(t, want, a.own("udp", remote).addr.Port(), remote)
	}
	host, port := a.address("udp", "172.16.0.9:9")
	require.Equal(t, "172.16.0.1", host, "the listener on all addresses names the one that the kernel uses")
	require.Equal(t, 3, port)
}

func TestAdvertisedAddressFits(t *testing.T) {
	all, err := parseAdvertise("203.0.113.7:5070, [2001:db8::7], tls://sip.example.com:15061")
	require.NoError(t, err)
	for _, c := range []struct {
		network, to, host string
		port              int
	}{
		{"udp", "192.0.2.1", "203.0.113.7", 5070},
		{"tcp", "192.0.2.1", "203.0.113.7", 5070},
		{"ws", "192.0.2.1", "203.0.113.7", 0},
		{"udp", "2001:db8::1", "2001:db8::7", 0},
		{"tls", "192.0.2.1", "sip.example.com", 15061},
		{"tls", "2001:db8::1", "sip.example.com", 15061},
	} {
		got, ok := all.towards(c.network, netip.MustParseAddr(c.to))
		require.True(t, ok)
		require.Equal(t, c.host, got.host, "%+v", c)
		require.Equal(t, c.port, got.port, "%+v", c)
	}
	only4, err := parseAdvertise("203.0.113.7")
	require.NoError(t, err)
	_, ok := only4.towards("udp", netip.MustParseAddr("2001:db8::1"))
	require.False(t, ok, "an IPv4 address is no use to who speaks IPv6")
}
