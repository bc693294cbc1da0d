package media

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pion/rtp"
)

// PortMedia is what an offer and its answer agreed for a port (RFC 3264).
type PortMedia struct {
	Remote     netip.AddrPort // where the far end wants its RTP; the port follows its first valid packet
	RemoteRTCP netip.AddrPort // where it wants its RTCP; zero: the port after Remote's
	Speech     Speech
	EventType  int  // payload type of telephone-event (RFC 4733); -1: none
	Send       bool // we may send
	Receive    bool // the far end may send
	// EventRate is the clock of EventType in Hz; 0: 8000.
	EventRate int
	// PacketTime is how much sound the far end wants in a packet (a=ptime); 0: 20 ms.
	PacketTime time.Duration
	// Inbound and Outbound are the keys of the packets that come and go (SRTP, RFC 3711); nil: plain RTP.
	Inbound, Outbound *SRTPKey
	// RTCPMux lets RTCP use RTP's ports, both ways (RFC 5761); RemoteRTCP means nothing then.
	RTCPMux bool
	// Metrics lets our RTCP carry VoIP metrics (RFC 3611 §4.7).
	Metrics bool
	// InBand asks whoever reads the sound to listen for DTMF in it.
	InBand bool
	// KeysByInfo says that keys go to the far end as SIP INFO and not with the sound.
	KeysByInfo bool
	// ComfortType is the payload type of comfort noise on Speech's clock (RFC 3389), which only G.711 and G.722 have; 0: none.
	ComfortType uint8
	// PayloadType is what our sound is sent as; 0: the static one of Speech.
	PayloadType uint8
	// ComesAs and EventComesAs are what the far end may send its sound and its keys as besides PayloadType and
	// EventType: in an answer it names what it wants to get, and what it sends is as our offer named it (RFC 3264
	// §6.1). 0: nothing else.
	ComesAs, EventComesAs uint8
}

// Audio returns the payload type of the sound that we send.
func (m PortMedia) Audio() uint8 {
	if m.PayloadType != 0 {
		return m.PayloadType
	}
	return uint8(m.Speech)
}

// IsAudio says whether packets of payload type pt are the far end's sound. The codec's static type always is: nothing
// else can be.
func (m PortMedia) IsAudio(pt uint8) bool {
	return m.Speech != Opus && pt == uint8(m.Speech) || pt == m.Audio() || m.ComesAs != 0 && pt == m.ComesAs
}

// IsEvent says whether packets of payload type pt are the far end's keys.
func (m PortMedia) IsEvent(pt uint8) bool {
	return m.EventType >= 0 && int(pt) == m.EventType || m.EventComesAs != 0 && pt == m.EventComesAs
}

// Equal compares values; keys by what is in them.
func (m PortMedia) Equal(other PortMedia) bool {
	if !m.Inbound.Equal(other.Inbound) || !m.Outbound.Equal(other.Outbound) {
		return false
	}
	m.Inbound, m.Outbound = other.Inbound, other.Outbound
	return m == other
}

// IsComfort says whether packets of payload type pt are comfort noise.
func (m PortMedia) IsComfort(pt uint8) bool { return m.ComfortType != 0 && pt == m.ComfortType }

// expects says whether a packet of payload type pt may come.
func (m PortMedia) expects(pt uint8) bool { return m.IsAudio(pt) || m.IsEvent(pt) || m.IsComfort(pt) }

// PortReceiver takes the packets that a port accepts.
type PortReceiver interface {
	// ReceiveRTP runs on the port's reading goroutine: it must not block, must not close the port, and must keep
	// neither p nor its payload after returning. at is when the packet was read.
	ReceiveRTP(p *rtp.Packet, at time.Time)
	// Broke tells that reading has panicked, with this value, on the goroutine and with the stack of the panic. The port
	// reads no more on that socket; it is still to be closed.
	Broke(panicked any)
}

// PortStats are the counters of a port since it was opened.
type PortStats struct {
	Received  uint64        // RTP packets handed to the receiver
	Sent      uint64        // RTP packets given to the kernel
	Ignored   uint64        // well-formed, but from a stranger, of an unexpected payload type, or while on hold
	Malformed uint64        // no RTP (or, on the RTCP socket, no RTCP)
	Forged    uint64        // SRTP and SRTCP that was not authentic, or came twice
	Unsent    uint64        // packets that the kernel did not take, or that would have gone back in time
	Lost      int           // packets that the far end says it missed, from its last RTCP report
	RoundTrip time.Duration // from the far end's last RTCP report; 0: not known
}

