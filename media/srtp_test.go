package media

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/stretchr/testify/require"

	"tandem/errs"
)

// newKey makes a key of a suite.
func newKey(t testing.TB, suite string) *SRTPKey {
	t.Helper()
	k, err := NewSRTPKey(suite)
	require.NoError(t, err)
	require.NoError(t, k.Validate())
	return k
}

// secret is a far end's use of one key.
func secret(t testing.TB, k *SRTPKey) *srtp.Context {
	t.Helper()
	ctx, err := k.context()
	require.NoError(t, err)
	return ctx
}

// plainRTP is a packet as a phone makes it before it protects it.
func plainRTP(t testing.TB, ssrc uint32, seq uint16) []byte {
	t.Helper()
	b, err := (&rtp.Packet{
		Header:  rtp.Header{Version: 2, PayloadType: 8, SSRC: ssrc, SequenceNumber: seq, Timestamp: uint32(seq) * 160},
		Payload: []byte{1, 2, 3},
	}).Marshal()
	require.NoError(t, err)
	return b
}

func sealed(t testing.TB, ctx *srtp.Context, ssrc uint32, seq uint16) []byte {
	t.Helper()
	b, err := ctx.EncryptRTP(nil, plainRTP(t, ssrc, seq), nil)
	require.NoError(t, err)
	return b
}

// counter counts what a port accepts.
type counter int

func (c *counter) ReceiveRTP(*rtp.Packet, time.Time) { *c++ }
func (c *counter) Broke(panicked any)                { panic(panicked) }

// feeder brings packets to a port without its sockets, at times of its own.
type feeder struct {
	*Port
	t      testing.TB
	got    counter
	packet rtp.Packet
	from   netip.AddrPort
	now    time.Time
}

func newFeeder(t testing.TB, in *SRTPKey) *feeder {
	t.Helper()
	ps, err := NewPorts(PortsConfig{Listen: []netip.Addr{loopback}, From: 31100, To: 31999})
	require.NoError(t, err)
	p, err := ps.Open()
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	f := &feeder{Port: p, t: t, from: netip.MustParseAddrPort("127.0.0.1:9"), now: time.Now()}
	var r PortReceiver = &f.got
	p.receiver.Store(&r)
	f.agree(in, true)
	return f
}

func (f *feeder) agree(in *SRTPKey, receive bool) {
	m := agreed(f.from)
	m.Inbound, m.Receive = in, receive
	f.Update(m)
}

// takes says whether the port accepts b.
func (f *feeder) takes(b []byte) bool {
	before := f.got
	f.receive(&f.packet, b, f.from, f.now)
	return f.got == before+1
}

func TestSRTPKeyValidate(t *testing.T) {
	for _, k := range []SRTPKey{{}, {Suite: "F8_128_HMAC_SHA1_80", Key: make([]byte, 30)}, {Suite: AEADAES256GCM, Key: make([]byte, 43)}} {
		err := k.Validate()
		require.Equal(t, errs.Invalid, errs.CodeOf(err))
	}
	_, err := NewSRTPKey("NULL")
	require.Equal(t, errs.Invalid, errs.CodeOf(err))
}

