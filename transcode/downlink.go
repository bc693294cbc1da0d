package transcode

import (
	"sync"
	"time"

	"tandem/media"
)

// phone takes the packets towards a phone. media.Port is one.
type phone interface {
	Send(payloadType uint8, marker bool, ts uint32, payload []byte) bool
	SendKey(payloadType uint8, first bool, ts uint32, at media.KeyTime, payload []byte) bool
}

// downlink makes what a phone hears. hear and queueKey run on the publishers' goroutines, tick on the clock's; its own
// lock, which no other call takes, orders them.
type downlink struct {
	phone phone

	mu         sync.Mutex
	closed     bool
	media      media.PortMedia
	line       timeline
	inputs     []*input // with audio
	mix        mixer
	player     player
	packets    packets
	sendKey    func(digit byte, duration time.Duration) // by SIP INFO; nil: not possible
	keys       media.KeyWriter
	tone       media.ToneWriter
	tonePCM    [frameSamples]int16
	dialled    dialled
	key        byte  // being sent
	keyPos     int64 // its timestamp
	keyClock   uint32
	queue      [keyQueue]media.Key
	queued     int
	keysLost   uint64
	suppressed uint64 // frames not heard because a key was being sent
	bufferLate uint64 // of inputs that are gone
	bufferOver uint64
}

// update applies a new agreement.
func (d *downlink) update(m media.PortMedia) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.Send && !d.media.Send {
		d.line.marked = false // a phone that was on hold may have forgotten our clock
	}
	d.flush()
	d.media = m
}

// add lets in be heard. With its second source the phone hears a mix.
func (d *downlink) add(in *input) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inputs = append(d.inputs, in)
	d.line.detach()
}

// remove ends what add began.
func (d *downlink) remove(in *input) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in.gone = true
	for i, other := range d.inputs {
		if other == in {
			d.inputs = append(d.inputs[:i], d.inputs[i+1:]...)
			d.line.detach()
			d.bufferLate += in.buffer.Late
			d.bufferOver += in.buffer.Overflow
			break
		}
	}
	if len(d.inputs) == 1 {
		d.inputs[0].buffer.Reset() // heard directly from now on; what waits would be out of time in a later mix
	}
}

// mute leaves in's voice out, at once, or lets it in again.
func (d *downlink) mute(in *input, muted bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in.muted == muted {
		return
	}
	in.muted = muted
	in.buffer.Reset() // what waits is out of time later
	if len(d.inputs) == 1 {
		d.line.detach()
	}
}

// hear takes a frame of in.
func (d *downlink) hear(in *input, f frame, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed || in.gone || in.muted:
	case d.player.active() && len(d.inputs) == 1:
		// A sound takes its place; it is mapped anew afterwards.
	case len(d.inputs) > 1:
		if f.epoch != in.epoch {
			in.epoch = f.epoch
			in.buffer.Reset()
		}
		in.buffer.Put(f.pos, f.pcm)
	case d.keys.Active():
		d.suppressed++
	default:
		d.line.write(f, now)
	}
}

// tick makes 20 ms of what the clock must make: a key, a mix, silence for what is overdue.
func (d *downlink) tick(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
	case d.keyStep(now):
		d.mix.skipOnce(d.mixed())
	case d.player.active():
		d.line.clocked(d.play(), now)
	case len(d.inputs) > 1:
		d.line.clocked(d.mix.mixOnce(d.inputs), now)
	default:
		d.line.fill(now)
	}
}

// mixed returns the inputs whose buffers are in use.
func (d *downlink) mixed() []*input {
	if len(d.inputs) > 1 {
		return d.inputs
	}
	return nil
}

// close lets nothing be sent any more.
func (d *downlink) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

func (d *downlink) stats(s *BridgeStats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Fillers, s.Suppressed, s.KeysLost = d.line.fillers, d.suppressed, d.keysLost
	s.LateToPhone, s.Overflow, s.Skipped = d.line.late+d.bufferLate, d.bufferOver, d.line.skipped
	for _, in := range d.inputs {
		s.LateToPhone += in.buffer.Late
		s.Overflow += in.buffer.Overflow
	}
}