// maxDatagram is more than any Ethernet carries; what fills it was cut and is malformed.
const maxDatagram = 1536

// maxPayload bounds what Send takes, so that a packet fits an Ethernet frame.
const maxPayload = 1400

// Port is the RTP and RTCP socket pair of one phone leg. It is open from Ports.Open to Close; what comes in before
// Start is thrown away. Its own SSRC, sequence numbers and timestamps begin at random values, stay for the life of the
// port and never go back, whoever feeds it.
type Port struct {
	ports  *Ports
	local  netip.AddrPort // public address, RTP port
	bound  netip.AddrPort // RTP port in the pool
	rtp    *net.UDPConn
	rtcp   *net.UDPConn
	every  time.Duration // between RTCP reports
	cname  string
	done   chan struct{} // closed by Close
	finish sync.Once
	wg     sync.WaitGroup // the two reading goroutines

	receiver atomic.Pointer[PortReceiver]
	target   atomic.Pointer[netip.AddrPort] // where RTP goes now; nil: nowhere yet
	sending  atomic.Bool                    // PortMedia.Send
	mux      atomic.Bool                    // PortMedia.RTCPMux

	received, sent                     atomic.Uint64
	ignored, malformed, forged, unsent tally

	mu      sync.Mutex // receiving side: reading goroutines, Start, Update
	started bool
	closed  bool
	agreed  bool // Update was called
	media   PortMedia
	source  sourceLock
	opening *opening // nil: there never was a key
	heard   Heard    // without Expected
	quality Reception
	reports reports
	scores  Scores // SetScores

	out sender
}

// Local returns the address that SDP shows: the public address with the RTP port. The RTCP port is the next one.
func (p *Port) Local() netip.AddrPort { return p.local }

// Bound returns where another port of this program reaches this one: the address of its socket, which a NAT may hide
// from everybody else.
func (p *Port) Bound() netip.AddrPort {
	if a, ok := p.rtp.LocalAddr().(*net.UDPAddr); ok && !a.IP.IsUnspecified() {
		return unmap(a.AddrPort())
	}
	return p.local
}

// Stats returns the counters. Safe from any goroutine.
func (p *Port) Stats() PortStats {
	s := PortStats{
		Received:  p.received.Load(),
		Sent:      p.sent.Load(),
		Ignored:   p.ignored.Load(),
		Malformed: p.malformed.Load(),
		Forged:    p.forged.Load(),
		Unsent:    p.unsent.Load(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Lost, s.RoundTrip = p.reports.lost, p.reports.roundTrip
	return s
}

// Remote returns where RTP is sent now: the far end's first valid source, or before that the address of its SDP.
func (p *Port) Remote() netip.AddrPort {
	if t := p.target.Load(); t != nil {
		return *t
	}
	return netip.AddrPort{}
}

// Start hands the packets that come from now on to r; what waited in the socket is old and is thrown away. The first
// call starts the port's goroutines, later ones replace the receiver. Whoever sends from now on may count timestamps
// from another start; on the wire they go on. After Close it does nothing.
func (p *Port) Start(r PortReceiver) {
	p.receiver.Store(&r)
	p.out.begin()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.closed {
		return
	}
	p.started = true
	drain(p.rtp)
	p.wg.Go(p.readRTP)
	p.wg.Go(p.runRTCP)
}

// Update applies what was agreed, at first and after every re-offer. A changed remote address lets the port look for
// the far end's source anew, and so does the end of a hold (Receive). A remote address that can't be sent to (0.0.0.0
// is hold, RFC 3264 §8.4) stops sending and leaves the source as it was. Keys that did not change go on where they were,
// however long a hold was; a key that changed is taken beside the new one for a moment. A key that SRTPKey.Validate
// refuses lets nothing through: what was to be secret is never plain.
func (p *Port) Update(m PortMedia) {
	m.Remote = unmap(m.Remote)
	m.RemoteRTCP = unmap(m.RemoteRTCP)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.agreed = true
	if !sendable(m.Remote) {
		m.Remote, m.RemoteRTCP, m.Send = p.media.Remote, p.media.RemoteRTCP, false
	}
	if !sendable(m.RemoteRTCP) {
		m.RemoteRTCP = netip.AddrPort{}
	}
	if m.Remote != p.media.Remote || m.RemoteRTCP != p.media.RemoteRTCP {
		p.reports.from = netip.AddrPort{}
	}
	resumed := m.Receive && !p.media.Receive
	if m.Inbound != nil {
		if p.opening == nil {
			p.opening = &opening{}
		}
		p.opening.use(m.Inbound, time.Now())
	}
	p.out.secure(m.Outbound)
	p.out.count(m.Speech.Clock())
	p.quality.clock = int64(m.Speech.Clock())
	p.media = m
	p.mux.Store(m.RTCPMux)
	p.sending.Store(m.Send)
	p.source.signal(m.Remote)
	if resumed {
		p.source.resume()
	}
	p.retarget()
}

// retarget lets the sender know where the far end is. p.mu is held.
func (p *Port) retarget() {
	to := p.source.target()
	if old := p.target.Load(); old != nil && *old == to || !to.IsValid() {
		return
	}
	moved := to // escapes, and only here: a packet that changes nothing allocates nothing
	p.target.Store(&moved)
}

// Close says goodbye to the far end (RTCP BYE), closes both sockets and waits for the port's goroutines. It may be
// called more than once. The port number is not used again for a while.
func (p *Port) Close() error {
	var err error
	p.finish.Do(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		close(p.done)
		p.sayBye()
		err = p.rtp.Close()
		if e := p.rtcp.Close(); err == nil {
			err = e
		}
		p.ports.release(p.bound)
	})
	p.wg.Wait()
	p.receiver.Store(nil) // whoever still knows the port keeps no decoders alive by it
	return err
}

// readRTP owns the read buffer and the packet that points into it.
func (p *Port) readRTP() {
	defer p.survive()
	var packet rtp.Packet
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := p.rtp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if p.pause() {
				return
			}
			continue
		}
		p.receive(&packet, buf[:n], unmap(from), time.Now())
	}
}

