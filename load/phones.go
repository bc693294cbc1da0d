package load

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
)

// phone is the far end of one call: it answers at once and speaks from then on.
type phone struct {
	number string
	conn   *ear
	start  time.Time
	flow   *flow // what it hears; filled by read
	heard  atomic.Int64

	remote   atomic.Pointer[netip.AddrPort]
	answered chan struct{} // closed when the ACK is here
	once     sync.Once

	header rtp.Header // owned by the pacer
	packet [12 + frameSamples]byte
	codec  uint8 // its RTP payload type (RFC 3551 §6)
}

// use sets the codec, before the first packet.
func (p *phone) use(codec string) {
	if codec == g722Name {
		p.codec = 9
	}
	p.header.PayloadType = p.codec
}

func newPhone(number string, start time.Time, f *flow) (*phone, error) {
	conn, err := newEar(loopback(), nil)
	if err != nil {
		return nil, err
	}
	return &phone{
		number: number, conn: conn, start: start, flow: f,
		answered: make(chan struct{}),
		header:   rtp.Header{Version: 2, SSRC: rand.Uint32(), SequenceNumber: uint16(rand.Uint32()), Timestamp: rand.Uint32()},
	}, nil
}

// read keeps what comes in until the socket is closed.
func (p *phone) read() {
	var buf [1500]byte
	var packet rtp.Packet
	for {
		n, _, came, err := p.conn.receive(buf[:])
		if err != nil {
			return
		}
		at := came.Sub(p.start)
		if packet.Unmarshal(buf[:n]) != nil || packet.PayloadType != p.codec {
			continue
		}
		p.heard.Add(1)
		p.flow.arrived(at, packet.SSRC, packet.Timestamp, packet.SequenceNumber, packet.Payload)
	}
}

// speak sends the next packet, or only counts it when drop is set. Only the pacer calls it.
func (p *phone) speak(payload []byte, drop bool) {
	remote := p.remote.Load()
	if remote != nil && !drop {
		n, err := p.header.MarshalTo(p.packet[:])
		if err == nil {
			n += copy(p.packet[n:], payload)
			_ = p.conn.send(p.packet[:n], *remote) // a port that is gone shows as loss
		}
	}
	p.header.SequenceNumber++
	p.header.Timestamp += frameSamples
}

// farEnd answers the gateway's calls: one SIP listener for all phones.
type farEnd struct {
	log     *slog.Logger
	agent   *sipgo.UserAgent
	server  *sipgo.Server
	conn    net.PacketConn
	addr    netip.AddrPort
	dialogs *sipgo.DialogServerCache

	mu     sync.Mutex // guards phones
	phones map[string]*phone
}

func newFarEnd(ctx context.Context, log *slog.Logger) (*farEnd, error) {
	f := &farEnd{log: log, phones: make(map[string]*phone)}
	var err error
	var lc net.ListenConfig
	if f.conn, err = lc.ListenPacket(ctx, "udp4", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("load: SIP socket: %w", err)
	}
	f.addr, _ = netip.ParseAddrPort(f.conn.LocalAddr().String())
	f.agent, err = sipgo.NewUA(
		sipgo.WithUserAgent("tandem-bench"),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(log)),
		sipgo.WithUserAgentTransactionLayerOptions(
			sip.WithTransactionLayerLogger(log), sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {})),
	)
	if err != nil {
		return nil, fmt.Errorf("load: SIP: %w", err)
	}
	client, err := sipgo.NewClient(f.agent, sipgo.WithClientLogger(log))
	if err != nil {
		return nil, fmt.Errorf("load: SIP: %w", err)
	}
	if f.server, err = sipgo.NewServer(f.agent, sipgo.WithServerLogger(log)); err != nil {
		return nil, fmt.Errorf("load: SIP: %w", err)
	}
	f.dialogs = sipgo.NewDialogServerCache(client, sip.ContactHeader{
		Address: sip.Uri{Scheme: "sip", User: "bench", Host: f.addr.Addr().String(), Port: int(f.addr.Port())},
	})
	f.server.OnInvite(f.onInvite)
	f.server.OnAck(func(req *sip.Request, tx sip.ServerTransaction) {
		if err := f.dialogs.ReadAck(req, tx); err != nil {
			f.log.Debug("load: ACK", "err", err)
		}
	})
	f.server.OnBye(func(req *sip.Request, tx sip.ServerTransaction) {
		if err := f.dialogs.ReadBye(req, tx); err != nil {
			_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusCallTransactionDoesNotExists, "Call Does Not Exist", nil))
		}
	})
	f.server.OnOptions(func(req *sip.Request, tx sip.ServerTransaction) {
		_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusOK, "OK", nil))
	})
	return f, nil
}

// serve returns after close.
func (f *farEnd) serve() error { return f.server.ServeUDP(f.conn) }

func (f *farEnd) close() {
	_ = f.agent.Close()
	_ = f.conn.Close()
}

// expect has the phone answer the next call to its number.
func (f *farEnd) expect(p *phone) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.phones[p.number] = p
}

func (f *farEnd) phone(number string) *phone {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.phones[number]
}

func (f *farEnd) onInvite(req *sip.Request, tx sip.ServerTransaction) {
	p := f.phone(req.Recipient.User)
	if p == nil {
		_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusNotFound, "Not Found", nil))
		return
	}
	remote, err := remoteRTP(req.Body())
	if err != nil {
		f.log.Warn("load: the gateway's offer", "err", err)
		_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusNotAcceptableHere, "Not Acceptable Here", nil))
		return
	}
	dlg, err := f.dialogs.ReadInvite(req, tx)
	if err != nil {
		f.log.Warn("load: INVITE", "err", err)
		return
	}
	if err := dlg.RespondSDP(p.sdp()); err != nil {
		f.log.Warn("load: answer", "err", err)
		return
	}
	p.remote.Store(&remote)
	p.once.Do(func() { close(p.answered) })
}

func remoteRTP(body []byte) (netip.AddrPort, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(string(body)); err != nil {
		return netip.AddrPort{}, fmt.Errorf("load: SDP: %w", err)
	}
	for _, m := range d.MediaDescriptions {
		conn := m.ConnectionInformation
		if conn == nil {
			conn = d.ConnectionInformation
		}
		if m.MediaName.Media != "audio" || conn == nil || conn.Address == nil {
			continue
		}
		addr, err := netip.ParseAddr(conn.Address.Address)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("load: c= of SDP: %w", err)
		}
		return netip.AddrPortFrom(addr, uint16(m.MediaName.Port.Value)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("load: no audio in SDP %q", body)
}

// sdp is what the phone offers or answers.
func (p *phone) sdp() []byte { return answerSDP(p.conn.LocalAddr().String(), p.codec) }

func answerSDP(local string, codec uint8) []byte {
	host, port, _ := strings.Cut(local, ":")
	name := pcmu
	if codec != 0 {
		name = g722Name
	}
	return fmt.Appendf(nil, "v=0\r\no=bench 1 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\n"+
		"m=audio %s RTP/AVP %d\r\na=rtpmap:%d %s/8000\r\na=ptime:20\r\na=sendrecv\r\n", host, host, port, codec, codec, name)
}
