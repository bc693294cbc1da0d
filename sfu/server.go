// Package sfu is what a browser touches: the device's WebSocket with its JSON-RPC, the two Pion peer connections of a
// device, and the forwarding of what one device publishes to the others.
package sfu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/pion/ice/v4"

	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
)

// Config says where browsers send their media, and how patient we are. The zero value of a duration means its default.
type Config struct {
	UDP      netip.AddrPort // the one port of all browsers; port 0: any
	TCP      netip.AddrPort // ICE-TCP for networks without UDP; invalid: none
	PublicIP netip.Addr     // the address in our SDP behind NAT; invalid: that of UDP

	Grace         time.Duration // how long a device without a socket keeps its streams: 20 s
	OfferTimeout  time.Duration // how long a device may take to answer an offer: 10 s
	HelloTimeout  time.Duration // and to send its first call: 10 s
	PingInterval  time.Duration // how often a socket is asked for a sign of life: 10 s
	PongTimeout   time.Duration // and how long it may take to give one: 10 s
	Heartbeat     time.Duration // how often PING goes over the heartbeat channel: 5 s
	KeyframePause time.Duration // the shortest time between two requests for a keyframe: 300 ms
	BandPause     time.Duration // how long a browser has narrowband listeners only before it sends narrowband: 2 s
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.Grace, 20 * time.Second},
		{&c.OfferTimeout, 10 * time.Second},
		{&c.HelloTimeout, 10 * time.Second},
		{&c.PingInterval, 10 * time.Second},
		{&c.PongTimeout, 10 * time.Second},
		{&c.Heartbeat, 5 * time.Second},
		{&c.KeyframePause, 300 * time.Millisecond},
		{&c.BandPause, 2 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	return c
}

// Members says whose device it is and takes it in.
type Members interface {
	// Authenticate returns the participant of a token; the error says why not, fit for the device.
	Authenticate(ctx context.Context, token string) (sessions.Participant, error)
	// Connect takes a device in. Another device of the participant is closed.
	Connect(ctx context.Context, p sessions.Participant, device string, ep sessions.Endpoint) (Membership, error)
}

// Membership is a device's place at its participant. It ends once, by Leave or Lost; the other does nothing then.
type Membership interface {
	Publish(src *media.Source)
	Unpublish(src *media.Source)
	Leave(ctx context.Context) error // it was ended, by the device or by us
	Lost(ctx context.Context) error  // it broke
}

const (
	maxUniqueID   = 128 // bytes
	maxRemembered = 4096
	tcpReadQueue  = 16      // packets of one connection, whose memory is taken at once; the kernel keeps what is more
	tcpWriteQueue = 1 << 20 // bytes of one connection; what is more is dropped, so that no writer waits
)

// Server holds the devices of this node.
type Server struct {
	cfg     Config
	members Members
	log     *slog.Logger
	udp     *net.UDPConn
	port    *batchConn       // udp
	tcp     *net.TCPListener // nil: none

	serving chan struct{} // closed by Run

	all sync.WaitGroup // devices, their sockets and the handlers that make those; added to under mu and never once closing, or by who is counted

	mu        sync.Mutex // guards what follows; held for map work only
	engine    *engine    // set by Run before the first device
	running   bool
	devices   map[deviceKey]*Device
	revisions map[deviceKey]int // where devices that ended stopped counting
}

// deviceKey is how a device is known again.
type deviceKey struct{ participant, uniqueID string }

// Listen binds the ports. Run serves them and closes them at its end; Close does it where Run is never called.
func Listen(cfg Config, members Members, log *slog.Logger) (*Server, error) {
	s := &Server{
		cfg: cfg.withDefaults(), members: members, log: log,
		devices: make(map[deviceKey]*Device), revisions: make(map[deviceKey]int),
		serving: make(chan struct{}),
	}
	var err error
	s.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(cfg.UDP))
	if err != nil {
		return nil, fmt.Errorf("listen for browsers' media: %w", err)
	}
	lengthen(s.udp, log)
	s.port, err = newBatchConn(s.udp)
	if err != nil {
		_ = s.udp.Close()
		return nil, fmt.Errorf("listen for browsers' media: %w", err)
	}
	if cfg.TCP.IsValid() {
		s.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(cfg.TCP))
		if err != nil {
			_ = s.udp.Close()
			return nil, fmt.Errorf("listen for browsers' media over TCP: %w", err)
		}
	}
	return s, nil
}

// Close closes the ports.
func (s *Server) Close() error {
	err := s.udp.Close()
	if s.tcp != nil {
		err = errors.Join(err, s.tcp.Close())
	}
	return err
}

