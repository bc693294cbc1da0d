package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"
	"github.com/zaf/g711"

	"tandem/dsp"
)

// FloorConfig is how the floor is run. It codes as our gateway does by default.
type FloorConfig struct {
	HTTP       string // address of /readyz, and of /offer for WebRTC
	FirstPort  int    // call k has this + 2k for the phone, one more for the other end
	Calls      int
	Complexity int
	WebRTC     bool // the other ends are connections of Pion; else SRTP with keys that both know
}

// floorSecret is the SRTP key of both directions: there is nothing to hide.
func floorSecret() []byte {
	secret := make([]byte, srtpKeyLen+srtpSaltLen)
	for i := range secret {
		secret[i] = byte(i)
	}
	return secret
}

const (
	floorFirstPort    = 30000 // below what the kernel gives to sockets without a port
	floorBitrate      = 32000
	gatewayComplexity = 1 // by default, of narrowband
)

// ServeFloor is the least code that does the work of bridged calls: a socket to the phone, libopus, and SRTP or a bare
// connection of Pion to the other end, and nothing else that a gateway has: no signalling but one offer and answer, no buffer,
// no concealment, no RTCP. It ends with ctx.
func ServeFloor(ctx context.Context, cfg FloorConfig) error {
	peers, err := newBarePeers()
	if err != nil {
		return err
	}
	work := newFloorWork()
	defer work.end()
	defer peers.close()
	calls := make([]*floorCall, cfg.Calls)
	for k := range calls {
		if calls[k], err = newFloorCall(work, cfg.FirstPort+2*k); err != nil {
			return err
		}
		if cfg.WebRTC {
			continue
		}
		far, err := newFloorSocket(work, cfg.FirstPort+2*k+1)
		if err != nil {
			return err
		}
		if err := calls[k].start(far, cfg.Complexity); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/offer", peers.offer(func(k int, pc *webrtc.PeerConnection) error {
		if k < 0 || k >= len(calls) {
			return fmt.Errorf("load: floor: call %d: %w", k, errEnded)
		}
		return calls[k].admit(pc, cfg.Complexity)
	}))
	return work.serve(ctx, cfg.HTTP, mux)
}

// floorWork is what a floor has open and running.
type floorWork struct {
	failed  chan error // why it can't go on
	mu      sync.Mutex // guards all below
	ended   bool
	sockets []*net.UDPConn
	running sync.WaitGroup
}

func newFloorWork() *floorWork { return &floorWork{failed: make(chan error, 1)} }

// listen opens a socket of the loopback, which end closes.
func (w *floorWork) listen(port int) (*net.UDPConn, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sockets = append(w.sockets, conn)
	return conn, nil
}

// run starts a goroutine, unless the floor has ended. Its error ends the floor.
func (w *floorWork) run(task func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.running.Go(func() {
		if err := task(); err != nil {
			select {
			case w.failed <- err:
			default: // another was first
			}
		}
	})
}

// serve answers over HTTP until ctx ends, or something can't go on.
func (w *floorWork) serve(ctx context.Context, addr string, handler http.Handler) error {
	server := &http.Server{Addr: addr, ReadHeaderTimeout: time.Second, Handler: handler}
	w.run(server.ListenAndServe)
	defer func() { _ = server.Close() }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-w.failed:
		return fmt.Errorf("load: floor: %w", err)
	}
}

// end closes the sockets and waits for every goroutine, so that another floor can have the ports.
func (w *floorWork) end() {
	w.mu.Lock()
	w.ended = true
	sockets := w.sockets
	w.mu.Unlock()
	for _, conn := range sockets {
		_ = conn.Close()
	}
	w.running.Wait()
}

// floorCall is one call of the floor. Its two goroutines end when its sockets do.
type floorCall struct {
	phone  *net.UDPConn
	remote atomic.Pointer[netip.AddrPort] // the phone's, learnt from its first packet
	work   *floorWork
}

// floorFar is the end of a call that speaks Opus.
type floorFar interface {
	// read waits for the next packet of RTP, in the clear.
	read(buf []byte) (int, error)
	// write sends one. It returns an error once nothing can be sent any more.
	write(packet *rtp.Packet) error
}

func newFloorCall(work *floorWork, port int) (*floorCall, error) {
	conn, err := work.listen(port)
	if err != nil {
		return nil, err
	}
	return &floorCall{phone: conn, work: work}, nil
}

