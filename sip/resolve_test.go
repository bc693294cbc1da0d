package sip

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"tandem/dialogs"
)

// nameserver is a real DNS server on loopback, over UDP and TCP.
type nameserver struct {
	t    *testing.T
	addr string

	mu     sync.Mutex
	zone   map[string][]dnsmessage.ResourceBody
	long   bool // every answer over UDP is cut off
	faults map[string]dnsFault
	asked  []string
	work   sync.WaitGroup
}

// dnsFault is what a nameserver does with the questions for one name; that of "" is for all others.
type dnsFault int

const (
	answers     dnsFault = iota
	drops                // it says nothing
	serverFails          // SERVFAIL
	malformed            // an answer that ends too soon
)

// listenBoth binds a port that is free for UDP and for TCP: what the kernel gives for one may be taken for the other.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		if udp, err := net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			return udp, tcp
		}
		require.NoError(t, tcp.Close())
	}
	require.FailNow(t, "no port is free for UDP and TCP")
	return nil, nil
}

func startNameserver(t *testing.T, zone map[string][]dnsmessage.ResourceBody) *nameserver {
	t.Helper()
	return startFaultyNameserver(t, zone, nil)
}

func startFaultyNameserver(t *testing.T, zone map[string][]dnsmessage.ResourceBody, faults map[string]dnsFault) *nameserver {
	t.Helper()
	udp, tcp := listenBoth(t)
	s := &nameserver{t: t, addr: udp.LocalAddr().String(), zone: zone, faults: faults}
	s.work.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			cut := s.long
			s.mu.Unlock()
			if answer := s.answer(buf[:n], cut); answer != nil {
				_, _ = udp.WriteTo(answer, from)
			}
		}
	})
	s.work.Go(func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			if n, err := readAnswer(conn, "tcp", buf); err == nil {
				answer := s.answer(buf[:n], false)
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_, _ = udp.Close(), tcp.Close()
		s.work.Wait()
	})
	return s
}

func (s *nameserver) answer(query []byte, cut bool) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	key := strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
	s.mu.Lock()
	s.asked = append(s.asked, key)
	records := s.zone[key]
	what, ok := s.faults[key]
	if !ok {
		what = s.faults[""]
	}
	s.mu.Unlock()
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Truncated: cut},
		Questions: []dnsmessage.Question{q},
	}
	switch what {
	case answers:
	case drops:
		return nil
	case serverFails:
		message.RCode = dnsmessage.RCodeServerFailure
	case malformed:
		message.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET}, Body: recordA("192.0.2.1"),
		}}
		packed, err := message.Pack()
		if err != nil {
			return nil
		}
		return packed[:len(packed)-2]
	}
	for _, body := range records {
		kind := kindOf(body)
		if cut || (kind != q.Type && kind != dnsmessage.TypeCNAME) {
			continue
		}
		message.Answers = append(message.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: kind, Class: dnsmessage.ClassINET, TTL: 60}, Body: body,
		})
	}
	packed, err := message.Pack()
	if err != nil {
		return nil
	}
	return packed
}

func kindOf(body dnsmessage.ResourceBody) dnsmessage.Type {
	switch body := body.(type) {
	case *dnsmessage.AResource:
		return dnsmessage.TypeA
	case *dnsmessage.AAAAResource:
		return dnsmessage.TypeAAAA
	case *dnsmessage.SRVResource:
		return dnsmessage.TypeSRV
	case *dnsmessage.UnknownResource:
		return body.Type
	}
	return dnsmessage.TypeCNAME
}

func recordA(addr string) dnsmessage.ResourceBody {
	return &dnsmessage.AResource{A: netip.MustParseAddr(addr).As4()}
}

func recordSRV(priority, weight uint16, target, port string) dnsmessage.ResourceBody {
	p := netip.MustParseAddrPort("127.0.0.1:" + port).Port()
	return &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: p, Target: dnsmessage.MustNewName(target + ".")}
}