// survive keeps what a packet of one call sets off from ending all calls.
func (p *Port) survive() {
	if panicked := recover(); panicked != nil {
		if r := p.receiver.Load(); r != nil {
			(*r).Broke(panicked)
		}
	}
}

// pause waits a moment after a failed read, so that a lasting fault does not spin. It says whether the port is closed.
func (p *Port) pause() bool {
	select {
	case <-p.done:
		return true
	case <-time.After(10 * time.Millisecond):
		return false
	}
}

// receive judges one datagram; what belongs to the call reaches the receiver.
func (p *Port) receive(packet *rtp.Packet, b []byte, from netip.AddrPort, at time.Time) {
	if p.mux.Load() && isRTCP(b) {
		p.receiveRTCP(b, from, at)
		return
	}
	if len(b) < 12 || len(b) == maxDatagram || b[0]>>6 != 2 {
		p.malformed.Add(1)
		return
	}
	plain, refusal := p.admit(b, from, at)
	if refusal != nil {
		refusal.Add(1)
		return
	}
	// Only the far end's own packets are parsed: what strangers send costs no more than the look above.
	if err := packet.Unmarshal(plain); err != nil {
		p.malformed.Add(1)
		return
	}
	p.note(packet, at)
	p.received.Add(1)
	if r := p.receiver.Load(); r != nil {
		(*r).ReceiveRTP(packet, at)
	}
}

// note counts a packet of the far end. A stream of keys alone, beside that of the sound, says nothing about its quality.
func (p *Port) note(packet *rtp.Packet, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard.RTP = at
	if packet.SSRC == p.quality.ssrc || !p.media.IsEvent(packet.PayloadType) {
		p.quality.Packet(packet.SSRC, packet.SequenceNumber, packet.Timestamp, at)
	}
}

// admit returns b, which has at least a fixed RTP header, in its plain form if it is the far end's, or else the counter
// of those that are not.
func (p *Port) admit(b []byte, from netip.AddrPort, at time.Time) ([]byte, *tally) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// While on hold a secured stream is not heard, but followed: its rollover counter would be lost otherwise.
	if !p.agreed || !p.media.Receive && p.media.Inbound == nil {
		return nil, &p.ignored
	}
	if !p.media.expects(b[1] & 0x7f) {
		p.heard.refuse(UnknownType, b, from)
		return nil, &p.ignored
	}
	next := p.source
	heard := next.admit(from, headerSSRC(b), headerSequence(b))
	if !heard && next == p.source {
		p.heard.refuse(WrongSource, b, from)
		return nil, &p.ignored
	}
	if p.media.Inbound != nil {
		if b = p.opening.rtp(b, at); b == nil {
			return nil, p.forgedBy(from) // and whoever sent it did not move the source
		}
	}
	if !p.media.Receive {
		return nil, &p.ignored
	}
	p.source = next
	p.retarget()
	if !heard {
		p.heard.refuse(WrongSource, b, from)
		return nil, &p.ignored
	}
	return b, nil
}

