package media

import "net/netip"

// G711 is which of the two laws a phone speaks; the value is its static RTP payload type (RFC 3551).
type G711 uint8

// The two laws.
const (
	PCMU G711 = 0
	PCMA G711 = 8
)

// PortMedia is what an offer and its answer agreed for a port (RFC 3264).
type PortMedia struct {
	Remote     netip.AddrPort // where the far end wants its RTP; the port follows its first valid packet
	RemoteRTCP netip.AddrPort // where it wants its RTCP
	Law        G711
	EventType  int  // payload type of telephone-event (RFC 4733); -1: none
	Send       bool // we may send
	Receive    bool // the far end may send
}

// Ports hands out the RTP ports of one range.
type Ports struct{}

// Port is the RTP and RTCP socket pair of one phone leg.
type Port struct{}
