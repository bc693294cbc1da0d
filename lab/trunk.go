package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// shutdownTime bounds how long the end of Run waits for the far end to answer our BYEs.
const shutdownTime = 3 * time.Second

// Config is how a Trunk is set up. The zero value listens on free loopback ports, UDP and TCP.
type Config struct {
	Listen      []string               // udp://host:port or tcp://host:port; port 0 is a free one
	Username    string                 // set: INVITE and REGISTER are challenged with 407 and 401
	Password    string                 //
	Handlers    map[string]func(*Call) // by number, before the lab's own; "*" takes every other number
	MaxCalls    int                    // at once; 0: 1000
	RecordLimit time.Duration          // of each call; 0: five minutes; negative: nothing
}

// Trunk is the far end. A handler of Config.Handlers runs on the call's own goroutine when the INVITE is here, and has
// to ring, answer or refuse; when it returns, the call is hung up.
type Trunk struct {
	cfg     Config
	log     *slog.Logger
	host    netip.Addr // where RTP is bound
	listens []*listener
	agent   *sipgo.UserAgent
	client  *sipgo.Client
	server  *sipgo.Server
	nonces  nonces
	inbound chan *Call
	ready   chan struct{} // closed once requests can be sent
	closed  atomic.Bool   // the sockets are closed, or about to be

	mu      sync.Mutex // guards all below
	calls   map[callKey]*Call
	closing bool
	wg      sync.WaitGroup // one for each call; Add under mu while not closing
}

// callKey finds a call from an in-dialog request of the far end: its To tag is ours.
type callKey struct{ callID, tag string }

// listener is one bound address of the trunk.
type listener struct {
	transport string // udp or tcp
	addr      netip.AddrPort
	packets   net.PacketConn
	stream    net.Listener
	dialogs   *sipgo.DialogUA
}

// Listen binds the sockets. Run serves them; a Trunk that is never run has to be closed with Close.
func Listen(cfg Config, log *slog.Logger) (*Trunk, error) {
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0"}
	}
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = 1000
	}
	if cfg.RecordLimit == 0 {
		cfg.RecordLimit = 5 * time.Minute
	}
	t := &Trunk{
		cfg: cfg, log: log,
		inbound: make(chan *Call, 256),
		ready:   make(chan struct{}),
		calls:   make(map[callKey]*Call),
	}
	if _, err := rand.Read(t.nonces.key[:]); err != nil {
		return nil, fmt.Errorf("lab: random key: %w", err)
	}
	if err := t.bind(); err != nil {
		t.closeSockets()
		return nil, err
	}
	if err := t.stack(); err != nil {
		t.closeSockets()
		return nil, err
	}
	return t, nil
}

func (t *Trunk) bind() error {
	for _, s := range t.cfg.Listen {
		u, err := url.Parse(s)
		if err != nil {
			return fmt.Errorf("lab: listen address: %w", err)
		}
		l := &listener{transport: strings.ToLower(u.Scheme)}
		var bound net.Addr
		var lc net.ListenConfig
		switch l.transport {
		case "udp":
			if l.packets, err = lc.ListenPacket(context.Background(), "udp", u.Host); err == nil {
				bound = l.packets.LocalAddr()
			}
		case "tcp":
			if l.stream, err = lc.Listen(context.Background(), "tcp", u.Host); err == nil {
				bound = l.stream.Addr()
			}
		default:
			err = errors.New("want udp://host:port or tcp://host:port")
		}
		if err != nil {
			return fmt.Errorf("lab: listen on %q: %w", s, err)
		}
		t.listens = append(t.listens, l)
		if l.addr, err = netip.ParseAddrPort(bound.String()); err != nil {
			return fmt.Errorf("lab: listen on %q: %w", s, err)
		}
		l.addr = netip.AddrPortFrom(l.addr.Addr().Unmap(), l.addr.Port())
	}
	t.host = t.listens[0].addr.Addr()
	if t.host.IsUnspecified() {
		t.host = netip.MustParseAddr("127.0.0.1")
	}
	return nil
}

// stack makes the SIP layers and routes their requests to us.
func (t *Trunk) stack() error {
	var err error
	t.agent, err = sipgo.NewUA(
		sipgo.WithUserAgent("tandem-lab"),
		sipgo.WithUserAgentHostname(t.host.String()),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(t.log)),
		sipgo.WithUserAgentTransactionLayerOptions(
			sip.WithTransactionLayerLogger(t.log),
			sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {}), // repeats of what was handled
		),
	)
	if err != nil {
		return fmt.Errorf("lab: user agent: %w", err)
	}
	if t.client, err = sipgo.NewClient(t.agent, sipgo.WithClientLogger(t.log)); err != nil {
		return fmt.Errorf("lab: client: %w", err)
	}
	if t.server, err = sipgo.NewServer(t.agent, sipgo.WithServerLogger(t.log)); err != nil {
		return fmt.Errorf("lab: server: %w", err)
	}
	for _, l := range t.listens {
		l.dialogs = &sipgo.DialogUA{Client: t.client, ContactHDR: t.contact(l)}
	}
	t.server.OnInvite(t.whileOpen(t.onInvite))
	t.server.OnAck(t.whileOpen(t.onAck))
	t.server.OnBye(t.whileOpen(t.onBye))
	t.server.OnOptions(t.whileOpen(func(req *sip.Request, tx sip.ServerTransaction) { t.respond(req, tx, sip.StatusOK, "OK") }))
	t.server.OnRegister(t.whileOpen(t.onRegister))
	t.server.OnCancel(t.whileOpen(func(req *sip.Request, tx sip.ServerTransaction) { // one that matches is answered by sipgo
		t.respond(req, tx, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
	}))
	return nil
}

