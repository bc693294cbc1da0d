package media

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"
)

// inbox hands a test the packets that a port accepted.
type inbox chan *rtp.Packet

func (c inbox) ReceiveRTP(p *rtp.Packet, _ time.Time) { c <- p.Clone() }
func (c inbox) Broke(panicked any)                    { panic(panicked) }

func (c inbox) next(t *testing.T) *rtp.Packet {
	t.Helper()
	select {
	case p := <-c:
		return p
	case <-time.After(5 * time.Second):
		t.Fatal("no packet came")
		return nil
	}
}

// openPort opens a port whose RTCP reports come every few milliseconds.
func openPort(t *testing.T) *Port {
	t.Helper()
	ps, err := NewPorts(PortsConfig{Listen: []netip.Addr{loopback}, From: 31100, To: 31999, ReportEvery: 5 * time.Millisecond})
	require.NoError(t, err)
	p, err := ps.Open()
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// endpoint is a far end's socket.
type endpoint struct {
	t *testing.T
	*net.UDPConn
	to netip.AddrPort
}

func newEndpoint(t *testing.T, to netip.AddrPort) *endpoint {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return &endpoint{t, c, to}
}

func (e *endpoint) addr() netip.AddrPort {
	return e.LocalAddr().(*net.UDPAddr).AddrPort()
}

func (e *endpoint) write(b []byte) {
	e.t.Helper()
	_, err := e.WriteToUDPAddrPort(b, e.to)
	require.NoError(e.t, err)
}

func (e *endpoint) send(pt uint8, ssrc uint32, seq uint16) {
	e.t.Helper()
	b, err := (&rtp.Packet{
		Header:  rtp.Header{Version: 2, PayloadType: pt, SSRC: ssrc, SequenceNumber: seq, Timestamp: uint32(seq) * 160},
		Payload: []byte{1, 2, 3},
	}).Marshal()
	require.NoError(e.t, err)
	e.write(b)
}

func (e *endpoint) read() []byte {
	e.t.Helper()
	b := make([]byte, maxDatagram)
	require.NoError(e.t, e.SetReadDeadline(time.Now().Add(5*time.Second)))
	n, err := e.Read(b)
	require.NoError(e.t, err)
	return b[:n]
}

func (e *endpoint) readRTP() *rtp.Packet {
	e.t.Helper()
	p := &rtp.Packet{}
	require.NoError(e.t, p.Unmarshal(e.read()))
	return p
}

func agreed(far netip.AddrPort) PortMedia {
	return PortMedia{Remote: far, Speech: PCMA, EventType: 101, Send: true, Receive: true}
}

func TestPortReceivesWhatIsExpected(t *testing.T) {
	p := openPort(t)
	far := newEndpoint(t, p.Local())
	stranger := newEndpoint(t, p.Local())
	got := make(inbox, 100)

	for seq := range uint16(20) {
		far.send(8, 1, seq) // before Start: thrown away
	}
	p.Update(agreed(far.addr()))
	p.Start(got)
	far.send(0, 1, 100)                                                  // the other law
	far.write([]byte{0x80, 8, 0})                                        // too short
	far.write(append([]byte{0x40}, 8, 0, 0))                             // no version 2
	far.write(make([]byte, maxDatagram+100))                             // cut
	far.write([]byte{0x8f, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}) // promises 15 CSRCs
	far.send(8, 1, 101)
	packet := got.next(t)
	require.EqualValues(t, 101, packet.SequenceNumber)
	require.Equal(t, []byte{1, 2, 3}, packet.Payload)

	stranger.send(8, 1, 102)
	far.send(101, 1, 103)
	require.EqualValues(t, 103, got.next(t).SequenceNumber)

	p.Update(PortMedia{Remote: far.addr(), Speech: PCMU, EventType: -1, Send: true, Receive: true})
	far.send(101, 1, 104)
	far.send(8, 1, 105)
	far.send(0, 1, 106)
	require.EqualValues(t, 106, got.next(t).SequenceNumber)

	hold := PortMedia{Remote: far.addr(), Speech: PCMU, EventType: -1}
	p.Update(hold)
	far.send(0, 1, 107)
	require.Eventually(t, func() bool { return p.Stats().Ignored == 5 }, 5*time.Second, time.Millisecond)
	s := p.Stats()
	require.EqualValues(t, 3, s.Received)
	require.EqualValues(t, 4, s.Malformed)
	require.Empty(t, got)
}

func TestPortSendsToTheSourceThatItHears(t *testing.T) {
	p := openPort(t)
	signalled := newEndpoint(t, p.Local())
	real := newEndpoint(t, p.Local())
	got := make(inbox, 100)
	require.False(t, p.Send(8, true, 0, []byte{1}), "nobody to send to")
	p.Start(got)
	p.Update(agreed(signalled.addr()))
	require.Equal(t, signalled.addr(), p.Remote())

	require.True(t, p.Send(8, true, 0, []byte{1}))
	first := signalled.readRTP()
	require.True(t, first.Marker)
	require.EqualValues(t, 8, first.PayloadType)
	require.Equal(t, []byte{1}, first.Payload)

	real.send(8, 1, 1)
	got.next(t)
	require.True(t, p.Send(8, false, 160, []byte{2}))
	second := real.readRTP()
	require.Equal(t, first.SequenceNumber+1, second.SequenceNumber)
	require.Equal(t, first.Timestamp+160, second.Timestamp)
	require.Equal(t, first.SSRC, second.SSRC)
	require.False(t, second.Marker)

	// A re-offer with another address: the same clock goes on.
	moved := newEndpoint(t, p.Local())
	p.Update(agreed(moved.addr()))
	require.True(t, p.Send(8, false, 320, []byte{3}))
	third := moved.readRTP()
	require.Equal(t, second.SequenceNumber+1, third.SequenceNumber)
	require.Equal(t, first.SSRC, third.SSRC)

	// Never back in time, nothing while on hold, nothing too long.
	require.False(t, p.Send(8, false, 160, []byte{4}))
	require.False(t, p.Send(8, false, 480, make([]byte, maxPayload+1)))
	hold := agreed(moved.addr())
	hold.Send = false
	p.Update(hold)
	require.False(t, p.Send(8, false, 480, []byte{4}))
	p.Update(agreed(moved.addr()))
	require.True(t, p.Send(8, false, 480+8000*900, []byte{5})) // fifteen minutes later
	fourth := moved.readRTP()
	require.Equal(t, third.SequenceNumber+1, fourth.SequenceNumber)
	require.Equal(t, first.Timestamp+480+8000*900, fourth.Timestamp)
	require.EqualValues(t, 4, p.Stats().Sent)
	require.EqualValues(t, 1, p.Stats().Unsent)

	// Another sender, that counts from another start: the same clock goes on.
	p.Start(got)
	require.True(t, p.Send(8, true, 0, []byte{6}))
	fifth := moved.readRTP()
	require.Equal(t, fourth.SequenceNumber+1, fifth.SequenceNumber)
	require.Less(t, fifth.Timestamp-fourth.Timestamp, uint32(8000*60))
	require.True(t, p.Send(8, true, 160, []byte{7}))
	require.Equal(t, fifth.Timestamp+160, moved.readRTP().Timestamp)

	// An address that can't be sent to is hold; the source stays known.
	for _, addr := range []string{"0.0.0.0:4000", "[::]:4000", "224.0.0.1:4000", "127.0.0.1:0"} {
		p.Update(agreed(netip.MustParseAddrPort(addr)))
		require.False(t, p.Send(8, false, 320, []byte{8}), addr)
		require.Equal(t, moved.addr(), p.Remote())
	}
	p.Update(agreed(netip.AddrPort{}))
	require.False(t, p.Send(8, false, 320, []byte{8}))
}

// fragile fails at its first packet.
type fragile chan any

func (f fragile) ReceiveRTP(*rtp.Packet, time.Time) { panic("injected") }
func (f fragile) Broke(panicked any)                { f <- panicked }

// TestPanicEndsOnePort lets what reads a port's packets fail, and then the reports: whose port it is is told, it can be
// closed, and another port works on.
func TestPanicEndsOnePort(t *testing.T) {
	broken, sound := openPort(t), openPort(t)
	far, other := newEndpoint(t, broken.Local()), newEndpoint(t, sound.Local())
	f, got := make(fragile, 2), make(inbox, 1)
	broken.Start(f)
	broken.Update(agreed(far.addr()))
	sound.Start(got)
	sound.Update(agreed(other.addr()))
	far.send(8, 1, 1)
	require.Equal(t, "injected", <-f)
	broken.mu.Lock()
	broken.media.Inbound, broken.opening = &SRTPKey{}, nil // a state that there is not: the next report fails at it
	broken.mu.Unlock()
	far.to = netip.AddrPortFrom(far.to.Addr(), far.to.Port()+1)
	far.write([]byte{0x80, 201, 0, 1, 0, 0, 0, 1})
	require.ErrorContains(t, (<-f).(error), "nil pointer")
	other.send(8, 1, 1)
	got.next(t)
	require.True(t, sound.Send(8, true, 0, []byte{1}))
	other.readRTP()
}

// TestPortFindsAFarEndThatWasOnHold has a far end that puts us on hold with sendonly. Its NAT forgets it meanwhile, as
// nothing is sent to it, so that it comes back from another port, with the same SSRC and the same SDP.
func TestPortFindsAFarEndThatWasOnHold(t *testing.T) {
	p := openPort(t)
	before, after := newEndpoint(t, p.Local()), newEndpoint(t, p.Local())
	signalled := netip.MustParseAddrPort("192.0.2.1:4000")
	got := make(inbox, 100)
	p.Start(got)
	p.Update(agreed(signalled))
	for seq := range uint16(newSourceRun) {
		before.send(8, 1, seq)
		got.next(t)
	}
	require.Equal(t, before.addr(), p.Remote())
	hold := agreed(signalled)
	hold.Send = false
	p.Update(hold)
	p.Update(agreed(signalled))
	for seq := range uint16(newSourceRun) {
		after.send(8, 1, newSourceRun+seq)
	}
	require.EqualValues(t, 2*newSourceRun-1, got.next(t).SequenceNumber)
	require.Equal(t, after.addr(), p.Remote())
	require.True(t, p.Send(8, true, 0, []byte{1}))
	after.readRTP()
}

// The timestamps of keys count on their own clock, and the sound goes on beside them.
func TestPortSendsKeysOnTheirClock(t *testing.T) {
	p := openPort(t)
	far := newEndpoint(t, p.Local())
	p.Start(make(inbox, 1))
	p.Update(agreed(far.addr()))
	for _, clock := range []uint32{0, 8000, 16000, 48000} {
		times := max(clock/8000, 1)
		require.True(t, p.Send(8, false, 800, []byte{1}))
		before := far.readRTP()
		require.True(t, p.SendKey(101, true, 800, KeyTime{Clock: clock}, []byte{5, 10, 0, 160}))
		first := far.readRTP()
		require.Equal(t, before.Timestamp*times, first.Timestamp, "%d Hz", clock)
		require.True(t, first.Marker)
		require.True(t, p.SendKey(101, false, 800, KeyTime{Clock: clock, Past: fullSegment}, []byte{5, 10, 0, 160}))
		require.Equal(t, first.Timestamp+fullSegment, far.readRTP().Timestamp)
		require.True(t, p.Send(8, false, 800, []byte{1}))
		require.Equal(t, before.Timestamp, far.readRTP().Timestamp)
	}
	require.False(t, p.SendKey(101, false, 640, KeyTime{}, nil), "never back in time")
}

func TestPortTellsAndHearsRTCP(t *testing.T) {
	p := openPort(t)
	far := newEndpoint(t, p.Local())
	farRTCP := newEndpoint(t, netip.AddrPortFrom(loopback, p.Local().Port()+1))
	stranger := newEndpoint(t, farRTCP.to)
	got := make(inbox, 100)
	m := agreed(far.addr())
	m.RemoteRTCP = farRTCP.addr()
	p.Update(m)
	p.Start(got)

	// wait reads reports until one satisfies ok.
	wait := func(ok func([]rtcp.Packet) bool) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
			list, err := rtcp.Unmarshal(farRTCP.read())
			require.NoError(t, err)
			sdes, isSDES := list[1].(*rtcp.SourceDescription)
			require.True(t, isSDES)
			require.Equal(t, rtcp.SDESCNAME, sdes.Chunks[0].Items[0].Type)
			require.Len(t, sdes.Chunks[0].Items[0].Text, 24)
			if ok(list) {
				return
			}
		}
		t.Fatal("the report did not come")
	}
	wait(func(list []rtcp.Packet) bool { // nothing sent, nothing received
		rr, ok := list[0].(*rtcp.ReceiverReport)
		return ok && len(rr.Reports) == 0
	})

	far.send(8, 77, 10)
	far.send(8, 77, 12)
	got.next(t)
	got.next(t)
	require.True(t, p.Send(8, true, 0, make([]byte, 160)))
	ssrc := far.readRTP().SSRC
	sr, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: 77, NTPTime: 0x1234_5678_9abc_def0}})
	require.NoError(t, err)
	farRTCP.write(sr)
	var lastSR uint32
	wait(func(list []rtcp.Packet) bool {
		s, ok := list[0].(*rtcp.SenderReport)
		if !ok || len(s.Reports) == 0 || s.Reports[0].LastSenderReport == 0 {
			return false
		}
		require.Equal(t, ssrc, s.SSRC)
		require.EqualValues(t, 1, s.PacketCount)
		require.EqualValues(t, 160, s.OctetCount)
		require.EqualValues(t, 77, s.Reports[0].SSRC)
		require.EqualValues(t, 1, s.Reports[0].TotalLost)
		require.EqualValues(t, 0x56789abc, s.Reports[0].LastSenderReport)
		lastSR = uint32(s.NTPTime >> 16)
		return true
	})

	// What the far end says about us is read; garbage and strangers do no harm.
	rr, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 77, Reports: []rtcp.ReceptionReport{
		{SSRC: ssrc, TotalLost: 3, LastSenderReport: lastSR},
		{SSRC: ssrc + 1, TotalLost: 9999},
	}}})
	require.NoError(t, err)
	farRTCP.write([]byte{0x81, 201, 0xff, 0xff, 1, 2, 3})
	farRTCP.write(rr)
	stranger.write(rr)
	require.Eventually(t, func() bool { return p.Stats().Lost == 3 && p.Stats().RoundTrip > 0 }, 5*time.Second, time.Millisecond)
	require.EqualValues(t, 1, p.Stats().Malformed)

	go func() { _ = p.Close() }()
	wait(func(list []rtcp.Packet) bool {
		bye, ok := list[len(list)-1].(*rtcp.Goodbye)
		return ok && bye.Sources[0] == ssrc
	})
}

