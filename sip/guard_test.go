package sip

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
)

var (
	unknown = netip.MustParseAddr("192.0.2.7")
	ofTrunk = netip.MustParseAddr("198.51.100.1")
)

func testGuard(cfg GuardConfig) (*guard, *time.Time) {
	now := time.Unix(1000, 0)
	g := newGuard(cfg, func(a netip.Addr) bool { return a == ofTrunk }, slog.New(slog.DiscardHandler))
	g.now = func() time.Time { return now }
	return g, &now
}

func TestBan(t *testing.T) {
	g, now := testGuard(GuardConfig{BanAfter: 3, BanFor: time.Minute})
	for range 2 {
		g.failed(unknown, "refused calls")
	}
	*now = now.Add(failureWindow + time.Second)
	g.failed(unknown, "refused calls")
	require.True(t, g.admit(unknown, 100, true), "old failures are not added up")
	for range 2 {
		g.failed(unknown, "wrong password")
	}
	require.False(t, g.admit(unknown, 100, true))
	require.True(t, g.isBanned(unknown))
	require.Equal(t, []Ban{{Address: "192.0.2.7", Reason: "wrong password", Since: *now, Until: now.Add(time.Minute), Dropped: 1}}, g.list())
	require.True(t, g.admit(netip.MustParseAddr("192.0.2.8"), 100, true), "the neighbour")
	*now = now.Add(time.Minute)
	require.True(t, g.admit(unknown, 100, true))
	require.Empty(t, g.list())

	for range 3 {
		g.failed(unknown, "refused calls")
	}
	require.True(t, g.pardon(unknown))
	require.False(t, g.pardon(unknown))
	require.True(t, g.admit(unknown, 100, true))
	require.EqualValues(t, 2, g.stats().Bans)
}

// TestForgedAddressesHarmNoTrunk: whatever comes in the name of a trunk, or of one whom we called.
func TestForgedAddressesHarmNoTrunk(t *testing.T) {
	g, now := testGuard(GuardConfig{BanAfter: 1, RequestsPerSecond: 1})
	called := netip.MustParseAddr("203.0.113.5")
	g.befriend(called, true)
	for range 100 {
		for _, addr := range []netip.Addr{ofTrunk, called, netip.MustParseAddr("::ffff:198.51.100.1")} {
			g.failed(addr, "a scanner's User-Agent")
			require.True(t, g.admit(addr, 100, true), addr)
			require.True(t, g.mayAnswer(addr, 5000))
		}
	}
	require.Empty(t, g.list())
	g.befriend(unknown, false) // it showed a token once: that is no licence
	g.failed(unknown, "refused calls")
	require.False(t, g.admit(unknown, 100, true))
	*now = now.Add(friendFor)
	g.failed(called, "refused calls")
	require.False(t, g.admit(called, 100, true), "we have not called it for long")
}

func TestRateOfStrangers(t *testing.T) {
	g, now := testGuard(GuardConfig{RequestsPerSecond: 5})
	passed := 0
	for range 100 {
		if g.admit(unknown, 100, true) {
			passed++
		}
	}
	require.Equal(t, 10, passed)
	require.True(t, g.admit(unknown, 100, false), "a response is no request")
	*now = now.Add(time.Second)
	require.True(t, g.admit(unknown, 100, true))
	require.EqualValues(t, 90, g.stats().Limited)
}

func TestIPv6NetworksAreOneSender(t *testing.T) {
	g, _ := testGuard(GuardConfig{BanAfter: 2})
	g.failed(netip.MustParseAddr("2001:db8::1"), "x")
	g.failed(netip.MustParseAddr("2001:db8::2"), "x")
	require.False(t, g.admit(netip.MustParseAddr("2001:db8::3"), 100, true))
	require.Equal(t, "2001:db8::/64", g.list()[0].Address)
	require.True(t, g.pardon(netip.MustParseAddr("2001:db8::9")))
}

