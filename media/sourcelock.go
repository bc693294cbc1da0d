package media

import "net/netip"

const (
	// newSourceRun is how many packets in sequence, of one SSRC and from one address, a newcomer must send until the lock
	// moves to it.
	newSourceRun = 5
	// oldSourceRun is how many packets the source from before a re-INVITE may send, with no other source seen, until it
	// is taken for good again: the far end announced a new address and went on sending from the old one.
	oldSourceRun = 25
)

// sourceLock decides which sender is the far end (symmetric RTP, RFC 4961): the first one whose packet is valid, and
// nobody else until there is a good reason. Whoever follows any sender at any time can be robbed of a call's audio with
// one packet. Once a source is known, the lock moves
//   - to the address that a re-INVITE gives, with its first packet; to any other, which a NAT may have made of it, and to
//     any address after a hold, with several packets in sequence;
//   - after a re-INVITE that gives the same address, to any other, with several packets in sequence and nothing from the
//     old one since: a NAT may have forgotten a far end that said the same again;
//   - from a first source that has sent too few packets to be sure of, and is not the signalled address, to any other, with
//     several packets in sequence: one packet of a stranger must not be enough at the beginning either;
//   - to a newcomer with another SSRC at the signalled address, with several in sequence: the far end's media server was
//     replaced without a re-INVITE, or a stranger was faster than the far end;
//   - to a newcomer with another SSRC at another port of the same machine, with several in sequence and nothing from the
//     old one meanwhile.
//
// It is a pure state machine, and comparable: admit can be tried on a copy.
type sourceLock struct {
	signalled netip.AddrPort // from SDP
	locked    netip.AddrPort // zero: not locked
	learned   bool           // locked was set before
	repeated  bool           // SDP gave the same address again, and locked has not been heard since
	proof     int            // how many packets locked still has to send until it is sure
	ssrc      uint32         // last seen from locked
	previous  netip.AddrPort // locked before the signalled address changed, or before a hold
	held      bool           // after a hold: previous is good until somebody else is heard
	oldRun    int            // packets in a row from previous

	// A newcomer.
	newFrom netip.AddrPort
	newSSRC uint32
	newSeq  uint16 // expected next
	newRun  int
}

// signal tells the address that SDP gives.
func (l *sourceLock) signal(a netip.AddrPort) {
	if a == l.signalled {
		l.repeated = l.locked.IsValid()
		return
	}
	l.signalled = a
	l.held, l.repeated = false, false
	l.newRun, l.oldRun = 0, 0
	if l.locked.IsValid() {
		l.previous, l.locked = l.locked, netip.AddrPort{}
	}
	if l.previous == a {
		l.previous = netip.AddrPort{}
	}
}

// resume tells that a hold ended. A NAT may have forgotten the far end meanwhile: it may be where it was or elsewhere.
func (l *sourceLock) resume() {
	if l.locked.IsValid() {
		l.previous, l.locked = l.locked, netip.AddrPort{}
		l.held, l.repeated = true, false
		l.newRun, l.oldRun = 0, 0
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
		l.repeated = false
		l.proof = max(0, l.proof-1)
		if l.newFrom != l.signalled && l.proof == 0 {
			l.newRun = 0 // nobody takes the place of a source that is there
		}
		return true
	case !l.locked.IsValid() && from == l.previous:
		// Packets that were on the way when the address changed are heard, but must not win the lock back.
		if l.oldRun++; l.held || l.oldRun >= oldSourceRun {
			l.lock(from, ssrc)
		}
		return true
	case !l.locked.IsValid() && (!l.learned || from == l.signalled):
		if l.lock(from, ssrc); from != l.signalled {
			l.proof = newSourceRun - 1
		}
		return true
	case !l.locked.IsValid() || l.repeated || l.proof > 0 || ssrc != l.ssrc && (from == l.signalled || from.Addr() == l.locked.Addr()):
		if !l.arrives(from, ssrc, seq) {
			return false
		}
		l.lock(from, ssrc)
		return true
	}
	return false
}

// arrives counts a newcomer's packets in sequence and says whether they are enough.
func (l *sourceLock) arrives(from netip.AddrPort, ssrc uint32, seq uint16) bool {
	if l.newRun == 0 || from != l.newFrom || ssrc != l.newSSRC || seq != l.newSeq {
		l.newRun = 0
	}
	l.newRun++
	l.newFrom, l.newSSRC, l.newSeq = from, ssrc, seq+1
	return l.newRun >= newSourceRun
}

func (l *sourceLock) lock(a netip.AddrPort, ssrc uint32) {
	l.locked, l.ssrc, l.learned = a, ssrc, true
	l.previous, l.held, l.repeated = netip.AddrPort{}, false, false
	l.oldRun, l.newRun, l.proof = 0, 0, 0
}
