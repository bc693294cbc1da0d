package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// reach gets a request ready to leave: it finds the address of where it goes when that is a name, and the connection,
// which it makes when there is none. What it changes is the topmost Via and, with it, a Contact of ours.
func (a *Agent) reach(ctx context.Context, req *sip.Request) error {
	via := req.Via()
	if via == nil {
		return errors.New("a request needs a Via")
	}
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
			return nil
		}
		err := a.attach(ctx, req, h)
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// attach puts a request onto the connection that leads to h.
func (a *Agent) attach(ctx context.Context, req *sip.Request, h hop) error {
	addr, err := netip.ParseAddrPort(h.addr)
	if err != nil {
		return fmt.Errorf("%s is no address: %w", h.addr, err)
	}
	t := target{network: h.network, addr: addr}
	if h.network != networkTCP {
		t.name = hostOf(nextHop(req))
	}
	st, err := a.streams.connect(ctx, t)
	if err != nil {
		return err
	}
	req.Laddr = sip.Addr{}
	if local, ok := st.LocalAddr().(*net.TCPAddr); ok && st.dialled {
		req.Laddr = sip.Addr{IP: local.IP, Port: local.Port} // the library finds the connection by it
	}
	return nil
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
	contact := req.Contact()
	if contact != nil {
		contact.Address = a.contact(network, destination).Address
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