// start carries the call between the phone and a socket from now on.
func (c *floorCall) start(far *floorSocket, complexity int) error {
	dec, err := opus.NewDecoder(phoneRate, 1)
	if err != nil {
		return fmt.Errorf("load: floor: %w", err)
	}
	c.work.run(func() error { return c.down(far, dec) })
	return c.startUp(far, complexity)
}

// startUp carries the phone's sound from now on.
func (c *floorCall) startUp(far floorFar, complexity int) error {
	voice, err := newFloorVoice(complexity)
	if err != nil {
		return err
	}
	c.work.run(func() error { return c.up(far, voice) })
	return nil
}

// admit lets a browser be the other end.
func (c *floorCall) admit(pc *webrtc.PeerConnection, complexity int) error {
	dec, err := opus.NewDecoder(phoneRate, 1)
	if err != nil {
		return fmt.Errorf("load: floor: %w", err)
	}
	track, err := webrtc.NewTrackLocalStaticRTP(opusCodec().RTPCodecCapability, "audio", "floor")
	if err != nil {
		return fmt.Errorf("load: floor: %w", err)
	}
	if _, err := pc.AddTrack(track); err != nil {
		return fmt.Errorf("load: floor: %w", err)
	}
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		c.work.run(func() error {
			_ = c.down(&floorPeer{remote: t}, dec) // it ends with its connection
			return nil
		})
	})
	return c.startUp(&floorPeer{local: track}, complexity)
}

// floorPeer is one way of a connection of Pion: local is written to, remote read from.
type floorPeer struct {
	local  *webrtc.TrackLocalStaticRTP
	remote *webrtc.TrackRemote
}

func (p *floorPeer) read(buf []byte) (int, error) {
	n, _, err := p.remote.Read(buf)
	return n, err
}

func (p *floorPeer) write(packet *rtp.Packet) error {
	_ = p.local.WriteRTP(packet) // a connection that is gone has its own end
	return nil
}

// floorSocket is a socket with SRTP.
type floorSocket struct {
	conn    *net.UDPConn
	in, out *srtp.Context
	remote  atomic.Pointer[netip.AddrPort] // learnt from the first packet
	sealed  [2][1500]byte                  // what comes, and what goes
	plain   [1500]byte                     // what goes
}

func newFloorSocket(work *floorWork, port int) (*floorSocket, error) {
	in, err := newSRTP(floorSecret())
	if err != nil {
		return nil, err
	}
	out, err := newSRTP(floorSecret())
	if err != nil {
		return nil, err
	}
	conn, err := work.listen(port)
	if err != nil {
		return nil, err
	}
	return &floorSocket{conn: conn, in: in, out: out}, nil
}

func (s *floorSocket) read(buf []byte) (int, error) {
	for {
		n, addr, err := s.conn.ReadFromUDPAddrPort(s.sealed[0][:])
		if err != nil {
			return 0, err
		}
		opened, err := s.in.DecryptRTP(buf[:0], s.sealed[0][:n], nil)
		if err != nil {
			continue
		}
		if s.remote.Load() == nil {
			s.remote.Store(&addr)
		}
		return len(opened), nil
	}
}

func (s *floorSocket) write(packet *rtp.Packet) error {
	peer := s.remote.Load()
	if peer == nil {
		return nil
	}
	n, err := packet.MarshalTo(s.plain[:])
	if err != nil {
		return err
	}
	packed, err := s.out.EncryptRTP(s.sealed[1][:0], s.plain[:n], nil)
	if err != nil {
		return err
	}
	_, _ = s.conn.WriteToUDPAddrPort(packed, *peer)
	return nil
}

// floorVoice encodes as our gateway does by default while nothing is lost: at complexity 1 where sound begins, and at 0 elsewhere. At
// any other complexity it encodes everything.
type floorVoice struct {
	enc        *opus.Encoder
	complexity int
	onsets     dsp.Onsets
	now        int // enc has
}

func newFloorVoice(complexity int) (*floorVoice, error) {
	enc, err := opus.NewEncoder(phoneRate, 1, opus.AppRestrictedLowdelay)
	if err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	if err := errors.Join(enc.SetComplexity(complexity), enc.SetBitrate(floorBitrate)); err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	return &floorVoice{enc: enc, complexity: complexity, onsets: dsp.NewOnsets(phoneRate), now: complexity}, nil
}

