package media

import (
	"fmt"
	"net/netip"
	"time"
)

// Refusal is why a packet that came to a port was not taken as the far end's.
type Refusal uint8

// The refusals.
const (
	NothingRefused Refusal = iota
	WrongSource            // from an address that is not the far end's
	UnknownType            // of a payload type that was not agreed
	NotAuthentic           // SRTP of another key, plain RTP where SRTP was agreed, or a repetition
)

// Heard is what a port has had from its far end, and last from others: what one wants to know where nothing is heard.
type Heard struct {
	RTP, RTCP time.Time      // when the far end's last came; zero: none did
	Expected  netip.AddrPort // where its RTP should come from: the source that the port follows, at first that of SDP

	Refusal Refusal        // why the last packet that was not taken was not
	From    netip.AddrPort // where it came from
	Type    uint8          // its payload type; UnknownType only
	Refused uint64         // how many were not taken
}

// Heard tells what has come so far. Safe from any goroutine.
func (p *Port) Heard() Heard {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.heard
	h.Expected = p.source.target()
	return h
}

// refuse notes a packet that was not taken.
func (h *Heard) refuse(why Refusal, b []byte, from netip.AddrPort) {
	h.Refusal, h.From = why, from
	h.Refused++
	if why == UnknownType {
		h.Type = b[1] & 0x7f
	}
}

// Seen says in words what came that was not taken.
func (h Heard) Seen() string {
	switch h.Refusal {
	case WrongSource:
		return fmt.Sprintf("%d packets not taken, the last from %s", h.Refused, h.From)
	case UnknownType:
		return fmt.Sprintf("%d packets not taken, the last of payload type %d, which was not agreed", h.Refused, h.Type)
	case NotAuthentic:
		return fmt.Sprintf("%d packets not taken, the last not authentic (SRTP)", h.Refused)
	case NothingRefused:
	}
	return "nothing"
}