// Sound and reports are protected both ways, on two pairs of ports and on one.
func TestPortSecured(t *testing.T) {
	for _, suite := range SRTPSuites() {
		for _, mux := range []bool{false, true} {
			name := suite
			if mux {
				name += " rtcp-mux"
			}
			t.Run(name, func(t *testing.T) {
				p := openPort(t)
				far, farRTCP := newEndpoint(t, p.Local()), newEndpoint(t, netip.AddrPortFrom(p.Local().Addr(), p.Local().Port()+1))
				if mux {
					farRTCP = far
				}
				in, out := newKey(t, suite), newKey(t, suite)
				m := agreed(far.addr())
				m.Inbound, m.Outbound, m.RTCPMux, m.RemoteRTCP = in, out, mux, farRTCP.addr()
				got := make(inbox, 100)
				p.Update(m)
				p.Start(got)
				sends, hears := secret(t, in), secret(t, out)

				far.write(plainRTP(t, 1, 1)) // not protected
				far.write(sealed(t, sends, 1, 2))
				packet := got.next(t)
				require.EqualValues(t, 2, packet.SequenceNumber)
				require.Equal(t, []byte{1, 2, 3}, packet.Payload)
				require.EqualValues(t, 1, p.Stats().Forged)

				require.True(t, p.Send(8, true, 0, []byte{4, 5, 6}))
				report, err := rtcp.Marshal([]rtcp.Packet{&rtcp.SenderReport{SSRC: 1, NTPTime: NTP(time.Now())}})
				require.NoError(t, err)
				farRTCP.write(report) // plain: not believed
				protected, err := sends.EncryptRTCP(nil, report, nil)
				require.NoError(t, err)
				farRTCP.write(protected)

				var heard, told bool
				for !heard || !told {
					if !heard || mux {
						b := far.read()
						require.NotContains(t, string(b), "\x04\x05\x06", "on the wire in the clear")
						if isRTCP(b) {
							told = readsReport(t, hears, b) || told
						} else {
							plain, err := hears.DecryptRTP(nil, b, nil)
							require.NoError(t, err)
							require.Equal(t, []byte{4, 5, 6}, plain[12:])
							heard = true
						}
						continue
					}
					told = readsReport(t, hears, farRTCP.read())
				}
				require.EqualValues(t, 2, p.Stats().Forged)
				require.Zero(t, p.Stats().Malformed)
			})
		}
	}
}

// readsReport opens a report of the port and says whether it answers the far end's.
func readsReport(t *testing.T, ctx *srtp.Context, b []byte) bool {
	t.Helper()
	plain, err := ctx.DecryptRTCP(nil, b, nil)
	require.NoError(t, err)
	packets, err := rtcp.Unmarshal(plain)
	require.NoError(t, err)
	switch r := packets[0].(type) {
	case *rtcp.SenderReport:
		return len(r.Reports) == 1 && r.Reports[0].LastSenderReport != 0
	case *rtcp.ReceiverReport:
		return len(r.Reports) == 1 && r.Reports[0].LastSenderReport != 0
	}
	return false
}

func TestSRTPReplay(t *testing.T) {
	for _, suite := range SRTPSuites() {
		key := newKey(t, suite)
		f, far := newFeeder(t, key), secret(t, key)
		first := sealed(t, far, 1, 10)
		require.True(t, f.takes(first))
		require.False(t, f.takes(first), "once only")
		for seq := range uint16(500) {
			require.True(t, f.takes(sealed(t, far, 1, 11+seq)))
		}
		require.False(t, f.takes(first), "nor later")
		forged := sealed(t, far, 1, 600)
		forged[14] ^= 1
		require.False(t, f.takes(forged))
		require.EqualValues(t, 3, f.Stats().Forged)
	}
}

// A packet that is not authentic says nothing about where the far end is.
func TestForgeriesMoveNoSource(t *testing.T) {
	key, other := newKey(t, AESCM128HMACSHA180), newKey(t, AESCM128HMACSHA180)
	f, far, forger := newFeeder(t, key), secret(t, key), secret(t, other)
	signalled, stranger := f.from, netip.MustParseAddrPort("127.0.0.1:7")
	nat := netip.MustParseAddrPort("127.0.0.1:8")

	f.from = stranger
	require.False(t, f.takes(plainRTP(t, 1, 1)))
	require.False(t, f.takes(sealed(t, forger, 1, 1)))
	require.Equal(t, signalled, f.Remote(), "nobody is known yet")
	f.from = nat
	require.True(t, f.takes(sealed(t, far, 1, 1)))
	require.Equal(t, nat, f.Remote())
	f.from = signalled
	for seq := range uint16(3 * newSourceRun) {
		require.False(t, f.takes(sealed(t, forger, 9, seq)))
	}
	require.Equal(t, nat, f.Remote())
	for seq := range uint16(newSourceRun) {
		require.Equal(t, seq == newSourceRun-1, f.takes(sealed(t, far, 9, seq)))
	}
	require.Equal(t, signalled, f.Remote())
}