// encode encodes 20 ms and returns how long the packet is that is in packet then.
func (v *floorVoice) encode(pcm []int16, packet []byte) (int, error) {
	if v.complexity == gatewayComplexity {
		complexity := 0
		if v.onsets.Frame(pcm) {
			complexity = gatewayComplexity
		}
		if complexity != v.now {
			if err := v.enc.SetComplexity(complexity); err != nil {
				return 0, err
			}
			v.now = complexity
		}
	}
	return v.enc.Encode(pcm, packet)
}

// up carries the phone's sound to the far end.
func (c *floorCall) up(far floorFar, voice *floorVoice) error {
	var buf, coded [1500]byte
	var pcm [frameSamples]int16
	packet, sent := rtp.Packet{}, rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: opusPayloadType, SSRC: rand.Uint32()}}
	for {
		n, addr, err := c.phone.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			return err
		}
		if packet.Unmarshal(buf[:n]) != nil || len(packet.Payload) != frameSamples {
			continue
		}
		if c.remote.Load() == nil {
			c.remote.Store(&addr)
		}
		for i, b := range packet.Payload {
			pcm[i] = g711.DecodeUlawFrame(b)
		}
		size, err := voice.encode(pcm[:], coded[:])
		if err != nil {
			return err
		}
		sent.SequenceNumber, sent.Timestamp, sent.Payload = packet.SequenceNumber, packet.Timestamp*(opusStep/frameSamples), coded[:size]
		if err := far.write(&sent); err != nil {
			return err
		}
	}
}

// down carries the far end's sound to the phone.
func (c *floorCall) down(far floorFar, dec *opus.Decoder) error {
	var buf [1500]byte
	var pcm [frameSamples]int16
	var packet rtp.Packet
	header := rtp.Header{Version: 2, SSRC: rand.Uint32()}
	for {
		n, err := far.read(buf[:])
		if err != nil {
			return err
		}
		if packet.Unmarshal(buf[:n]) != nil {
			continue
		}
		peer := c.remote.Load()
		if peer == nil {
			continue
		}
		if samples, err := dec.Decode(packet.Payload, pcm[:]); err != nil || samples != frameSamples {
			continue
		}
		header.SequenceNumber, header.Timestamp = packet.SequenceNumber, packet.Timestamp/(opusStep/frameSamples)
		head, err := header.MarshalTo(buf[:])
		if err != nil {
			return err
		}
		for i, v := range pcm {
			buf[head+i] = g711.EncodeUlawFrame(v)
		}
		_, _ = c.phone.WriteToUDPAddrPort(buf[:head+frameSamples], *peer)
	}
}

// floor is the floor seen from its caller.
type floor struct{ first int }

// startFloor starts it as b.child: program is how this program is called.
func (b *bench) startFloor(ctx context.Context, dir string, program []string, webRTC bool) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	complexity := b.cfg.Opus.Complexity
	if complexity == 0 {
		complexity = gatewayComplexity
	}
	f := &floor{first: floorFirstPort + 2*rand.IntN(500)}
	argv := append(pinned(b.cfg.Pinned), program...)
	argv = append(argv, "bench", "floor", "--http="+addr, "--first-port="+strconv.Itoa(f.first),
		"--calls="+strconv.Itoa(b.cfg.Calls), "--complexity="+strconv.Itoa(complexity), "--webrtc="+strconv.FormatBool(webRTC))
	if webRTC {
		b.connect = f.join("http://" + addr)
	} else {
		b.plain = f
	}
	b.child, err = startChild(ctx, argv, "http://"+addr, filepath.Join(dir, "floor.log"))
	return err
}

// port is where the phone of a call sends to.
func (f *floor) port(number int) *netip.AddrPort {
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(f.first+2*number))
	return &at
}

// join lets pairs of a phone and a browser in.
func (f *floor) join(base string) func(context.Context, *pair, *peerEnd) error {
	return func(ctx context.Context, c *pair, far *peerEnd) error {
		c.phone.remote.Store(f.port(c.number))
		return far.joinBare(ctx, base, c.number)
	}
}

func (f *floor) call(_ context.Context, number int, p *phone, far *srtpEnd) (*srtp.Context, error) {
	toPhone := f.port(number)
	far.remote = netip.AddrPortFrom(toPhone.Addr(), toPhone.Port()+1)
	p.remote.Store(toPhone)
	out, err := newSRTP(floorSecret())
	if err != nil {
		return nil, err
	}
	far.out = out
	return newSRTP(floorSecret())
}
