package transcode

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"

	"tandem/dsp"
	"tandem/media"
)

// listener takes the frames of a feed at the rate that it asked for. It runs where the source's packets are read: it must
// not block, and must keep nothing of the frame.
type listener interface {
	hear(f frame, now time.Time)
}

// feed is the voice of one track, for any number of phones. A phone's own track is fed by its bridge, any other one by
// a decoder that is shared. Each frame is made once for those at 8 kHz and once for those at 16.
type feed struct {
	id           uint64 // names it in the key of a mix; under Engine.mu
	narrow, wide media.Fanout[listener]
	refs         int // of a shared decoder; under Engine.mu
	decoder      *decoder
	closed       bool         // nobody has it any more; under Engine.mu
	active       atomic.Bool  // there was something to hear in the last frame: a voice, or what may be one
	last         atomic.Int64 // when that came, in Unix ns
	direct       atomic.Int32 // phones that hear it as it comes
	plain        atomic.Int32 // of those, how many get its packets as they are

	// What follows belongs to the goroutine that publishes.
	woke  bool // it became active with this frame
	rate  int  // of voice; 0: nothing came yet
	voice dsp.Voice
	other *resampled // nil until somebody listens at the other rate
	codes [2]*codes  // narrow and wide; nil until several phones hear it as it comes
}

// resampled is a voice at another rate than it comes.
type resampled struct {
	halver  dsp.Halver
	doubler dsp.Doubler
	pcm     samples
}

// half returns sound at half its rate, valid until the next call.
func (r *resampled) half(pcm []int16) []int16 {
	out := r.pcm.of(len(pcm) / 2)
	return out[:r.halver.Frame(out, pcm)]
}

// double returns sound at twice its rate, valid until the next call.
func (r *resampled) double(pcm []int16) []int16 {
	out := r.pcm.of(2 * len(pcm))
	return out[:r.doubler.Frame(out, pcm)]
}

// at is the list of those who listen at a rate.
func (f *feed) at(rate int) *media.Fanout[listener] {
	if rate == wide {
		return &f.wide
	}
	return &f.narrow
}

// fallsSilent is how long a voice may send nothing and be taken for active.
const fallsSilent = 300 * time.Millisecond

// speaks says whether there is something to hear now.
func (f *feed) speaks(now time.Time) bool {
	return f.active.Load() && now.UnixNano()-f.last.Load() < int64(fallsSilent)
}

// elsewhere brings the voice to the other rate.
func (f *feed) elsewhere() *resampled {
	if f.other == nil {
		f.other = new(resampled)
	}
	return f.other
}

// shared is where the phones that hear a frame at a rate find it encoded; nil: they are not several.
func (f *feed) shared(rate int) *codes {
	if f.direct.Load() < 2 {
		return nil
	}
	c := &f.codes[rate/wide]
	if *c == nil {
		*c = new(codes)
	}
	(*c).next()
	return *c
}

// wanted says whether anybody listens.
func (f *feed) wanted() bool { return f.narrow.Len() > 0 || f.wide.Len() > 0 }

// publish hands out a frame of sound at a rate.
func (f *feed) publish(fr frame, rate int, now time.Time) {
	if f.rate != rate {
		f.rate, f.voice, f.other = rate, dsp.NewVoice(rate), nil
	}
	f.last.Store(now.UnixNano())
	if f.woke = false; !fr.concealed {
		active := f.voice.Frame(fr.pcm)
		f.woke = !f.active.Swap(active) && active
	}
	fr.codes = f.shared(rate)
	for _, l := range f.at(rate).All() {
		l.hear(fr, now)
	}
	if rate == wide {
		if list := f.narrow.All(); len(list) > 0 {
			half := frame{pos: fr.pos / 2, epoch: fr.epoch, pcm: f.elsewhere().half(fr.pcm), concealed: fr.concealed, codes: f.shared(narrow)}
			for _, l := range list {
				l.hear(half, now)
			}
		}
		return
	}
	if list := f.wide.All(); len(list) > 0 {
		double := frame{pos: fr.pos * 2, epoch: fr.epoch, pcm: f.elsewhere().double(fr.pcm), concealed: fr.concealed, codes: f.shared(wide)}
		for _, l := range list {
			l.hear(double, now)
		}
	}
}

const (
	// seqJump is the step of sequence numbers beyond which the far end began anew (RFC 3550 A.1, MAX_DROPOUT).
	seqJump = 3000
	// maxConceal is how many lost packets the codec makes up for. Of a longer loss it gives the last one alone, and that only
	// from a copy; whoever hears it makes up for the beginning.
	maxConceal = 3
	// quietAfter is how long a voice is decoded on that its publisher calls quiet: longer than it takes to find it inactive.
	quietAfter = 500 * time.Millisecond
	// opusClock is how many RTP timestamp units of Opus make a second (RFC 7587 §4.1).
	opusClock = 48000
)

// decoder turns the Opus or G.711 of one track into sound, once for everybody: Opus at 16 kHz as soon as somebody wants that,
// else at 8. Its fields belong to the goroutine that writes the track; libopus resamples and mixes to mono itself.
type decoder struct {
	feed  *feed
	track *media.Track
	now   func() time.Time
	codec media.Speech  // of the track
	opus  *opus.Decoder // nil: it is G.711
	rate  int           // of what is decoded
	order order
	begun bool
	ssrc  uint32
	seq   uint16
	ts    uint32
	pos   int64 // of ts, on the codec's clock
	last  int   // samples of the last packet
	epoch uint32
	pcm   samples

	spoken time.Time // when a packet was not quiet

	decoded, malformed, concealed atomic.Uint64
	dropped                       *dropped // the engine's
}

