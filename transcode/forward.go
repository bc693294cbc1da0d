package transcode

import (
	"time"

	"github.com/pion/rtp"

	"tandem/media"
)

// forwardGap is how long a phone that is forwarded to may hear nothing before it is sent silence: what is lost or pauses
// for a moment its own decoder makes up better.
const forwardGap = 200 * time.Millisecond

// forwarded is where a source's packets stand that a phone gets as they are. It belongs to the downlink's lock.
type forwarded struct {
	begun bool
	ssrc  uint32
	seq   uint16
	ts    uint32
	pos   int64 // of ts, on the codec's clock
	epoch uint32
}

// follow finds a packet's place, and how many are missing before it. False: it is late, a repetition or no sound.
func (f *forwarded) follow(p *rtp.Packet) (lost int, ok bool) {
	step := int(int16(p.SequenceNumber - f.seq))
	advance := int64(int32(p.Timestamp - f.ts))
	switch {
	case !f.begun || p.SSRC != f.ssrc || step < -seqJump || step > seqJump || step > 0 && advance < 0:
		f.begun, f.ssrc, f.pos = true, p.SSRC, 0
		f.epoch++
		step = 1
	case step <= 0:
		return 0, false
	case len(p.Payload) == 0: // padding: it has a number but no time
		f.seq = p.SequenceNumber
		return 0, false
	default:
		f.pos += advance
	}
	f.seq, f.ts = p.SequenceNumber, p.Timestamp
	return step - 1, true
}

// WriteRTP takes a packet of a source for a phone that speaks the same codec. It implements media.Sink.
func (in *input) WriteRTP(p *rtp.Packet) {
	d := in.down
	d.mu.Lock()
	defer d.mu.Unlock()
	lost, ok := in.forwarded.follow(p)
	if !ok && len(p.Payload) > 0 {
		d.dropped.disordered.Add(1)
	}
	speech, samples := d.media.Speech, len(p.Payload)
	if speech == media.Opus {
		samples = opusSamples(p.Payload)
	}
	if !ok || samples == 0 || d.closed || d.mixes() || in != d.picked || in.gone || in.muted || speech != in.codec {
		return
	}
	clock, rate := int64(speech.Clock()), int64(speech.Rate())
	switch {
	case d.player.active():
		return
	case d.keys.Active():
		d.suppressed++
		return
	}
	n := int64(samples) * rate / clock
	f := frame{pos: in.forwarded.pos * rate / clock, epoch: in.forwarded.epoch}
	late := d.line.late
	pos, marker, ok := d.line.pass(f, n, d.now())
	d.dropped.late.Add(d.line.late - late)
	if !ok || !d.media.Send {
		return
	}
	d.flush()
	d.heard.Reset() // what was heard before is not what a pause goes on from
	d.coder.lose()
	if lost > 0 && !marker {
		d.phone.Lose(min(lost, seqJump))
		d.made.all += uint64(int64(lost) * n)
		d.made.up += uint64(int64(lost) * n)
	}
	d.made.all += uint64(n)
	d.phone.Send(d.media.Audio(), marker, timestamp(d.media, pos), p.Payload)
}
