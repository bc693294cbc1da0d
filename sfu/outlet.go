package sfu

import (
	"net/netip"
	"sync/atomic"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// way is how sound gets to a device without Pion's layers, for all streams of its subscribing connection. The device's goroutine changes
// it.
type way struct {
	port *batchConn
	to   atomic.Pointer[netip.AddrPort] // nil: not over the port
	keys atomic.Pointer[srtp.Config]    // nil: not known yet
}

// move says where the packets go from now on; an address that isn't valid is none of the port.
func (w *way) move(to netip.AddrPort) {
	if to.IsValid() {
		w.to.Store(&to)
	} else {
		w.to.Store(nil)
	}
}

// outlet encrypts one stream. Its outbound's mu guards it.
type outlet struct {
	way    *way
	secret *srtp.Context // nil: none yet
	refuse bool          // it is Pion's for good
	begun  bool          // Pion had a packet since there is a secret
	own    bool          // the packet before went out here
	last   rollover
	header rtp.Header // what the secret reads of a packet
}

// seal encrypts a packet into buf, which it may replace by a longer one, and says where it goes. Without a packet, Pion has to send it:
// it gets the first packet and one of each turn anyway, so that it goes on with the same count of rounds when the others are its own
// again (RFC 3711 §3.3.1).
func (o *outlet) seal(h *rtp.Header, payload []byte, buf *[]byte) (sealed []byte, to netip.AddrPort) {
	round := o.last.of(h.SequenceNumber)
	target := o.way.to.Load()
	if target == nil || o.refuse || !o.unlock(round) || !o.begun || h.SequenceNumber&turnMask == 0 {
		o.own, o.begun = false, o.secret != nil
		return nil, netip.AddrPort{}
	}
	if !o.own {
		o.secret.SetROC(h.SSRC, round)
		o.own = true
	}
	clear := h.MarshalSize() + len(payload)
	if len(*buf) < clear+maxTag {
		*buf = make([]byte, clear+2*maxTag)
	}
	n, err := h.MarshalTo(*buf)
	if err != nil {
		return nil, netip.AddrPort{}
	}
	copy((*buf)[n:], payload)
	if sealed, err = o.secret.EncryptRTP(*buf, (*buf)[:clear], &o.header); err != nil {
		return nil, netip.AddrPort{}
	}
	return sealed, *target
}

// unlock makes the secret once the keys are known. Which packets Pion sent before that only it knows; it doesn't matter as long as their
// numbers did not go round.
func (o *outlet) unlock(round uint32) bool {
	if o.secret != nil {
		return true
	}
	keys := o.way.keys.Load()
	if keys == nil {
		return false
	}
	if round == 0 {
		o.secret = encryption(keys)
	}
	o.refuse = o.secret == nil
	return !o.refuse
}