// A re-INVITE with the same key, however often, changes nothing for the stream; one with another key takes both for a
// moment; the first key, when it comes back, is where it was.
func TestSRTPKeysChange(t *testing.T) {
	one, two := newKey(t, AESCM128HMACSHA180), newKey(t, AEADAES128GCM)
	f, first, second := newFeeder(t, one), secret(t, one), secret(t, two)
	seq := uint16(65000)
	for range 1000 { // over a rollover
		require.True(t, f.takes(sealed(t, first, 1, seq)))
		seq++
	}
	f.agree(one.clone(), true)
	require.True(t, f.takes(sealed(t, first, 1, seq)))
	seen := sealed(t, first, 1, seq+1)
	require.True(t, f.takes(seen))

	f.agree(two, true)
	require.False(t, f.takes(seen))
	require.True(t, f.takes(sealed(t, first, 1, seq+2)), "on the way when the key changed")
	require.True(t, f.takes(sealed(t, second, 1, seq+3)))
	require.True(t, f.takes(sealed(t, first, 1, seq+4)), "and overtaken")
	f.now = f.now.Add(oldKeyTime + time.Second)
	require.False(t, f.takes(sealed(t, first, 1, seq+5)), "that was long ago")
	require.True(t, f.takes(sealed(t, second, 1, seq+6)))

	f.agree(one, true)
	require.False(t, f.takes(seen), "played again")
	require.True(t, f.takes(sealed(t, first, 1, seq+7)))

	f.agree(nil, true)
	require.True(t, f.takes(plainRTP(t, 1, seq+8)))
	f.agree(one, true)
	require.False(t, f.takes(plainRTP(t, 1, seq+9)))
	require.True(t, f.takes(sealed(t, first, 1, seq+10)))
}

// Whether a far end's rollover counter begins anew with a new key or goes on, it is understood.
func TestSRTPCounterAcrossKeys(t *testing.T) {
	for _, begins := range []uint32{0, 3, 4} {
		one, two := newKey(t, AESCM128HMACSHA180), newKey(t, AESCM128HMACSHA180)
		f, first, second := newFeeder(t, one), secret(t, one), secret(t, two)
		seq := uint16(65000)
		first.SetROC(1, 3)
		f.opening.now.ctx.SetROC(1, 3) // as after an hour
		for range 500 {
			require.True(t, f.takes(sealed(t, first, 1, seq)))
			seq++
		}
		f.agree(two, true)
		if begins == 4 {
			seq = 5 // the first packets after the rollover were lost
		}
		second.SetROC(1, begins)
		for range 100 {
			require.True(t, f.takes(sealed(t, second, 1, seq)), "counter %d", begins)
			seq++
		}
	}
}

// A hold of 15 minutes is more than half a cycle of sequence numbers: whether the far end went on sending, was silent,
// or could not be heard, its sound is back at once or within a moment.
func TestSRTPLongHold(t *testing.T) {
	const held = 15 * 60 * 50 // packets
	for _, c := range []struct {
		name      string
		sent      bool // the far end sends while on hold
		arrives   bool
		mayBeLost int // packets until its sound is back
	}{
		{"the far end sends", true, true, 0},
		{"the far end is silent", false, false, 0},
		{"the far end sends, and a firewall eats it", true, false, strayRun - 1},
	} {
		for _, suite := range []string{AESCM128HMACSHA180, AEADAES256GCM} {
			t.Run(c.name+" "+suite, func(t *testing.T) {
				key := newKey(t, suite)
				f, far := newFeeder(t, key), secret(t, key)
				seq := uint16(40000)
				var old []byte
				for range 100 {
					old = sealed(t, far, 1, seq)
					require.True(t, f.takes(old))
					seq++
				}
				f.agree(key, false)
				for range held {
					if c.sent {
						b := sealed(t, far, 1, seq)
						if c.arrives {
							require.False(t, f.takes(b))
						}
						seq++
					}
				}
				f.now = f.now.Add(15 * time.Minute)
				f.agree(key, true)
				lost := 0
				for !f.takes(sealed(t, far, 1, seq)) {
					seq++
					lost++
					require.LessOrEqual(t, lost, c.mayBeLost)
				}
				require.False(t, f.takes(old), "played again")
				for range 40000 { // over the next rollover too
					seq++
					require.True(t, f.takes(sealed(t, far, 1, seq)))
				}
				require.False(t, f.takes(old), "played again")
			})
		}
	}
}

