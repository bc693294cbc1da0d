package sip

import (
	"net/netip"
	"sync/atomic"

	"tandem/trunks"
)

// allowList answers which addresses trunks vouch for. It is made anew when the trunks change.
type allowList struct {
	book *trunks.Book
	now  atomic.Pointer[vouched]
}

type vouched struct {
	networks []netip.Prefix
	changed  <-chan struct{}
}

// has says whether an address belongs to a trunk that vouches for it. A trunk that lets the whole net, or a large part of
// it, try its password does not vouch for the net.
func (l *allowList) has(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, network := range l.current().networks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

func (l *allowList) current() *vouched {
	if v := l.now.Load(); v != nil {
		select {
		case <-v.changed:
		default:
			return v
		}
	}
	all, changed := l.book.Trunks()
	v := &vouched{changed: changed}
	for _, t := range all {
		for _, network := range t.Allow {
			narrow := network.Bits() >= 8 && network.Addr().Is4() || network.Bits() >= 32 && network.Addr().Is6()
			if narrow || t.InboundUsername == "" {
				v.networks = append(v.networks, network)
			}
		}
	}
	l.now.Store(v)
	return v
}
