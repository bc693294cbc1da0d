package sip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/emiago/sipgo/sip"
	"golang.org/x/sync/errgroup"

	"tandem/dialogs"
	"tandem/media"
	"tandem/trunks"
)

const (
	defaultDrain = 5 * time.Second

	// maxUndecided is how many INVITEs may be in decision at once: what a flood can have us do.
	maxUndecided = 256
)

// Agent is the SIP user agent. It is a dialogs.Phone.
type Agent struct {
	cfg        Config
	advertise  advertisement
	routes     routes
	facing     facing
	realms     realms
	streams    *streams
	certs      *certificates
	resolver   *resolver
	lines      contactLines
	log        *slog.Logger
	ports      *media.Ports
	book       *trunks.Book
	challenger *challenger
	guard      *guard
	front      *front
	listeners  []*listener
	tp         *sip.TransportLayer
	txl        *sip.TransactionLayer

	invites   invites       // of ours, on their way
	refusing  *latch        // no new calls
	draining  *latch        // no new calls, those that are up hang up
	stopped   *latch        // the sockets are given back
	undecided chan struct{} // a slot per INVITE in decision

	mu      sync.Mutex
	running func(work func(context.Context)) // nil: not serving
	callers dialogs.Callers
	calls   map[callKey]*call
	work    sync.WaitGroup // added to under mu while running is set
}

// Listen binds the sockets and starts nothing. The error names the configuration's key. Calls come and go once Serve
// runs; whoever never calls Serve closes the Agent.
func Listen(cfg Config, ports *media.Ports, log *slog.Logger) (*Agent, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	prepareLibrary()
	book := cfg.Book
	if book == nil {
		book = trunks.BookOf(cfg.Trunks...)
	}
	advertise, err := parseAdvertise(cfg.Advertise)
	if err != nil {
		return nil, err
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = defaultDrain
	}
	if cfg.SessionExpires == 0 {
		cfg.SessionExpires = defaultSessionExpires
	}
	if cfg.minSession == 0 {
		cfg.minSession = minSessionExpires
	}
	cfg.maxRinging = cmp.Or(cfg.maxRinging, maxRinging)
	cfg.ringInterval = cmp.Or(cfg.ringInterval, ringInterval)
	cfg.keepUDP = cmp.Or(cfg.keepUDP, pingInterval)
	cfg.registerRetry = cmp.Or(cfg.registerRetry, minRetry)
	cfg.failoverWait = cmp.Or(cfg.failoverWait, failoverWait)
	realm := cfg.Domain
	if realm == "" {
		realm = "tandem"
	}
	a := &Agent{
		cfg: cfg, advertise: advertise, log: log, ports: ports, book: book, challenger: newChallenger(realm, cfg.NonceKey),
		refusing: newLatch(), draining: newLatch(), stopped: newLatch(), undecided: make(chan struct{}, maxUndecided), calls: make(map[callKey]*call),
	}
	certs := &certificates{certFile: cfg.TLSCert, keyFile: cfg.TLSKey, caFile: cfg.TLSCA, book: book}
	if err := certs.load(); err != nil {
		return nil, err
	}
	a.certs = certs
	a.resolver = newResolver(systemDNS())
	if len(cfg.nameservers) > 0 {
		a.resolver = newResolver(newDNS(cfg.nameservers...))
	}
	a.guard = newGuard(cfg.Guard, (&allowList{book: book}).has, log)
	a.front = newFront(a.guard, log)
	for _, uri := range cfg.Listen {
		l, err := listen(uri)
		if err != nil {
			return nil, errors.Join(err, a.Close())
		}
		if l.packet != nil {
			l.packet = a.front.packet(l.packet)
		}
		a.listeners = append(a.listeners, l)
	}
	a.build()
	return a, nil
}

// build sets the library's two layers up.
func (a *Agent) build() {
	quiet := slog.New(libraryLog{a.log.Handler()})
	a.tp = sip.NewTransportLayer(net.DefaultResolver, sip.NewParser(), nil,
		sip.WithTransportLayerLogger(quiet),
		sip.WithTransportLayerReadFilter(forgetSources()),
		sip.WithTransportLayerTransports(sip.TransportsConfig{TCP: &sip.TransportTCP{
			WriteTimeout: socketTimeout,
			DialerCreate: func(net.Addr) net.Dialer { return net.Dialer{Control: dialNothing} },
		}}),
	)
	a.streams = newStreams(a.certs, net.TCPAddrFromAddrPort(a.listeners[0].addr), a.front, a.cfg.streams, a.log)
	a.streams.pool = a.tp.Pool(networkTCP)
	a.tp.OnMessage(a.onMessage) // before the transaction layer, which registers itself
	a.txl = sip.NewTransactionLayer(a.tp,
		sip.WithTransactionLayerLogger(quiet),
		sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {}),
	)
	a.txl.OnRequest(a.onRequest)
	for _, l := range a.listeners {
		if l.packet != nil { // so that requests leave from it even before Serve reads it
			addr := l.addr.String()
			a.tp.Pool("udp").Add(addr, &sip.UDPConnection{PacketConn: l.packet, PacketAddr: addr, Listener: true})
		}
	}
}