func TestPortCloses(t *testing.T) {
	t.Run("never started", func(t *testing.T) {
		p := openPort(t)
		require.NoError(t, p.Close())
		p.Start(make(inbox))
		p.Update(agreed(netip.MustParseAddrPort("127.0.0.1:9")))
		require.False(t, p.Send(8, true, 0, []byte{1}))
		require.NoError(t, p.Close())
	})
	t.Run("from many sides, while packets fly", func(t *testing.T) {
		p := openPort(t)
		far := newEndpoint(t, p.Local())
		p.Update(agreed(far.addr()))
		got := make(inbox, 10000)
		p.Start(got)
		far.send(8, 1, 1)
		got.next(t)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for k := range uint32(200) {
					p.Send(8, false, k*160, []byte{1})
					if i == 0 && k == 100 {
						_ = p.Close()
					}
				}
				_ = p.Close()
			})
		}
		wg.Wait()
	})
}

func TestPortIPv6(t *testing.T) {
	ps, err := NewPorts(PortsConfig{Listen: []netip.Addr{netip.IPv6Loopback()}, From: 32000, To: 32099})
	require.NoError(t, err)
	p, err := ps.Open()
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	t.Cleanup(func() { _ = p.Close() })
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	far := &endpoint{t, c, p.Local()}
	got := make(inbox, 1)
	p.Update(agreed(far.addr()))
	p.Start(got)
	far.send(8, 1, 1)
	got.next(t)
	require.True(t, p.Send(8, false, 0, []byte{1}))
	far.readRTP()
	// An address of the other family can't be reached, and does no harm.
	p.Update(agreed(netip.MustParseAddrPort("127.0.0.1:9")))
	require.False(t, p.Send(8, false, 160, []byte{1}))
}

