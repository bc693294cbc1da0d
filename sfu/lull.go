package sfu

import (
	"strings"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"tandem/media"
)

// While a browser says of its packets that they are silent (RFC 6464), other browsers are sent what an encoder sends that knows
// silence (DTX, RFC 7587 §3.1.3): a packet without a frame now and then, and nothing between them.

const (
	clockOpus   = 48000
	lullAfter   = clockOpus / 2      // of silence, until nothing is sent
	lullEvery   = clockOpus * 2 / 5  // from one packet without a frame to the next
	longest     = clockOpus * 3 / 25 // a packet of Opus; where more time passes, the browser itself sends no silence
	noFrame     = 2                  // bytes of a packet that holds none; a longer one does
	longestHeld = 300                // bytes: silence takes less
)

// lull is how long a browser has been silent, for one that hears it. It belongs to the track's writer.
type lull struct {
	begun bool
	on    bool   // silence is not sent
	seq   uint16 // of the newest packet
	ts    uint32 // and its time
	quiet uint64 // RTP time from the last packet with sound to the newest
	sent  uint64 // what quiet was at the last packet without a frame

	toc    [1]byte    // of the last packet that was sent
	held   rtp.Packet // the last one that was not; without payload: there is none
	buffer [longestHeld]byte

	hidden bool   // nobody is to miss what was not sent,
	upTo   uint16 // up to this number
	word   bool   // the next packet begins one
}

// newLull returns nil for a track that does not say how loud it is.
func newLull(t *media.Track) *lull {
	if t.Kind != media.Audio || t.LevelID == 0 || !strings.EqualFold(t.Codec.MimeType, webrtc.MimeTypeOpus) {
		return nil
	}
	return &lull{}
}

// fate is what becomes of a packet.
type fate uint8

const (
	isSent    fate = iota
	isHeld         // it is not sent
	isEmptied      // without its frame
	isRousing      // it is sent, and begins a word
)

// take decides about a packet that is silent or not.
func (l *lull) take(p *rtp.Packet, silent bool) fate {
	step, passed := int16(p.SequenceNumber-l.seq), p.Timestamp-l.ts
	if l.begun && step <= 0 {
		if l.on {
			return isHeld // there is no number for it any more
		}
		return isSent
	}
	goesOn := l.begun && passed < 1<<31 && (step > 1 || passed <= longest)
	before := l.seq
	l.begun, l.seq, l.ts = true, p.SequenceNumber, p.Timestamp
	if !silent || !goesOn || len(p.Payload) <= noFrame {
		was := l.on
		l.on, l.quiet = false, 0
		if !was {
			return isSent
		}
		l.hidden, l.upTo, l.word = true, before, true
		return isRousing
	}
	if l.quiet += uint64(passed); l.quiet <= lullAfter {
		return isSent
	}
	if !l.on || l.quiet-l.sent >= lullEvery {
		l.on, l.sent = true, l.quiet
		l.hidden, l.upTo = true, p.SequenceNumber-1
		l.held.Payload = nil
		return isEmptied
	}
	l.hold(p)
	return isHeld
}

// hold keeps a packet: when a word begins, it is sent with it. A decoder fades the first frame after those that it was not sent in,
// and it is not to be one of the word.
func (l *lull) hold(p *rtp.Packet) {
	l.held.SSRC, l.held.SequenceNumber, l.held.Timestamp = p.SSRC, p.SequenceNumber, p.Timestamp
	l.held.Payload = nil
	if len(p.Payload) <= len(l.buffer) {
		l.held.Payload = l.buffer[:copy(l.buffer[:], p.Payload)]
	}
}

// resume brings the numbers of what is sent to where the next packet goes on, and says whether it begins a word.
func (l *lull) resume(n *renumber) (word bool) {
	if l.hidden {
		n.skip(l.upTo)
	}
	word = l.word
	l.hidden, l.word = false, false
	return word
}

// writeSound writes a packet of a browser that says how loud it is.
func (f *feed) writeSound(p *rtp.Packet) {
	l := f.lull
	switch l.take(p, f.track.Silent(p)) {
	case isHeld:
	case isEmptied:
		f.writeOr(p, l.toc[:])
	case isRousing:
		if held := &l.held; held.Payload != nil {
			l.upTo = held.SequenceNumber - 1
			f.writeOr(held, held.Payload)
			held.Payload = nil
		}
		f.writeOr(p, p.Payload)
	case isSent:
		f.writeOr(p, p.Payload)
	}
}

// writeOr writes a payload in the place of a packet's. Who may have none yet, or none now, begins anew.
func (f *feed) writeOr(p *rtp.Packet, payload []byte) {
	if !f.out.write(f, p, payload, nil) {
		f.lull.begun, f.lull.on, f.lull.quiet, f.lull.hidden = false, false, 0, false
		return
	}
	if len(payload) > 0 {
		f.lull.toc[0] = payload[0] &^ 3 // no frame follows (RFC 6716 §3.1, code 0)
	}
}
