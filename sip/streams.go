package sip

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	keepTick = 5 * time.Second
	maxNames = 4096 // peers whose names are remembered
)

var (
	errTooManyStreams = errors.New("too many connections")
	errSameSource     = errors.New("another connection of the same address and port is open")
)

// streams are the connections of one agent, those of others and its own. The library reads all of them as if they had
// been accepted from one TCP listener: it dials none itself, and knows nothing of TLS and WebSocket.
type streams struct {
	log   *slog.Logger
	certs *certificates
	front *front
	feed  chan *stream
	addr  net.Addr
	pool  *sip.ConnectionPool // the library's; nil in tests

	limits streamLimits

	last *stream // what Accept returned last; owned by the library's accepting goroutine

	mu        sync.Mutex
	closed    bool
	ending    context.Context //nolint:containedctx // the connections' own: it ends with Close
	end       context.CancelFunc
	all       map[*stream]struct{}
	peers     map[netip.AddrPort][]*stream
	accepted  int                // by others, handshakes included
	strangers int                // of them
	sources   map[netip.Addr]int // of them
	dialled   int                // by us
	dialling  map[target]*dialled
	names     map[place]string // whom we found, and by which name, where we connected lately
	counters  StreamStats
	work      sync.WaitGroup
}

// target is where a connection of ours leads.
type target struct {
	network string
	addr    netip.AddrPort
	name    string    // whom the certificate has to name; empty without TLS
	shows   certFiles // our own; the zero value without TLS
}

// place is where a connection leads, whatever it was checked for.
type place struct {
	network string
	addr    netip.AddrPort
}

// dialled is one attempt to connect, which all who want the same wait for.
type dialled struct {
	done   chan struct{}
	stream *stream
	err    error
}

func newStreams(certs *certificates, addr net.Addr, front *front, limits streamLimits, log *slog.Logger) *streams {
	ending, end := context.WithCancel(context.Background())
	return &streams{
		log: log, certs: certs, front: front, addr: addr, limits: limits.orDefaults(), feed: make(chan *stream), ending: ending, end: end,
		all: make(map[*stream]struct{}), peers: make(map[netip.AddrPort][]*stream), sources: make(map[netip.Addr]int), dialling: make(map[target]*dialled),
		names: make(map[place]string),
	}
}

// Accept is part of net.Listener, for the library. When it is called again, the connection that it returned before is
// in the library's pool.
func (s *streams) Accept() (net.Conn, error) {
	if s.last != nil {
		s.last.pooled = s.pooled(s.last)
		close(s.last.registered)
		s.last = nil
	}
	select {
	case st := <-s.feed:
		s.last = st
		return st, nil
	case <-s.ending.Done():
		return nil, net.ErrClosed
	}
}

// pooled is a connection as the library has it; nil when that is over already.
func (s *streams) pooled(st *stream) sip.Connection {
	if s.pool == nil {
		return nil
	}
	addr := st.RemoteAddr()
	if st.dialled {
		addr = st.LocalAddr() // which is its alone
	}
	conn := s.pool.Get(addr.String())
	if conn == nil {
		return nil
	}
	_, _ = conn.TryClose() // what Get counted
	if tcp, ok := conn.(*sip.TCPConnection); !ok || tcp.Conn != net.Conn(st) {
		return nil
	}
	return conn
}

// Addr is part of net.Listener.
func (s *streams) Addr() net.Addr { return s.addr }

// Close closes every connection and waits until nobody connects any more.
func (s *streams) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.end()
	}
	all := make([]*stream, 0, len(s.all))
	for st := range s.all {
		all = append(all, st)
	}
	s.mu.Unlock()
	for _, st := range all {
		_ = st.Close()
	}
	s.work.Wait()
	return nil
}

// spawn runs work unless the connections are closed; Close waits for it.
func (s *streams) spawn(work func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Go(work)
	return true
}

// serve accepts connections over TCP or TLS until the listener is closed or fails.
func (s *streams) serve(ctx context.Context, l net.Listener, network string) error {
	for {
		conn, err := door{l, s}.Accept()
		if err != nil {
			return err
		}
		if network == networkTCP {
			s.welcome(conn, guestOf(conn), network)
			continue
		}
		started := s.spawn(func() {
			secured := tls.Server(conn, s.certs.server())
			if err := secured.HandshakeContext(ctx); err != nil { // it has its time: see guest
				s.log.Debug("sip: no TLS", "source", conn.RemoteAddr().String(), "error", err)
				_ = conn.Close()
				return
			}
			s.welcome(secured, guestOf(conn), network)
		})
		if !started {
			_ = conn.Close()
		}
	}
}