// silent is a receiver that only counts.
type silent struct{ n int }

func (s *silent) ReceiveRTP(*rtp.Packet, time.Time) { s.n++ }
func (s *silent) Broke(panicked any)                { panic(panicked) }

func testPortWithoutGoroutines(t testing.TB) (*Port, *silent) {
	t.Helper()
	ps, err := NewPorts(PortsConfig{Listen: []netip.Addr{loopback}, From: 32100, To: 32999})
	require.NoError(t, err)
	p, err := ps.Open()
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	s := &silent{}
	var r PortReceiver = s
	p.receiver.Store(&r)
	return p, s
}

func TestPortAllocatesNothing(t *testing.T) {
	p, s := testPortWithoutGoroutines(t)
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = sink.Close() })
	far := sink.LocalAddr().(*net.UDPAddr).AddrPort()
	p.Update(agreed(far))
	var packet rtp.Packet
	in := make([]byte, 172)
	in[0], in[1] = 0x80, 8
	junk := []byte{0x80, 8, 0}
	foreign := netip.MustParseAddrPort("192.0.2.1:1")
	at := time.Now()
	require.Zero(t, testing.AllocsPerRun(500, func() {
		in[3]++
		p.receive(&packet, in, far, at)
		p.receive(&packet, in, foreign, at)
		p.receive(&packet, junk, foreign, at)
	}))
	require.Equal(t, 501, s.n)
	payload, ts := make([]byte, 160), uint32(0)
	require.Zero(t, testing.AllocsPerRun(500, func() {
		ts += 160
		p.Send(8, false, ts, payload)
	}))
	require.EqualValues(t, 501, p.Stats().Sent+p.Stats().Unsent)

	// Reading from the socket, too.
	buf := make([]byte, maxDatagram)
	farRTP := newEndpoint(t, p.Local())
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := farRTP.WriteToUDPAddrPort(in, farRTP.to); err != nil {
			t.Fatal(err)
		}
		n, from, err := p.rtp.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		p.receive(&packet, buf[:n], unmap(from), at)
	}))
}

