package transcode

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotranspile/g722"
	"github.com/pion/rtp"

	"tandem/dsp"
	"tandem/media"
)

// maxPayload is more than any phone puts into a packet: 120 ms of G.711 or G.722, and of Opus what SILK needs for it. A
// longer one is dropped.
const maxPayload = 1275

// uplink makes of a phone's packets what the others hear. receive runs on the port's reading goroutine, expire on the
// clock's. Its lock is held while sinks are written; under it are taken those of other bridges' downlinks and of voices of a mix.
type uplink struct {
	fuse *fuse // nil: in tests

	source *media.Source
	track  *media.Track
	feed   *feed
	onKey  func(media.Key)
	keep   atomic.Bool // keys are told to onKey alone

	mu       sync.Mutex
	closed   bool
	media    media.PortMedia
	order    order
	begun    bool
	ssrc     uint32
	seq      uint16
	ts       uint32
	pos      int64     // of ts, in our own count on its clock
	end      int64     // after the last audio
	endAt    time.Time // when that came
	lost     int       // packets missing since the last audio
	keys     media.KeyReader
	keysOf   uint32            // SSRC of keys
	tones    *media.ToneReader // nil: nobody has looked for keys in the sound yet
	merge    *media.KeyMerge   // nil: there was no key yet
	ears     *machineEars      // nil: nobody wants to know who answered
	steps    []media.Key       // scratch of who reads keys
	news     []media.Key       // and of tell
	g722     *g722.Decoder     // of such a phone
	own      *decoder          // of a phone that speaks Opus, for those who don't; nil: nobody did yet
	halver   *dsp.Halver       // of wide sound, for who looks for tones in it; nil: not needed yet
	narrowed []int16           // the last sound at 8 kHz
	noise    noise
	lull     lull
	epoch    uint32

	partPos  int64
	n        int
	encoder  func(rate int) (*voiceEncoder, error)
	cfg      Config
	pressure *atomic.Int32 // Engine's
	dropped  *dropped      // Engine's
	opus     *voiceEncoder // nil: nobody has wanted to hear the phone yet; it is large, and many calls end before
	rate     int           // of opus
	tuned    int           // packets since it was made
	idle     bool          // nobody took the last frame: the encoder's memory is old
	packet   rtp.Packet
	plain    rtp.Packet // to those who take G.711 as it comes
	passing  bool       // there are such
	passed   uint32     // where the last one ended, in RTP time

	uplinkRoom // empty until it is needed: many calls end before

	received, late, malformed uint64
	missed                    missed
}

// uplinkRoom is the scratch memory of an uplink.
type uplinkRoom struct {
	pcm     samples
	half    samples
	part    samples // beginning of a frame that is not complete
	held    samples // the last frame that was not sent
	encoded []byte  // nil: nothing was encoded yet
}

// payload is where a packet is made.
func (r *uplinkRoom) payload() []byte {
	if r.encoded == nil {
		r.encoded = make([]byte, 1+longestPayload) // a packet of Opus has a byte before its frame
	}
	return r.encoded
}

func (u *uplink) init(cfg Config, m media.PortMedia) {
	u.encoder, u.cfg = func(rate int) (*voiceEncoder, error) { return newVoiceEncoder(cfg, rate) }, cfg
	u.keys.Rate = uint32(max(m.EventRate, 0))
	u.packet.Header = rtp.Header{
		Version:        2,
		PayloadType:    111,
		SSRC:           rand.Uint32(),
		SequenceNumber: uint16(rand.Uint32()),
	}
	u.plain.Header = rtp.Header{Version: 2, SSRC: u.packet.SSRC + 1, SequenceNumber: uint16(rand.Uint32())}
	u.pos = int64(rand.Uint32() / 6) // Opus counts six times as fast
	u.end = u.pos
	u.idle = true
	u.change(m.Speech)
	u.media = m
}

