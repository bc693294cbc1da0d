package sip

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"tandem/dialogs"
)

// leads resolves a URI and writes where it leads.
func leads(t *testing.T, r *resolver, text string) (string, error) {
	t.Helper()
	var uri sip.Uri
	require.NoError(t, sip.ParseUri(text, &uri))
	ctx, cancel := context.WithTimeout(t.Context(), socketTimeout)
	defer cancel()
	hops, err := r.hops(ctx, uri, networkUDP)
	var got []string
	for _, h := range hops {
		got = append(got, h.network+" "+h.addr)
	}
	return strings.Join(got, ", "), err
}

// TestFailedQuestionIsSkipped: what one question does not tell, the others may.
func TestFailedQuestionIsSkipped(t *testing.T) {
	t.Parallel()
	table := tableDNS{
		{"host.example", typeA}:    ips("192.0.2.9"),
		{"six.example", typeA}:     nobody,
		{"six.example", typeAAAA}:  ips("2001:db8::6"),
		{"dark.example", typeA}:    nobody,
		{"dark.example", typeAAAA}: nobody,

		{"tls.example", typeA}:              ips("192.0.2.1"),
		{"_sip._udp.tls.example", typeSRV}:  {ttl: time.Minute, srvs: []srv{{1, 1, 5070, "host.example"}}},
		{"_sips._tcp.tls.example", typeSRV}: nobody,

		{"naptr.example", typeNAPTR}:         nobody,
		{"_sip._tcp.naptr.example", typeSRV}: {ttl: time.Minute, srvs: []srv{{1, 1, 5071, "host.example"}}},

		{"named.example", typeNAPTR}: {ttl: time.Minute, naptrs: []naptr{
			{1, 1, "s", "SIPS+D2T", "_sips._tcp.named.example"}, {2, 1, "s", "SIP+D2T", "_sip._tcp.named.example"},
		}},
		{"_sips._tcp.named.example", typeSRV}: nobody,
		{"_sip._tcp.named.example", typeSRV}:  {ttl: time.Minute, srvs: []srv{{1, 1, 5072, "dark.example"}, {2, 1, 5073, "host.example"}}},

		{"plain.example", typeA}:              ips("192.0.2.2"),
		{"plain.example", typeNAPTR}:          nobody,
		{"_sip._udp.plain.example", typeSRV}:  nobody,
		{"_sip._tcp.plain.example", typeSRV}:  nobody,
		{"_sips._tcp.plain.example", typeSRV}: nobody,

		{"lost.example", typeNAPTR}:         nobody,
		{"_sip._udp.lone.example", typeSRV}: nobody,
		{"_sip._tcp.gone.example", typeSRV}: {ttl: time.Minute, srvs: []srv{{1, 1, 5074, "dark.example"}}},
	}
	for _, c := range []struct{ uri, want string }{
		{"sip:tls.example", "udp 192.0.2.9:5070"},
		{"sips:tls.example", "tls 192.0.2.1:5061"},
		{"sip:naptr.example", "tcp 192.0.2.9:5071"},
		{"sip:named.example", "tcp 192.0.2.9:5073"},
		{"sip:plain.example", "udp 192.0.2.2:5060"},
		{"sips:plain.example", "tls 192.0.2.2:5061"},
		{"sip:plain.example;transport=tcp", "tcp 192.0.2.2:5060"},
		{"sip:six.example", "udp [2001:db8::6]:5060"},
	} {
		got, err := leads(t, newResolver(table), c.uri)
		require.NoError(t, err, c.uri)
		require.Equal(t, c.want, got, c.uri)
	}
	for _, uri := range []string{"sip:lost.example", "sip:lone.example", "sip:gone.example", "sip:dark.example", "sip:dark.example:5060"} {
		got, err := leads(t, newResolver(table), uri)
		require.Empty(t, got, uri)
		require.ErrorIs(t, err, errNobody, "%s: nothing at all was found, and why is said", uri)
	}
}

// TestHangingQuestionLeavesTimeForTheOthers: what nobody answers, not even with an error, costs a part of the time only.
func TestHangingQuestionLeavesTimeForTheOthers(t *testing.T) {
	table := tableDNS{
		{"plain.example", typeA}:              ips("192.0.2.2"),
		{"plain.example", typeAAAA}:           hangs,
		{"_sip._udp.plain.example", typeSRV}:  hangs,
		{"_sip._tcp.plain.example", typeSRV}:  hangs,
		{"_sips._tcp.plain.example", typeSRV}: hangs,

		{"naptr.example", typeNAPTR}:          hangs,
		{"_sip._udp.naptr.example", typeSRV}:  {ttl: time.Minute, srvs: []srv{{1, 1, 5070, "slow.example"}, {2, 1, 5071, "plain.example"}}},
		{"_sips._tcp.naptr.example", typeSRV}: hangs,
		{"slow.example", typeA}:               hangs,

		{"none.example", typeA}:    hangs,
		{"none.example", typeAAAA}: hangs,
	}
	for _, c := range []struct {
		uri, want string
		took      time.Duration
	}{
		{"sip:plain.example:5099", "udp 192.0.2.2:5099", restTime},
		{"sip:plain.example", "udp 192.0.2.2:5060", insteadTime + restTime},
		{"sip:naptr.example", "udp 192.0.2.2:5071", 2 * insteadTime},
		{"sip:none.example:5060", "", socketTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			got, err := leads(t, newResolver(table), c.uri)
			require.Equal(t, c.want, got, c.uri)
			require.Equal(t, c.want == "", err != nil, "%s: %v", c.uri, err)
			require.Equal(t, c.took, time.Since(began), c.uri)
		})
	}
}

