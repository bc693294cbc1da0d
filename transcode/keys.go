package transcode

import (
	"time"

	"tandem/media"
)

const (
	// keyQueue bounds the key steps that wait for a phone. Some room is left to the ends of keys.
	keyQueue     = 32
	keyQueueDown = 24
	// MaxPresses bounds the keys that wait for a phone by order of the application.
	MaxPresses = 128
	// briefInfo is how long a key is by SIP INFO when nobody knows.
	briefInfo = 100 * time.Millisecond
)

// Press is a key that the application wants a phone to get, or a pause.
type Press struct {
	Digit    byte          // 0: a pause
	Duration time.Duration // of the key, or of the pause
	Gap      time.Duration // at least so long nothing is pressed after it
}

// dialled are the presses that wait, oldest first. It belongs to the downlink's lock.
type dialled struct {
	presses []Press // a ring of MaxPresses; nil until the first
	first   int
	n       int
	sending bool // the key that is being sent is one of them
	gap     time.Duration

	// When the next one may begin. Ticks that come late come in a burst then, and the stream falls behind while it waits for sound:
	// each of the three may be the last.
	wait  int           // ticks
	after time.Time     // in real time
	from  time.Duration // in the stream's time
}

// Press queues keys for the phone, which get there in order: as the phone takes them, as events (RFC 4733), by SIP INFO,
// or, if it takes neither, as tones. All are taken or, when too many are waiting or the bridge is closed, none.
func (b *Bridge) Press(presses ...Press) bool {
	d := &b.down
	d.mu.Lock()
	defer d.mu.Unlock()
	q := &d.dialled
	if d.closed || q.n+len(presses) > MaxPresses {
		return false
	}
	if q.presses == nil {
		q.presses = make([]Press, MaxPresses)
	}
	for _, p := range presses {
		q.presses[(q.first+q.n)%MaxPresses] = p
		q.n++
	}
	return true
}

// Pressed takes a whole key that the phone sent by SIP INFO; k.Ended is set. The others get it, and OnKey, unless the
// phone told the same press in another way.
func (b *Bridge) Pressed(k media.Key) { b.up.press(k, b.engine.now()) }

// queueKey takes a step of a key from a source.
func (d *downlink) queueKey(in *input, k media.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed || in.gone:
	case d.byInfo():
		if k.Ended {
			d.sendKey(k.Digit, max(k.Duration, briefInfo))
		}
	case d.queued >= keyQueue || !k.Ended && d.queued >= keyQueueDown:
		d.keysLost++
	default:
		if d.queue == nil {
			d.queue = make([]media.Key, keyQueue)
		}
		d.queue[d.queued] = k
		d.queued++
	}
}

// byInfo says whether keys go by SIP INFO.
func (d *downlink) byInfo() bool { return d.media.KeysByInfo && d.sendKey != nil }

// keyStep sends the next 20 ms of a key, if there is one to send.
func (d *downlink) keyStep(now time.Time) bool {
	if d.keys.Rate = uint32(max(d.media.EventRate, 0)); d.media.EventType < 0 {
		d.keys.Rate = 0
	}
	d.relay()
	d.dial()
	p, ok := d.keys.Step()
	if !ok {
		return false
	}
	if d.media.EventType < 0 {
		d.soundKey(p, now)
	} else {
		d.eventKey(p, now)
	}
	if d.dialled.sending && !d.keys.Active() {
		d.dialled.sending = false
		d.rest(d.dialled.gap)
	}
	return true
}

// eventKey sends a packet of the key.
func (d *downlink) eventKey(p media.KeyPacket, now time.Time) {
	pos := d.line.reserve(now)
	d.flush()
	if p.First {
		d.keyPos, d.keyClock = pos, d.keys.Rate
	}
	if d.media.Send {
		at := media.KeyTime{Clock: d.keyClock, Past: p.Past}
		d.phone.SendKey(uint8(d.media.EventType), p.First, timestamp(d.media, d.keyPos), at, p.Payload)
	}
}

// relay takes the keys of sources up.
func (d *downlink) relay() {
	for d.queued > 0 && !d.dialled.sending {
		k := d.queue[0]
		if d.keys.Active() {
			// The key's end, or the next one's beginning when the end was lost.
			if !k.Ended || k.Digit == d.key {
				d.keys.Release()
			}
			if !k.Ended {
				break
			}
		} else if !k.Ended && d.keys.Press(k.Digit) {
			d.key = k.Digit
		}
		d.queued--
		copy(d.queue, d.queue[1:1+d.queued])
	}
}

// dial takes the application's keys up, one at a time, while the phone listens.
func (d *downlink) dial() {
	q := &d.dialled
	if q.wait > 0 {
		q.wait--
		return
	}
	if q.n == 0 || d.keys.Active() || !d.byInfo() && !d.media.Send || d.now().Before(q.after) {
		return
	}
	p := q.presses[q.first]
	q.first, q.n = (q.first+1)%MaxPresses, q.n-1
	switch {
	case p.Digit == 0:
		d.rest(p.Duration)
		q.wait-- // this tick is one of them
	case d.byInfo():
		d.sendKey(p.Digit, p.Duration)
		d.rest(p.Duration + p.Gap)
		q.wait--
	case d.keys.Hold(p.Digit, ticks(p.Duration)):
		d.key, q.sending, q.gap = p.Digit, true, p.Gap
		d.line.await(q.from)
	}
}

// rest lets the application's next key begin no sooner than so long from now, by the clock and in the stream.
func (d *downlink) rest(least time.Duration) {
	q := &d.dialled
	q.wait, q.after = ticks(least), d.now().Add(least)
	q.from = max(q.from, d.line.span(d.line.at())) + least
}

// soundKey lets a phone that takes no events hear the key.
func (d *downlink) soundKey(p media.KeyPacket, now time.Time) {
	if p.First {
		d.tone.Press(d.key)
	}
	if p.End {
		d.tone = media.ToneWriter{}
	}
	pcm := d.tonePCM.of(narrow / 50)
	d.tone.Sound(pcm)
	d.line.clocked(d.player.paced(pcm, d.rate()), now)
}

// ticks is how many ticks a time takes, one at least.
func ticks(t time.Duration) int { return max(1, int((t+frameTime/2)/frameTime)) }
