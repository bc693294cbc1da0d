package sip

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
)

var errClaimed = errors.New("goes to an address of a trunk of the configuration file or of another account")

// unclaimed takes out the hops that lead to where trunks go that the trunk may not follow (trunks.Book.Claims), under
// whatever name: what the DNS says of it may have changed since the trunk was made. The error says that none is left.
func (a *Agent) unclaimed(ctx context.Context, t *trunk, hops []hop) ([]hop, error) {
	uris := a.book.Claims(&t.Trunk)
	if len(uris) == 0 || len(hops) == 0 {
		return hops, nil
	}
	taken := a.addressesOf(ctx, uris)
	left := slices.DeleteFunc(slices.Clone(hops), func(h hop) bool {
		to, err := netip.ParseAddrPort(h.addr)
		if err != nil {
			return false
		}
		return slices.ContainsFunc(taken, func(other netip.AddrPort) bool {
			return other.Addr() == to.Addr().Unmap() && (other.Port() == to.Port() || !to.Addr().Unmap().IsLoopback())
		})
	})
	if len(left) == 0 {
		return nil, errClaimed
	}
	return left, nil
}

// addressesOf resolves the addresses of trunks, all at once. One that the DNS does not tell now leads nowhere now.
func (a *Agent) addressesOf(ctx context.Context, uris []string) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, socketTimeout)
	defer cancel()
	var (
		mu   sync.Mutex
		all  []netip.AddrPort
		work sync.WaitGroup
	)
	for _, s := range uris {
		work.Go(func() {
			uri, err := parseTrunkURI(s)
			if err != nil {
				return
			}
			hops, err := a.resolver.hops(ctx, uri, networkUDP)
			if err != nil {
				a.log.Info("sip: a trunk's address is not known now", "uri", s, "error", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, h := range hops {
				if at, err := netip.ParseAddrPort(h.addr); err == nil {
					all = append(all, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
				}
			}
		})
	}
	work.Wait()
	return all
}
