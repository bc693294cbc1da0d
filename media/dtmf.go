package media

import (
	"encoding/binary"
	"strings"
	"time"
)

// digits are the events of RFC 4733 §3.2 that are keys; the index is the event code. Codes above are no digits.
const digits = "0123456789*#ABCD"

// IsDigit says whether r is a key: 0-9, *, #, A-D.
func IsDigit(r rune) bool { return r > 0 && strings.ContainsRune(digits, r) }

const (
	// keyTimeout ends a key whose end packets were all lost: five of the usual 50 ms updates did not come.
	keyTimeout = 250 * time.Millisecond
	// oldKey is how far back, in seconds, a timestamp lies that is a late packet of an earlier key and not a new clock.
	oldKey = 5
	// endsWithin is how long after a key's first end another end may be a repetition of it though its timestamp moved on,
	// in milliseconds. Two keys are further apart: 40 ms of tone and 40 ms of pause (ITU-T Q.24).
	endsWithin = 60
	// fullSegment is the longest duration one event can tell; a longer key goes on in a new segment (RFC 4733 §2.5.1.3).
	fullSegment = 0xffff
)

// KeyReader makes keys of telephone-event packets (RFC 4733). Each key goes down once and up once, whichever of its
// packets are lost, repeated or reordered: the RTP timestamp names the key, the marker is not needed. It is pure: the
// caller brings the packets and the time. The zero value is ready.
type KeyReader struct {
	// Rate is the clock of the timestamps and durations in Hz; 0: 8000. A change is to be preceded by Reset.
	Rate uint32

	known  bool // ts is that of a key
	down   bool // and the key is not up yet
	ended  bool // its end came: no segment of it follows
	ts     uint32
	digit  byte
	before uint32 // samples in earlier segments
	held   uint32 // longest duration seen in this segment
	at     time.Time
}

// Packet appends to keys what a packet says and returns the result: nothing, or up to two steps of one key and the
// end of the key before. ts is the packet's timestamp.
func (r *KeyReader) Packet(keys []Key, ts uint32, payload []byte, now time.Time) []Key {
	if len(payload) < 4 || int(payload[0]) >= len(digits) {
		return keys
	}
	digit, end := digits[payload[0]], payload[1]&0x80 != 0
	held := uint32(binary.BigEndian.Uint16(payload[2:]))
	if r.known {
		age := int32(r.ts - ts)
		switch {
		case age > 0 && age < oldKey*int32(r.rate()):
			return keys // late, of an earlier key or segment
		case age != 0 && r.down && digit == r.digit && ts-r.ts == fullSegment:
			r.before, r.held, r.ts = r.before+fullSegment, 0, ts // RFC 4733 §2.5.1.3
		case age < 0 && !r.down && !r.ended && digit == r.digit && (ts-r.ts)%fullSegment == 0:
			r.ts = ts // a later segment of a key that was given up: it was told already
		case age < 0 && r.down && digit == r.digit && held > r.held && ts-r.ts == held-r.held:
			r.ts = ts // a sender whose clock goes on during a key, against RFC 4733 §2.2.1
		case age < 0 && !r.down && digit == r.digit && end && held == r.held && ts-r.ts <= endsWithin*r.rate()/1000:
			return keys // and repeats the end with another timestamp
		case age != 0:
			keys = r.up(keys)
			r.known = false
		}
	}
	if !r.known {
		*r = KeyReader{Rate: r.Rate, known: true, down: true, ts: ts, digit: digit}
		keys = append(keys, Key{Digit: digit})
	}
	if !r.down {
		r.ended = r.ended || end
		return keys // a repeated end, or the key was given up before
	}
	r.held, r.at = max(r.held, held), now
	if end {
		r.ended = true
		keys = r.up(keys)
	}
	return keys
}

// Expire appends the end of a key that has not been heard of for a while.
func (r *KeyReader) Expire(keys []Key, now time.Time) []Key {
	if r.down && now.Sub(r.at) >= keyTimeout {
		keys = r.up(keys)
	}
	return keys
}

// Down says whether a key is down.
func (r *KeyReader) Down() bool { return r.down }

// Reset appends the end of a key that is down and forgets everything: the far end's clock began anew.
func (r *KeyReader) Reset(keys []Key) []Key {
	keys = r.up(keys)
	*r = KeyReader{Rate: r.Rate}
	return keys
}