func recordNAPTR(order, preference uint16, service, replacement string) dnsmessage.ResourceBody {
	data := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, order), preference)
	for _, text := range []string{"s", service, ""} {
		data = append(append(data, byte(len(text))), text...)
	}
	for label := range strings.SplitSeq(replacement, ".") {
		data = append(append(data, byte(len(label))), label...)
	}
	return &dnsmessage.UnknownResource{Type: dnsmessage.Type(typeNAPTR), Data: append(data, 0)}
}

// tableDNS answers out of a map; what is not in it does not exist.
type tableDNS map[question]answer

func (d tableDNS) lookup(ctx context.Context, name string, kind recordType) (answer, error) {
	a := d[question{name, kind}]
	if a.ttl == hangs.ttl {
		<-ctx.Done()
	}
	if a.ttl == nobody.ttl {
		return answer{}, errNobody
	}
	return a, ctx.Err()
}

// The entries of a tableDNS for a question that fails, and for one to which nobody says anything.
var nobody, hangs = answer{ttl: -1}, answer{ttl: -2}

var errNobody = errors.New("nobody answers")

func ips(list ...string) answer {
	a := answer{ttl: time.Minute}
	for _, s := range list {
		a.addrs = append(a.addrs, netip.MustParseAddr(s))
	}
	return a
}

func TestWhereAURILeads(t *testing.T) {
	table := tableDNS{
		{"a.example", typeA}:    ips("192.0.2.1", "192.0.2.2"),
		{"a.example", typeAAAA}: ips("2001:db8::1"),
		{"n.example", typeNAPTR}: {ttl: time.Minute, naptrs: []naptr{
			{20, 10, "s", "SIP+D2U", "_sip._udp.n.example"},
			{10, 20, "s", "SIP+D2T", "_sip._tcp.n.example"},
			{10, 10, "S", "sips+d2t", "_sips._tcp.n.example"},
			{1, 1, "s", "SIP+D2S", "_sip._sctp.n.example"},
			{1, 1, "u", "E2U+sip", ""},
		}},
		{"_sip._udp.n.example", typeSRV}:    {ttl: time.Minute, srvs: []srv{{10, 0, 5070, "a.example"}}},
		{"_sip._tcp.n.example", typeSRV}:    {ttl: time.Minute, srvs: []srv{{20, 0, 5072, "b.example"}, {10, 0, 5071, "b.example"}}},
		{"_sips._tcp.n.example", typeSRV}:   {ttl: time.Minute, srvs: []srv{{10, 0, 5073, "b.example"}, {20, 0, 5074, "gone.example"}}},
		{"b.example", typeA}:                ips("192.0.2.9"),
		{"s.example", typeA}:                ips("192.0.2.5"),
		{"_sip._udp.s.example", typeSRV}:    {ttl: time.Minute, srvs: []srv{{1, 1, 5080, "b.example"}}},
		{"_sips._tcp.s.example", typeSRV}:   {ttl: time.Minute, srvs: []srv{{1, 1, 5081, "b.example"}}},
		{"_sip._ws.s.example", typeSRV}:     {ttl: time.Minute, srvs: []srv{{1, 1, 8080, "b.example"}}},
		{"none.example", typeSRV}:           {ttl: time.Minute},
		{"_sip._udp.none.example", typeSRV}: {ttl: time.Minute, srvs: []srv{{0, 0, 0, ""}}},
		{"", typeA}:                         ips("192.0.2.99"), // nobody asks for the address of the root
	}
	for _, c := range []struct{ uri, want string }{
		{"sip:192.0.2.7", "udp 192.0.2.7:5060"},
		{"sips:192.0.2.7", "tls 192.0.2.7:5061"},
		{"sip:[2001:db8::7]:5062;transport=tcp", "tcp [2001:db8::7]:5062"},
		{"sip:192.0.2.7;transport=ws", "ws 192.0.2.7:80"},
		{"sips:192.0.2.7;transport=ws", "wss 192.0.2.7:443"},
		{"sip:a.example:5099", "udp 192.0.2.1:5099, udp 192.0.2.2:5099, udp [2001:db8::1]:5099"},
		{"sips:a.example:5099", "tls 192.0.2.1:5099, tls 192.0.2.2:5099, tls [2001:db8::1]:5099"},
		{"sip:a.example", "udp 192.0.2.1:5060, udp 192.0.2.2:5060, udp [2001:db8::1]:5060"},
		{"sip:a.example;transport=tls", "tls 192.0.2.1:5061, tls 192.0.2.2:5061, tls [2001:db8::1]:5061"},
		{"sip:n.example", "tls 192.0.2.9:5073, tcp 192.0.2.9:5071, tcp 192.0.2.9:5072, udp 192.0.2.1:5070, udp 192.0.2.2:5070, udp [2001:db8::1]:5070"},
		{"sips:n.example", "tls 192.0.2.9:5073"},
		{"sip:n.example;transport=udp", "udp 192.0.2.1:5070, udp 192.0.2.2:5070, udp [2001:db8::1]:5070"},
		{"sip:s.example", "udp 192.0.2.9:5080, tls 192.0.2.9:5081"},
		{"sip:s.example;transport=tcp", "tcp 192.0.2.5:5060"},
		{"sip:s.example;transport=ws", "ws 192.0.2.9:8080"},
		{"sip:none.example", ""},
		{"sip:nothing.example", ""},
	} {
		r := newResolver(table)
		var uri sip.Uri
		require.NoError(t, sip.ParseUri(c.uri, &uri))
		hops, err := r.hops(t.Context(), uri, networkUDP)
		var got []string
		for _, h := range hops {
			got = append(got, h.network+" "+h.addr)
		}
		require.Equal(t, c.want, strings.Join(got, ", "), c.uri)
		require.Equal(t, c.want == "", err != nil, "%s: %v", c.uri, err)
	}
}

