package sip

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"tandem/media"
)

// maxFacing bounds the addresses that are remembered: those of trunks with an address of their own for us.
const maxFacing = 4096

// facing knows under which address of ours the addresses of trunks reach us, where a trunk says so (trunks.Trunk.PublicIP).
// Of two trunks at one address the last one's counts. What SDP says is each trunk's own (call.local).
type facing struct {
	mu    sync.Mutex // of those who write
	known atomic.Pointer[map[netip.Addr]netip.Addr]
}

// learn notes what a trunk at remote says.
func (f *facing) learn(remote netip.Addr, t *trunk) {
	remote = remote.Unmap()
	public := t.public(media.FamilyOf(remote))
	if known, ok := f.towards(remote); known == public && ok == public.IsValid() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next := make(map[netip.Addr]netip.Addr)
	if known := f.known.Load(); known != nil && len(*known) < maxFacing {
		maps.Copy(next, *known)
	}
	if public.IsValid() {
		next[remote] = public
	} else {
		delete(next, remote)
	}
	f.known.Store(&next)
}

// towards returns the address for remote, if its trunk has one.
func (f *facing) towards(remote netip.Addr) (netip.Addr, bool) {
	known := f.known.Load()
	if known == nil {
		return netip.Addr{}, false
	}
	public, ok := (*known)[remote.Unmap()]
	return public, ok
}

// public is the address of a family that the trunk reaches us at; the zero value where it says none.
func (t *trunk) public(f media.Family) netip.Addr {
	addr, err := netip.ParseAddr(t.PublicIP)
	if err != nil || media.FamilyOf(addr) != f {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// local is where our SDP has the far end send its RTP.
func (c *call) local() netip.AddrPort { return c.shown(c.port.Local()) }

// shown is an address of ours as the call's trunk reaches it.
func (c *call) shown(local netip.AddrPort) netip.AddrPort {
	if c.trunk != nil {
		if public := c.trunk.public(media.FamilyOf(local.Addr())); public.IsValid() {
			return netip.AddrPortFrom(public, local.Port())
		}
	}
	return local
}
