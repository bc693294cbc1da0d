package load

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBencode(t *testing.T) {
	value := map[string]any{
		"command": "offer", "empty": "", "n": -7, "list": []any{"a", 2, map[string]any{"sdp": "v=0\r\n"}},
	}
	text := appendBencode(nil, value)
	assert.Equal(t, "d7:command5:offer5:empty0:4:listl1:ai2ed3:sdp5:v=0\r\nee1:ni-7ee", string(text))
	back, rest, err := readBencode(text, 0)
	require.NoError(t, err)
	assert.Empty(t, rest)
	assert.Equal(t, value, back)
	for cut := range len(text) {
		_, _, err := readBencode(text[:cut], 0)
		assert.Error(t, err, "%s", text[:cut])
	}
	for _, bad := range []string{"x", "ixe", "5:abc", "-1:", "di1e1:ae", "99999999999:a", strings.Repeat("l", 100)} {
		_, _, err := readBencode([]byte(bad), 0)
		assert.Error(t, err, bad)
	}
}

// fakeRival is the control socket of an rtpengine that offers and answers what it is told to.
func fakeRival(t *testing.T, replies map[string]map[string]any) (addr string, asked func() []map[string]any) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	var mu sync.Mutex
	var requests []map[string]any
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFromUDP(buf)
			if err != nil {
				return
			}
			cookie, text, _ := bytes.Cut(buf[:n], []byte(" "))
			value, _, _ := readBencode(text, 0)
			request, _ := value.(map[string]any)
			mu.Lock()
			requests = append(requests, request)
			first := len(requests) == 1
			mu.Unlock()
			if first {
				continue // lost: it has to be asked again
			}
			command, _ := request["command"].(string)
			_, _ = conn.WriteToUDP([]byte("older d6:result2:oke"), from)
			_, _ = conn.WriteToUDP(appendBencode(append(bytes.Clone(cookie), ' '), replies[command]), from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		serving.Wait()
	})
	return conn.LocalAddr().String(), func() []map[string]any {
		mu.Lock()
		defer mu.Unlock()
		return requests
	}
}

func TestRivalCall(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, srtpKeyLen+srtpSaltLen)
	offered := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 41000 RTP/SAVP 96\r\n"+
		"a=rtpmap:96 opus/48000/2\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA\r\na=crypto:2 %s inline:%s|2^31\r\n",
		srtpSuite, base64.RawStdEncoding.EncodeToString(secret))
	addr, asked := fakeRival(t, map[string]map[string]any{
		"ping":   {"result": "pong"},
		"offer":  {"result": "ok", "sdp": offered},
		"answer": {"result": "ok", "sdp": string(answerSDP("127.0.0.1:41010", 0))},
		"delete": {"result": "error", "error-reason": "no such call"},
	})
	ng, err := dialNG(t.Context(), addr)
	require.NoError(t, err)
	defer ng.close()
	_, err = ng.do(t.Context(), map[string]any{"command": "ping"}, "pong")
	require.NoError(t, err)
	assert.Len(t, asked(), 2, "the first one was lost")

	begin := time.Now()
	c := &pair{toBrowser: newFlow(opusStep, browserScore, 10, 70), toPhone: newFlow(frameSamples, phoneScore, 10, frameSamples)}
	p, err := newPhone("1", begin, c.toPhone)
	require.NoError(t, err)
	defer func() { _ = p.conn.Close() }()
	far, err := newSRTPEnd(c, begin)
	require.NoError(t, err)
	defer func() { _ = far.conn.Close() }()
	g := &rtpengine{ng: ng, name: "run", codec: pcmu, opus: Opus{Mono: true}}
	_, err = g.call(t.Context(), 3, p, far)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:41000", far.remote.String())
	assert.Equal(t, "127.0.0.1:41010", p.remote.Load().String())
	assert.Equal(t, uint8(96), far.header.PayloadType)
	requests := asked()
	offer, answer := requests[2], requests[3]
	assert.Equal(t, "run-3", offer["call-id"])
	assert.Equal(t, map[string]any{"transcode": []any{"opus/48000/1/24000"}, "mask": []any{"PCMU"}}, offer["codec"])
	assert.Contains(t, answer["sdp"], "a=crypto:2 "+srtpSuite+" inline:"+base64.StdEncoding.EncodeToString(far.secret))
	assert.Contains(t, answer["sdp"], "a=rtpmap:96 opus/48000/1")

	_, err = ng.do(t.Context(), map[string]any{"command": "delete"}, "ok")
	assert.ErrorContains(t, err, "no such call")
	for _, bad := range []string{"", strings.Replace(offered, srtpSuite, "X", 1), strings.Replace(offered, "opus", "x", 1), strings.Replace(offered, "audio", "video", 1)} {
		_, _, _, _, err := offeredSRTP(bad)
		assert.Error(t, err)
	}
	assert.Equal(t, "opus", (&rtpengine{}).transcode(), "its defaults are its own")
	assert.Equal(t, "opus/48000/2/20000", (&rtpengine{opus: Opus{Bitrate: 20000}}).transcode())
}

