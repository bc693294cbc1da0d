package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/dsp"
	"tandem/test/harness"
)

// heardQuality is a dialog's quality as an application reads it.
type heardQuality struct {
	FromPhone, ToPhone struct {
		Packets                        int
		Lost, JitterMs, Concealed, MOS float64
		DelayMs                        *float64
	}
	RoundTripMs float64
}

// TestQualityOfACall has a phone send packets of which every tenth is missing, much faster than their timestamps say, and report
// losses, jitter and a round trip of its own making: REST, the metrics and the call's record say just that.
func TestQualityOfACall(t *testing.T) {
	phone := harness.NewHandPhone(t)
	cfg := harness.Config(t)
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("phone", "sip:"+phone.Addr))
	g := harness.Start(t, cfg)
	caller, _ := g.Participant(t, "")
	dialog := g.Call(t, caller, "+15557777")
	invite := phone.Invited()
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		return c
	}
	sound, reports := listen(), listen()
	phone.Answer(invite, fmt.Sprintf("v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\na=rtcp:%d\r\n",
		sound.LocalAddr().(*net.UDPAddr).Port, reports.LocalAddr().(*net.UDPAddr).Port))
	g.WaitState(t, caller, dialog, "ANSWERED")
	to := audioOf(t, invite)

	quality := func() (q heardQuality) {
		var d struct{ Quality heardQuality }
		_, body := g.Do(t, http.MethodGet, "/participants/"+caller+"/dialogs/"+dialog, nil)
		require.NoError(t, json.Unmarshal(body, &d))
		return d.Quality
	}
	packet := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 7}, Payload: make([]byte, 160)}
	for i := range 500 {
		packet.SequenceNumber++
		packet.Timestamp += 160
		if i%10 != 5 {
			raw, err := packet.Marshal()
			require.NoError(t, err)
			_, err = sound.WriteToUDPAddrPort(raw, to)
			require.NoError(t, err)
		}
		if i%100 == 99 { // no more than its socket takes
			require.Eventually(t, func() bool { return quality().FromPhone.Packets == (i+1)*9/10 }, harness.Patience, time.Millisecond)
		}
	}

	got := 0
	var ssrc uint32
	for buf := make([]byte, 2048); got < 100; got++ {
		require.NoError(t, sound.SetReadDeadline(time.Now().Add(harness.Patience)))
		n, err := sound.Read(buf)
		require.NoError(t, err)
		require.NoError(t, packet.Unmarshal(buf[:n]))
		ssrc = packet.SSRC
	}
	report := func(jitter uint32) {
		const since1900 = 2208988800
		now := time.Now()
		middle := uint32(now.Unix()+since1900)<<16 | uint32(now.Nanosecond()/1000)<<10/15625 // 16 bits of seconds, 16 of their fraction
		raw, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 7, Reports: []rtcp.ReceptionReport{{
			SSRC: ssrc, TotalLost: 20, Jitter: jitter, LastSenderReport: middle - 1<<16, Delay: 1 << 15, // half a second ago
		}}}})
		require.NoError(t, err)
		_, err = reports.WriteToUDPAddrPort(raw, netip.AddrPortFrom(to.Addr(), to.Port()+1))
		require.NoError(t, err)
	}
	report(240)
	require.Eventually(t, func() bool { return quality().ToPhone.Lost > 0 }, harness.Patience, time.Millisecond)

	right := func(q heardQuality) {
		t.Helper()
		require.Equal(t, 450, q.FromPhone.Packets)
		require.InDelta(t, 0.1, q.FromPhone.Lost, 0.001)
		require.InDelta(t, 0.1, q.FromPhone.Concealed, 0.001)
		require.Nil(t, q.FromPhone.DelayMs, "it waits nowhere")
		require.InDelta(t, 22, q.FromPhone.JitterMs, 6, "9 of 10 packets 20 ms early, one 40 ms")
		trip := time.Duration(q.RoundTripMs * float64(time.Millisecond))
		require.InDelta(t, 500, q.RoundTripMs, 100)
		require.InDelta(t, dsp.MOS(dsp.QualityG711(), 0.1, 1, 60*time.Millisecond+trip/2), q.FromPhone.MOS, 0.02)
		require.GreaterOrEqual(t, q.ToPhone.Packets, 100)
		require.InDelta(t, 0.2, q.ToPhone.Lost, 0.1, "20 of somewhat more than 100")
		require.NotNil(t, q.ToPhone.DelayMs)
		delay := time.Duration(*q.ToPhone.DelayMs * float64(time.Millisecond))
		require.InDelta(t, dsp.MOS(dsp.QualityG711(), q.ToPhone.Lost, 1, 60*time.Millisecond+trip/2+delay), q.ToPhone.MOS, 0.02)
	}
	up := quality()
	right(up)
	require.InDelta(t, 30, up.ToPhone.JitterMs, 0.1)
	for name, want := range map[string]float64{
		`tandem_leg_lost_ratio_sum{way="from"}`:      0.1,
		`tandem_leg_lost_ratio_sum{way="to"}`:        up.ToPhone.Lost,
		`tandem_leg_concealed_ratio_sum{way="from"}`: 0.1,
		`tandem_leg_jitter_seconds_sum{way="from"}`:  up.FromPhone.JitterMs / 1000,
		`tandem_leg_jitter_seconds_sum{way="to"}`:    0.03,
		`tandem_leg_mos_sum{way="from"}`:             up.FromPhone.MOS,
		`tandem_leg_mos_sum{way="to"}`:               up.ToPhone.MOS,
		`tandem_leg_round_trip_seconds_sum`:          up.RoundTripMs / 1000,
		`tandem_leg_playout_delay_seconds_count`:     1,
	} {
		require.InDelta(t, want, metric(t, g, regexp.QuoteMeta(name)), 0.01, name)
	}

	report(80)
	require.Eventually(t, func() bool { return quality().ToPhone.JitterMs == 10 }, harness.Patience, time.Millisecond)
	phone.Bye()
	g.WaitState(t, caller, dialog, "TERMINATED")
	right(quality())
	require.InDelta(t, 20, quality().ToPhone.JitterMs, 0.1, "the record has the mean")
}

// audioOf is where a message wants its sound.
func audioOf(t *testing.T, message string) netip.AddrPort {
	t.Helper()
	_, rest, ok := strings.Cut(message, "m=audio ")
	require.True(t, ok)
	port, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 16)
	require.NoError(t, err)
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
}
