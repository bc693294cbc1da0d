package test

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/lab"
	"tandem/test/harness"
)

// TestFloodOpensNothing has strangers flood a gateway with INVITEs, with no key of its security changed: no media port is
// opened for any, memory does not grow with them, they are banned, and a trunk calls meanwhile.
func TestFloodOpensNothing(t *testing.T) {
	const (
		strangers = 30
		bans      = 10 // failures, unless security.banAfter says otherwise
		each      = 6 * bans
		// Bytes. What was answered is remembered for 32 s (RFC 3261 §17.2.1, Timer H), at most 40 a stranger at once.
		first, second = 64 << 20, 2 << 20
	)
	trunk := harness.StartLab(t, lab.Config{Listen: []string{"udp://127.0.0.2:0"}, Handlers: map[string]func(*lab.Call){"*": toneOf(1000)}})
	carrier := harness.Trunk("carrier", trunk.URI("udp"))
	carrier.Allow = []string{"127.0.0.2/32"}
	cfg := harness.Config(t)
	cfg.Trunks = []gateway.TrunkConfig{carrier}
	g := harness.Start(t, cfg)
	to, err := net.ResolveUDPAddr("udp", g.SIPAddr(t, "udp"))
	require.NoError(t, err)

	dropped := func() float64 {
		return metric(t, g, `tandem_sip_refused_total\{why="banned"\}`) + metric(t, g, `tandem_sip_refused_total\{why="rate"\}`)
	}
	flood := func(round string, answers int) {
		for i := range strangers {
			conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 66, byte(i/200), byte(1+i%200))}, to)
			require.NoError(t, err)
			for n := range each {
				_, err := conn.Write([]byte(strayInvite(conn.LocalAddr().String(), fmt.Sprintf("%s-%d-%d", round, i, n))))
				require.NoError(t, err)
			}
			for range answers { // no faster than it is read: what the kernel drops shows nothing
				finalAnswer(t, conn)
			}
			require.Zero(t, metric(t, g, "tandem_rtp_ports_open"))
			require.NoError(t, conn.Close())
		}
	}
	start := heap()
	flood("first", bans)
	require.Zero(t, metric(t, g, "tandem_dialogs_live"))
	require.EqualValues(t, strangers, metric(t, g, "tandem_sip_bans"))
	banned, before := heap(), dropped()
	require.Less(t, int64(banned)-int64(start), int64(first))
	flood("second", 0)
	require.Eventually(t, func() bool { return dropped()-before > strangers*each/2 }, harness.Patience, 10*time.Millisecond)
	require.Less(t, int64(heap())-int64(banned), int64(second), "who is banned costs nothing more")
	require.Zero(t, metric(t, g, "tandem_rtp_ports_open"))

	phone, _ := g.Participant(t, "")
	dialog := g.Call(t, phone, "+15550100")
	g.WaitState(t, phone, dialog, "ANSWERED")
	g.HangUp(t, phone, dialog)
}

// heap is what is in use, in bytes.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// strayInvite is an INVITE with an offer, of nobody that the gateway knows.
func strayInvite(from, id string) string {
	sdp := strings.Join([]string{"v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0", "m=audio 9 RTP/AVP 0", ""}, "\r\n")
	return "INVITE sip:+4312345678@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP " + from + ";branch=z9hG4bKflood" + id + ";rport\r\n" +
		"From: <sip:100@x>;tag=" + id + "\r\nTo: <sip:+4312345678@x>\r\nCall-ID: flood" + id + "\r\nCSeq: 1 INVITE\r\nContact: <sip:100@" + from + ">\r\n" +
		"Max-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: " + fmt.Sprint(len(sdp)) + "\r\n\r\n" + sdp
}