// Calls over the floor lose nothing, and what is dropped on purpose is missed: so the ends and the analyser agree.
func TestFloorCarriesCalls(t *testing.T) {
	for name, webRTC := range map[string]bool{"over SRTP": false, "over WebRTC": true} {
		t.Run(name, func(t *testing.T) { testFloor(t, webRTC) })
	}
}

func testFloor(t *testing.T, webRTC bool) {
	t.Helper()
	s, err := allSounds()
	require.NoError(t, err)
	const calls, frames = 4, 300
	port, err := freePort(t.Context())
	require.NoError(t, err)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	f := &floor{first: floorFirstPort + 1000}
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		assert.NoError(t, ServeFloor(ctx, FloorConfig{HTTP: addr, FirstPort: f.first, Calls: calls, Complexity: 3, WebRTC: webRTC}))
	})
	defer serving.Wait()
	defer stop()
	ready := &child{exited: make(chan struct{})}
	require.NoError(t, ready.waitReady(t.Context(), "http://"+addr))

	b := &bench{start: time.Now()}
	setUp := b.setUpPlain
	if webRTC {
		b.connect, setUp = f.join("http://"+addr), b.setUpPeer
	} else {
		b.plain = f
	}
	p := &pacer{sounds: s, drop: 0.05, start: b.start, rng: randSource()}
	for k := range calls {
		c := &pair{number: k, toBrowser: newFlow(opusStep, browserScore, frames, 70), toPhone: newFlow(frameSamples, phoneScore, frames, frameSamples)}
		c.phone, err = newPhone("1", b.start, c.toPhone)
		require.NoError(t, err)
		b.readers.Go(c.phone.read)
		b.pairs = append(b.pairs, c)
		require.NoError(t, setUp(t.Context(), c))
	}
	defer b.closePhones()
	p.pairs = b.pairs
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	speak := func(until func(frame int) bool) {
		begun := time.Now()
		for frame := 0; !until(frame); frame++ {
			require.Less(t, time.Since(begun), patience)
			for n := range slots {
				if n%2 == 0 {
					<-tick.C
				}
				p.slot(n)
			}
		}
	}
	heard := func(atLeast func(f *flow) int64) bool {
		for _, c := range b.pairs {
			if c.phone.heard.Load() < atLeast(c.toPhone) || c.far.packets() < atLeast(c.toBrowser) {
				return false
			}
		}
		return true
	}
	// The floor learns from the first packets where the phones are, so what counts begins when all ends hear. It has come once each
	// end has heard as many packets as went out until then: they keep their order, and those that the beginning lacked come after.
	speak(func(int) bool { return heard(func(*flow) int64 { return 1 }) })
	from := time.Since(b.start)
	speak(func(frame int) bool { return frame == frames })
	to := time.Since(b.start)
	out := map[*flow]int64{}
	for _, c := range b.pairs {
		for _, f := range []*flow{c.toBrowser, c.toPhone} {
			for _, dropped := range f.dropped {
				if !dropped {
					out[f]++
				}
			}
		}
	}
	speak(func(int) bool { return heard(func(f *flow) int64 { return out[f] }) })
	b.closePhones()
	var r Result
	require.NoError(t, b.analyse(&r, from, to))
	t.Logf("%+v", r)
	for _, f := range []FlowResult{r.ToBrowser, r.ToPhone} {
		assert.Positive(t, f.Dropped)
		assert.InDelta(t, 0, f.own(), 2)
		assert.Less(t, f.LossPct, 10.0)
	}
}