// forgedBy notes a packet that is not authentic, and returns what counts it. p.mu is held.
func (p *Port) forgedBy(from netip.AddrPort) *tally {
	p.heard.refuse(NotAuthentic, nil, from)
	return &p.forged
}

// isRTCP tells RTCP from RTP on one socket (RFC 5761 §4).
func isRTCP(b []byte) bool { return len(b) >= 2 && b[1] >= 192 && b[1] <= 223 }

// Send writes one packet with the port's own SSRC and the next sequence number. ts counts on the codec's RTP clock from any
// start that the caller likes; it may stay the same but never go back: then nothing is sent and false is returned, as it is while
// the far end's address is unknown or PortMedia.Send is false. Send never blocks: what the kernel does not take at
// once is counted as unsent. Safe from any goroutine; nothing of payload is kept.
func (p *Port) Send(payloadType uint8, marker bool, ts uint32, payload []byte) bool {
	to := p.target.Load()
	if to == nil || !p.sending.Load() || len(payload) > maxPayload {
		return false
	}
	if !p.out.send(to, payloadType, marker, ts, KeyTime{}, payload) {
		p.unsent.Add(1)
		return false
	}
	p.sent.Add(1)
	return true
}

// Lose leaves n sequence numbers out: so many packets of what is forwarded were lost before they came here, and the far
// end makes up for them better than anybody.
func (p *Port) Lose(n int) { p.out.lose(n) }

// KeyTime is what makes the timestamp of a key another than that of the sound around it. The zero value is that of sound.
type KeyTime struct {
	Clock uint32 // of telephone-event in Hz; 0: that of the sound
	Past  uint32 // on that clock: how long the key was before this segment of it (KeyPacket.Past)
}

// SendKey is Send for a packet of telephone-event: ts is when its key began, as Send counts the sound.
func (p *Port) SendKey(payloadType uint8, first bool, ts uint32, at KeyTime, payload []byte) bool {
	to := p.target.Load()
	if to == nil || !p.sending.Load() || len(payload) > maxPayload {
		return false
	}
	if !p.out.send(to, payloadType, first, ts, at, payload) {
		p.unsent.Add(1)
		return false
	}
	p.sent.Add(1)
	return true
}

// sendable says whether packets can go to a: a machine's own address, and a port.
func sendable(a netip.AddrPort) bool {
	return a.IsValid() && a.Port() != 0 && !a.Addr().IsUnspecified() && !a.Addr().IsMulticast()
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func headerSequence(b []byte) uint16 { return uint16(b[2])<<8 | uint16(b[3]) }

func headerSSRC(b []byte) uint32 {
	return uint32(b[8])<<24 | uint32(b[9])<<16 | uint32(b[10])<<8 | uint32(b[11])
}

// drain empties a socket's queue without waiting.
func drain(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	var b [1]byte
	_ = raw.Read(func(fd uintptr) bool {
		for range 1 << 16 { // bounded: a flood must not hold us here
			if _, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_DONTWAIT); err != nil {
				break
			}
		}
		return true
	})
}

// newPort wraps a bound pair of sockets.
func newPort(ports *Ports, at netip.AddrPort, public netip.Addr, rtpConn, rtcpConn *net.UDPConn) (*Port, error) {
	p := &Port{
		ports: ports,
		local: netip.AddrPortFrom(public, at.Port()),
		bound: at,
		rtp:   rtpConn,
		rtcp:  rtcpConn,
		every: ports.cfg.ReportEvery,
		cname: newCNAME(),
		done:  make(chan struct{}),
	}
	p.ignored.all, p.malformed.all, p.forged.all, p.unsent.all = &ports.ignored, &ports.malformed, &ports.forged, &ports.unsent
	p.media.EventType = -1
	return p, p.out.open(rtpConn, rand.Uint32(), uint16(rand.Uint32()&0x7fff), rand.Uint32()) // room before the first rollover (RFC 3711 §3.3.1)
}
