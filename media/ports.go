package media

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tandem/errs"
)

// PortsConfig is where RTP ports are bound.
type PortsConfig struct {
	Listen      netip.Addr    // address to bind
	Public      netip.Addr    // address for SDP; zero: Listen
	From, To    uint16        // the range, both ends included
	Quarantine  time.Duration // how long a closed port rests, so that late packets reach no other call; 0: 5 s
	ReportEvery time.Duration // between RTCP reports (RFC 3550 §6.2); 0: 5 s
}

// Ports hands out the RTP ports of one range. Safe from any goroutine.
type Ports struct {
	cfg   PortsConfig
	first uint16 // even
	pairs int

	mu     sync.Mutex
	taken  map[uint16]bool
	closed map[uint16]time.Time // ports at rest, since when

	ignored, malformed, forged, unsent atomic.Uint64 // of all ports
}

// Dropped counts the packets that ports did not take, or could not send, as PortStats has them.
type Dropped struct {
	Ignored, Malformed, Forged, Unsent uint64
}

// Dropped returns the counters of all ports, closed ones too.
func (ps *Ports) Dropped() Dropped {
	return Dropped{
		Ignored: ps.ignored.Load(), Malformed: ps.malformed.Load(), Forged: ps.forged.Load(), Unsent: ps.unsent.Load(),
	}
}

// tally counts for a port, and for all of them.
type tally struct {
	own atomic.Uint64
	all *atomic.Uint64
}

// Add counts n more.
func (t *tally) Add(n uint64) {
	t.own.Add(n)
	t.all.Add(n)
}

// Load returns the port's own count.
func (t *tally) Load() uint64 { return t.own.Load() }

// NewPorts checks the range and binds nothing. An error is errs.Invalid and names the configuration's key.
func NewPorts(cfg PortsConfig) (*Ports, error) {
	cfg.Listen = cfg.Listen.Unmap()
	if !cfg.Listen.IsValid() {
		return nil, errs.New(errs.Invalid, "media.listen must be an IP address")
	}
	if !cfg.Public.IsValid() {
		cfg.Public = cfg.Listen
	}
	cfg.Public = cfg.Public.Unmap()
	if cfg.Public.IsUnspecified() {
		return nil, errs.New(errs.Invalid, "media.publicIP must be set when media.listen is %s", cfg.Listen)
	}
	if cfg.Quarantine == 0 {
		cfg.Quarantine = 5 * time.Second
	}
	if cfg.ReportEvery == 0 {
		cfg.ReportEvery = 5 * time.Second
	}
	first := int(cfg.From) + int(cfg.From)%2
	pairs := (int(cfg.To) - first + 1) / 2
	if cfg.From == 0 || pairs < 1 {
		return nil, errs.New(errs.Invalid, "media.rtpPorts must be a range that holds an even port and the one after it, not %d-%d", cfg.From, cfg.To)
	}
	return &Ports{
		cfg:    cfg,
		first:  uint16(first),
		pairs:  pairs,
		taken:  make(map[uint16]bool),
		closed: make(map[uint16]time.Time),
	}, nil
}

// Public returns the address that the ports show in SDP.
func (ps *Ports) Public() netip.Addr { return ps.cfg.Public }

// Open binds an even RTP port and the odd RTCP port after it. The caller closes the Port. When none is free the error
// is errs.Unavailable.
func (ps *Ports) Open() (*Port, error) {
	start := rand.IntN(ps.pairs)
	for i := range ps.pairs {
		number := ps.first + uint16(2*((start+i)%ps.pairs))
		if !ps.take(number) {
			continue
		}
		p, err := ps.bind(number)
		if err == nil {
			return p, nil
		}
		ps.giveBack(number)
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			return nil, errs.Wrap(err, errs.Unavailable, "no RTP port could be bound on media.listen %s", ps.cfg.Listen)
		}
	}
	return nil, errs.New(errs.Unavailable, "every port of media.rtpPorts %d-%d is in use", ps.cfg.From, ps.cfg.To)
}

// InUse counts the open ports, and those that rest.
func (ps *Ports) InUse() (open, resting int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.wake(time.Now())
	return len(ps.taken), len(ps.closed)
}

// take reserves a port number if it is free.
func (ps *Ports) take(number uint16) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if since, ok := ps.closed[number]; ok {
		if time.Since(since) < ps.cfg.Quarantine {
			return false
		}
		delete(ps.closed, number)
	}
	if ps.taken[number] {
		return false
	}
	ps.taken[number] = true
	return true
}

// giveBack frees a number that was not bound.
func (ps *Ports) giveBack(number uint16) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.taken, number)
}

// release lets a closed port rest.
func (ps *Ports) release(number uint16) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.taken, number)
	ps.closed[number] = time.Now()
}

// wake forgets the ports that rested long enough. ps.mu is held.
func (ps *Ports) wake(now time.Time) {
	for number, since := range ps.closed {
		if now.Sub(since) >= ps.cfg.Quarantine {
			delete(ps.closed, number)
		}
	}
}

func (ps *Ports) bind(number uint16) (*Port, error) {
	rtpConn, err := ps.listen(number)
	if err != nil {
		return nil, err
	}
	rtcpConn, err := ps.listen(number + 1)
	if err != nil {
		_ = rtpConn.Close() // nothing was sent; the RTCP port's fault is the one to tell
		return nil, err
	}
	p, err := newPort(ps, number, rtpConn, rtcpConn)
	if err != nil {
		_ = rtpConn.Close()
		_ = rtcpConn.Close()
		return nil, err
	}
	return p, nil
}

func (ps *Ports) listen(number uint16) (*net.UDPConn, error) {
	network := "udp4"
	if ps.cfg.Listen.Is6() {
		network = "udp6"
	}
	var lc net.ListenConfig
	c, err := lc.ListenPacket(context.Background(), network, net.JoinHostPort(ps.cfg.Listen.String(), strconv.Itoa(int(number))))
	if err != nil {
		return nil, err
	}
	udp, ok := c.(*net.UDPConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("not a UDP socket")
	}
	return udp, nil
}
