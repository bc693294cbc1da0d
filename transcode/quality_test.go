package transcode

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/dsp"
	"tandem/media"
	"tandem/test/audio"
)

// TestSoundThatAPhoneLost counts what did not come of a phone's sound, and what came too late; a pause of the phone is neither.
func TestSoundThatAPhoneLost(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	b, _ := testBridge(t, e, c, pcmu, nil)
	v := newPhoneVoice(media.PCMU)
	for i := range 200 {
		p := v.make(make([]int16, 160))
		switch {
		case i%10 == 5:
			continue // lost
		case i == 100:
			late := p
			b.up.ReceiveRTP(v.make(make([]int16, 160)), c.now())
			b.up.ReceiveRTP(late, c.now())
			c.add(2 * frameTime)
			continue
		case i == 150:
			v.packet.Timestamp += 8000 // the phone has nothing to say for a second
		}
		b.up.ReceiveRTP(p, c.now())
		c.add(frameTime)
	}
	require.InDelta(t, 21./201, b.Quality().In.Concealed, 1e-9, "20 that were lost, and one that came late")
	require.Equal(t, b.Quality().In.Concealed, b.Overall().In.Concealed)
	require.Zero(t, b.Quality().In.Delay)
}

// TestLossesOnTheWayToAnOpusPhone counts as made up what was lost before it came to us: the phone does it.
func TestLossesOnTheWayToAnOpusPhone(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	b, ear := testBridge(t, e, c, media.PortMedia{Speech: media.Opus, PayloadType: 111, EventType: -1, Send: true, Receive: true}, nil)
	w := newBrowser(t, "web", 1)
	b.Subscribe(w.src)
	for i := range 100 {
		if p := w.make(make([]int16, 960)); i%10 != 5 {
			w.track.WriteRTP(p)
		}
		c.add(frameTime)
		b.tick(c.now())
	}
	require.Equal(t, 10, ear.lost)
	require.InDelta(t, 0.1, b.Quality().Out.Concealed, 0.005)
}

// TestDelayToAPhone measures how long a voice waits, in the gateway or ahead of real time: not at all while nothing holds it
// up, and for as long as that did when it comes then, for some seconds. The call's record has the mean.
func TestDelayToAPhone(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	b, _ := testBridge(t, e, c, pcmu, nil)
	w := newBrowser(t, "web", 1)
	b.Subscribe(w.src)
	tone := audio.Tone(400, -20, 48000, frameTime)
	var all time.Duration // of the delay, as it was every half second
	ticks, looks := 0, 0
	tick := func() {
		c.add(frameTime)
		b.tick(c.now())
		if ticks++; ticks%lookEvery == 0 {
			all += b.Quality().Out.Delay
			looks++
		}
	}
	say := func(n int) {
		for range n {
			w.say(tone)
			tick()
		}
	}
	say(489)
	require.LessOrEqual(t, b.Quality().Out.Delay, frameTime)
	require.LessOrEqual(t, all, frameTime)

	var held []*rtp.Packet
	for range 10 {
		held = append(held, w.make(tone))
		tick()
	}
	for _, p := range held {
		w.track.WriteRTP(p)
	}
	say(1)
	grown := b.Quality().Out.Delay
	require.InDelta(t, 180, grown.Seconds()*1000, 30, "200 ms, and 20 were said since")
	say(25)
	mean := b.Overall().Out.Delay
	require.Greater(t, all, 100*time.Millisecond)
	require.InDelta(t, (all / time.Duration(looks)).Seconds(), mean.Seconds(), 0.001)
	say(250)
	require.LessOrEqual(t, b.Quality().Out.Delay, frameTime, "it is taken out again")
}

