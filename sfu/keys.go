package sfu

import (
	"encoding/binary"
	"time"

	"tandem/media"
)

const (
	keyClock     = 8000
	eventSegment = 0xffff // the longest duration that one event tells (RFC 4733 §2.5.1.3)
)

// keyReader makes keys of a browser's telephone-event packets (RFC 4733). Browsers count on the clock of their voice,
// 48 kHz with Opus, where one segment of a long key lasts only 1.4 s: it brings them to the 8 kHz of media.KeyReader.
type keyReader struct {
	keys    media.KeyReader
	scratch []media.Key
	payload [4]byte

	known  bool
	first  uint32 // timestamp of the key
	last   uint32 // and of its newest segment
	digit  byte
	before uint32 // duration of the segments before that
}

// packet returns what a packet says. The result is valid until the next call.
func (r *keyReader) packet(ts uint32, clock uint32, payload []byte, now time.Time) []media.Key {
	if len(payload) < 4 {
		return nil
	}
	scale := max(clock/keyClock, 1)
	switch {
	case r.known && ts != r.last && ts-r.first < r.last-r.first:
		return nil // a late packet of an earlier segment
	case r.known && payload[0] == r.digit && ts-r.last == eventSegment:
		r.before += eventSegment
		r.last = ts
	case !r.known || ts != r.last:
		if r.known && int32(r.last-ts) > 0 && r.last-ts < 5*clock {
			return nil // a late packet of an earlier key
		}
		r.known, r.first, r.last, r.digit, r.before = true, ts, ts, payload[0], 0
	}
	held := (r.before + uint32(binary.BigEndian.Uint16(payload[2:]))) / scale
	r.payload[0], r.payload[1] = payload[0], payload[1]
	binary.BigEndian.PutUint16(r.payload[2:], uint16(min(held, eventSegment)))
	r.scratch = r.keys.Packet(r.scratch[:0], r.first/scale, r.payload[:], now)
	return r.scratch
}

// expire returns the end of a key whose own end was lost.
func (r *keyReader) expire(now time.Time) []media.Key {
	r.scratch = r.keys.Expire(r.scratch[:0], now)
	return r.scratch
}

// reset returns the end of a key that is down when the stream ends.
func (r *keyReader) reset() []media.Key {
	r.scratch = r.keys.Reset(r.scratch[:0])
	r.known = false
	return r.scratch
}

// keyListener tells a device of the keys of a source that it hears. It implements media.KeySink.
type keyListener struct {
	d           *Device
	participant string
}

// WriteKey passes a key on when it is released: once, with its length.
func (l *keyListener) WriteKey(k media.Key) {
	if !k.Ended {
		return
	}
	l.d.post(func() {
		l.d.notify("dtmf", dtmfNotification{
			ParticipantID: l.participant, Digit: string(rune(k.Digit)), Duration: k.Duration.Milliseconds(),
		})
	})
}
