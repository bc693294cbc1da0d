package transcode

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// endpoint is sessions.Endpoint, which this package satisfies without importing it.
type endpoint interface {
	Subscribe(src *media.Source)
	Unsubscribe(src *media.Source)
	Close(cause error)
}

var _ endpoint = (*Bridge)(nil)

func TestConfig(t *testing.T) {
	for _, c := range []Config{{}, {NoFEC: true}, {DTX: true}, {OpusComplexity: 10, Bitrate: 16000, ExpectedLoss: 20}} {
		enc, err := c.encoder(narrow, opus.AppVoIP)
		require.NoError(t, err)
		fec, err := enc.InBandFEC()
		require.NoError(t, err)
		require.Equal(t, !c.NoFEC, fec)
		loss, err := enc.PacketLossPerc()
		require.NoError(t, err)
		require.Equal(t, c.ExpectedLoss, loss)
		rate, err := enc.Bitrate()
		require.NoError(t, err)
		require.Equal(t, c.bitrate(narrow), rate)
		dtx, err := enc.DTX()
		require.NoError(t, err)
		require.Equal(t, c.DTX, dtx)
	}
	require.Equal(t, []int{1, 5}, []int{Config{}.complexity(8000), Config{}.complexity(wide)})
	require.Equal(t, 7, Config{OpusComplexity: 7}.complexity(8000))
	for _, c := range []Config{{OpusComplexity: 11}, {Bitrate: -5}, {ExpectedLoss: 101}} {
		_, err := c.encoder(narrow, opus.AppVoIP)
		require.Error(t, err)
		_, err = testEngine(newClock(), c).newBridge(BridgeConfig{Media: pcmu}, &discard{})
		require.Error(t, err)
	}
	_, err := testEngine(newClock(), Config{}).NewBridge(BridgeConfig{})
	require.Error(t, err)
}

// The clock keeps 20 ms over a minute, on every shard.
func TestEngineKeepsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEngine(Config{}, slog.New(slog.DiscardHandler))
		phones := make([]discard, 9)
		for i := range phones {
			b, err := e.newBridge(BridgeConfig{Media: pcmu}, &phones[i])
			require.NoError(t, err)
			defer b.Close(nil)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, e.Run(ctx)) })
		time.Sleep(time.Minute - time.Millisecond)
		synctest.Wait()
		cancel()
		wg.Wait()
		for i := range phones {
			require.Equal(t, 3000, phones[i].packets)
		}
	})
}

// slow is a phone that once holds up its clock.
type slow struct {
	packets, at int
	last        uint32
	pause       time.Duration
}

func (s *slow) Send(_ uint8, _ bool, ts uint32, _ []byte) bool {
	s.packets++
	s.last = ts
	if s.packets == s.at {
		time.Sleep(s.pause)
	}
	return true
}

func (s *slow) SendKey(_ uint8, _ bool, ts uint32, _ media.KeyTime, _ []byte) bool {
	return s.Send(0, false, ts, nil)
}

func (s *slow) Lose(int) {}

func TestEngineCatchesUp(t *testing.T) {
	for _, c := range []struct {
		name string
		stop time.Duration
		want int
	}{
		{"a short stop", 300 * time.Millisecond, 3000},
		{"a long stop", 30 * time.Second, 1500}, // no flood afterwards

	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := NewEngine(Config{}, slog.New(slog.DiscardHandler))
				e.shards = e.shards[:1]
				phone := &slow{at: 50, pause: c.stop}
				b, err := e.newBridge(BridgeConfig{Media: pcmu}, phone)
				require.NoError(t, err)
				defer b.Close(nil)
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { require.NoError(t, e.Run(ctx)) })
				time.Sleep(time.Minute - time.Millisecond)
				synctest.Wait()
				cancel()
				wg.Wait()
				require.InDelta(t, c.want, phone.packets, 5)
				require.InDelta(t, 3000*160, phone.last, 5*160, "the phone's time is the real one")
			})
		})
	}
}

