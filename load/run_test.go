package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patience = 20 * time.Second

func TestConfigIsBounded(t *testing.T) {
	var zero Config
	require.NoError(t, zero.defaults())
	assert.Equal(t, 50, zero.Calls)
	assert.Equal(t, time.Minute, zero.Duration)
	assert.Equal(t, "serve", zero.Gateway[1])
	for name, c := range map[string]Config{
		"calls":    {Calls: 501},
		"none":     {Calls: -1},
		"short":    {Duration: time.Millisecond},
		"long":     {Calls: 500, Duration: time.Minute},
		"drop":     {DropPercent: 51},
		"negative": {DropPercent: -1},
		"ramp":     {RampPerSecond: 1000},
		"idle":     {Idle: time.Hour},
	} {
		_, err := Run(t.Context(), c, &bytes.Buffer{})
		assert.Error(t, err, name)
	}
}

func TestGatewayConfigFile(t *testing.T) {
	dir := t.TempDir()
	path, addr, _, err := gatewayConfig(t.Context(), dir, "sip:127.0.0.1:5999;transport=udp", Config{Calls: 500, Codec: pcmu})
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Contains(t, string(text), "listen: "+addr)
	assert.Contains(t, string(text), "uri: sip:127.0.0.1:5999;transport=udp")
	var first, last int
	_, rest, _ := strings.Cut(string(text), "rtpPorts: ")
	_, err = fmt.Sscanf(rest, "%d-%d", &first, &last)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, first, firstRTPPort)
	assert.LessOrEqual(t, last, lastRTPPort)
	assert.Zero(t, first%2)
	assert.GreaterOrEqual(t, last-first, 2*500)
}

func TestParseStat(t *testing.T) {
	const tail = " S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 100 1 1 1"
	for name, command := range map[string]string{"plain": "(tandem)", "with spaces and parentheses": "(a ) b (c)"} {
		got, err := parseStat("42 " + command + tail)
		require.NoError(t, err, name)
		assert.Equal(t, 3*time.Second, got, name)
	}
	for _, bad := range []string{"", "42 (x) S 1", "42 (x)" + strings.Replace(tail, "250", "x", 1), "42 (x)" + strings.Replace(tail, " 50", " y", 1)} {
		_, err := parseStat(bad)
		assert.Error(t, err, bad)
	}
	own, err := processUsage(os.Getpid())
	require.NoError(t, err)
	assert.Positive(t, own.rss)
	assert.Positive(t, ownCPU())
	_, err = processUsage(1 << 30)
	assert.Error(t, err)
}

func startFake(t *testing.T, addr, ask string) (*child, error) {
	t.Helper()
	t.Setenv(fakeGateway, addr)
	self, err := os.Executable()
	require.NoError(t, err)
	return startChild(t.Context(), []string{self}, "http://"+ask, filepath.Join(t.TempDir(), "log"))
}

func TestChildIsWaitedForAndStopped(t *testing.T) {
	port, err := freePort(t.Context())
	require.NoError(t, err)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	c, err := startFake(t, addr, addr)
	require.NoError(t, err)
	assert.Positive(t, c.ready)
	used, err := processUsage(c.pid())
	require.NoError(t, err)
	assert.Positive(t, used.rss)
	c.stop()
	c.stop()
	_, err = processUsage(c.pid())
	assert.Error(t, err, "it is gone")
}

func TestChildThatFailsShowsItsLog(t *testing.T) {
	_, err := startFake(t, "fail", "127.0.0.1:1")
	require.ErrorIs(t, err, errEnded)
	assert.Contains(t, err.Error(), "sip.listne")
	_, err = startChild(t.Context(), []string{"/nowhere/tandem"}, "http://127.0.0.1:1", filepath.Join(t.TempDir(), "log"))
	assert.Error(t, err)
}