// TestQualityOverTwoPorts moves a bridge to another phone: the leg's figures are of both.
func TestQualityOverTwoPorts(t *testing.T) {
	e := testEngine(newClock(), Config{})
	first, second := newTelephone(t), newTelephone(t)
	second.voice.packet.SSRC++
	b, err := e.NewBridge(BridgeConfig{Participant: "p", Stream: "s", Port: first.port, Media: first.media})
	require.NoError(t, err)
	t.Cleanup(func() { b.Close(nil) })
	first.speak(t, 100, 10) // every tenth is lost
	b.Move(second.port, second.media)
	second.speak(t, 200, 0)
	q := b.Quality()
	require.EqualValues(t, 290, q.In.Packets)
	require.InDelta(t, 10./300, q.In.Lost, 1e-9)
	require.InDelta(t, 10./300, b.Overall().In.Lost, 1e-9)
	require.InDelta(t, 10./300, q.In.Concealed, 1e-9)
	require.InDelta(t, dsp.MOS(dsp.QualityG711(), q.In.Lost, q.In.Burst, endDelay), q.In.MOS, 1e-9)
	require.Zero(t, q.RoundTrip, "neither has told")
}

// TestBridgeIsWholeForTheClock: the clock has a bridge as soon as the engine has, and asks for its port without having met whoever
// made it anywhere.
func TestBridgeIsWholeForTheClock(t *testing.T) {
	e := testEngine(newClock(), Config{})
	at, over := e.now(), make(chan struct{})
	var clock sync.WaitGroup
	clock.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			for i := range e.shards {
				e.shards[i].tick(at)
			}
		}
	})
	far := newTelephone(t)
	far.media.Send = false // whatever is sent would let the two meet
	b, err := e.NewBridge(BridgeConfig{Participant: "p", Stream: "s", Port: far.port, Media: far.media})
	require.NoError(t, err)
	for b.ticks.Load() <= tuneEvery {
		runtime.Gosched()
	}
	close(over)
	clock.Wait()
	b.Close(nil)
}

// telephone is a far end with a socket, and the port that it talks to.
type telephone struct {
	port  *media.Port
	media media.PortMedia
	conn  *net.UDPConn
	voice *phoneVoice
}

func newTelephone(t *testing.T) *telephone {
	t.Helper()
	ports, err := media.NewPorts(media.PortsConfig{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, From: 33000, To: 33999})
	require.NoError(t, err)
	port, err := ports.Open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, port.Close()) })
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	m := pcmu
	m.Remote = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return &telephone{port: port, media: m, conn: conn, voice: newPhoneVoice(media.PCMU)}
}

// speak sends so many packets but each nth, and waits until they were read.
func (p *telephone) speak(t *testing.T, packets, nth int) {
	t.Helper()
	sent := p.port.Stats().Received
	for i := range packets {
		packet := p.voice.make(make([]int16, 160))
		if nth > 0 && i%nth == nth/2 {
			continue
		}
		raw, err := packet.Marshal()
		require.NoError(t, err)
		_, err = p.conn.WriteToUDPAddrPort(raw, p.port.Local())
		require.NoError(t, err)
		sent++
		if i%50 == 49 || i == packets-1 { // no more than its socket takes
			require.Eventually(t, func() bool { return p.port.Stats().Received == sent }, 10*time.Second, time.Millisecond)
		}
	}
}

// report says by RTCP which share of what the phone was sent is lost, in 1/256, and waits until that was read.
func (p *telephone) report(t *testing.T, fraction uint8) {
	t.Helper()
	buf := make([]byte, 1500)
	require.NoError(t, p.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, err := p.conn.Read(buf)
	require.NoError(t, err)
	var sent rtp.Packet
	require.NoError(t, sent.Unmarshal(buf[:n]))
	raw, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 99, Reports: []rtcp.ReceptionReport{
		{SSRC: sent.SSRC, FractionLost: fraction},
	}}})
	require.NoError(t, err)
	_, err = p.conn.WriteToUDPAddrPort(raw, netip.AddrPortFrom(p.port.Local().Addr(), p.port.Local().Port()+1))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.port.Loss() > 0 }, 10*time.Second, time.Millisecond)
}