func TestSRVRecordsAreDrawnByWeight(t *testing.T) {
	records := []srv{{10, 60, 1, "a"}, {10, 20, 2, "b"}, {10, 20, 3, "c"}, {10, 0, 4, "d"}, {0, 5, 5, "first"}}
	first := map[string]int{}
	for n := range 101 { // every draw of the weights once
		draws := []int{0, n}
		ordered := byWeight(records, func(limit int) int {
			d := draws[0]
			if len(draws) > 1 {
				draws = draws[1:]
			}
			return min(d, limit-1)
		})
		require.Len(t, ordered, len(records))
		require.Equal(t, "first", ordered[0].target)
		first[ordered[1].target]++
	}
	require.Equal(t, map[string]int{"a": 60, "b": 20, "c": 20, "d": 1}, first, "RFC 2782: no weight is a small chance, not none")
}

func TestAnswersAreRememberedForTheirTime(t *testing.T) {
	now := time.Now()
	var asked atomic.Int32
	broken := false
	r := newResolver(dnsFunc(func(_ string, kind recordType) (answer, error) {
		asked.Add(1)
		if broken {
			return answer{}, errors.New("nobody answers")
		}
		if kind == typeAAAA {
			return answer{}, nil
		}
		return ips("192.0.2.1"), nil
	}))
	r.now = func() time.Time { return now }
	find := func() error { _, err := r.addresses(t.Context(), networkUDP, "x.example", 5060); return err }
	require.NoError(t, find())
	require.NoError(t, find())
	require.EqualValues(t, 2, asked.Load(), "A and AAAA once")
	now = now.Add(31 * time.Second)
	require.NoError(t, find())
	require.EqualValues(t, 3, asked.Load(), "that there is no AAAA is believed for 30 s")
	now = now.Add(29 * time.Second)
	require.NoError(t, find())
	require.EqualValues(t, 4, asked.Load(), "an address is believed for as long as its record says")
	now = now.Add(2 * time.Minute)
	broken = true
	require.NoError(t, find(), "old is better than none")
	now = now.Add(2 * maxTTL)
	require.Error(t, find())
}

