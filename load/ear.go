package load

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	earPoll    = 2 * time.Millisecond
	earWaiting = 256     // packets between the socket and its reader; what is more stays in the socket
	earBytes   = 1 << 20 // of the socket: a long pause of this process must not look like loss in the gateway
)

// ear is a UDP socket on loopback that is looked at every 2 ms instead of waking a reader with each packet: the waking would
// be done, and paid for, by the gateway that sends. When a packet came is what the kernel says. It implements net.PacketConn.
type ear struct {
	fd    int
	local netip.AddrPort
	in    chan *datagram
	free  chan *datagram // to be filled again
	done  chan struct{}  // closed by Close
	once  sync.Once

	// noted, if it is not nil, is told of each packet before it is read.
	noted func(packet []byte, at time.Time)
}

// datagram is one packet that waits for its reader.
type datagram struct {
	n    int
	from netip.AddrPort
	at   time.Time
	data [1500]byte
}

// listening polls all ears of this process in one system call. Its goroutine runs while there are any.
var listening struct { //nolint:gochecknoglobals // a process has one: every ear is in it from its making to its end
	mu   sync.Mutex
	ears map[*ear]struct{}
	runs bool
}

// loopback is where nearly all here listen.
func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

func newEar(host netip.Addr, noted func(packet []byte, at time.Time)) (*ear, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("load: socket: %w", err)
	}
	e := &ear{fd: fd, in: make(chan *datagram, earWaiting), free: make(chan *datagram, earWaiting), done: make(chan struct{}), noted: noted}
	if err := e.open(host); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("load: socket: %w", err)
	}
	listening.mu.Lock()
	defer listening.mu.Unlock()
	if listening.ears == nil {
		listening.ears = make(map[*ear]struct{})
	}
	listening.ears[e] = struct{}{}
	if !listening.runs {
		listening.runs = true
		go listen()
	}
	return e, nil
}

func (e *ear) open(host netip.Addr) error {
	_ = unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, earBytes) // as much of it as the kernel allows
	if err := unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1); err != nil {
		return err
	}
	if err := unix.Bind(e.fd, &unix.SockaddrInet4{Addr: host.As4()}); err != nil {
		return err
	}
	name, err := unix.Getsockname(e.fd)
	if err != nil {
		return err
	}
	e.local = addrPort(name)
	return nil
}

func addrPort(of unix.Sockaddr) netip.AddrPort {
	if v4, ok := of.(*unix.SockaddrInet4); ok {
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port))
	}
	return netip.AddrPort{}
}

// listen reads what has come to any ear, until there is none.
func listen() {
	tick := time.NewTicker(earPoll)
	defer tick.Stop()
	var all []*ear
	var ready []unix.PollFd
	for range tick.C {
		listening.mu.Lock()
		if len(listening.ears) == 0 {
			listening.runs = false
			listening.mu.Unlock()
			return
		}
		all, ready = all[:0], ready[:0]
		for e := range listening.ears {
			all, ready = append(all, e), append(ready, unix.PollFd{Fd: int32(e.fd), Events: unix.POLLIN})
		}
		if n, err := unix.Poll(ready, 0); err == nil && n > 0 {
			for k, r := range ready {
				if r.Revents != 0 {
					all[k].drain()
				}
			}
		}
		listening.mu.Unlock()
	}
}

// drain takes what waits in the socket. Only listen calls it.
func (e *ear) drain() {
	var control [64]byte
	for len(e.in) < earWaiting {
		d := e.empty()
		n, controls, _, from, err := unix.Recvmsg(e.fd, d.data[:], control[:], unix.MSG_DONTWAIT)
		if err != nil {
			e.spare(d)
			return // nothing more, or an ICMP error of a packet that was sent
		}
		d.n, d.from, d.at = n, addrPort(from), arrivedAt(control[:controls])
		if e.noted != nil {
			e.noted(d.data[:n], d.at)
		}
		e.in <- d
	}
}

// spare keeps a datagram for later.
func (e *ear) spare(d *datagram) {
	select {
	case e.free <- d:
	default:
	}
}

// empty is a datagram to read into.
func (e *ear) empty() *datagram {
	select {
	case d := <-e.free:
		return d
	default:
		return new(datagram)
	}
}

// arrivedAt is when the kernel took a packet in, on the monotonic clock too.
func arrivedAt(control []byte) time.Time {
	now := time.Now()
	const header = unix.SizeofCmsghdr
	if len(control) < header+16 { // seconds and nanoseconds, 64 bits each
		return now
	}
	seconds, nanoseconds := binary.NativeEndian.Uint64(control[header:]), binary.NativeEndian.Uint64(control[header+8:])
	if late := now.Sub(time.Unix(int64(seconds), int64(nanoseconds))); late > 0 {
		return now.Add(-late)
	}
	return now
}

// receive waits for a packet and says when it came. After Close the error is net.ErrClosed.
func (e *ear) receive(b []byte) (n int, from netip.AddrPort, at time.Time, err error) {
	select {
	case d := <-e.in:
		n, from, at = copy(b, d.data[:d.n]), d.from, d.at
		e.spare(d)
		return n, from, at, nil
	case <-e.done:
		return 0, netip.AddrPort{}, time.Time{}, net.ErrClosed
	}
}

// send is one packet to an address of IPv4.
func (e *ear) send(b []byte, to netip.AddrPort) error {
	return unix.Sendto(e.fd, b, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
}

// Close ends receive, and with the last ear the goroutine that reads them.
func (e *ear) Close() error {
	e.once.Do(func() {
		close(e.done)
		listening.mu.Lock()
		defer listening.mu.Unlock()
		delete(listening.ears, e)
		_ = unix.Close(e.fd)
	})
	return nil
}

// ReadFrom implements net.PacketConn.
func (e *ear) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, _, err := e.receive(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo implements net.PacketConn.
func (e *ear) WriteTo(b []byte, to net.Addr) (int, error) {
	addr, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("load: %v is no UDP address", to)
	}
	if err := e.send(b, netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), uint16(addr.Port))); err != nil {
		return 0, os.NewSyscallError("sendto", err)
	}
	return len(b), nil
}

// LocalAddr implements net.PacketConn.
func (e *ear) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(e.local) }

// SetDeadline implements net.PacketConn: nobody here has one.
func (e *ear) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn, as SetDeadline does.
func (e *ear) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn, as SetDeadline does.
func (e *ear) SetWriteDeadline(time.Time) error { return nil }
