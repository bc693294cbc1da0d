package sip

import (
	"cmp"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"
)

// streamLimits bound what a peer may do with its connections, and how long it may take. A field that is zero means the
// default.
type streamLimits struct {
	connect   time.Duration // for a connection of ours, TLS and WebSocket included
	handshake time.Duration // from the connection of somebody else to the end of its TLS and WebSocket handshakes
	first     time.Duration // from then to the first message
	whole     time.Duration // from the first byte of a message to its last
	idle      time.Duration // without a message or a keep-alive
	write     time.Duration // for what is written at once: the peer has to read it
	ping      time.Duration // of silence on a connection of ours before it is pinged
	pong      time.Duration // for the answer to that

	accepted   int // connections of others, at once
	strangers  int // of them from addresses that no trunk names: some places are left for trunks
	ofSource   int // of them from one address
	ofStranger int // of them from one address that no trunk names
	dialled    int // connections of ours
}

func (l streamLimits) orDefaults() streamLimits {
	return streamLimits{
		connect:    cmp.Or(l.connect, socketTimeout),
		handshake:  cmp.Or(l.handshake, 10*time.Second),
		first:      cmp.Or(l.first, 30*time.Second),
		whole:      cmp.Or(l.whole, 10*time.Second),
		idle:       cmp.Or(l.idle, 30*time.Minute),
		write:      cmp.Or(l.write, socketTimeout),
		ping:       cmp.Or(l.ping, pingInterval),
		pong:       cmp.Or(l.pong, pongTimeout),
		accepted:   cmp.Or(l.accepted, 4096),
		strangers:  cmp.Or(l.strangers, 3072),
		ofSource:   cmp.Or(l.ofSource, 1024),
		ofStranger: cmp.Or(l.ofStranger, 64),
		dialled:    cmp.Or(l.dialled, 1024),
	}
}

// StreamStats counts connections over TCP, TLS and WebSocket: those that are open now and, since the start, those that
// were closed because of what the peer did or did not do.
type StreamStats struct {
	Open    int    // of others and ours, handshakes included
	Refused uint64 // beyond the bounds for one source, for strangers and for all, or from the address and port of another
	Unmet   uint64 // ended before TLS and WebSocket were up, most of them because that took too long
	Silent  uint64 // sent no first message
	Slow    uint64 // did not end a message that was begun
	Idle    uint64 // sent neither a message nor a keep-alive
	Unread  uint64 // did not read what was sent
	Broken  uint64 // sent what has no end that can be found, or is too long
}

// StreamStats counts the connections of the agent.
func (a *Agent) StreamStats() StreamStats {
	s := a.streams
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.counters
	stats.Open = s.accepted + s.dialled
	return stats
}

func (s *streams) count(add func(*StreamStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add(&s.counters)
}

// seat is what a connection of somebody else counts under.
type seat struct {
	source   netip.Addr // an IPv6 network counts as one
	stranger bool
}

// admit takes a place for a connection from a source. Who got it calls release.
func (s *streams) admit(source netip.Addr) (at seat, ok bool) {
	if s.front.guard.isBanned(source) {
		s.front.guard.count(func(c *GuardStats) { c.Banned++ })
		return seat{}, false
	}
	at = seat{source: keyOf(source), stranger: s.front.guard.stranger(source)}
	most := s.limits.ofSource
	if at.stranger {
		most = s.limits.ofStranger
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return seat{}, false
	case s.accepted >= s.limits.accepted, at.stranger && s.strangers >= s.limits.strangers, s.sources[at.source] >= most:
		s.counters.Refused++
		return seat{}, false
	}
	s.accepted++
	s.sources[at.source]++
	if at.stranger {
		s.strangers++
	}
	return at, true
}

// release gives a place back. Unmet: the connection never came so far that messages could be read.
func (s *streams) release(at seat, unmet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted--
	if s.sources[at.source]--; s.sources[at.source] == 0 {
		delete(s.sources, at.source)
	}
	if at.stranger {
		s.strangers--
	}
	if unmet {
		s.counters.Unmet++
	}
}

// door lets the connections of a listener in as far as there are places for them.
type door struct {
	net.Listener
	streams *streams
}

// Accept returns the next connection that got a place.
func (d door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err == nil {
			source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
			if at, ok := d.streams.admit(source.Addr()); ok {
				return newGuest(conn, source, d.streams, at), nil
			}
		}
		_ = conn.Close()
	}
}

// guest is a connection of somebody else. It keeps its place until it is closed, and is closed when its handshakes are
// not over in time: each of TLS, HTTP and WebSocket could be drawn out for ever, so none of them is relied on for that.
type guest struct {
	net.Conn
	source  netip.AddrPort
	streams *streams
	seat    seat
	late    *time.Timer

	mu       sync.Mutex
	welcomed bool
	closed   bool
}

// guestOf returns the guest that conn is, or is with TLS on top; nil if it is none.
func guestOf(conn net.Conn) *guest {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	g, _ := conn.(*guest)
	return g
}

func newGuest(conn net.Conn, source netip.AddrPort, s *streams, at seat) *guest {
	g := &guest{Conn: conn, source: source, streams: s, seat: at}
	g.late = time.AfterFunc(s.limits.handshake, func() { _ = g.shut() })
	return g
}

// welcome ends the wait for the handshakes. It is false when they took too long.
func (g *guest) welcome() bool {
	g.late.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.welcomed = true
	return !g.closed
}

// Close may be called any number of times.
func (g *guest) Close() error {
	g.late.Stop()
	return g.shut()
}

func (g *guest) shut() error {
	g.mu.Lock()
	first, unmet := !g.closed, !g.welcomed
	g.closed = true
	g.mu.Unlock()
	if first {
		g.streams.release(g.seat, unmet)
	}
	return g.Conn.Close()
}