// Addrs lists what is bound, as listen URIs with their real ports.
func (a *Agent) Addrs() []string {
	uris := make([]string, 0, len(a.listeners))
	for _, l := range a.listeners {
		uris = append(uris, l.uri())
	}
	return uris
}

// Close gives the sockets back. Serve does so itself.
func (a *Agent) Close() error {
	var err error
	for _, l := range a.listeners {
		if e := l.close(); e != nil && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Serve takes calls for callers until ctx ends or a socket fails. Then it hangs up what is up, waits for that no longer
// than DrainTimeout, and returns when its last goroutine has. It runs once.
func (a *Agent) Serve(ctx context.Context, callers dialogs.Callers) error {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	a.mu.Lock()
	if a.running != nil || a.draining.isSet() {
		a.mu.Unlock()
		return errors.New("sip: Serve runs once")
	}
	a.callers = callers
	a.running = func(work func(context.Context)) { work(hard) }
	a.mu.Unlock()

	closing, closed := context.WithCancel(context.WithoutCancel(ctx)) // the sockets are being closed
	defer closed()
	reading, failed := errgroup.WithContext(ctx)
	for _, l := range a.listeners {
		reading.Go(func() error { return l.serve(closing, a) })
	}
	reading.Go(func() error { return a.serveStreams(closing) })
	minded := make(chan struct{})
	go func() {
		defer close(minded)
		a.mindTrunks(hard, a.draining.ch)
	}()
	<-failed.Done()

	a.draining.set(func() {})
	a.waitForCalls(a.cfg.DrainTimeout)
	select {
	case <-minded:
	case <-time.After(unregisterLimit):
	}
	cancel()
	<-minded
	a.mu.Lock()
	a.running = nil
	a.mu.Unlock()
	a.work.Wait()
	closed()
	a.txl.Close()
	a.stopped.set(func() {})
	err := errors.Join(a.Close(), a.tp.Close(), a.streams.Close())
	if e := reading.Wait(); e != nil {
		return fmt.Errorf("sip: %w", e)
	}
	if err != nil {
		a.log.Debug("sip: closing", "error", err)
	}
	return nil
}

// serveStreams lets the library read the connections, and keeps ours alive.
func (a *Agent) serveStreams(ctx context.Context) error {
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		a.streams.keep(ctx)
	}()
	err := a.tp.ServeTCP(a.streams)
	<-kept
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// dialNothing keeps the library from connecting by itself: it knows neither TLS nor our limits.
func dialNothing(string, string, syscall.RawConn) error { return errGone }

var errGone = errors.New("the connection is gone")

// Drain takes no new calls from now on: INVITE and OPTIONS outside calls are answered 503 with Retry-After, and calls
// that are up go on.
func (a *Agent) Drain() { a.refusing.set(func() {}) }

// closed says whether no new call is taken.
func (a *Agent) closed() bool { return a.refusing.isSet() || a.draining.isSet() }

// waitForCalls returns when no call is left, or after timeout.
func (a *Agent) waitForCalls(timeout time.Duration) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		c := a.anyCall()
		if c == nil {
			return
		}
		select {
		case <-c.done:
		case <-timer.C:
			return
		}
	}
}

func (a *Agent) anyCall() *call {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.calls {
		return c
	}
	return nil
}

// enter counts work in; it is false when the agent does not serve. The caller calls a.work.Done.
func (a *Agent) enter() (run func(func(context.Context)), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running == nil {
		return nil, false
	}
	a.work.Add(1)
	return a.running, true
}

// spawn runs work in a goroutine that Serve waits for. What fails there ends nothing else.
func (a *Agent) spawn(work func(context.Context)) bool {
	run, ok := a.enter()
	if ok {
		go func() {
			defer a.work.Done()
			defer func() {
				if p := recover(); p != nil {
					a.log.Error("sip: work failed", "panic", p, "stack", string(debug.Stack()))
				}
			}()
			run(work)
		}()
	}
	return ok
}

// remember makes a call findable under keys, and no longer under those before. It is false, and changes nothing, when
// another call has one of them.
func (a *Agent) remember(c *call, keys ...callKey) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range keys {
		if a.calls[key] != nil {
			return false
		}
	}
	for _, key := range c.keys {
		delete(a.calls, key)
	}
	for _, key := range keys {
		a.calls[key] = c
	}
	c.keys = keys
	return true
}

func (a *Agent) forget(c *call) { a.remember(c) }

func (a *Agent) find(key callKey) *call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[key]
}

// newSession is the session id of an o= line; small enough for peers that read it as a signed 32 bit number.
func newSession() uint64 { return uint64(rand.Uint32() >> 1) }
