package media

import "net/netip"

const (
	// signalledRun is how many packets in sequence, of a new SSRC and from the signalled address, move the lock there:
	// the far end's media server was replaced without a re-INVITE, or a stranger was faster than the far end.
	signalledRun = 5
	// oldSourceRun is how many packets the source from before a re-INVITE may send, with no other source seen, until it
	// is taken for good again: the far end announced a new address and went on sending from the old one.
	oldSourceRun = 25
)

// sourceLock decides which sender is the far end (symmetric RTP, RFC 4961): the first one whose packet is valid, and
// nobody else until there is a good reason. Whoever follows any sender at any time can be robbed of a call's audio with
// one packet. It is a pure state machine.
type sourceLock struct {
	signalled netip.AddrPort // from SDP
	locked    netip.AddrPort // zero: not locked yet
	ssrc      uint32         // last seen from locked
	previous  netip.AddrPort // locked before the signalled address changed, or before a hold
	held      bool           // after a hold: previous is good until somebody else is heard
	oldRun    int            // packets in a row from previous

	// A newcomer at the signalled address.
	newSSRC uint32
	newSeq  uint16 // expected next
	newRun  int
}

// signal tells the address that SDP gives.
func (l *sourceLock) signal(a netip.AddrPort) {
	if a == l.signalled {
		return
	}
	l.signalled = a
	l.held = false
	l.newRun, l.oldRun = 0, 0
	if l.locked.IsValid() {
		l.previous, l.locked = l.locked, netip.AddrPort{}
	}
	if l.previous == a {
		l.previous = netip.AddrPort{}
	}
}

// resume tells that a hold ended. A NAT may have forgotten the far end meanwhile: whoever sends first is it, from
// where it was or from elsewhere.
func (l *sourceLock) resume() {
	if l.locked.IsValid() {
		l.previous, l.locked = l.locked, netip.AddrPort{}
		l.held = true
	}
}

// target is where to send.
func (l *sourceLock) target() netip.AddrPort {
	switch {
	case l.locked.IsValid():
		return l.locked
	case l.held:
		return l.previous
	}
	return l.signalled
}

// admit says whether a valid packet is the far end's.
func (l *sourceLock) admit(from netip.AddrPort, ssrc uint32, seq uint16) bool {
	switch {
	case from == l.locked:
		l.ssrc = ssrc
		return true
	case !l.locked.IsValid() && from == l.previous:
		// Packets that were on the way when the address changed are heard, but must not win the lock back.
		if l.oldRun++; l.held || l.oldRun >= oldSourceRun {
			l.lock(from, ssrc)
		}
		return true
	case !l.locked.IsValid():
		l.lock(from, ssrc)
		return true
	case from == l.signalled && ssrc != l.ssrc:
		if l.newRun == 0 || ssrc != l.newSSRC || seq != l.newSeq {
			l.newRun = 0
		}
		l.newRun++
		l.newSSRC, l.newSeq = ssrc, seq+1
		if l.newRun < signalledRun {
			return false
		}
		l.lock(from, ssrc)
		return true
	}
	return false
}

func (l *sourceLock) lock(a netip.AddrPort, ssrc uint32) {
	l.locked, l.ssrc = a, ssrc
	l.previous, l.held, l.oldRun, l.newRun = netip.AddrPort{}, false, 0, 0
}
