package sip

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"
)

var errConnectionLost = errors.New("the connection broke before an answer came")

// goneOf is closed when a transaction's connection is; nil where there is none, over UDP.
func goneOf(conn sip.Connection) <-chan struct{} {
	tcp, ok := conn.(*sip.TCPConnection)
	if !ok {
		return nil
	}
	st, ok := tcp.Conn.(*stream)
	if !ok {
		return nil
	}
	return st.gone
}

// isGone says whether it was closed.
func isGone(gone <-chan struct{}) bool {
	select {
	case <-gone:
		return true
	default:
		return false
	}
}

// canReturn says whether the sender of a request listens for connections, so that an answer may get there when the
// request's own connection is gone: nobody does so behind a WebSocket (RFC 7118 §5.2.1).
func (a *Agent) canReturn(req *sip.Request) bool {
	network := strings.ToLower(req.Via().Transport)
	return network == networkTCP || network == networkTLS
}

// deliver answers a request over its connection or, when that is gone, over one to where its Via says (RFC 3261 §18.2.2).
func (a *Agent) deliver(req *sip.Request, tx *sip.ServerTx, res *sip.Response, shows certFiles) error {
	if isGone(goneOf(tx.Connection())) {
		return a.sendBack(req, res, shows)
	}
	return tx.Respond(res)
}

// repeat sends an answer once more, past the transaction.
func (a *Agent) repeat(req *sip.Request, tx *sip.ServerTx, res *sip.Response, shows certFiles) error {
	if isGone(goneOf(tx.Connection())) {
		return a.sendBack(req, res, shows)
	}
	return tx.Connection().WriteMsg(res)
}

// sendBack answers a request over another connection than its own. It takes no longer than widenTimeout.
func (a *Agent) sendBack(req *sip.Request, res *sip.Response, shows certFiles) error {
	if !a.canReturn(req) {
		return errConnectionLost
	}
	via, network := req.Via(), strings.ToLower(req.Via().Transport)
	source, err := netip.ParseAddrPort(req.Source())
	if err != nil {
		return err
	}
	port := via.Port
	if port <= 0 || port > 65535 {
		port = defaultPort(network)
	}
	addr := netip.AddrPortFrom(source.Addr().Unmap(), uint16(port))
	t := target{network: network, addr: addr, shows: shows.over(network)}
	if network == networkTLS {
		t.name = a.streams.nameFor(network, addr, cmp.Or(via.Host, addr.Addr().String()))
	}
	sent := make(chan error, 1)
	started := a.spawn(func(ctx context.Context) {
		defer close(sent)
		sent <- a.streams.write(ctx, t, res.String())
	})
	if !started {
		return errConnectionLost
	}
	err, done := <-sent
	if !done {
		return errConnectionLost
	}
	return err
}

// write sends text to t, over a connection of ours if there is none.
func (s *streams) write(ctx context.Context, t target, text string) error {
	ctx, cancel := context.WithTimeout(ctx, widenTimeout)
	defer cancel()
	st, err := s.connect(ctx, t)
	if err != nil {
		return err
	}
	return st.send(text)
}