func newDecoder(f *feed, track *media.Track, count *dropped, now func() time.Time) (*decoder, error) {
	d := &decoder{feed: f, track: track, dropped: count, now: now}
	d.codec, _ = speechOf(track)
	return d, d.open(narrow)
}

// open makes the decoder of a rate.
func (d *decoder) open(rate int) error {
	if d.codec != media.Opus {
		d.rate = narrow
		return nil
	}
	dec, err := opus.NewDecoder(rate, 1)
	if err != nil {
		return fmt.Errorf("opus decoder: %w", err)
	}
	d.last = d.last * rate / max(d.rate, 1)
	d.opus, d.rate = dec, rate
	return nil
}

// speechOf is the codec of a track's packets; ok: they can be decoded.
func speechOf(t *media.Track) (s media.Speech, ok bool) {
	if t == nil || t.Kind != media.Audio {
		return 0, false
	}
	for _, s := range [...]media.Speech{media.Opus, media.PCMU, media.PCMA} {
		if strings.EqualFold(t.Codec.MimeType, "audio/"+s.String()) {
			return s, int(t.Codec.ClockRate) == s.Clock()
		}
	}
	return 0, false
}

// understood says whether a track's packets can be decoded.
func understood(t *media.Track) bool {
	_, ok := speechOf(t)
	return ok
}

// WriteRTP decodes a packet for all listeners. It implements media.Sink.
func (d *decoder) WriteRTP(p *rtp.Packet) { d.order.take(p, d.now(), d) }

// inOrder implements orderly.
func (d *decoder) inOrder(p *rtp.Packet, now time.Time) {
	lost, ok := d.follow(p)
	if !ok || len(p.Payload) == 0 {
		return
	}
	rate := narrow
	if d.feed.wide.Len() > 0 && d.opus != nil {
		rate = wide
	}
	if rate != d.rate {
		if err := d.open(rate); err != nil {
			d.malformed.Add(1)
			return
		}
	}
	if !d.feed.wanted() || d.passes(p, now) {
		d.last = 0 // nobody hears it; what was missed is not made up for
		return
	}
	n, err := d.decode(p.Payload, lost, now)
	if err != nil {
		d.malformed.Add(1)
		return
	}
	d.decoded.Add(1)
	d.last = n
	d.feed.publish(frame{pos: d.position(), epoch: d.epoch, pcm: d.pcm[:n]}, d.rate, now)
}

var errTooLong = errors.New("a packet holds more sound than any phone is sent")

// decode makes sound of a packet before which some are lost. With G.711 whoever hears it makes up for them.
func (d *decoder) decode(payload []byte, lost int, now time.Time) (samples int, err error) {
	switch {
	case d.opus != nil:
		d.conceal(payload, lost, now)
		// A packet that has no length is none to libopus either.
		return d.opus.Decode(payload, d.pcm.of(max(1, opusSamples(payload)*d.rate/opusClock)))
	case len(payload) > soundMost:
		return 0, errTooLong
	}
	expand(d.codec, d.pcm.of(len(payload)), payload)
	return len(payload), nil
}

// passes says that a packet need not be decoded: it is quiet, as those before it were for a while, and no phone hears this
// voice alone.
func (d *decoder) passes(p *rtp.Packet, now time.Time) bool {
	if !d.track.Quiet(p) {
		d.spoken = now
		return false
	}
	if d.feed.direct.Load() > 0 || now.Sub(d.spoken) < quietAfter {
		return false
	}
	d.feed.active.Store(false)
	return true
}

// position is where the last packet's sound begins, in samples.
func (d *decoder) position() int64 { return d.pos * int64(d.rate) / int64(d.codec.Clock()) }

// follow finds a packet's place. It says how many packets are missing before it; false: it is late or a repetition.
func (d *decoder) follow(p *rtp.Packet) (lost int, ok bool) {
	step := int(int16(p.SequenceNumber - d.seq))
	advance := int64(int32(p.Timestamp - d.ts))
	switch {
	case !d.begun || p.SSRC != d.ssrc || step < -seqJump || step > seqJump:
		d.begun, d.ssrc = true, p.SSRC
		d.restart()
	case step <= 0:
		d.dropped.disordered.Add(1)
		return 0, false
	case advance < 0:
		d.restart()
	case len(p.Payload) == 0: // padding: it has a number but no time
		d.seq = p.SequenceNumber
		return 0, true
	default:
		d.pos += advance
		// Where time went on by more than the lost packets held, the rest was silence: not made up for.
		if lost = step - 1; lost > 0 && advance != int64(lost+1)*int64(d.last)*int64(d.codec.Clock())/int64(d.rate) {
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
	if lost == 0 || d.last == 0 {
		return
	}
	if lost > maxConceal { // what the codec remembers is too old
		if !opusHasCopy(next) {
			return
		}
		lost = 1
	}
	n := d.last
	pcm := d.pcm.of(n)[:n:n]
	pos := d.position() - int64(lost*n)
	for i := range lost {
		var err error
		if i < lost-1 {
			err = d.opus.DecodePLC(pcm)
		} else {
			err = d.opus.DecodeFEC(next, pcm)
		}
		if err != nil {
			return
		}
		d.concealed.Add(1)
		d.feed.publish(frame{pos: pos, epoch: d.epoch, pcm: pcm, concealed: true}, d.rate, now)
		pos += int64(n)
	}
}
