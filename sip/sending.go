package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	maxUDPRequest = 1300            // bytes of a request over UDP where the path is not known (RFC 3261 §18.1.1)
	widenTimeout  = 2 * time.Second // for the TCP connection of a longer one
)

// reach gets a request ready to leave: it finds the address of where it goes when that is a name, and the connection,
// which it makes when there is none, and which shows a certificate. What it changes is the topmost Via and, with it, a
// Contact of ours.
func (a *Agent) reach(ctx context.Context, req *sip.Request, shows certFiles) error {
	via := req.Via()
	if via == nil {
		return errors.New("a request needs a Via")
	}
	secure(req)
	hops := []hop{{strings.ToLower(via.Transport), req.Destination()}}
	if !hops[0].resolved() {
		var err error
		if hops, err = a.locate(ctx, nextHop(req), hops[0].network); err != nil {
			return err
		}
	}
	var failed error
	for _, h := range hops {
		if h != hops[0] || h.addr != req.Destination() {
			a.redirect(req, h.network, h.addr)
		}
		if h.network == networkUDP {
			a.widen(ctx, req, h)
			return nil
		}
		err := a.attach(ctx, req, h, shows)
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// widen sends a request that is too long for one datagram over TCP (RFC 3261 §18.1.1): where the peer does not take that,
// it goes over UDP in fragments, as it does for a minute from then on.
func (a *Agent) widen(ctx context.Context, req *sip.Request, h hop) {
	wide := hop{networkTCP, h.addr}
	if len(req.String()) <= maxUDPRequest || a.resolver.failing(wide) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, widenTimeout)
	defer cancel()
	a.redirect(req, wide.network, wide.addr)
	if err := a.attach(ctx, req, wide, certFiles{}); err != nil {
		a.log.Debug("sip: a long request goes over UDP", "address", h.addr, "error", err)
		a.resolver.fail(wide)
		a.redirect(req, h.network, h.addr)
	}
}

// secure makes a Contact of ours sips: where the request goes to a sips: URI (RFC 3261 §8.1.1.8).
func secure(req *sip.Request) {
	contact := req.Contact()
	if contact == nil || contact.Address.Scheme != "sip" || nextHop(req).Scheme != "sips" {
		return
	}
	contact.Address = secured(contact.Address)
}

// secured is a URI as sips:, in which TLS has no name of its own (RFC 3261 §26.2.2).
func secured(uri sip.Uri) sip.Uri {
	uri.Scheme = "sips"
	uri.UriParams = slices.DeleteFunc(slices.Clone(uri.UriParams), func(p sip.HeaderKV) bool { return p.K == "transport" && p.V == networkTLS })
	return uri
}

// attach puts a request onto the connection that leads to h and shows a certificate.
func (a *Agent) attach(ctx context.Context, req *sip.Request, h hop, shows certFiles) error {
	addr, err := netip.ParseAddrPort(h.addr)
	if err != nil {
		return fmt.Errorf("%s is no address: %w", h.addr, err)
	}
	if a.streams.holds(addr, req.Laddr) {
		return nil
	}
	t := target{network: h.network, addr: addr, shows: shows.over(h.network)}
	if h.network != networkTCP {
		t.name = a.streams.nameFor(h.network, addr, hostOf(nextHop(req)))
	}
	st, err := a.streams.connect(ctx, t)
	if err != nil {
		return err
	}
	pin(req, st)
	return nil
}

// pin has the library send a request over this connection: those of ours it finds by our end, which is theirs alone.
func pin(req *sip.Request, st *stream) {
	req.Laddr = sip.Addr{}
	if local, ok := st.LocalAddr().(*net.TCPAddr); ok && st.dialled {
		req.Laddr = sip.Addr{IP: local.IP, Port: local.Port}
	}
}

// pinTo is pin to the connection over which a peer's messages come, whatever name it was checked for: the dialog is
// with whoever is at its other end.
func (a *Agent) pinTo(req *sip.Request, network, source string, shows certFiles) {
	if st := a.streams.of(network, source, shows); st != nil {
		pin(req, st)
	}
}

// mistrust has no further request use the connection of one that got no answer: it may lead nowhere by now.
func (a *Agent) mistrust(req *sip.Request, err error) {
	if errors.Is(err, sip.ErrTransactionTimeout) && strings.EqualFold(req.Transport(), networkTCP) {
		if addr, err := netip.ParseAddrPort(req.Destination()); err == nil {
			a.streams.retire(addr)
		}
	}
}

// nextHop is the URI that says where a request goes (RFC 3261 §8.1.2).
func nextHop(req *sip.Request) sip.Uri {
	if route := req.Route(); route != nil && route.Address.UriParams.Has("lr") {
		return route.Address
	}
	return req.Recipient
}

// redirect sends a request another way than it was built for: its Via, and a Contact of ours, are those of the new way.
func (a *Agent) redirect(req *sip.Request, network, destination string) {
	if contact := req.Contact(); contact != nil {
		uri, ours := &contact.Address, a.contact(network, destination).Address
		uri.Host, uri.Port = ours.Host, ours.Port
		uri.UriParams = slices.DeleteFunc(slices.Clone(uri.UriParams), func(p sip.HeaderKV) bool { return p.K == "transport" })
		uri.UriParams = append(uri.UriParams, ours.UriParams...)
	}
	via := req.Via()
	via.Transport = strings.ToUpper(network)
	via.Host, via.Port = a.address(network, destination)
	a.aim(req, network, destination)
}

// aim tells the library where a request goes. To the library every stream is one over TCP.
func (a *Agent) aim(req *sip.Request, network, destination string) {
	req.SetDestination(destination)
	req.Laddr = sip.Addr{}
	if network != networkUDP {
		req.SetTransport("TCP")
		return
	}
	req.SetTransport("UDP")
	if l := a.own(network, destination); l != nil {
		req.Laddr = sip.Addr{IP: l.addr.Addr().AsSlice(), Port: int(l.addr.Port())}
	}
}