// rate is the clock in Hz, within what arithmetic with it bears.
func (r *KeyReader) rate() uint32 {
	if r.Rate == 0 {
		return 8000
	}
	return min(r.Rate, 192000)
}

func (r *KeyReader) up(keys []Key) []Key {
	if !r.down {
		return keys
	}
	r.down = false
	return append(keys, Key{Digit: r.digit, Ended: true, Duration: time.Duration(r.before+r.held) * time.Second / time.Duration(r.rate())})
}

const (
	keysPerSecond = 50 // steps
	minKeySteps   = 4  // 80 ms: shorter ones are not recognised everywhere
	keyEnds       = 3  // of a key and of a segment (RFC 4733 §2.5.1.4)
	maxKeySteps   = 30 * keysPerSecond
	keyVolume     = 10 // -10 dBm0
)

// KeyWriter makes telephone-event payloads (RFC 4733) for one key after the other, a payload for every 20 ms step. It
// is pure. The zero value is ready.
type KeyWriter struct {
	// Rate is the clock of the durations in Hz; 0: 8000. A key keeps the one that it began with.
	Rate uint32

	active  bool
	release bool
	code    byte
	step    uint32 // of the clock
	least   int    // steps
	steps   int
	ends    int
	past    uint32 // duration in earlier segments
	fulls   int    // how often the end of this segment was told
	payload [4]byte
}

// KeyPacket is what a step of a KeyWriter sends.
type KeyPacket struct {
	Payload []byte // valid until the next step
	First   bool   // of its key: takes the marker
	Past    uint32 // how long the key was before this segment began: its timestamp is so much later than the key's first
	End     bool   // the key is up: this repeats how long it was, and lasts no longer
}

// Active says whether a key is being sent.
func (w *KeyWriter) Active() bool { return w.active }

// Press begins a key that ends at Release, and at the latest after 30 s. It is false for what is no key, and while another key is being sent.
func (w *KeyWriter) Press(digit byte) bool { return w.press(digit, minKeySteps) }

// Hold presses a key that is so many steps long.
func (w *KeyWriter) Hold(digit byte, steps int) bool {
	ok := w.press(digit, max(steps, 1))
	if ok {
		w.release = true
	}
	return ok
}

func (w *KeyWriter) press(digit byte, least int) bool {
	code := strings.IndexByte(digits, digit)
	if w.active || code < 0 {
		return false
	}
	rate := w.Rate
	if rate == 0 {
		rate = 8000
	}
	*w = KeyWriter{Rate: w.Rate, active: true, code: byte(code), step: max(min(rate, 192000)/keysPerSecond, 1), least: least}
	return true
}

// Release lets the key end as soon as it was long enough to be recognised.
func (w *KeyWriter) Release() { w.release = true }

// Step returns the packet of the next 20 ms; false when no key is being sent. The last of three equal end packets
// makes the writer free.
func (w *KeyWriter) Step() (KeyPacket, bool) {
	if !w.active {
		return KeyPacket{}, false
	}
	repeats := w.ends > 0
	if !repeats {
		w.steps++
	}
	flags := byte(keyVolume)
	over := w.release && w.steps >= w.least || w.steps >= maxKeySteps
	held := w.segment(over)
	if over {
		flags |= 0x80
		w.ends++
		w.active = w.ends < keyEnds
	}
	w.payload = [4]byte{w.code, flags}
	binary.BigEndian.PutUint16(w.payload[2:], uint16(held))
	return KeyPacket{Payload: w.payload[:], First: w.steps == 1 && !repeats, Past: w.past, End: repeats}, true
}

// segment returns how long the key is in the segment that this step belongs to. A segment that is full is told so three
// times, without the end bit, before the next one begins with its end (RFC 4733 §2.5.1.3 and §2.5.1.4); one in which the
// whole key is over begins at once.
func (w *KeyWriter) segment(over bool) uint32 {
	held := uint32(w.steps)*w.step - w.past
	if held <= fullSegment {
		return held
	}
	if w.fulls < keyEnds && !over {
		w.fulls++
		return fullSegment
	}
	w.past, w.fulls = w.past+fullSegment, 0
	return held - fullSegment
}