// A whole call over real sockets: both directions, the clock running.
func TestBridgeOverSockets(t *testing.T) {
	e := NewEngine(Config{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { require.NoError(t, e.Run(ctx)) })
	t.Cleanup(func() { cancel(); wg.Wait() })

	ports, err := media.NewPorts(media.PortsConfig{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, From: 33000, To: 33999})
	require.NoError(t, err)
	port, err := ports.Open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, port.Close()) })
	far, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = far.Close() })

	m := pcmu
	m.Remote = far.LocalAddr().(*net.UDPAddr).AddrPort()
	b, err := e.NewBridge(BridgeConfig{Participant: "p", Stream: "s", Port: port, Media: m})
	require.NoError(t, err)
	t.Cleanup(func() { b.Close(errors.New("test over")) })
	require.Equal(t, "p", b.Source().Participant)
	require.Equal(t, "s", b.Source().Stream)

	// Silence comes by itself, and steadily.
	read := func() *rtp.Packet {
		buf := make([]byte, 1500)
		require.NoError(t, far.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, err := far.Read(buf)
		require.NoError(t, err)
		p := &rtp.Packet{}
		require.NoError(t, p.Unmarshal(buf[:n]))
		return p
	}
	last := read()
	for range 10 {
		p := read()
		require.EqualValues(t, 1, p.SequenceNumber-last.SequenceNumber)
		require.EqualValues(t, 160, p.Timestamp-last.Timestamp)
		require.Equal(t, last.SSRC, p.SSRC)
		last = p
	}

	// The browser's voice comes through.
	web := newBrowser(t, "web", 1)
	b.Subscribe(web.src)
	tone := audio.Tone(1000, -15, 48000, time.Second)
	var pcm []int16
	ticker := time.NewTicker(frameTime)
	defer ticker.Stop()
	for at := 0; at < len(tone); at += 960 {
		<-ticker.C
		web.say(tone[at : at+960])
		p := read()
		require.EqualValues(t, 1, p.SequenceNumber-last.SequenceNumber)
		last = p
		frame := make([]int16, len(p.Payload))
		expand(media.PCMU, frame, p.Payload)
		pcm = append(pcm, frame...)
	}
	require.InDelta(t, 1000, audio.Frequency(pcm[2000:], 8000), 5)

	// The phone's voice, too.
	got := make(chan *rtp.Packet, 100)
	b.Source().Audio().Add(chanSink(got))
	voice := newPhoneVoice(media.PCMU)
	raw, err := voice.make(make([]int16, 160)).Marshal()
	require.NoError(t, err)
	_, err = far.WriteToUDPAddrPort(raw, port.Local())
	require.NoError(t, err)
	select {
	case p := <-got:
		require.NotEmpty(t, p.Payload)
	case <-time.After(5 * time.Second):
		t.Fatal("no Opus came")
	}
}

type chanSink chan *rtp.Packet

func (c chanSink) WriteRTP(p *rtp.Packet) { c <- p.Clone() }

// Everything at once, for the race detector.
func TestEverythingAtOnce(t *testing.T) {
	e := NewEngine(Config{OpusComplexity: 1}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var clocks, wg sync.WaitGroup
	clocks.Go(func() { require.NoError(t, e.Run(ctx)) })
	webs := []*browser{newBrowser(t, "1", 1), newBrowser(t, "2", 2)}
	var bridges []*Bridge
	for range 3 {
		b, err := e.newBridge(BridgeConfig{Media: pcmu, OnKey: func(media.Key) {}}, &phoneDrop{})
		require.NoError(t, err)
		b.Source().Audio().Add(&countSinks{})
		bridges = append(bridges, b)
	}
	silence := make([]int16, 960)
	for _, w := range webs {
		wg.Go(func() {
			for i := range 300 {
				w.say(silence)
				w.src.WriteKey(media.Key{Digit: '1', Ended: i%2 == 1})
			}
		})
	}
	for i, b := range bridges {
		wg.Go(func() {
			v := newPhoneVoice(media.PCMU)
			for range 300 {
				b.up.ReceiveRTP(v.make(silence[:160]), time.Now())
			}
		})
		wg.Go(func() {
			for k := range 200 {
				src := webs[k%2].src
				if k%3 == 0 {
					src = bridges[(i+1)%3].Source()
				}
				b.Subscribe(src)
				m := pcmu
				m.Send = k%5 != 0
				b.Update(m)
				b.Stats()
				if k%4 < 2 {
					b.Unsubscribe(src)
				}
			}
			b.Close(nil)
		})
	}
	wg.Wait()
	cancel()
	clocks.Wait()
	require.Empty(t, e.feeds)
	for _, w := range webs {
		require.False(t, w.track.Wanted())
	}
}

// phoneDrop is a phone that nobody counts.
type phoneDrop struct{}

func (phoneDrop) Send(uint8, bool, uint32, []byte) bool { return true }

func (phoneDrop) SendKey(uint8, bool, uint32, media.KeyTime, []byte) bool { return true }

func (phoneDrop) Lose(int) {}