type dnsFunc func(name string, kind recordType) (answer, error)

func (f dnsFunc) lookup(_ context.Context, name string, kind recordType) (answer, error) {
	return f(name, kind)
}

func TestHopThatFailedComesLast(t *testing.T) {
	r := newResolver(nil)
	now := time.Now()
	r.now = func() time.Time { return now }
	a, b := hop{"udp", "192.0.2.1:1"}, hop{"udp", "192.0.2.2:1"}
	r.fail(a)
	require.Equal(t, []hop{b, a}, r.sound([]hop{a, b}))
	now = now.Add(failedHopTime + 1)
	require.Equal(t, []hop{a, b}, r.sound([]hop{a, b}))
	r.fail(a)
	r.work(a)
	require.Equal(t, []hop{a, b}, r.sound([]hop{a, b}))
}

func TestLongAnswersComeOverTCP(t *testing.T) {
	t.Parallel()
	s := startNameserver(t, map[string][]dnsmessage.ResourceBody{"x.example": {recordA("192.0.2.1")}})
	s.mu.Lock()
	s.long = true
	s.mu.Unlock()
	a, err := newDNS(s.addr).lookup(t.Context(), "x.example", typeA)
	require.NoError(t, err)
	require.Equal(t, ips("192.0.2.1").addrs, a.addrs)
	require.Equal(t, time.Minute, a.ttl)
}

// TestCallFailsOverAllRecords calls a trunk by its domain: NAPTR names two services, whose SRV records name a closed
// port, an overloaded carrier, a host without address, and at last one that answers.
func TestCallFailsOverAllRecords(t *testing.T) {
	t.Parallel()
	overloaded, phone := startSIPp(t, "uas_overload", "udp"), startSIPp(t, "uas_answer", "tcp")
	awaitTCP(t, phone.addr)
	s := startNameserver(t, map[string][]dnsmessage.ResourceBody{
		"carrier.example": {
			recordNAPTR(10, 10, "SIP+D2U", "_sip._udp.carrier.example"), recordNAPTR(20, 10, "SIP+D2T", "_sip._tcp.carrier.example"),
		},
		"_sip._udp.carrier.example": {recordSRV(10, 10, "one.carrier.example", portOf(overloaded.addr))},
		"_sip._tcp.carrier.example": {
			recordSRV(10, 10, "one.carrier.example", freePort(t)),
			recordSRV(20, 10, "nowhere.carrier.example", "5060"),
			recordSRV(30, 10, "one.carrier.example", portOf(phone.addr)),
		},
		"one.carrier.example": {recordA("127.0.0.1")},
	})
	g := startAgent(t, Config{
		nameservers: []string{s.addr}, Trunks: []Trunk{{Name: "carrier", Account: "1", URI: "sip:carrier.example"}},
	}, newCallers(nil))
	leg := dial(t, g)
	await(t, leg, dialogs.LegAnswered)
	leg.Hangup(0)
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, leg))
	overloaded.passed()
	phone.passed()
	g.idle(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	require.True(t, slices.Contains(s.asked, "nowhere.carrier.example"))
	require.Contains(t, phone.messages(), "INVITE sip:+15550100@carrier.example SIP/2.0")
}

func FuzzNAPTR(f *testing.F) {
	body, _ := recordNAPTR(1, 2, "SIP+D2U", "_sip._udp.example").(*dnsmessage.UnknownResource)
	f.Add(body.Data)
	f.Add([]byte{0, 1, 0, 2, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := readNAPTR(data); err == nil {
			require.LessOrEqual(t, len(n.flags)+len(n.service)+len(n.replacement), len(data))
		}
	})
}
