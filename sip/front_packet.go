package sip

import (
	"bytes"
	"net"
	"net/netip"
)

// maxRead is what a datagram can hold.
const maxRead = 65535

// packetFront is a UDP socket behind the front.
type packetFront struct {
	net.PacketConn
	front *front
	buf   []byte // only the reader's
}

func (f *front) packet(conn net.PacketConn) *packetFront {
	return &packetFront{PacketConn: conn, front: f, buf: make([]byte, maxRead)}
}

// ReadFrom returns the next datagram that the library may read. Everything else is dealt with here.
func (p *packetFront) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := p.PacketConn.ReadFrom(p.buf)
		if err != nil {
			return 0, addr, err
		}
		from := addrPortOf(addr)
		if pass := p.datagram(p.buf[:n], from); len(pass) > 0 && len(pass) <= len(b) {
			return copy(b, pass), addr, nil
		}
	}
}

// datagram judges one datagram and answers what is to be answered. It returns what the library reads, nil for nothing.
func (p *packetFront) datagram(data []byte, from netip.AddrPort) []byte {
	data = bytes.TrimLeft(data, "\r\n\x00") // keep-alives, and what some put before a message
	if len(data) == 0 || !p.front.guard.admit(from.Addr(), len(data), !isResponse(data)) {
		return nil
	}
	v := p.front.judge(data, from)
	if v.answer != nil {
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.Addr(), uint16(v.port)))
		_, _ = p.WriteTo(v.answer, to) // it is lost as on the way
	}
	return v.pass
}

// WriteTo sends a datagram. An answer that would be an amplification is not sent.
func (p *packetFront) WriteTo(b []byte, addr net.Addr) (int, error) {
	to := addrPortOf(addr).Addr()
	if isResponse(b) {
		if !p.front.guard.mayAnswer(to, len(b)) {
			return len(b), nil // as if it were lost: no transaction fails for it
		}
	} else if len(b) > 4 {
		p.front.guard.befriend(to, true)
	}
	return p.PacketConn.WriteTo(b, addr)
}

// addrPortOf returns a UDP or TCP address as a value; the zero value for any other.
func addrPortOf(addr net.Addr) netip.AddrPort {
	switch addr := addr.(type) {
	case *net.UDPAddr:
		return addr.AddrPort()
	case *net.TCPAddr:
		return addr.AddrPort()
	case nil:
		return netip.AddrPort{}
	}
	parsed, _ := netip.ParseAddrPort(addr.String())
	return parsed
}
