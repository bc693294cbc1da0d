package transcode

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"

	"tandem/media"
)

// feed is the voice of one track at 8 kHz, for any number of phones. A phone's own track is fed by its bridge, any
// other one by a decoder that is shared.
type feed struct {
	listeners media.Fanout[*input]
	refs      int // of a shared decoder; under Engine.mu
	decoder   *decoder
}

func (f *feed) publish(fr frame, now time.Time) {
	for _, in := range f.listeners.All() {
		in.down.hear(in, fr, now)
	}
}

const (
	// seqJump is the step of sequence numbers beyond which the far end began anew (RFC 3550 A.1, MAX_DROPOUT).
	seqJump = 3000
	// maxConceal is how many lost packets are made up for; longer losses become silence.
	maxConceal = 3
	opusRatio  = 6 // RTP timestamp units of Opus in a sample at 8 kHz
)

// decoder turns the Opus of one track into 8 kHz samples, once for everybody. Its fields belong to the goroutine that
// writes the track; libopus resamples and mixes to mono itself.
type decoder struct {
	feed  *feed
	now   func() time.Time
	opus  *opus.Decoder
	begun bool
	ssrc  uint32
	seq   uint16
	ts    uint32
	pos   int64 // of ts, at 48 kHz
	last  int   // samples of the last packet
	epoch uint32
	pcm   [maxFrame]int16

	malformed, concealed, reordered atomic.Uint64
}

func newDecoder(f *feed, now func() time.Time) (*decoder, error) {
	dec, err := opus.NewDecoder(8000, 1)
	if err != nil {
		return nil, fmt.Errorf("opus decoder: %w", err)
	}
	return &decoder{feed: f, now: now, opus: dec}, nil
}

// understood says whether a track's packets can be decoded.
func understood(t *media.Track) bool {
	return t != nil && t.Kind == media.Audio && strings.EqualFold(t.Codec.MimeType, "audio/opus")
}

// WriteRTP decodes a packet for all listeners. It implements media.Sink.
func (d *decoder) WriteRTP(p *rtp.Packet) {
	lost, ok := d.follow(p)
	if !ok || len(p.Payload) == 0 {
		return
	}
	now := d.now()
	d.conceal(p.Payload, lost, now)
	n, err := d.opus.Decode(p.Payload, d.pcm[:])
	if err != nil {
		d.malformed.Add(1)
		return
	}
	d.last = n
	d.feed.publish(frame{pos: d.pos / opusRatio, epoch: d.epoch, pcm: d.pcm[:n]}, now)
}

// follow finds a packet's place. It says how many packets are missing before it; false: it is late or a repetition.
func (d *decoder) follow(p *rtp.Packet) (lost int, ok bool) {
	step := int(int16(p.SequenceNumber - d.seq))
	advance := int64(int32(p.Timestamp - d.ts))
	switch {
	case !d.begun || p.SSRC != d.ssrc || step < -seqJump || step > seqJump:
		d.begun, d.ssrc = true, p.SSRC
		d.restart()
	case step <= 0:
		d.reordered.Add(1)
		return 0, false
	case advance < 0:
		d.restart()
	case len(p.Payload) == 0: // padding: it has a number but no time
		d.seq = p.SequenceNumber
		return 0, true
	default:
		d.pos += advance
		// Where time went on by more than the lost packets held, the rest was silence: not made up for.
		if lost = step - 1; lost > 0 && advance != int64((lost+1)*d.last*opusRatio) {
			lost = 0
		}
	}
	d.seq, d.ts = p.SequenceNumber, p.Timestamp
	return lost, true
}

func (d *decoder) restart() {
	d.pos, d.last = 0, 0
	d.epoch++
}

// conceal makes up for a few lost packets: from what the codec remembers, and the last one from the copy that the next
// packet may carry (RFC 6716 §2.1.7).
func (d *decoder) conceal(next []byte, lost int, now time.Time) {
	if lost == 0 || lost > maxConceal || d.last == 0 {
		return
	}
	n := d.last
	pos := d.pos/opusRatio - int64(lost*n)
	for i := range lost {
		var err error
		if i < lost-1 {
			err = d.opus.DecodePLC(d.pcm[:n:n])
		} else {
			err = d.opus.DecodeFEC(next, d.pcm[:n:n])
		}
		if err != nil {
			return
		}
		d.concealed.Add(1)
		d.feed.publish(frame{pos: pos, epoch: d.epoch, pcm: d.pcm[:n], concealed: true}, now)
		pos += int64(n)
	}
}