// What a far end hears of us has one sequence, whatever is agreed meanwhile, and no keystream is used twice.
func TestSRTPOutbound(t *testing.T) {
	p := openPort(t)
	far := newEndpoint(t, p.Local())
	one, two := newKey(t, AESCM128HMACSHA180), newKey(t, AESCM128HMACSHA180)
	hears := map[*SRTPKey]*srtp.Context{one: secret(t, one), two: secret(t, two)}
	p.out.seq = 0x7ff0
	ssrc := p.out.ssrc
	seq, roc, ts := uint16(0x7ff0), uint32(0), uint32(0)
	say := func(k *SRTPKey, n int) {
		m := agreed(far.addr())
		m.Outbound = k
		p.Update(m)
		for range n {
			require.True(t, p.Send(8, false, ts, []byte{4, 5, 6}))
			b := far.read()
			if k != nil {
				if _, known := hears[k].ROC(ssrc); !known {
					hears[k].SetROC(ssrc, roc)
				}
				var err error
				b, err = hears[k].DecryptRTP(nil, b, nil)
				require.NoError(t, err, "packet %d of cycle %d", seq, roc)
			}
			require.Equal(t, ssrc, headerSSRC(b))
			require.Equal(t, seq, headerSequence(b))
			require.Equal(t, []byte{4, 5, 6}, b[12:])
			ts += 160
			if seq++; seq == 0 {
				roc++
			}
		}
	}
	say(one, 40000)
	require.EqualValues(t, 1, roc)
	say(two, 100)
	hears[one] = secret(t, one) // who comes back to a key is told by signalling where the counter stands
	say(one, 100)
	say(nil, 100)
	say(two, 10)
}

func TestSRTPUnusableKey(t *testing.T) {
	p := openPort(t)
	far := newEndpoint(t, p.Local())
	m := agreed(far.addr())
	m.Outbound = &SRTPKey{Suite: AEADAES256GCM, Key: []byte("short")}
	m.Inbound = &SRTPKey{Suite: "none", Key: []byte("short")}
	got := make(inbox, 10)
	p.Update(m)
	p.Start(got)
	require.False(t, p.Send(8, false, 0, []byte{1}), "nothing goes out in the clear")
	far.write(plainRTP(t, 1, 1))
	require.Eventually(t, func() bool { return p.Stats().Forged == 1 }, 5*time.Second, time.Millisecond)
	require.Empty(t, got)
	require.Nil(t, p.out.sealReport([]byte("plain")))
}

// However many streams a far end begins, only so many are remembered.
func TestSRTPStreamsAreBounded(t *testing.T) {
	key := newKey(t, AEADAES128GCM)
	f, far := newFeeder(t, key), secret(t, key)
	for ssrc := range uint32(10 * maxStreams) {
		require.True(t, f.takes(sealed(t, far, ssrc, 1)))
		require.True(t, f.takes(sealed(t, far, ssrc, 2)))
		require.LessOrEqual(t, f.opening.now.streams, maxStreams)
	}
	forger := secret(t, newKey(t, AEADAES128GCM))
	for ssrc := range uint32(10 * maxStreams) {
		require.False(t, f.takes(sealed(t, forger, 1000+ssrc, 1)))
	}
	require.LessOrEqual(t, f.opening.now.streams, maxStreams, "what is not authentic is not remembered")
}