// TestGuardIsBounded lets a million forged senders come.
func TestGuardIsBounded(t *testing.T) {
	g, _ := testGuard(GuardConfig{BanAfter: 1})
	for i := range 5 * maxWatched {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		g.admit(addr, 100, true)
		if i < maxBans+10 {
			g.failed(addr, "x")
		}
		g.befriend(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), false)
	}
	require.LessOrEqual(t, len(g.watched), maxWatched)
	require.LessOrEqual(t, len(g.before), maxWatched)
	require.LessOrEqual(t, len(g.bans), maxBans)
	require.LessOrEqual(t, len(g.friends), maxFriends)
}

// TestNoAmplification counts bytes: a unknown never gets more than it sent, repeats of answers included.
func TestNoAmplification(t *testing.T) {
	t.Parallel()
	in := newCallers(func(dialogs.Incoming) error { return errs.New(errs.Forbidden, "%s", strings.Repeat("no, ", 60)) })
	g := startAgent(t, Config{Guard: GuardConfig{BanAfter: -1}}, in)
	p := newRawPeer(t, g)
	var sent, got int
	lengths := make(map[string]int)
	for i, method := range []string{"OPTIONS", "REGISTER", "DANCE", "BYE", "invite", "INVITE", "INVITE"} {
		branch := fmt.Sprint("amp", i)
		text := p.request(method, branch, "Call-ID: raw", fmt.Sprint("Call-ID: raw", i))
		sent += len(text)
		lengths[branch] = len(text)
		_, err := p.conn.Write([]byte(text))
		require.NoError(t, err)
	}
	for len(lengths) > 0 { // what is sent again, when this machine is slow, counts too
		answer := p.read()
		got += len(answer)
		if length, ok := lengths[branchOf(answer)]; ok {
			require.LessOrEqual(t, len(answer), length, answer)
			delete(lengths, branchOf(answer))
		}
	}
	// The answers to the two INVITEs are repeated until they are acknowledged, which never happens.
	require.NoError(t, p.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	buf := make([]byte, 65536)
	for {
		n, err := p.conn.Read(buf)
		if err != nil {
			break
		}
		got += n
	}
	require.LessOrEqual(t, got, sent)
	require.Positive(t, g.GuardStats().Amplifying, "repeats were held back")
}

// TestScannersGetNoAnswer, and a banned sender none either, on any transport; others are heard meanwhile.
func TestScannersGetNoAnswer(t *testing.T) {
	t.Parallel()
	in := newCallers(nil)
	friend := office
	friend.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	g := startAgent(t, Config{Guard: GuardConfig{BanAfter: 5}, Trunks: []Trunk{friend}}, in)
	p := newRawPeer(t, g)
	for i := range 4 {
		_, err := p.conn.Write([]byte(p.request("OPTIONS", fmt.Sprint("scan", i), "Max-Forwards", "User-Agent: friendly-scanner\r\nMax-Forwards")))
		require.NoError(t, err)
	}
	require.Contains(t, p.ask(p.request("OPTIONS", "honest")), "SIP/2.0 200", "not banned yet, and nothing came before this")
	_, err := p.conn.Write([]byte(p.request("REGISTER", "scan5", "Max-Forwards", "User-Agent: VaxSIPUserAgent/3.1\r\nMax-Forwards")))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(g.Bans()) == 1 }, patience, time.Millisecond)
	require.Equal(t, "127.0.0.1", g.Bans()[0].Address)
	require.EqualValues(t, 5, g.GuardStats().Scanners)

	stream, err := net.Dial("tcp", g.at("tcp"))
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	require.NoError(t, stream.SetReadDeadline(time.Now().Add(patience)))
	_, err = stream.Read(make([]byte, 1))
	require.Error(t, err, "a banned sender gets no connection")

	local, err := net.ResolveUDPAddr("udp", "127.0.0.2:0")
	require.NoError(t, err)
	to, err := net.ResolveUDPAddr("udp", g.at("udp"))
	require.NoError(t, err)
	conn, err := net.DialUDP("udp", local, to)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	trunk := &rawPeer{t, conn}
	require.Contains(t, trunk.ask(trunk.request("OPTIONS", "trunk")), "SIP/2.0 200")
	require.True(t, g.Pardon(netip.MustParseAddr("127.0.0.1")))
	require.Contains(t, p.ask(p.request("OPTIONS", "pardoned")), "SIP/2.0 200")
}