func FuzzRTP(f *testing.F) {
	f.Add([]byte{0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3}, false)
	f.Add([]byte{0x90, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xbe, 0xde, 0, 1, 0x10, 1, 0, 0}, false)
	f.Add([]byte{0xb0, 0x80 | 101, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x10, 0, 0, 1, 1, 0xff, 0, 0xff}, false)
	f.Add([]byte{0x81, 200, 0, 6, 0, 0, 0, 1}, true)
	p, s := testPortWithoutGoroutines(f)
	far := netip.MustParseAddrPort("127.0.0.1:4000")
	p.Update(agreed(far))
	var packet rtp.Packet
	f.Fuzz(func(t *testing.T, b []byte, isRTCP bool) {
		if isRTCP {
			p.receiveRTCP(b, far, time.Now())
			return
		}
		before := s.n
		p.receive(&packet, b, far, time.Now())
		if s.n > before && (packet.Version != 2 || !p.media.expects(packet.PayloadType)) {
			t.Fatalf("accepted %x", b)
		}
		if _, list := p.compound(time.Now(), true); len(list) > 0 {
			if _, err := rtcp.Marshal(list); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkPortSend(b *testing.B) {
	p, _ := testPortWithoutGoroutines(b)
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(b, err)
	b.Cleanup(func() { _ = sink.Close() })
	p.Update(agreed(sink.LocalAddr().(*net.UDPAddr).AddrPort()))
	payload, ts := make([]byte, 160), uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		ts += 160
		p.Send(8, false, ts, payload)
	}
}

func BenchmarkPortReceive(b *testing.B) {
	p, _ := testPortWithoutGoroutines(b)
	far := netip.MustParseAddrPort("127.0.0.1:4000")
	p.Update(agreed(far))
	var packet rtp.Packet
	in := make([]byte, 172)
	in[0], in[1] = 0x80, 8
	at := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		in[3]++
		p.receive(&packet, in, far, at)
	}
}