// UDPAddr is where browsers send their media.
func (s *Server) UDPAddr() netip.AddrPort {
	return s.udp.LocalAddr().(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // a UDPConn's address is one
}

// TCPAddr is where those without UDP send it; invalid when there is none.
func (s *Server) TCPAddr() netip.AddrPort {
	if s.tcp == nil {
		return netip.AddrPort{}
	}
	return s.tcp.Addr().(*net.TCPAddr).AddrPort() //nolint:forcetypeassert // a TCPListener's address is one
}

// Run serves devices until ctx ends. Then each is closed with 1012 (it may come back to another node or process), and
// Run returns when all goroutines are gone.
func (s *Server) Run(ctx context.Context) error {
	defer func() { _ = s.Close() }()
	logs := pionLogs{s.log}
	udp := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: s.port, Logger: logs.NewLogger("udpmux")})
	defer func() { _ = udp.Close() }()
	var tcp ice.TCPMux
	if s.tcp != nil {
		tcp = ice.NewTCPMuxDefault(ice.TCPMuxParams{
			Listener: s.tcp, Logger: logs.NewLogger("tcpmux"), ReadBufferSize: tcpReadQueue, WriteBufferSize: tcpWriteQueue,
		})
		defer func() { _ = tcp.Close() }()
	}
	e, err := newEngine(udp, tcp, s.cfg.PublicIP, s.log)
	if err != nil {
		return fmt.Errorf("media engine: %w", err)
	}
	s.mu.Lock()
	s.engine, s.running = e, true
	s.mu.Unlock()
	close(s.serving)

	<-ctx.Done()
	s.mu.Lock()
	s.running = false
	for _, d := range s.devices {
		d.cancel(&ending{cause: errRestart, code: websocket.StatusServiceRestart})
	}
	s.mu.Unlock()
	s.all.Wait()
	return nil
}

// Devices counts the devices, with those whose socket is gone for the moment.
func (s *Server) Devices() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.devices)
}

// ServeHTTP upgrades GET /v3/ to a device's connection. Any origin may come: the token is the credential. The connection
// outlives the request: what net/http holds for one, with its stack, is given back when the device has its socket.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "not serving", http.StatusServiceUnavailable)
		return
	}
	defer s.all.Done()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		s.log.Debug("not a WebSocket", "remote", r.RemoteAddr, "err", err)
		return // Accept has answered
	}
	ctx := context.WithoutCancel(r.Context())
	sock := newSocket(conn, s.cfg.PingInterval, s.cfg.PongTimeout)
	d, err := s.admit(ctx, r, sock)
	if err != nil {
		s.refuse(ctx, sock, r.RemoteAddr, err)
		return
	}
	s.all.Go(func() { d.listen(ctx, sock) })
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		s.all.Add(1)
	}
	return s.running
}

// admit finds or makes the device that a connection belongs to and gives it the socket.
func (s *Server) admit(ctx context.Context, r *http.Request, sock *socket) (*Device, error) {
	query := r.URL.Query()
	id := query.Get("uniqueId")
	if id == "" {
		id = uuid.NewString()
	}
	if len(id) > maxUniqueID {
		return nil, errs.New(errs.Invalid, "uniqueId: longer than %d bytes", maxUniqueID)
	}
	storeCtx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	p, err := s.members.Authenticate(storeCtx, query.Get("token"))
	if err != nil {
		return nil, err
	}
	key := deviceKey{p.ID, id}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return nil, errs.New(errs.Unavailable, "the gateway stops")
	}
	d := s.devices[key]
	if d == nil {
		d = newDevice(s, p, id, s.revisions[key])
		delete(s.revisions, key)
		devCtx, end := context.WithCancelCause(ctx)
		d.cancel = end
		s.devices[key] = d
		s.all.Go(func() { d.run(devCtx) })
	}
	d.post(func() { d.attached(sock) })
	return d, nil
}

// refuse tells a client why, and closes so that it does not knock every second; only a fault of ours lets it try again.
func (s *Server) refuse(ctx context.Context, sock *socket, remote string, err error) {
	s.log.Info("device refused", "remote", remote, "err", err)
	if message, encodeErr := encodeError(nil, rpcErrorOf(err)); encodeErr == nil {
		sock.send(message)
	}
	code := websocket.StatusNormalClosure
	if c := errs.CodeOf(err); c == errs.Internal || c == errs.Unavailable {
		code = websocket.StatusTryAgainLater
	}
	sock.end(code, "")
	_ = sock.serve(ctx, func([]byte) bool { return true })
}

// forget takes a device that ends out of the registry. A client that leaves and joins again with the same uniqueId
// ignores revisions that it has seen, so the counting goes on.
func (s *Server) forget(d *Device, revision int) {
	key := deviceKey{d.participant.ID, d.id}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devices[key] == d {
		delete(s.devices, key)
	}
	if revision == 0 {
		return
	}
	for old := range s.revisions {
		if len(s.revisions) < maxRemembered {
			break
		}
		delete(s.revisions, old)
	}
	s.revisions[key] = revision
}

// Serving is closed as soon as Run takes devices.
func (s *Server) Serving() <-chan struct{} { return s.serving }