// TestPasswordGuessersAreBanned, and the first round of a challenge counts for nothing.
func TestPasswordGuessersAreBanned(t *testing.T) {
	t.Parallel()
	roaming := Trunk{Name: "roaming", Account: "1", InboundUsername: "pbx", InboundPassword: "secret"}
	g := startAgent(t, Config{Guard: GuardConfig{BanAfter: 3}, Trunks: []Trunk{roaming}}, newCallers(nil))
	p := newRawPeer(t, g)
	const sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=sendrecv\r\n"
	body := fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(sdp), sdp)
	for i := range 5 {
		answer := p.ask(p.request("INVITE", fmt.Sprint("round", i), "Call-ID: raw", fmt.Sprint("Call-ID: ask", i), "Content-Length: 0\r\n\r\n", body))
		require.Contains(t, answer, "SIP/2.0 401")
		require.Contains(t, answer, "WWW-Authenticate: Digest")
		_, err := p.conn.Write([]byte(p.request("ACK", fmt.Sprint("round", i), "Call-ID: raw", fmt.Sprint("Call-ID: ask", i),
			"To: <sip:+15550100@x>", "To: "+headerOf(answer, "To")))) // else it is sent again, and counts as an answer to a stranger
		require.NoError(t, err)
	}
	require.Zero(t, g.GuardStats().Failures)
	for i := range 3 {
		_, err := p.conn.Write([]byte(p.request("INVITE", fmt.Sprint("guess", i), "Call-ID: raw", fmt.Sprint("Call-ID: guess", i), "Content-Length: 0\r\n\r\n",
			`Authorization: Digest username="pbx", realm="tandem", nonce="x", uri="sip:x", response="00000000000000000000000000000000"`+"\r\n"+body)))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(g.Bans()) == 1 }, patience, time.Millisecond)
	require.Equal(t, "wrong password", g.Bans()[0].Reason)
}

// TestScannersHearNothing: SIPp in the name of scanners, on each transport, waits in vain.
func TestScannersHearNothing(t *testing.T) {
	t.Parallel()
	for _, agent := range []string{"friendly-scanner", "sipvicious/0.3", "VaxSIPUserAgent/3.1"} {
		t.Run(agent, func(t *testing.T) {
			t.Parallel()
			eachTransport(t, func(t *testing.T, o over) {
				in := newCallers(nil)
				g := o.start(Config{Guard: GuardConfig{BanAfter: 3}}, in)
				o.caller(g, "uac_scanner", "-key", "agent", agent).passed()
				require.EqualValues(t, 3, g.GuardStats().Scanners)
				require.Len(t, g.Bans(), 1)
				require.Empty(t, in.calls())
				g.idle(t)
			})
		})
	}
}

// TestStrangerGetsNoMoreThanItSends counts what SIPp sends and gets over UDP, where its address may be forged.
func TestStrangerGetsNoMoreThanItSends(t *testing.T) {
	t.Parallel()
	in := newCallers(func(dialogs.Incoming) error { return errs.New(errs.Forbidden, "%s", strings.Repeat("no, ", 60)) })
	g := startAgent(t, Config{Guard: GuardConfig{BanAfter: -1}}, in)
	phone := callIn(t, g, "uac_unknown", "udp", "-d", "1500") // a refusal is repeated until it is acknowledged
	phone.passed()
	sent, got := 0, 0
	for _, m := range regexp.MustCompile(`UDP message (sent|received) [(\[](\d+)`).FindAllStringSubmatch(phone.messages(), -1) {
		n, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		if m[1] == "sent" {
			sent += n
		} else {
			got += n
		}
	}
	require.Positive(t, got)
	require.LessOrEqual(t, got, sent)
	require.Positive(t, g.GuardStats().Amplifying, "repeats were held back")
}