// startFarEnd runs a far end until the test is over.
func startFarEnd(t *testing.T) *farEnd {
	t.Helper()
	f, err := newFarEnd(t.Context(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { _ = f.serve() })
	t.Cleanup(func() {
		f.close()
		serving.Wait()
	})
	return f
}

func randSource() *rand.Rand { return rand.New(rand.NewPCG(5, 6)) }

func newTrack(t *testing.T) *webrtc.TrackLocalStaticRTP {
	t.Helper()
	track, err := webrtc.NewTrackLocalStaticRTP(opusCodec().RTPCodecCapability, "a", "s")
	require.NoError(t, err)
	return track
}

func startPhone(t *testing.T, f *farEnd, number string, begin time.Time) *phone {
	t.Helper()
	p, err := newPhone(number, begin, newFlow(frameSamples, phoneScore, 1000, frameSamples))
	require.NoError(t, err)
	var reading sync.WaitGroup
	reading.Go(p.read)
	t.Cleanup(func() {
		_ = p.conn.Close()
		reading.Wait()
	})
	f.expect(p)
	return p
}

// startCaller is a client that sends from the socket of a far end, which is closed with it: sipgo may leave the one
// that it opens itself open, when its agent is closed right after a request.
func startCaller(t *testing.T) *sipgo.Client {
	t.Helper()
	f := startFarEnd(t)
	require.Eventually(t, func() bool { return f.agent.TransportLayer().Pool("udp").Size() > 0 }, patience, time.Millisecond)
	client, err := sipgo.NewClient(f.agent, sipgo.WithClientHostname("127.0.0.1"), sipgo.WithClientConnectionAddr(f.addr.String()))
	require.NoError(t, err)
	return client
}

// A caller that isn't ours calls the phone, hears it, and is heard.
func TestPhoneAnswersAndSpeaks(t *testing.T) {
	s, err := allSounds()
	require.NoError(t, err)
	begin := time.Now()
	f := startFarEnd(t)
	p := startPhone(t, f, "+15550000001", begin)

	media, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer func() { _ = media.Close() }()
	client := startCaller(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ua := sipgo.DialogUA{Client: client, ContactHDR: sip.ContactHeader{Address: sip.Uri{Scheme: "sip", User: "gw", Host: "127.0.0.1"}}}
	var uri sip.Uri
	require.NoError(t, sip.ParseUri("sip:+15550000001@"+f.addr.String(), &uri))
	dlg, err := ua.Invite(ctx, uri, answerSDP(media.LocalAddr().String(), 0), sip.NewHeader("Content-Type", "application/sdp"))
	require.NoError(t, err)
	require.NoError(t, dlg.WaitAnswer(ctx, sipgo.AnswerOptions{}))
	require.NoError(t, dlg.Ack(ctx))
	<-p.answered
	remote, err := remoteRTP(dlg.InviteResponse.Body())
	require.NoError(t, err)
	assert.Equal(t, p.conn.LocalAddr().String(), remote.String())

	p.flow.next(time.Since(begin), false)
	packet := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 7, Timestamp: 160}, Payload: s.phone[0]}
	raw, err := packet.Marshal()
	require.NoError(t, err)
	_, err = media.WriteToUDPAddrPort(raw, remote)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.heard.Load() == 1 }, patience, time.Millisecond)

	p.speak(s.phone[0], false)
	p.speak(s.phone[1], true) // dropped on purpose
	p.speak(s.phone[2], false)
	var got [2]rtp.Packet
	for i := range got {
		buf := make([]byte, 1500)
		require.NoError(t, media.SetReadDeadline(time.Now().Add(patience)))
		n, err := media.Read(buf)
		require.NoError(t, err)
		require.NoError(t, got[i].Unmarshal(buf[:n]))
	}
	assert.Equal(t, s.phone[2], got[1].Payload)
	assert.Equal(t, got[0].SequenceNumber+2, got[1].SequenceNumber)
	assert.Equal(t, got[0].Timestamp+320, got[1].Timestamp)
	require.NoError(t, dlg.Bye(ctx))
}

func TestFarEndRefuses(t *testing.T) {
	for _, body := range []string{"", "v=0", "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 5 RTP/AVP 96\r\n"} {
		_, err := remoteRTP([]byte(body))
		assert.Error(t, err)
	}
	f := startFarEnd(t)
	assert.Nil(t, f.phone("+1"))
}

// The pacer gives each pair that is up one packet in each direction and frame, and drops what it is told to.
func TestPacer(t *testing.T) {
	s, err := allSounds()
	require.NoError(t, err)
	begin := time.Now()
	f := startFarEnd(t)
	p := &pacer{sounds: s, drop: 0.1, start: begin, rng: randSource()}
	for k := range 12 {
		c := &pair{toBrowser: newFlow(opusStep, browserScore, 100, 70), toPhone: newFlow(frameSamples, phoneScore, 100, frameSamples)}
		c.phone = startPhone(t, f, fmt.Sprint(k), begin)
		c.browser = newBrowser(opusPeers(nil), slog.New(slog.DiscardHandler), begin, c.toBrowser)
		c.browser.track = newTrack(t)
		c.far = c.browser
		c.live.Store(k != 3)
		p.pairs = append(p.pairs, c)
	}
	const frames = 100
	for n := range frames * slots {
		p.slot(n % slots)
	}
	dropped := 0
	for k, c := range p.pairs {
		want := frames
		if k == 3 {
			want = 0
		}
		assert.Len(t, c.toBrowser.sent, want)
		assert.Len(t, c.toPhone.sent, want)
		for i := range c.toBrowser.dropped {
			if c.toBrowser.dropped[i] {
				dropped++
			}
		}
	}
	assert.InDelta(t, 110, dropped, 60)
}

func TestPrint(t *testing.T) {
	r := Result{Calls: 3, Seconds: 60, CPUMsPerCallSecond: 9.5, DropPercent: 1, ToPhone: FlowResult{Sent: 1000, Dropped: 8, Lost: 10, LossPct: 1}, PacerLateMaxMs: 30}
	var table, text bytes.Buffer
	require.NoError(t, r.print(&table, false))
	assert.Contains(t, table.String(), "9.50 ms per call-second")
	assert.Contains(t, table.String(), "1.000 %")
	assert.Contains(t, table.String(), "too busy")
	assert.Contains(t, table.String(), "0 to browsers, 2 to phones")
	require.NoError(t, r.print(&text, true))
	var back Result
	require.NoError(t, json.Unmarshal(text.Bytes(), &back))
	assert.Equal(t, r, back)
}

// builtProgram is this program, built.
func builtProgram(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "tandem")
	said, err := exec.Command("go", "build", "-tags", "nolibopusfile", "-o", binary, "tandem/cmd/tandem").CombinedOutput()
	require.NoError(t, err, "%s", said)
	return binary
}

// TestRun holds real calls over the real gateway, as a process.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and holds calls")
	}
	var out bytes.Buffer
	r, err := Run(t.Context(), Config{
		Gateway: []string{builtProgram(t), "serve"}, Calls: 3, Duration: 3 * time.Second, DropPercent: 10, Idle: time.Second, JSON: true,
	}, &out)
	require.NoError(t, err)
	for _, f := range []FlowResult{r.ToBrowser, r.ToPhone} {
		assert.InDelta(t, 450, f.Sent, 30)
		assert.GreaterOrEqual(t, f.own(), 0, "each packet that was dropped is missed")
		assert.Positive(t, f.Dropped)
	}
	assert.Positive(t, r.CPUMsPerCallSecond)
	assert.Positive(t, r.StartMs)
	assert.True(t, json.Valid(out.Bytes()))
}
