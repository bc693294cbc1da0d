package transcode

import (
	"time"

	"tandem/dsp"
)

// calmTarget is how long a voice is to wait in a buffer, at most, for the phone to hear it directly again: its frames come
// so evenly that none is missed there.
const calmTarget = 2 * frameTime

// buffer is where the one voice that a phone hears waits while its frames come too unevenly, or too fast or too slowly, to
// be sent as they come: the clock takes them. It belongs to the downlink's lock.
type buffer struct {
	playout *dsp.Playout // nil: it was not needed yet
	rate    int          // of playout
	on      bool
	epoch   uint32
	counted missing // what playout has dropped
	pcm     samples
}

// direct sends a frame of the voice that is picked, or lets it wait.
func (d *downlink) direct(f frame, now time.Time) {
	b := &d.buffer
	if !b.on {
		if d.line.write(f, now) {
			return
		}
		if f.concealed {
			return // made up too late: it says nothing about the path
		}
		d.wait(f)
	}
	if f.epoch != b.epoch {
		b.epoch = f.epoch
		b.playout.Reset()
	}
	b.playout.Put(f.pos, f.pcm, f.concealed, sinceEpoch(now))
}

// wait lets the voice be heard through the buffer from f on, as it was heard until now.
func (d *downlink) wait(f frame) {
	b := &d.buffer
	b.open(d.rate(), f.epoch)
	b.playout.Begin(max(f.pos, d.line.next), d.heard.Past())
}

// open lets the buffer be used for sound of a rate.
func (b *buffer) open(rate int, epoch uint32) {
	if b.rate != rate {
		b.playout, b.rate, b.counted = dsp.NewPlayout(rate), rate, missing{}
	}
	b.on, b.epoch = true, epoch
}

// hasten ends the buffer: what waits is not heard.
func (d *downlink) hasten() {
	if d.buffer.on {
		d.buffer.on = false
		d.line.detach()
		d.seam()
	}
}

// buffered sends what the buffer has for a tick: 20 ms, or none or twice as much where the stream is not in real time.
func (d *downlink) buffered(now time.Time) {
	b := &d.buffer
	size := d.line.frame()
	lead := d.line.lead(now)
	slow := lead < -frameTime
	frames := 1
	switch {
	case lead >= 0: // so much is waited longer
		frames = 0
	case slow && b.playout.Delay() >= 2*size:
		frames = 2
	}
	calm := b.playout.Target() <= int(d.line.samples(calmTarget))
	b.playout.Hold(0)
	if slow {
		b.playout.Hold(size)
	}
	b.playout.Drain(calm && !slow)
	for range frames {
		pcm := b.pcm.of(size)
		before := b.playout.Concealed
		if !b.playout.Take(pcm, sinceEpoch(now)) && d.line.n == 0 {
			d.pause.empty = true
		}
		d.made.up += b.playout.Concealed - before
		d.miss(b.counted.since(b.playout))
		d.line.clocked(pcm, now)
	}
	if calm && !slow && frames > 0 && b.playout.Delay() <= int(d.line.samples(settledIn)) {
		d.hasten()
	}
}