// whileOpen passes a request on unless the sockets are closed. sipgo opens a new one to answer a request that was read
// right before that; nobody else would close it.
func (t *Trunk) whileOpen(handle sipgo.RequestHandler) sipgo.RequestHandler {
	return func(req *sip.Request, tx sip.ServerTransaction) {
		if !t.closed.Load() {
			handle(req, tx)
			return
		}
		if c, ok := tx.(interface{ Connection() sip.Connection }); ok {
			_ = c.Connection().Close()
		}
	}
}

func (t *Trunk) contact(l *listener) sip.ContactHeader {
	uri := sip.Uri{Scheme: "sip", User: "lab", Host: t.host.String(), Port: int(l.addr.Port())}
	if l.transport != "udp" {
		uri.UriParams.Add("transport", l.transport)
	}
	return sip.ContactHeader{Address: uri}
}

// Addrs returns the bound addresses in the order of Config.Listen, as udp://127.0.0.1:5090.
func (t *Trunk) Addrs() []string {
	addrs := make([]string, 0, len(t.listens))
	for _, l := range t.listens {
		addrs = append(addrs, l.transport+"://"+l.addr.String())
	}
	return addrs
}

// URI is what a gateway's trunk setting wants: sip:127.0.0.1:5090;transport=udp. Empty: no such listener.
func (t *Trunk) URI(transport string) string {
	l := t.listener(transport)
	if l == nil {
		return ""
	}
	return fmt.Sprintf("sip:%s;transport=%s", netip.AddrPortFrom(t.host, l.addr.Port()), l.transport)
}

// Calls delivers the inbound calls as their INVITEs come in, before their handlers run. It is never closed; calls that
// nobody takes are dropped from it after 256.
func (t *Trunk) Calls() <-chan *Call { return t.inbound }

// Run serves until ctx ends; then it hangs up what is up and frees every socket.
func (t *Trunk) Run(ctx context.Context) error {
	var serving sync.WaitGroup
	failed := make(chan error, len(t.listens))
	for _, l := range t.listens {
		serving.Go(func() {
			if l.packets != nil {
				failed <- t.server.ServeUDP(l.packets)
				return
			}
			failed <- t.server.ServeTCP(l.stream)
		})
	}
	err := t.waitReady(ctx)
	if err == nil {
		close(t.ready)
		t.log.Info("lab trunk is up", "listen", t.Addrs())
		select {
		case <-ctx.Done():
		case err = <-failed:
			err = fmt.Errorf("lab: a listener ended: %w", err)
		}
	}
	t.hangUpAll(context.WithoutCancel(ctx))
	t.Close()
	t.wg.Wait()
	serving.Wait()
	// What sipgo opened while its sockets were being closed.
	if e := t.agent.TransportLayer().Close(); e != nil {
		t.log.Debug("lab: close", "err", e)
	}
	return err
}

// waitReady waits until sipgo knows the UDP sockets: a request sent before would try to bind the same port again.
func (t *Trunk) waitReady(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, l := range t.listens {
		for l.packets != nil {
			if conn, err := t.agent.TransportLayer().GetConnection("udp", l.packets.LocalAddr().String()); err == nil && conn != nil {
				break
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}
	return nil
}

// hangUpAll refuses new calls from now on and ends those that are there.
func (t *Trunk) hangUpAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	t.mu.Lock()
	t.closing = true
	calls := make([]*Call, 0, len(t.calls))
	for _, c := range t.calls {
		calls = append(calls, c)
	}
	t.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range calls {
		wg.Go(func() {
			c.abandon()
			defer context.AfterFunc(ctx, c.stopBye)() // of a Hangup that goes on; ours ends with ctx
			if err := c.hangup(ctx); err != nil {
				t.log.Warn("lab: end of a call", "call", c.CallID, "err", err)
			}
			c.end(false, "the lab is closing")
		})
	}
	wg.Wait()
}

// Close frees the sockets of a Trunk that isn't run. Run does it itself.
func (t *Trunk) Close() {
	t.closed.Store(true)
	if err := t.agent.Close(); err != nil {
		t.log.Debug("lab: close", "err", err)
	}
	t.closeSockets()
}

func (t *Trunk) closeSockets() {
	for _, l := range t.listens {
		if l.packets != nil {
			_ = l.packets.Close()
		}
		if l.stream != nil {
			_ = l.stream.Close()
		}
	}
}

// listener finds the first one of a transport.
func (t *Trunk) listener(transport string) *listener {
	for _, l := range t.listens {
		if strings.EqualFold(l.transport, transport) {
			return l
		}
	}
	return nil
}

// register makes c findable and counts it; false: the trunk is closing or full.
func (t *Trunk) register(key callKey, c *Call) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing || len(t.calls) >= t.cfg.MaxCalls {
		return false
	}
	t.calls[key] = c
	t.wg.Add(1)
	return true
}

// unregister is the end of what register began; c is released by then.
func (t *Trunk) unregister(key callKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.calls, key)
	t.wg.Done()
}

func (t *Trunk) find(req *sip.Request) *Call {
	if req.CallID() == nil || req.To() == nil {
		return nil
	}
	tag, _ := req.To().Params.Get("tag")
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls[callKey{req.CallID().Value(), tag}]
}
