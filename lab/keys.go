package lab

import (
	"encoding/binary"
	"strings"
)

const (
	keyDigits   = "0123456789*#ABCD" // in the order of RFC 4733 §3.2
	keyFrames   = 5                  // packets while a key is down: 100 ms
	keyEnds     = 3                  // how often the end of a key is sent (RFC 4733 §2.5.1.4)
	keyGap      = 4                  // frames of audio between two keys
	keyVolume   = 10                 // -10 dBm0
	endBit      = 0x80
	maxKeyQueue = 256
)

// keySender turns queued keys into RFC 4733 payloads, one per 20 ms. One goroutine at a time may use it.
type keySender struct {
	queue []byte // event numbers, the one being sent included
	step  int    // packets of the current key that were sent
	gap   int    // frames of audio until the next key may start
}

// next returns the payload of this frame, or false when it is audio's turn. first is true on a key's first packet,
// whose RTP timestamp all packets of that key carry.
func (k *keySender) next(payload *[4]byte) (first, ok bool) {
	if k.gap > 0 {
		k.gap--
		return false, false
	}
	if len(k.queue) == 0 {
		return false, false
	}
	first = k.step == 0
	k.step++
	down := min(k.step, keyFrames)
	payload[0], payload[1] = k.queue[0], keyVolume
	if k.step > keyFrames {
		payload[1] |= endBit
	}
	binary.BigEndian.PutUint16(payload[2:], uint16(down*frameSamples))
	if k.step == keyFrames+keyEnds {
		k.queue, k.step, k.gap = k.queue[1:], 0, keyGap
	}
	return first, true
}

// keyReader finds each key once in the packets of telephone-event, whichever of them are lost.
type keyReader struct {
	seen bool
	last uint32 // RTP timestamp of the last key: the same key has the same one
}

func (k *keyReader) read(timestamp uint32, payload []byte) (digit byte, ok bool) {
	if len(payload) < 4 || int(payload[0]) >= len(keyDigits) {
		return 0, false
	}
	if k.seen && int32(timestamp-k.last) <= 0 {
		return 0, false
	}
	k.seen, k.last = true, timestamp
	return keyDigits[payload[0]], true
}

// keyEvents translates keys to event numbers; false when one isn't a key.
func keyEvents(keys string) ([]byte, bool) {
	events := make([]byte, 0, len(keys))
	for _, r := range strings.ToUpper(keys) {
		i := strings.IndexRune(keyDigits, r)
		if i < 0 {
			return nil, false
		}
		events = append(events, byte(i))
	}
	return events, true
}
