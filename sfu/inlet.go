package sfu

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
)

const (
	inletMost = 64     // packets that may wait for their reader, more than a second of sound; the oldest goes first
	turnMask  = 0x0fff // the first packet, and each whose sequence number has none of these bits, goes to Pion too
)

// inlets are the streams of sound that their readers take as they come from the port, encrypted. In Pion each packet passes five
// goroutines until it is read; here it passes one.
type inlets struct {
	changed atomic.Bool

	mu      sync.Mutex // no packet takes it but the first after a change
	changes []inletChange

	// owned by who reads the port
	known map[inletKey]*inlet
	alone map[uint32]*inlet // by SSRC; nil: more than one has it
}

// inletKey is how the packets of a stream are known: another browser may have the same SSRC. Where none has, they are known wherever they
// come from: a browser whose NAT gives it another port is heard before ICE has noticed.
type inletKey struct {
	from netip.AddrPort
	ssrc uint32
}

// inletChange says that i has a key from now on, or that it has it no more.
type inletChange struct {
	key  inletKey
	i    *inlet
	gone bool
}

func newInlets() *inlets {
	return &inlets{known: make(map[inletKey]*inlet), alone: make(map[uint32]*inlet)}
}

func (t *inlets) change(c ...inletChange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes = append(t.changes, c...)
	t.changed.Store(true)
}

// take hands a packet of the port to its reader. False: it is for Pion (too). One goroutine calls it.
func (t *inlets) take(packet []byte, from netip.AddrPort) bool {
	if t.changed.Load() {
		t.apply()
	}
	if !isRTP(packet) {
		return false
	}
	ssrc := binary.BigEndian.Uint32(packet[8:])
	i := t.known[inletKey{netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), ssrc}]
	if i == nil {
		i = t.alone[ssrc]
	}
	return i != nil && i.put(packet)
}

func (t *inlets) apply() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.changes {
		switch {
		case !c.gone:
			t.known[c.key] = c.i
		case t.known[c.key] == c.i:
			delete(t.known, c.key)
		}
		t.count(c.key.ssrc)
	}
	t.changes = nil
	t.changed.Store(false)
}

// count brings alone up to date for one SSRC.
func (t *inlets) count(ssrc uint32) {
	delete(t.alone, ssrc)
	for key, i := range t.known {
		if key.ssrc != ssrc {
			continue
		}
		if _, more := t.alone[ssrc]; more {
			t.alone[ssrc] = nil
			return
		}
		t.alone[ssrc] = i
	}
}

// isRTP tells it from STUN, DTLS and RTCP at the same port (RFC 7983 §7, RFC 5761 §4).
func isRTP(packet []byte) bool {
	return len(packet) >= rtpHeaderLen && packet[0]>>6 == 2 && (packet[1] < 192 || packet[1] > 223)
}

// inlet is one stream. Its reader owns what next returns; all else may be called from any goroutine.
type inlet struct {
	table *inlets
	ssrc  uint32
	wake  chan struct{} // has a value when there is news for the reader

	mu      sync.Mutex // between the port and the reader; no other stream uses it
	from    netip.AddrPort
	waiting [][]byte
	free    [][]byte
	used    []byte // by the reader
	begun   bool   // a packet came
	state   inletState
	moved   bool
}

type inletState int

const (
	inletOpen inletState = iota
	inletLeft            // the browser's packets don't come over the port any more
	inletOver            // nor anywhere else
)

// open takes the packets of a stream from now on. It has to be closed.
func (t *inlets) open(from netip.AddrPort, ssrc uint32) *inlet {
	i := &inlet{table: t, from: from, ssrc: ssrc, wake: make(chan struct{}, 1)}
	t.change(inletChange{key: inletKey{from, ssrc}, i: i})
	return i
}

// put lets a copy of a packet wait for the reader. False: it is for Pion, since nobody reads any more, or as well.
func (i *inlet) put(packet []byte) bool {
	i.mu.Lock()
	if i.state != inletOpen {
		i.mu.Unlock()
		return false
	}
	copied := !i.begun || binary.BigEndian.Uint16(packet[2:])&turnMask == 0
	i.begun = true
	var b []byte
	switch free := len(i.free); {
	case len(i.waiting) == inletMost:
		b = i.waiting[0]
		i.waiting = i.waiting[:copy(i.waiting, i.waiting[1:])]
	case free > 0:
		b, i.free = i.free[free-1], i.free[:free-1]
	}
	i.waiting = append(i.waiting, append(b[:0], packet...))
	i.mu.Unlock()
	i.tell()
	return !copied
}

func (i *inlet) tell() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// next waits for a packet, which stays as it is until the next call. Without one, the stream comes from elsewhere now: open, that is
// another address, and packets may have gone to Pion meanwhile; left, it is Pion's for good; over, it comes from nowhere.
func (i *inlet) next() (packet []byte, state inletState) {
	for {
		i.mu.Lock()
		if i.used != nil {
			i.free, i.used = append(i.free, i.used), nil
		}
		news := i.moved
		state = i.state
		switch {
		case len(i.waiting) > 0 && state != inletOver:
			i.used = i.waiting[0]
			i.waiting = i.waiting[:copy(i.waiting, i.waiting[1:])]
			packet, state = i.used, inletOpen
		case news:
			i.moved = false
		}
		i.mu.Unlock()
		if packet != nil || news || state != inletOpen {
			return packet, state
		}
		<-i.wake
	}
}

// move says where the packets come from now; an address that isn't valid is none of the port.
func (i *inlet) move(from netip.AddrPort) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.state != inletOpen || i.from == from {
		return
	}
	changes := []inletChange{{key: inletKey{i.from, i.ssrc}, i: i, gone: true}}
	if from.IsValid() {
		changes = append(changes, inletChange{key: inletKey{from, i.ssrc}, i: i})
		i.moved = true
	} else {
		i.state = inletLeft
	}
	i.from = from
	i.table.change(changes...)
	i.tell()
}

// close ends the stream.
func (i *inlet) close() {
	i.move(netip.AddrPort{})
	i.mu.Lock()
	i.state = inletOver
	i.mu.Unlock()
	i.tell()
}
