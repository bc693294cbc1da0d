package sfu

import (
	"time"

	"tandem/media"
)

// keyReader makes keys of a browser's telephone-event packets (RFC 4733). Browsers count on the clock of their voice,
// 48 kHz with Opus, or on 8 kHz.
type keyReader struct {
	keys    media.KeyReader
	scratch []media.Key
}

// packet returns what a packet on a clock says. The result is valid until the next call.
func (r *keyReader) packet(ts uint32, clock uint32, payload []byte, now time.Time) []media.Key {
	r.scratch = r.scratch[:0]
	if clock != r.keys.Rate {
		r.scratch = r.keys.Reset(r.scratch)
		r.keys.Rate = clock
	}
	r.scratch = r.keys.Packet(r.scratch, ts, payload, now)
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
