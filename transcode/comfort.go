package transcode

import (
	"time"

	"tandem/dsp"
)

// Comfort noise (RFC 3389). A phone that describes the noise between its words is heard with that noise; one that takes
// such descriptions gets them in place of packets of silence.

const (
	// comfortAfter is how long the phone is sent silence, in ticks, before it is sent a description of it instead.
	comfortAfter = 5
	// comfortEvery is how often, in ticks, the description is repeated: NATs stay open, and a lost one does not matter.
	comfortEvery = 10
	comfortOrder = 6 // coefficients of a description
)

// noise is what a phone wants heard between its words, made on the clock. It belongs to the uplink's lock.
type noise struct {
	on    bool
	maker *dsp.NoiseMaker // nil: the phone has described none yet
	next  time.Time       // when the next 20 ms are due
	pcm   samples
}

// stop ends it: there is sound.
func (n *noise) stop() { n.on = false }

// comfort takes the description of the noise that is to be heard from now on.
func (u *uplink) comfort(payload []byte, at time.Time) {
	model, err := dsp.ParseNoise(payload)
	if err != nil {
		u.malformed++
		return
	}
	u.received++
	n := &u.noise
	if !n.on {
		if n.maker == nil {
			n.maker = new(dsp.NoiseMaker)
		}
		*n.maker = dsp.NewNoiseMaker(u.packet.SSRC)
		n.on, n.next = true, at.Add(overdue)
		u.end, u.endAt = max(u.end, u.pos), at
	}
	n.maker.Follow(model)
}

// hush makes the noise that is due: so late that no sound that comes can be meant for its place.
func (u *uplink) hush(now time.Time) {
	n := &u.noise
	if !n.on {
		return
	}
	if now.Sub(n.next) > stall {
		n.next = now
	}
	for ; !now.Before(n.next); n.next = n.next.Add(frameTime) {
		pcm := n.pcm.of(u.media.Speech.Rate() / 50)
		n.maker.Frame(pcm)
		pos := u.end
		u.end, u.endAt = u.end+u.span(frameTime), now
		if plain, _ := u.track.ListenersOf(u.media.Speech); len(plain) > 0 { // of whom not all take descriptions
			payload := u.payload()[:len(pcm)]
			compress(u.media.Speech, payload, pcm)
			u.pass(plain, pos, payload, 0)
		}
		u.sound(pos, pcm, 0, now)
	}
}

// pause is the silence that a phone is sent. It belongs to the downlink's lock.
type pause struct {
	meter dsp.NoiseMeter // of what there is to hear between words
	empty bool           // the next packet holds nothing but silence
	run   int            // packets of silence in a row
	buf   [dsp.NoisePayloadMax]byte
}

// quiet says whether the packet at pos needs no sound: the phone makes the noise itself. marker says that sound begins.
func (d *downlink) quiet(pos int64, pcm []int16) (quiet, marker bool) {
	p := &d.pause
	empty := p.empty
	if p.empty = false; d.media.ComfortType == 0 {
		return false, false
	}
	if !empty {
		marker = p.run > comfortAfter
		if p.run = 0; d.picked != nil && !d.mixing && !d.picked.feed.active.Load() {
			p.meter.Frame(pcm)
		}
		return false, marker
	}
	if p.run++; p.run <= comfortAfter {
		return false, false
	}
	if (p.run-comfortAfter-1)%comfortEvery == 0 {
		d.flush()
		model := p.meter.Model(comfortOrder)
		d.phone.Send(d.media.ComfortType, false, timestamp(d.media, pos), model.AppendPayload(p.buf[:0]))
	}
	return true, false
}