// welcome hands the library a connection of somebody else whose handshakes are over.
func (s *streams) welcome(conn net.Conn, g *guest, network string) {
	if g == nil || !g.welcome() {
		_ = conn.Close()
		return
	}
	st := &stream{Conn: conn, network: network, remote: g.source, gone: make(chan struct{})}
	if err := s.enter(st); err != nil {
		s.log.Debug("sip: connection refused", "network", network, "source", g.source.String(), "error", err)
		_ = st.Close()
	}
}

// enter hands a connection to the library and returns when its reader runs.
func (s *streams) enter(st *stream) error {
	st.registered, st.onClose, st.front = make(chan struct{}), s.forget, s.front
	st.limits, st.count, st.opened, st.writing = s.limits, s.count, time.Now(), make(chan struct{}, 1)
	st.spoken, st.spawn = st.opened, s.spawn
	if st.dialled {
		s.front.guard.befriend(st.remote.Addr(), true)
	}
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return net.ErrClosed
	case !st.dialled && slices.ContainsFunc(s.peers[st.remote], func(other *stream) bool { return !other.dialled }):
		// It led to another listener. The library knows a peer by its address and port alone: it would answer one over the other, who
		// may be somebody else behind the same NAT, and the first that ends would leave the other without answers.
		s.counters.Refused++
		s.mu.Unlock()
		return errSameSource
	}
	s.all[st] = struct{}{}
	if st.dialled {
		s.dialled++
	}
	s.peers[st.remote] = append(s.peers[st.remote], st)
	s.mu.Unlock()
	select {
	case s.feed <- st:
	case <-s.ending.Done():
		_ = st.Close()
		return net.ErrClosed
	}
	select {
	case <-st.registered:
		return nil
	case <-s.ending.Done():
		return net.ErrClosed
	}
}

func (s *streams) forget(st *stream) {
	s.mu.Lock()
	_, known := s.all[st]
	delete(s.all, st)
	rest := slices.DeleteFunc(s.peers[st.remote], func(other *stream) bool { return other == st })
	if s.peers[st.remote] = rest; len(rest) == 0 {
		delete(s.peers, st.remote)
	}
	if known && st.dialled {
		s.dialled--
	}
	s.mu.Unlock()
	for _, other := range slices.Backward(rest) {
		if other.usable() {
			s.spawn(func() { s.inherit(other) }) // the library holds its lock here
			return
		}
	}
}

// inherit has the library answer the peer's requests over a connection that is left, since the last one that led there is gone. It
// knows a peer by its address alone, and whatever it was shown, its requests are answered over the last one.
func (s *streams) inherit(st *stream) {
	if st.pooled == nil {
		return
	}
	remote := st.RemoteAddr().String()
	if s.pool.Add(remote, st.pooled); !st.usable() || isGone(st.gone) {
		_ = s.pool.CloseAndDelete(st.pooled, remote)
	}
}

// find returns a connection that leads to t: ours, checked for the same name and showing the same certificate, or one of
// the peer's own.
func (s *streams) find(t target) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.peers[t.addr] {
		if st.carries(t.network, t.shows) && (!st.dialled || st.name == t.name || t.name == "") && st.usable() {
			return st
		}
	}
	return nil
}

// retire lets no further request use our connections to a peer. They are closed when they are idle.
func (s *streams) retire(remote netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.peers[remote] {
		if st.dialled {
			st.retire()
		}
	}
}

// unwritable lets no further request use the connection on which one could not be written.
func (s *streams) unwritable(remote string, local sip.Addr) {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.peers[addr] {
		if local.IP == nil && !st.dialled || local.IP != nil && st.LocalAddr().String() == local.String() {
			st.retire()
		}
	}
}

// connected says whether a connection with the peer is up, as of finds it.
func (s *streams) connected(network, remote string, shows certFiles) bool {
	return s.of(network, remote, shows) != nil
}

