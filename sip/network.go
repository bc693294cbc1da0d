package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	// maxDatagram lets messages of any size leave over UDP, in fragments. The library refuses more than 1300 bytes.
	// Requests of that size go over TCP where the peer takes them so; responses have no choice (RFC 3261 §18.2.2).
	maxDatagram = 65000

	// maxSources is how many senders the library remembers for one UDP socket before it is told to forget them.
	maxSources = 10_000

	readPause     = 50 * time.Millisecond // before a socket is read again that failed, for want of file descriptors say
	socketTimeout = 5 * time.Second       // for a TCP connection, or a write on one
)

var errTooManySources = errors.New("too many UDP senders")

// prepareLibrary sets the two values that sipgo keeps for the whole process, once and before its first use here.
//
//nolint:gochecknoglobals // the library's settings are global, so what guards them has to be
var prepareLibrary = sync.OnceFunc(func() {
	sip.UDPMTUSize = maxDatagram
	sip.SetDefaultLogger(slog.New(slog.DiscardHandler)) // its reference counts; its layers get the real logger
})

// The transports, as in listen URIs and, in capitals, in Via.
const (
	networkUDP = "udp"
	networkTCP = "tcp"
	networkTLS = "tls"
	networkWS  = "ws"
	networkWSS = "wss"
)

// listener is one bound socket.
type listener struct {
	network string
	addr    netip.AddrPort
	packet  net.PacketConn // udp
	stream  net.Listener   // all others, with neither TLS nor WebSocket
}

//nolint:gochecknoglobals // a constant in all but the language
var networks = []string{networkUDP, networkTCP, networkTLS, networkWS, networkWSS}

// listen binds what a listen URI says.
func listen(uri string) (*listener, error) {
	parsed, err := url.Parse(uri)
	if err != nil || parsed.Path != "" || !slices.Contains(networks, parsed.Scheme) {
		return nil, fmt.Errorf("sip.listen: %q is not udp://host:port, nor the same with tcp, tls, ws or wss", uri)
	}
	l := &listener{network: parsed.Scheme}
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	ctx, cancel := context.WithTimeout(context.Background(), socketTimeout)
	defer cancel()
	var bound net.Addr
	if l.network == networkUDP {
		if l.packet, err = config.ListenPacket(ctx, "udp", parsed.Host); err == nil {
			bound = l.packet.LocalAddr()
		}
	} else if l.stream, err = config.Listen(ctx, "tcp", parsed.Host); err == nil {
		bound = l.stream.Addr()
	}
	if err != nil {
		return nil, fmt.Errorf("sip.listen: %w", err)
	}
	l.addr, err = netip.ParseAddrPort(bound.String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sip.listen: %w", err), l.close())
	}
	return l, nil
}

func (l *listener) close() error {
	if l.packet != nil {
		return l.packet.Close()
	}
	return l.stream.Close()
}

func (l *listener) uri() string { return l.network + "://" + l.addr.String() }

// serve reads the socket until it is closed. A UDP socket is taken up again when the library was told to forget its
// senders, and when it could not cope with what it read.
func (l *listener) serve(ctx context.Context, a *Agent) error {
	log := a.log
	for {
		err := l.serveOnce(ctx, a)
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("%s: %w", l.uri(), err)
		}
		log.Warn("sip: reading paused", "listener", l.uri(), "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(readPause):
		}
	}
}

func (l *listener) serveOnce(ctx context.Context, a *Agent) (err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("sip: reading failed", "listener", l.uri(), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	switch l.network {
	case networkUDP:
		return a.tp.ServeUDP(l.packet)
	case networkWS, networkWSS:
		return a.streams.serveWebSocket(l.stream, l.network)
	}
	return a.streams.serve(ctx, l.stream, l.network)
}

// forgetSources bounds the memory that forged senders can take: the library keeps each for as long as it reads.
func forgetSources() sip.TransportReadFilter {
	var mu sync.Mutex
	seen := make(map[string]map[string]struct{})
	return func(info sip.TransportReadProps, data []byte) ([]byte, error) {
		if info.Transport != "UDP" {
			return data, nil
		}
		local, remote := info.LocalAddr.String(), info.RemoteAddr.String()
		mu.Lock()
		defer mu.Unlock()
		senders := seen[local]
		if senders == nil {
			senders = make(map[string]struct{})
			seen[local] = senders
		}
		senders[remote] = struct{}{}
		if len(senders) > maxSources {
			delete(seen, local)
			return nil, errTooManySources
		}
		return data, nil
	}
}

// hop is where a message goes next: over which transport, to which host:port.
type hop struct{ network, addr string }

// resolved says whether the address is one, and no name.
func (h hop) resolved() bool {
	_, err := netip.ParseAddrPort(h.addr)
	return err == nil
}

// hopOf returns where a URI's messages go over network.
func hopOf(uri sip.Uri, network string) string {
	port := uri.Port
	if port == 0 {
		port = defaultPort(network)
	}
	return net.JoinHostPort(hostOf(uri), strconv.Itoa(port))
}

func hostOf(uri sip.Uri) string { return strings.Trim(uri.Host, "[]") }

func defaultPort(network string) int { return sip.DefaultPort(network) }