// TestNameserverThatFailsForOneName: the services of a domain are asked for at a real nameserver, which fails for one.
func TestNameserverThatFailsForOneName(t *testing.T) {
	t.Parallel()
	for name, what := range map[string]dnsFault{"SERVFAIL": serverFails, "malformed": malformed, "silent": drops} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zone := map[string][]dnsmessage.ResourceBody{
				"_sip._udp.x.example": {recordSRV(1, 1, "host.x.example", "5070")},
				"host.x.example":      {recordA("192.0.2.1")},
				"y.example":           {recordA("192.0.2.2")},
			}
			s := startFaultyNameserver(t, zone, map[string]dnsFault{
				"_sips._tcp.x.example": what, "_sip._udp.y.example": what, "_sip._tcp.y.example": what, "_sips._tcp.y.example": what,
				"z.example": what, "_sip._udp.z.example": what, "_sip._tcp.z.example": what, "_sips._tcp.z.example": what,
			})
			for uri, want := range map[string]string{"sip:x.example": "udp 192.0.2.1:5070", "sip:y.example": "udp 192.0.2.2:5060"} {
				got, err := leads(t, newResolver(newDNS(s.addr)), uri)
				require.NoError(t, err, uri)
				require.Equal(t, want, got, uri)
			}
			_, err := leads(t, newResolver(newDNS(s.addr)), "sip:z.example")
			require.ErrorContains(t, err, "resolve z.example")
			require.NotContains(t, err.Error(), "no such host")
		})
	}
}

// TestNameserverThatFailsIsPassedOver: another one is asked, and where the first says nothing it is asked first from then
// on, for a while.
func TestNameserverThatFailsIsPassedOver(t *testing.T) {
	t.Parallel()
	zone := map[string][]dnsmessage.ResourceBody{"x.example": {recordA("192.0.2.1")}, "y.example": {recordA("192.0.2.1")}}
	for name, what := range map[string]dnsFault{"SERVFAIL": serverFails, "malformed": malformed, "silent": drops} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, silent, good := startFaultyNameserver(t, nil, map[string]dnsFault{"": what}), startFaultyNameserver(t, nil, map[string]dnsFault{"": drops}), startNameserver(t, zone)
			now := time.Now()
			c := newDNS(bad.addr, silent.addr, good.addr)
			c.now = func() time.Time { return now }
			for _, name := range []string{"x.example", "y.example"} {
				a, err := c.lookup(t.Context(), name, typeA)
				require.NoError(t, err)
				require.Equal(t, ips("192.0.2.1").addrs, a.addrs)
			}
			wanted := []string{bad.addr, good.addr, silent.addr}
			if what == drops {
				wanted = []string{good.addr, bad.addr, silent.addr}
			}
			require.Equal(t, wanted, c.inOrder(), "the silent come last")
			now = now.Add(silentTime)
			require.Equal(t, c.servers, c.inOrder())
		})
	}
}

// TestCallWithASilentNameserver: the first call to a trunk that is found by NAPTR, SRV and A is not too late because the
// first nameserver drops every question.
func TestCallWithASilentNameserver(t *testing.T) {
	t.Parallel()
	phone := startSIPp(t, "uas_answer", "udp")
	silent := startFaultyNameserver(t, nil, map[string]dnsFault{"": drops})
	s := startNameserver(t, map[string][]dnsmessage.ResourceBody{
		"_sip._udp.carrier.example": {recordSRV(1, 1, "host.carrier.example", portOf(phone.addr))},
		"host.carrier.example":      {recordA("127.0.0.1")},
	})
	g := startAgent(t, Config{
		nameservers: []string{silent.addr, s.addr}, Trunks: []Trunk{{Name: "carrier", Account: "1", URI: "sip:carrier.example"}},
	}, newCallers(nil))
	leg := dial(t, g)
	await(t, leg, dialogs.LegAnswered)
	leg.Hangup(0)
	end(t, leg)
	phone.passed()
	g.idle(t)
	silent.mu.Lock()
	defer silent.mu.Unlock()
	require.True(t, slices.Contains(silent.asked, "carrier.example"), "it comes first in the list")
}
