package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"golang.org/x/net/netutil"
)

const (
	// maxDatagram lets messages of any size leave over UDP, in fragments. The library refuses more than 1300 bytes, and
	// a token in User-to-User or a long Record-Route is enough for that; what RFC 3261 §18.1.1 wants, TCP, is what a
	// trunk says in its URI.
	maxDatagram = 65000

	// maxSources is how many senders the library remembers for one UDP socket before it is told to forget them.
	maxSources = 10_000

	// maxConnections is how many TCP connections of others one listener holds.
	maxConnections = 4096

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

// listener is one bound socket.
type listener struct {
	network string // udp or tcp
	addr    netip.AddrPort
	packet  net.PacketConn // udp
	stream  net.Listener   // tcp
}

// listen binds what a listen URI says.
func listen(uri string) (*listener, error) {
	parsed, err := url.Parse(uri)
	if err != nil || parsed.Path != "" || (parsed.Scheme != "udp" && parsed.Scheme != "tcp") {
		return nil, fmt.Errorf("sip.listen: %q is not udp://host:port or tcp://host:port", uri)
	}
	l := &listener{network: parsed.Scheme}
	var config net.ListenConfig
	ctx, cancel := context.WithTimeout(context.Background(), socketTimeout)
	defer cancel()
	var bound net.Addr
	if l.network == "udp" {
		if l.packet, err = config.ListenPacket(ctx, "udp", parsed.Host); err == nil {
			bound = l.packet.LocalAddr()
		}
	} else if l.stream, err = config.Listen(ctx, "tcp", parsed.Host); err == nil {
		bound = l.stream.Addr()
	}
	if err != nil {
		return nil, fmt.Errorf("sip.listen: %w", err)
	}
	if l.stream != nil {
		l.stream = netutil.LimitListener(l.stream, maxConnections)
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
func (l *listener) serve(ctx context.Context, tp *sip.TransportLayer, log *slog.Logger) error {
	for {
		err := l.serveOnce(tp, log)
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

func (l *listener) serveOnce(tp *sip.TransportLayer, log *slog.Logger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("sip: reading failed", "listener", l.uri(), "panic", p)
		}
	}()
	if l.network == "udp" {
		return tp.ServeUDP(l.packet)
	}
	return tp.ServeTCP(l.stream)
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

// own returns the listener that talks with remote over network, nil if there is none: the first that can reach it, by
// family and by loopback, else the first.
func (a *Agent) own(network, remote string) *listener {
	var first *listener
	to, err := netip.ParseAddrPort(remote)
	for _, l := range a.listeners {
		if l.network != network {
			continue
		}
		if err != nil || l.reaches(to.Addr().Unmap()) {
			return l
		}
		if first == nil {
			first = l
		}
	}
	return first
}

func (l *listener) reaches(to netip.Addr) bool {
	from := l.addr.Addr().Unmap()
	if from.IsUnspecified() {
		return from.Is6() || to.Is4()
	}
	return from.Is4() == to.Is4() && from.IsLoopback() == to.IsLoopback()
}

// address returns the host and port at which the far end at remote reaches us over network.
func (a *Agent) address(network, remote string) (host string, port int) {
	l := a.own(network, remote)
	if l == nil {
		l = a.listeners[0]
	}
	host, port = l.addr.Addr().Unmap().String(), int(l.addr.Port())
	if a.advertise.host != "" {
		if a.advertise.port != 0 {
			port = a.advertise.port
		}
		return a.advertise.host, port
	}
	if l.addr.Addr().IsUnspecified() {
		if towards, ok := addressTowards(remote); ok {
			host = towards
		}
	}
	return host, port
}

// addressTowards asks the kernel which of our addresses it would use; nothing is sent.
func addressTowards(remote string) (string, bool) {
	to, err := netip.ParseAddrPort(remote)
	if err != nil {
		return "", false
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return "", false
	}
	local := conn.LocalAddr().String()
	_ = conn.Close()
	addr, err := netip.ParseAddrPort(local)
	return addr.Addr().Unmap().String(), err == nil
}

// hostPort is an advertised address; port 0: that of the listener.
type hostPort struct {
	host string
	port int
}

func parseAdvertise(s string) (hostPort, error) {
	if s == "" {
		return hostPort{}, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err == nil && host != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return hostPort{}, fmt.Errorf("sip.advertise: %q is not host[:port]", s)
		}
		return hostPort{host: host, port: int(number)}, nil
	}
	host = strings.Trim(s, "[]")
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		return hostPort{}, fmt.Errorf("sip.advertise: %q is not host[:port]", s)
	}
	return hostPort{host: host}, nil
}

// hopOf returns where a URI's messages go.
func hopOf(uri sip.Uri) string {
	port := uri.Port
	if port == 0 {
		port = sip.DefaultUdpPort
	}
	return net.JoinHostPort(strings.Trim(uri.Host, "[]"), strconv.Itoa(port))
}

// resolve lists the addresses of a trunk in the order in which they are tried: SRV where the URI has no port, else
// the host's addresses (RFC 3263 §4.2).
func resolve(ctx context.Context, uri sip.Uri, network string) ([]string, error) {
	host := strings.Trim(uri.Host, "[]")
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{hopOf(uri)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, socketTimeout)
	defer cancel()
	if uri.Port == 0 {
		if _, records, err := net.DefaultResolver.LookupSRV(ctx, "sip", network, host); err == nil && len(records) > 0 {
			var hops []string
			for _, r := range records {
				hops = append(hops, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
			}
			return hops, nil
		}
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	var hops []string
	for _, ip := range ips {
		port := uri.Port
		if port == 0 {
			port = sip.DefaultUdpPort
		}
		hops = append(hops, netip.AddrPortFrom(ip.Unmap(), uint16(port)).String())
	}
	return hops, nil
}
