package sip

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	routeLifetime = 10 * time.Second // how long the kernel's choice of a local address is believed
	maxRoutes     = 4096
)

// own returns the listener that talks with remote over network, nil if there is none. Of those whose family fits it is
// the one on the address from which the kernel sends there, else one on all addresses, else the first.
func (a *Agent) own(network, remote string) *listener {
	var all []*listener
	for _, l := range a.listeners {
		if l.network == network {
			all = append(all, l)
		}
	}
	if len(all) == 0 {
		return nil
	}
	to, err := netip.ParseAddrPort(remote)
	if err != nil {
		return all[0]
	}
	fitting := slices.DeleteFunc(slices.Clone(all), func(l *listener) bool { return !l.reaches(to.Addr().Unmap()) })
	switch len(fitting) {
	case 0:
		return all[0]
	case 1:
		return fitting[0]
	}
	if from, ok := a.routes.towards(to); ok {
		for _, l := range fitting {
			if l.addr.Addr().Unmap() == from {
				return l
			}
		}
	}
	for _, l := range fitting {
		if l.addr.Addr().IsUnspecified() {
			return l
		}
	}
	return fitting[0]
}

func (l *listener) reaches(to netip.Addr) bool {
	from := l.addr.Addr().Unmap()
	if from.IsUnspecified() {
		return from.Is6() || to.Is4()
	}
	return from.Is4() == to.Is4() && from.IsLoopback() == to.IsLoopback()
}

// routes remembers for a short time from which of our addresses the kernel sends to whom.
type routes struct {
	lookup func(netip.AddrPort) (netip.Addr, bool) // nil: the kernel

	mu    sync.Mutex
	known map[netip.Addr]route
}

type route struct {
	from  netip.Addr
	ok    bool
	until time.Time
}

func (r *routes) towards(to netip.AddrPort) (netip.Addr, bool) {
	now := time.Now()
	r.mu.Lock()
	known, ok := r.known[to.Addr()]
	r.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.from, known.ok
	}
	lookup := r.lookup
	if lookup == nil {
		lookup = addressTowards
	}
	known = route{until: now.Add(routeLifetime)}
	known.from, known.ok = lookup(to)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= maxRoutes {
		r.known = make(map[netip.Addr]route)
	}
	r.known[to.Addr()] = known
	return known.from, known.ok
}

// addressTowards asks the kernel which of our addresses it would use; nothing is sent.
func addressTowards(to netip.AddrPort) (netip.Addr, bool) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return netip.Addr{}, false
	}
	local := conn.LocalAddr().String()
	_ = conn.Close()
	addr, err := netip.ParseAddrPort(local)
	return addr.Addr().Unmap(), err == nil
}

// address returns the host and port at which the far end at remote reaches us over network.
func (a *Agent) address(network, remote string) (host string, port int) {
	l := a.own(network, remote)
	if l == nil {
		l = a.listeners[0]
	}
	to, err := netip.ParseAddrPort(remote)
	host, port = l.addr.Addr().Unmap().String(), int(l.addr.Port())
	if public, ok := a.facing.towards(to.Addr()); ok {
		if known, ok := a.advertise.towards(l.network, public); ok && known.port != 0 {
			port = known.port
		}
		return public.String(), port
	}
	if known, ok := a.advertise.towards(l.network, to.Addr().Unmap()); ok {
		if known.port != 0 {
			port = known.port
		}
		return known.host, port
	}
	if l.addr.Addr().IsUnspecified() && err == nil {
		if from, ok := a.routes.towards(to); ok {
			host = from.String()
		}
	}
	return host, port
}

// advertised is one address of sip.advertise.
type advertised struct {
	network string // for this transport alone; empty: for all, the port for UDP and TCP
	host    string
	port    int // 0: that of the listener
}

// advertisement is sip.advertise: an address for each family and transport that needs one.
type advertisement []advertised

// towards picks the address for a far end: one of its family, or a name, and before that one for the transport itself.
// A far end that is not valid is of any family.
func (all advertisement) towards(network string, to netip.Addr) (advertised, bool) {
	for _, only := range []string{network, ""} {
		for _, named := range []bool{false, true} {
			for _, a := range all {
				addr, err := netip.ParseAddr(a.host)
				if a.network != only || named != (err != nil) {
					continue
				}
				if err == nil && to.IsValid() && addr.Unmap().Is4() != to.Is4() {
					continue
				}
				if only == "" && network != networkUDP && network != networkTCP {
					a.port = 0
				}
				return a, true
			}
		}
	}
	return advertised{}, false
}

// parseAdvertise reads a comma list of [transport://]host[:port].
func parseAdvertise(s string) (advertisement, error) {
	var all advertisement
	for one := range strings.SplitSeq(s, ",") {
		one = strings.TrimSpace(one)
		if one == "" {
			continue
		}
		wrong := fmt.Errorf("sip.advertise: %q is not host[:port], nor tls://host[:port]", one)
		var a advertised
		rest := one
		if network, after, ok := strings.Cut(one, "://"); ok {
			if !slices.Contains(networks, network) {
				return nil, wrong
			}
			a.network, rest = network, after
		}
		host, port, err := net.SplitHostPort(rest)
		if err == nil && host != "" {
			number, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return nil, wrong
			}
			a.host, a.port = host, int(number)
			all = append(all, a)
			continue
		}
		a.host = strings.Trim(rest, "[]")
		if _, err := netip.ParseAddr(a.host); a.host == "" || (err != nil && strings.ContainsAny(a.host, ":/[] ")) {
			return nil, wrong
		}
		all = append(all, a)
	}
	return all, nil
}