func TestPortAllocatesNothingPerPacket(t *testing.T) {
	for _, suite := range append(SRTPSuites(), "plain") {
		t.Run(suite, func(t *testing.T) {
			var in, out *SRTPKey
			if suite != "plain" {
				in, out = newKey(t, suite), newKey(t, suite)
			}
			f := newFeeder(t, in)
			far := newEndpoint(t, f.Local())
			m := agreed(far.addr())
			f.from = far.addr()
			m.Inbound, m.Outbound = in, out
			f.Update(m)
			packets := make([][]byte, 300)
			var ctx *srtp.Context
			if in != nil {
				ctx = secret(t, in)
			}
			for i := range packets {
				packets[i] = plainRTP(t, 1, uint16(i))
				if ctx != nil {
					packets[i] = sealed(t, ctx, 1, uint16(i))
				}
			}
			i := 0
			require.Zero(t, testing.AllocsPerRun(200, func() {
				f.receive(&f.packet, packets[i], f.from, f.now)
				i++
			}))
			require.EqualValues(t, 201, f.got)
			ts, payload := uint32(0), make([]byte, 160)
			require.Zero(t, testing.AllocsPerRun(200, func() {
				f.Send(8, false, ts, payload)
				ts += 160
			}))
			require.EqualValues(t, 201, f.Stats().Sent)
		})
	}
}

// BenchmarkPort is a packet of 20 ms in, and one out, to the kernel included.
func BenchmarkPort(b *testing.B) {
	for _, suite := range append([]string{"plain"}, SRTPSuites()...) {
		var key *SRTPKey
		if suite != "plain" {
			key = newKey(b, suite)
		}
		payload := make([]byte, 160)
		b.Run("receive/"+suite, func(b *testing.B) {
			b.ReportAllocs()
			f := newFeeder(b, key)
			var ctx *srtp.Context
			if key != nil {
				ctx = secret(b, key)
			}
			const lap = 1024
			packets := make([][]byte, lap)
			for n := 0; n < b.N; n += lap {
				b.StopTimer()
				for i := range packets {
					p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 8, SSRC: 1, SequenceNumber: uint16(n + i)}, Payload: payload}
					packets[i], _ = p.Marshal()
					if ctx != nil {
						packets[i], _ = ctx.EncryptRTP(nil, packets[i], nil)
					}
				}
				b.StartTimer()
				for i := range min(lap, b.N-n) {
					f.receive(&f.packet, packets[i], f.from, f.now)
				}
			}
			if int(f.got) != b.N {
				b.Fatalf("%d of %d packets were taken", f.got, b.N)
			}
		})
		b.Run("send/"+suite, func(b *testing.B) {
			b.ReportAllocs()
			f := newFeeder(b, nil)
			m := agreed(f.from)
			m.Outbound = key
			f.Update(m)
			ts := uint32(0)
			for b.Loop() {
				f.Send(8, false, ts, payload)
				ts += 160
			}
		})
	}
}

// FuzzSRTP brings anything to ports with keys: as it is, which none may take, and sealed as the far end seals, which may
// hold anything too.
func FuzzSRTP(f *testing.F) {
	f.Add(0, false, false, []byte{0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3})
	f.Add(1, true, false, []byte{0xb0, 0x80 | 101, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x10, 0, 0, 1, 1, 0xff, 0, 0xff})
	f.Add(2, true, true, []byte{0x81, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0, 1})
	f.Add(3, false, true, []byte{0x80, 201, 0, 1, 0, 0, 0, 1, 0x80, 0, 0, 1})
	type line struct {
		*feeder
		far *srtp.Context
	}
	var lines []line
	for _, suite := range SRTPSuites() {
		k := newKey(f, suite)
		for i := range k.Key {
			k.Key[i] = byte(i)
		}
		lines = append(lines, line{newFeeder(f, k), secret(f, k)})
	}
	f.Fuzz(func(t *testing.T, suite int, sealed, isRTCP bool, b []byte) {
		l := lines[uint(suite)%uint(len(lines))]
		if len(b) > maxDatagram/2 {
			t.Skip("no datagram")
		}
		if sealed {
			if isRTCP {
				if len(b) < 8 {
					t.Skip("the library seals no less")
				}
				b, _ = l.far.EncryptRTCP(nil, b, nil)
			} else {
				b, _ = l.far.EncryptRTP(nil, b, nil)
			}
		}
		if isRTCP {
			l.receiveRTCP(b, l.from, l.now)
			return
		}
		if l.takes(b) && !sealed {
			t.Fatalf("took %x, which nobody sealed", b)
		}
	})
}
