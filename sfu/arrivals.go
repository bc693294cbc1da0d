package sfu

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	arrivalsMost = 16   // packets that are read in one system call at most
	datagramSize = 8192 // bytes of one at most: what Pion takes
)

// arrivals reads what waits at a UDP port, many packets in one system call (recvmmsg). The ReadBatch of golang.org/x/net does so too,
// but makes two objects on the heap for each packet. One goroutine calls next, and owns what that returns until it calls it again.
type arrivals struct {
	conn  syscall.RawConn
	read  func(fd uintptr) bool // made once, so that a call costs no closure
	err   syscall.Errno         // of read
	zones map[uint32]string

	came, given int // packets that were read, and those of them that next returned
	headers     [arrivalsMost]messageHeader
	parts       [arrivalsMost]unix.Iovec
	from        [arrivalsMost]address
	data        [arrivalsMost][datagramSize]byte
}

// address is what the kernel writes of where a packet came from: a struct sockaddr_in (ip(7)) or sockaddr_in6 (ipv6(7)).
type address [unix.SizeofSockaddrInet6]byte

// messageHeader is struct mmsghdr (recvmmsg(2)).
type messageHeader struct {
	unix.Msghdr
	length uint32 // of what was read
}

func newArrivals(conn *net.UDPConn) (*arrivals, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	a := &arrivals{conn: raw, zones: make(map[uint32]string)}
	a.read = a.receive
	for i := range a.headers {
		a.parts[i].Base = &a.data[i][0]
		a.parts[i].SetLen(datagramSize)
		h := &a.headers[i]
		h.Name = &a.from[i][0]
		h.Namelen = unix.SizeofSockaddrInet6
		h.Iov = &a.parts[i]
		h.SetIovlen(1)
	}
	return a, nil
}

// next waits for a packet. The error is that of the port: after it was closed, net.ErrClosed.
func (a *arrivals) next() (packet []byte, from netip.AddrPort, err error) {
	if a.given == a.came {
		if err := a.fill(); err != nil {
			return nil, netip.AddrPort{}, err
		}
	}
	i := a.given
	a.given++
	return a.data[i][:a.headers[i].length], a.source(&a.from[i]), nil
}

// fill waits until there is a packet, and reads all that fit.
func (a *arrivals) fill() error {
	for i := range a.came {
		a.headers[i].Namelen = unix.SizeofSockaddrInet6 // the kernel has made it that of the address
	}
	a.came, a.given = 0, 0
	if err := a.conn.Read(a.read); err != nil {
		return err
	}
	if a.err != 0 {
		return os.NewSyscallError("recvmmsg", a.err)
	}
	return nil
}

// receive is one attempt; false: nothing is there.
func (a *arrivals) receive(fd uintptr) bool {
	for {
		n, _, err := syscall.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&a.headers[0])), arrivalsMost, unix.MSG_DONTWAIT, 0, 0) //nolint:gosec // neither library has it without allocating, and a system call takes a pointer as a number
		switch err {
		case 0:
			a.came, a.err = int(n), 0
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			a.err = err
			return true
		}
	}
}

// source is an address as the net package gives it.
func (a *arrivals) source(from *address) netip.AddrPort {
	port := binary.BigEndian.Uint16(from[2:])
	if binary.NativeEndian.Uint16(from[:]) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(from[4:8])), port)
	}
	addr := netip.AddrFrom16([16]byte(from[8:24]))
	if scope := binary.NativeEndian.Uint32(from[24:]); scope != 0 {
		addr = addr.WithZone(a.zone(scope))
	}
	return netip.AddrPortFrom(addr, port)
}

// zone is the name of an interface (RFC 4007 §11), which is looked up once.
func (a *arrivals) zone(id uint32) string {
	name, known := a.zones[id]
	if !known {
		name = strconv.FormatUint(uint64(id), 10)
		if i, err := net.InterfaceByIndex(int(id)); err == nil {
			name = i.Name
		}
		a.zones[id] = name
	}
	return name
}