// ReceiveRTP takes a packet of the phone. It implements media.PortReceiver.
func (u *uplink) ReceiveRTP(p *rtp.Packet, at time.Time) {
	if u.fuse != nil {
		if u.fuse.blown.Load() {
			return
		}
		defer u.fuse.blow()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	if u.media.IsEvent(p.PayloadType) {
		u.order.beside(p, at, u)
		u.inOrder(p, at)
		return
	}
	u.order.take(p, at, u)
}

// inOrder implements orderly. u.mu is held.
func (u *uplink) inOrder(p *rtp.Packet, at time.Time) {
	event := u.media.IsEvent(p.PayloadType)
	inOrder := u.follow(p, at, event)
	switch {
	case event:
		u.tell(u.keys.Packet(u.scratch(), p.Timestamp, p.Payload, at), at)
	case !inOrder:
		u.late++
		u.dropped.disordered.Add(1)
	case u.media.IsComfort(p.PayloadType):
		u.comfort(p.Payload, at)
	case len(p.Payload) == 0 || len(p.Payload) > maxPayload || !u.media.IsAudio(p.PayloadType):
		u.malformed++
	case u.keys.Down():
		// A key is not heard as sound too, whatever a phone sends beside its events.
	case u.media.Speech == media.Opus:
		u.forward(p, at)
	default:
		u.audio(p.Payload, at)
	}
}

// Broke takes the bridge out: the port reads no more. It implements media.PortReceiver.
func (u *uplink) Broke(panicked any) { u.fuse.broke(panicked) }

// follow finds a packet's place among the others. False: it is late or a repetition.
func (u *uplink) follow(p *rtp.Packet, at time.Time, event bool) bool {
	if event && p.SSRC != u.keysOf {
		u.tell(u.keys.Reset(u.steps[:0]), at)
		u.keysOf = p.SSRC
	}
	if event && (!u.begun || p.SSRC != u.ssrc) {
		return true // a stream of keys alone (RFC 4733 §2.1): the sound has its own order
	}
	step := int(int16(p.SequenceNumber - u.seq))
	if !u.begun || p.SSRC != u.ssrc || step < -seqJump || step > seqJump {
		if u.begun && u.keysOf == u.ssrc {
			u.tell(u.keys.Reset(u.steps[:0]), at)
		}
		u.begun, u.ssrc, u.seq, u.ts = true, p.SSRC, p.SequenceNumber, p.Timestamp
		u.resume(at)
		return true
	}
	if step <= 0 {
		return false
	}
	u.seq = p.SequenceNumber
	u.lost += step - 1
	if event {
		return true // an event's timestamp is that of its key: it moves no clock
	}
	u.pos += int64(int32(p.Timestamp - u.ts))
	u.ts = p.Timestamp
	if clock := int64(u.media.Speech.Clock()); u.pos < u.end-clock*12/100 || u.pos > u.end+clock*3600 {
		u.resume(at) // the phone's clock jumped
	}
	return true
}

// resume places the next packet as far after the last one as time has passed: the phone's clock began anew, ours goes
// on.
func (u *uplink) resume(at time.Time) {
	u.pos, u.lost = u.end, 0
	if gap := u.span(at.Sub(u.endAt) - frameTime); !u.endAt.IsZero() && gap > 0 {
		u.pos += gap
	}
}

// span is a time on the clock of the sound.
func (u *uplink) span(d time.Duration) int64 {
	return int64(d) * int64(u.media.Speech.Clock()) / int64(time.Second)
}

// decode turns a payload of G.711 or G.722 into sound.
func (u *uplink) decode(payload []byte) []int16 {
	if u.media.Speech == media.G722 {
		pcm := u.pcm.of(2 * len(payload))
		return pcm[:u.g722.Decode(pcm, payload)]
	}
	pcm := u.pcm.of(len(payload))
	expand(u.media.Speech, pcm, payload)
	return pcm
}

// audio passes a payload at u.pos on, decoded for all but those who take it as it comes.
func (u *uplink) audio(payload []byte, at time.Time) {
	plain, coded := u.track.ListenersOf(u.media.Speech)
	var pcm []int16
	span, pos := int64(len(payload)), u.pos
	if u.media.Speech == media.G722 || len(coded) > 0 || u.feed.wanted() || u.media.InBand || u.ears != nil {
		pcm = u.decode(payload)
	}
	ratio := int64(u.media.Speech.Rate() / u.media.Speech.Clock()) // 2 for G.722
	u.received++
	gap := pos - u.end
	if gap < 0 && u.noise.on { // our clock made more of it than the phone's: no word is cut for that
		u.pos, pos, gap = u.end, u.end, 0
	}
	u.missed.count(span, gap, u.lost)
	if gap < 0 { // it overlaps what was heard
		if -gap >= span {
			u.late++
			return
		}
		if pcm != nil {
			pcm = pcm[-gap*ratio:]
		}
		if len(plain) > 0 {
			payload = payload[-gap:]
		}
		pos = u.end
	}
	u.end, u.endAt = u.pos+span, at
	u.noise.stop()
	lost := u.lost
	if pcm == nil {
		u.idle, u.lost = true, 0
		u.pass(plain, pos, payload, lost)
		return
	}
	if u.media.InBand || u.ears != nil {
		u.narrowed = pcm
		if ratio == 2 {
			if u.halver == nil {
				u.halver = new(dsp.Halver)
			}
			half := u.half.of(len(pcm) / 2)
			u.narrowed = half[:u.halver.Frame(half, pcm)]
		}
	}
	if u.media.InBand && u.listen(pcm, gap, at) && len(plain) > 0 {
		payload = u.payload()[:len(payload)]
		compress(u.media.Speech, payload, pcm)
	}
	if u.ears != nil && !u.ears.hear(u.narrowed, gap) {
		u.ears = nil
	}
	u.pass(plain, pos, payload, lost)
	u.sound(pos, pcm, gap, at)
	u.lost = 0
}

// pass gives a payload of G.711 at pos to those who take it as it comes. lost packets are missing before it.
func (u *uplink) pass(to []media.PlainSink, pos int64, payload []byte, lost int) {
	p := &u.plain
	if len(to) == 0 {
		u.passing = false
		return
	}
	p.Marker = !u.passing || lost == 0 && uint32(pos) != u.passed
	if u.passing {
		p.SequenceNumber += uint16(min(lost, seqJump/2))
	}
	p.PayloadType, p.Timestamp, p.Payload = uint8(u.media.Speech), uint32(pos), payload
	defer u.track.Cork().Uncork()
	for _, s := range to {
		s.WritePlain(u.media.Speech, p)
	}
	p.SequenceNumber++
	u.passing, u.passed = true, uint32(pos)+uint32(len(payload))
}

// sound passes on what the phone says, which follows gap units of the clock behind what it said last.
func (u *uplink) sound(pos int64, pcm []int16, gap int64, at time.Time) {
	speech := u.media.Speech
	u.feed.publish(frame{pos: pos * int64(speech.Rate()) / int64(speech.Clock()), epoch: u.epoch, pcm: pcm}, speech.Rate(), at)

	if _, coded := u.track.ListenersOf(speech); len(coded) == 0 {
		u.idle = true
		return
	}
	switch {
	case u.idle || u.rate != speech.Rate():
		if !u.wake(speech.Rate()) {
			return
		}
	case gap > 0:
		u.skip(gap)
	}
	u.lost = 0
	u.frames(pos, pcm)
}

// wake begins anew for listeners that have heard nothing before, or nothing at this rate. It is false when there is no
// encoder: then the bridge has failed.
func (u *uplink) wake(rate int) bool {
	if u.opus == nil || u.rate != rate {
		enc, err := u.encoder(rate)
		if err != nil {
			u.fuse.trip("no encoder for a phone", "error", err)
			return false
		}
		u.opus, u.rate = enc, rate
		u.tuned = 0
	} else {
		u.opus.reset()
	}
	u.idle, u.n, u.lull.frames = false, 0, 0
	u.packet.Marker = true
	return true
}

// frame is how many samples make 20 ms.
func (u *uplink) frame() int { return u.rate / 50 }

// skip lets the stream of Opus show that sound is missing before the next frame: lost packets as missing sequence
// numbers, which the browser conceals; a pause as time alone (RFC 7587 §4.1), and so whatever is missing where silence is not sent.
func (u *uplink) skip(gap int64) {
	clock, size := int64(u.media.Speech.Clock()), u.frame()
	if u.n > 0 {
		pad := min(gap*int64(u.rate)/clock, int64(size-u.n))
		clear(u.part.of(size)[u.n : u.n+int(pad)])
		u.n += int(pad)
		gap -= pad * clock / int64(u.rate)
		if u.n == size {
			u.encode(u.part[:size], u.partPos)
			u.n = 0
		}
	}
	switch frames := (gap + clock/100) / (clock / 50); {
	case gap == 0 || u.lull.on():
	case u.lost > 0:
		u.packet.SequenceNumber += uint16(min(max(1, frames), seqJump/2))
	default:
		u.packet.Marker = true
	}
}

// frames makes frames of 20 ms, whatever a phone puts into a packet. pos is on the phone's clock.
func (u *uplink) frames(pos int64, pcm []int16) {
	size, clock := u.frame(), int64(u.media.Speech.Clock())
	for len(pcm) > 0 {
		if u.n == 0 && len(pcm) >= size {
			u.encode(pcm[:size], pos)
			pcm, pos = pcm[size:], pos+clock/50
			continue
		}
		if u.n == 0 {
			u.partPos = pos
		}
		n := copy(u.part.of(size)[u.n:], pcm)
		u.n += n
		pcm, pos = pcm[n:], pos+int64(n)*clock/int64(u.rate)
		if u.n == size {
			u.encode(u.part[:size], u.partPos)
			u.n = 0
		}
	}
}

// encode takes 20 ms for the track.
func (u *uplink) encode(pcm []int16, pos int64) {
	ts := uint32(pos * opusClock / int64(u.media.Speech.Clock()))
	if !u.holds(pcm, ts) {
		u.send(pcm, ts)
	}
}

// send encodes a frame for the track.
func (u *uplink) send(pcm []int16, ts uint32) {
	u.tune()
	payload := u.payload()
	n, err := u.opus.encode(pcm, payload)
	if err != nil {
		u.malformed++
		return
	}
	u.lull.sent(payload[:n])
	u.publish(ts, payload[:n])
}

// publish gives the track its next packet.
func (u *uplink) publish(ts uint32, payload []byte) {
	u.packet.Timestamp, u.packet.Payload = ts, payload
	defer u.track.Cork().Uncork()
	_, coded := u.track.ListenersOf(u.media.Speech)
	for _, s := range coded {
		s.WriteRTP(&u.packet)
	}
	u.packet.SequenceNumber++
	u.packet.Marker = false
}

// forward passes a packet of Opus on as it is, and decodes it for phones that listen.
func (u *uplink) forward(p *rtp.Packet, at time.Time) {
	span := int64(opusSamples(p.Payload)) // on its clock
	if span == 0 {
		u.malformed++
		return
	}
	u.received++
	gap := u.pos - u.end
	u.missed.count(span, gap, u.lost)
	u.end, u.endAt = u.pos+span, at
	if u.track.Wanted() {
		switch {
		case u.idle || p.Marker:
			u.packet.Marker = true
		case gap > 0 && u.lost > 0:
			u.packet.SequenceNumber += uint16(min(u.lost, seqJump/2))
		}
		u.idle, u.lost = false, 0
		u.publish(uint32(u.pos), p.Payload)
	} else {
		u.idle = true
	}
	if !u.feed.wanted() {
		return
	}
	if u.own == nil {
		var err error
		if u.own, err = newDecoder(u.feed, u.track, u.dropped, func() time.Time { return u.endAt }); err != nil {
			u.fuse.trip("no decoder for a phone", "error", err)
			return
		}
	}
	u.own.WriteRTP(p)
}

// update applies a new agreement.
func (u *uplink) update(m media.PortMedia, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if rate := uint32(max(m.EventRate, 0)); rate != u.keys.Rate {
		u.tell(u.keys.Reset(u.steps[:0]), now)
		u.keys.Rate = rate
	}
	if !m.InBand && u.tones != nil {
		u.tell(u.tones.Reset(u.steps[:0]), now)
	}
	if m.Speech != u.media.Speech {
		u.change(m.Speech)
	}
	if m.Send != u.media.Send || m.Receive != u.media.Receive { // whoever holds, the phone is not there
		u.noise.stop()
	}
	u.media = m
}

// change takes another codec up: our count of time goes on on its clock.
func (u *uplink) change(s media.Speech) {
	clock, before := int64(s.Clock()), int64(u.media.Speech.Clock())
	u.pos, u.end = u.pos*clock/before, u.end*clock/before
	u.begun, u.n, u.idle = false, 0, true // its timestamps are others
	u.g722, u.own = nil, nil
	if s == media.G722 {
		u.g722 = g722.NewDecoder(g722.Rate64000, 0)
	}
	u.halver = nil
	u.noise.stop()
	u.epoch++
}

// close lets nothing come any more.
func (u *uplink) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.opus, u.own = nil, nil
}

func (u *uplink) stats(s *BridgeStats) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.FromPhone, s.LateFromPhone, s.Malformed = u.received, u.late, u.malformed
}