// A floor that has ended leaves its ports to the next.
func TestFloorsLeaveTheirPorts(t *testing.T) {
	const first, calls = floorFirstPort + 1600, 20
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, serve := range map[string]func() error{
		"of calls": func() error {
			return ServeFloor(ctx, FloorConfig{HTTP: "127.0.0.1:0", FirstPort: first, Calls: calls})
		},
		"of a party": func() error { return ServePartyFloor(ctx, PartyFloorConfig{HTTP: "127.0.0.1:0", FirstPort: first}) },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, serve())
			for port := first; port < first+2*calls; port++ {
				conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
				require.NoError(t, err)
				_ = conn.Close()
			}
		})
	}
}

func TestSRTPEndTakesNothingElse(t *testing.T) {
	begin := time.Now()
	c := &pair{toBrowser: newFlow(opusStep, browserScore, 10, 70)}
	from, err := newSRTPEnd(c, begin)
	require.NoError(t, err)
	defer func() { _ = from.conn.Close() }()
	to, err := newSRTPEnd(c, begin)
	require.NoError(t, err)
	in, err := newSRTP(from.secret)
	require.NoError(t, err)
	var reading sync.WaitGroup
	reading.Go(func() { to.read(in) })
	from.remote, err = netip.ParseAddrPort(to.conn.LocalAddr().String())
	require.NoError(t, err)
	require.NoError(t, from.conn.send([]byte("no SRTP at all"), from.remote))
	from.header.PayloadType = 13
	from.speak([]byte("comfort noise"), false)
	from.header.PayloadType = opusPayloadType
	from.speak([]byte("lost"), true)
	from.speak([]byte("heard"), false)
	require.Eventually(t, func() bool { return to.packets() == 1 }, patience, time.Millisecond)
	_ = to.conn.Close()
	reading.Wait()
	assert.Equal(t, "heard", string(c.toBrowser.store))
	assert.Equal(t, from.header.SequenceNumber-1, c.toBrowser.arrivals[0].sequence)
	_, err = newSRTP([]byte("short"))
	assert.Error(t, err)
}

func TestPrintRivals(t *testing.T) {
	all := contenders(RivalConfig{Calls: 20, Half: 45})
	run := func(cpu float64) Result { return Result{CPUMsPerCallSecond: cpu} }
	all[0].runs = []Result{run(7), run(7.5), run(30)}
	all[2].runs = []Result{run(6)}
	quiet := partsReference()
	var out bytes.Buffer
	require.NoError(t, printRivals(&out, RivalConfig{}, all, quiet))
	assert.Contains(t, out.String(), "not installed")
	assert.NotContains(t, out.String(), "against rtpengine,")
	assert.Regexp(t, `CPU against the floor +1\.250`, out.String())
	assert.NotContains(t, out.String(), "void")
	all[1].runs = []Result{run(30)}
	busy := quiet
	busy.decode *= 2
	out.Reset()
	require.NoError(t, printRivals(&out, RivalConfig{}, all, busy))
	assert.Regexp(t, `against rtpengine, each at its defaults +0\.250`, out.String())
	assert.Contains(t, out.String(), "void: the parts of the floor")
	assert.NotContains(t, out.String(), "less work")
	all[1].runs[0].ToPhone.LossPct = 2
	out.Reset()
	require.NoError(t, printRivals(&out, RivalConfig{}, all, quiet))
	assert.Contains(t, out.String(), "void: rtpengine lost 2.0 %")
}

func TestParts(t *testing.T) {
	s, err := allSounds()
	require.NoError(t, err)
	p, err := measureParts(s)
	require.NoError(t, err)
	for _, took := range []time.Duration{p.decode, p.encode, p.datagram, p.srtp} {
		assert.Positive(t, took)
	}
	assert.Greater(t, p.decode, p.srtp)
	assert.InDelta(t, 50*(0.037+0.026+2*0.0088+2*0.00035), partsReference().total(), 1e-9)
}