// of returns a connection with the peer, one of ours only if it shows that certificate; nil if there is none.
func (s *streams) of(network, remote string, shows certFiles) *stream {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.peers[addr] {
		if st.carries(network, shows.over(network)) && st.usable() {
			return st
		}
	}
	return nil
}

// showing is what a peer was shown on the connection over which its call came: what its trunk is shown where there is such a
// connection, else what all that lead there show.
func (s *streams) showing(network, remote string, trunks certFiles) certFiles {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil || s.connected(network, remote, trunks) {
		return trunks
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.peers[addr]
	if len(all) == 0 || slices.ContainsFunc(all, func(st *stream) bool { return st.shows != all[0].shows }) {
		return trunks
	}
	return all[0].shows
}

// dialledTo says whether we connected to the peer lately.
func (s *streams) dialledTo(network, remote string) bool {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.names[place{network, addr}]
	return ok
}

// nameFor is whom the certificate of a peer has to name: the host of the URI that leads there. Where that is an address,
// as in the Contact of most, it is the name by which we found the peer there before.
func (s *streams) nameFor(network string, addr netip.AddrPort, host string) string {
	if _, err := netip.ParseAddr(host); err != nil {
		return host
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.names[place{network, addr}], host)
}

// holds says whether a connection of ours from the local address leads to the peer.
func (s *streams) holds(remote netip.AddrPort, local sip.Addr) bool {
	if local.IP == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.peers[remote], func(st *stream) bool {
		return st.dialled && st.usable() && st.LocalAddr().String() == local.String()
	})
}

// networkOf returns the transport of the connection with a peer; tcp when it is gone.
func (s *streams) networkOf(remote netip.AddrPort) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.peers[remote] {
		return st.network
	}
	return networkTCP
}

// connect returns a connection that leads to t, an existing one if there is any.
func (s *streams) connect(ctx context.Context, t target) (*stream, error) {
	for {
		if st := s.find(t); st != nil {
			return st, nil
		}
		s.mu.Lock()
		attempt, others := s.dialling[t]
		if !others {
			if s.closed || s.dialled+len(s.dialling) >= s.limits.dialled {
				s.mu.Unlock()
				return nil, errTooManyStreams
			}
			attempt = &dialled{done: make(chan struct{})}
			s.dialling[t] = attempt
			s.work.Add(1)
		}
		s.mu.Unlock()
		if !others {
			attempt.stream, attempt.err = s.dial(ctx, t)
			s.mu.Lock()
			delete(s.dialling, t)
			s.mu.Unlock()
			close(attempt.done)
			s.work.Done()
			return attempt.stream, attempt.err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-attempt.done:
		}
		// Whoever connected may have had less time than we have.
		if attempt.err == nil || !errors.Is(attempt.err, context.Canceled) {
			return attempt.stream, attempt.err
		}
	}
}

func (s *streams) dial(ctx context.Context, t target) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.connect)
	defer cancel()
	stop := context.AfterFunc(s.ending, cancel) //nolint:contextcheck // whichever ends first
	defer stop()
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	conn, err := dialer.DialContext(ctx, "tcp", t.addr.String())
	if err != nil {
		return nil, err
	}
	secured, err := s.secure(ctx, conn, t)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s %s: %w", t.network, t.addr, err), conn.Close())
	}
	st := &stream{Conn: secured, network: t.network, remote: t.addr, dialled: true, name: t.name, shows: t.shows, gone: make(chan struct{})}
	if err := s.enter(st); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names) >= maxNames {
		clear(s.names)
	}
	s.names[place{t.network, t.addr}] = t.name
	return st, nil
}

// keepAlive finds out that a peer is gone which does not know the keep-alive of RFC 5626.
//
//nolint:gochecknoglobals // a constant in all but the language
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// keep pings our connections until ctx ends, and closes those whose peer is gone.
func (s *streams) keep(ctx context.Context) {
	ticker := time.NewTicker(min(keepTick, s.limits.ping))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			s.keepAt(now)
		}
	}
}

func (s *streams) keepAt(now time.Time) {
	s.mu.Lock()
	all := make([]*stream, 0, len(s.all))
	for st := range s.all {
		all = append(all, st)
	}
	s.mu.Unlock()
	for _, st := range all {
		if st.keep(now) {
			s.log.Info("sip: connection lost", "network", st.network, "address", st.remote.String())
			_ = st.Close()
		}
	}
}
