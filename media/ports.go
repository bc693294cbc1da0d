package media

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tandem/errs"
)

// PortsConfig is where RTP ports are bound.
type PortsConfig struct {
	Listen      []netip.Addr  // addresses to bind, one of each IP family at most
	Public      []netip.Addr  // addresses for SDP, each in the place of that of Listen of its family
	From, To    uint16        // the range, both ends included
	Quarantine  time.Duration // how long a closed port rests, so that late packets reach no other call; 0: 5 s
	ReportEvery time.Duration // between RTCP reports (RFC 3550 §6.2); 0: 5 s
}

// Ports hands out the RTP ports of one range, which each IP family has for itself. Safe from any goroutine.
type Ports struct {
	cfg   PortsConfig
	addrs []portsAddr // never empty
	first uint16      // even
	pairs int

	mu     sync.Mutex
	taken  map[netip.AddrPort]bool      // as they are bound
	closed map[netip.AddrPort]time.Time // ports at rest, since when

	ignored, malformed, forged, unsent atomic.Uint64 // of all ports
}

// portsAddr is where the ports of one IP family are bound, and what SDP shows of it.
type portsAddr struct{ listen, public netip.Addr }

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
	addrs, err := portsAddrs(cfg.Listen, cfg.Public)
	if err != nil {
		return nil, err
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
		addrs:  addrs,
		first:  uint16(first),
		pairs:  pairs,
		taken:  make(map[netip.AddrPort]bool),
		closed: make(map[netip.AddrPort]time.Time),
	}, nil
}

// portsAddrs pairs what is bound with what SDP shows, by IP family.
func portsAddrs(listen, public []netip.Addr) ([]portsAddr, error) {
	var addrs []portsAddr
	for _, l := range listen {
		l = l.Unmap()
		if !l.IsValid() {
			return nil, errs.New(errs.Invalid, "media.listen must be an IP address")
		}
		f := FamilyOf(l)
		if slices.ContainsFunc(addrs, func(a portsAddr) bool { return FamilyOf(a.listen) == f }) {
			return nil, errs.New(errs.Invalid, "media.listen must have one %s address, not another in %s", f, l)
		}
		addrs = append(addrs, portsAddr{listen: l, public: l})
	}
	if len(addrs) == 0 {
		return nil, errs.New(errs.Invalid, "media.listen must be an IP address")
	}
	shown := make(map[Family]bool)
	for _, p := range public {
		p = p.Unmap()
		f := FamilyOf(p)
		i := slices.IndexFunc(addrs, func(a portsAddr) bool { return FamilyOf(a.listen) == f })
		if i < 0 {
			return nil, errs.New(errs.Invalid, "media.publicIP %s is %s, of which media.listen must have an address", p, f)
		}
		if shown[f] {
			return nil, errs.New(errs.Invalid, "media.publicIP must have one %s address, not another in %s", f, p)
		}
		addrs[i].public, shown[f] = p, true
	}
	for _, a := range addrs {
		if a.public.IsUnspecified() {
			return nil, errs.New(errs.Invalid, "media.publicIP must be set when media.listen is %s", a.listen)
		}
	}
	return addrs, nil
}

// Public returns the address that the ports of a family show in SDP; the zero value where media.listen has none of it.
func (ps *Ports) Public(f Family) netip.Addr {
	a, _ := ps.of(f)
	return a.public
}

// Family returns f where media.listen has an address of it, else the family of its first one.
func (ps *Ports) Family(f Family) Family {
	if _, ok := ps.of(f); ok {
		return f
	}
	return FamilyOf(ps.addrs[0].listen)
}

func (ps *Ports) of(f Family) (portsAddr, bool) {
	for _, a := range ps.addrs {
		if FamilyOf(a.listen) == f {
			return a, true
		}
	}
	return portsAddr{}, false
}

// Open is OpenFamily for the first address of media.listen.
func (ps *Ports) Open() (*Port, error) { return ps.open(ps.addrs[0]) }

// OpenFamily binds an even RTP port and the odd RTCP port after it on the address of a family. The caller closes the
// Port. When none is free, or media.listen has no such address, the error is errs.Unavailable.
func (ps *Ports) OpenFamily(f Family) (*Port, error) {
	a, ok := ps.of(f)
	if !ok {
		return nil, errs.New(errs.Unavailable, "media.listen has no %s address", f)
	}
	return ps.open(a)
}

func (ps *Ports) open(a portsAddr) (*Port, error) {
	start := rand.IntN(ps.pairs)
	for i := range ps.pairs {
		at := netip.AddrPortFrom(a.listen, ps.first+uint16(2*((start+i)%ps.pairs)))
		if !ps.take(at) {
			continue
		}
		p, err := ps.bind(at, a.public)
		if err == nil {
			return p, nil
		}
		ps.giveBack(at)
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EACCES) {
			return nil, errs.Wrap(err, errs.Unavailable, "no RTP port could be bound on media.listen %s", a.listen)
		}
	}
	return nil, errs.New(errs.Unavailable, "every %s port of media.rtpPorts %d-%d is in use", FamilyOf(a.listen), ps.cfg.From, ps.cfg.To)
}

// InUse counts the open ports of all families, and those that rest.
func (ps *Ports) InUse() (open, resting int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.wake(time.Now())
	return len(ps.taken), len(ps.closed)
}

// take reserves a port if it is free.
func (ps *Ports) take(at netip.AddrPort) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if since, ok := ps.closed[at]; ok {
		if time.Since(since) < ps.cfg.Quarantine {
			return false
		}
		delete(ps.closed, at)
	}
	if ps.taken[at] {
		return false
	}
	ps.taken[at] = true
	return true
}

// giveBack frees a port that was not bound.
func (ps *Ports) giveBack(at netip.AddrPort) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.taken, at)
}

// release lets a closed port rest.
func (ps *Ports) release(at netip.AddrPort) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.taken, at)
	ps.closed[at] = time.Now()
}

// wake forgets the ports that rested long enough. ps.mu is held.
func (ps *Ports) wake(now time.Time) {
	for at, since := range ps.closed {
		if now.Sub(since) >= ps.cfg.Quarantine {
			delete(ps.closed, at)
		}
	}
}

func (ps *Ports) bind(at netip.AddrPort, public netip.Addr) (*Port, error) {
	rtpConn, err := listenUDP(at)
	if err != nil {
		return nil, err
	}
	rtcpConn, err := listenUDP(netip.AddrPortFrom(at.Addr(), at.Port()+1))
	if err != nil {
		_ = rtpConn.Close() // nothing was sent; the RTCP port's fault is the one to tell
		return nil, err
	}
	p, err := newPort(ps, at, public, rtpConn, rtcpConn)
	if err != nil {
		_ = rtpConn.Close()
		_ = rtcpConn.Close()
		return nil, err
	}
	return p, nil
}

func listenUDP(at netip.AddrPort) (*net.UDPConn, error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	return net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
}
