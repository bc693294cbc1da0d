package transcode

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"

	"tandem/media"
)

// maxPayload is more G.711 than any phone puts into a packet (120 ms); a longer one is dropped.
const maxPayload = maxFrame

// toneTimeout ends a key in the sound when no more sound comes.
const toneTimeout = 100 * time.Millisecond

// uplink makes of a phone's packets what the others hear. receive runs on the port's reading goroutine, expire on the
// clock's. Its lock is held while sinks are written; a downlink of another bridge is the only lock taken under it.
type uplink struct {
	fuse *fuse // nil: in tests

	source *media.Source
	track  *media.Track
	feed   *feed
	onKey  func(media.Key)
	keep   atomic.Bool // keys are told to onKey alone

	mu     sync.Mutex
	closed bool
	media  media.PortMedia
	begun  bool
	ssrc   uint32
	seq    uint16
	ts     uint32
	pos    int64     // of ts, in our own count of samples
	end    int64     // after the last audio
	endAt  time.Time // when that came
	lost   int       // packets missing since the last audio
	keys   media.KeyReader
	tones  media.ToneReader
	merge  media.KeyMerge
	ears   *machineEars // nil: nobody wants to know who answered
	steps  []media.Key  // scratch of who reads keys
	news   []media.Key  // and of tell
	pcm    [maxPayload]int16

	part    [frameSamples]int16 // beginning of a frame that is not complete
	partPos int64
	n       int
	encoder func() (*opus.Encoder, error)
	opus    *opus.Encoder // nil: nobody has wanted to hear the phone yet; it is large, and many calls end before
	idle    bool          // nobody took the last frame: the encoder's memory is old
	packet  rtp.Packet
	encoded [1500]byte

	received, late, malformed uint64
}

func (u *uplink) init(cfg Config) {
	u.encoder = cfg.encoder
	u.steps, u.news = make([]media.Key, 0, 8), make([]media.Key, 0, 8)
	u.keys.Rate = uint32(max(u.media.EventRate, 0))
	u.packet.Header = rtp.Header{
		Version:        2,
		PayloadType:    111,
		SSRC:           rand.Uint32(),
		SequenceNumber: uint16(rand.Uint32()),
	}
	u.pos = int64(rand.Uint32() / opusRatio)
	u.end = u.pos
	u.idle = true
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
	event := u.media.IsEvent(p.PayloadType)
	inOrder := u.follow(p, at, event)
	switch {
	case event:
		u.tell(u.keys.Packet(u.steps[:0], p.Timestamp, p.Payload, at), at)
	case !inOrder:
		u.late++
	case len(p.Payload) == 0 || len(p.Payload) > maxPayload || !u.media.IsAudio(p.PayloadType):
		u.malformed++
	case u.keys.Down():
		// A key is not heard as sound too, whatever a phone sends beside its events.
	default:
		u.audio(p.Payload, at)
	}
}

// follow finds a packet's place among the others. False: it is late or a repetition.
func (u *uplink) follow(p *rtp.Packet, at time.Time, event bool) bool {
	step := int(int16(p.SequenceNumber - u.seq))
	if !u.begun || p.SSRC != u.ssrc || step < -seqJump || step > seqJump {
		if u.begun {
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
	if u.pos < u.end-maxFrame || u.pos > u.end+8000*3600 {
		u.resume(at) // the phone's clock jumped
	}
	return true
}

// resume places the next packet as far after the last one as time has passed: the phone's clock began anew, ours goes
// on.
func (u *uplink) resume(at time.Time) {
	u.pos, u.lost = u.end, 0
	if gap := int64(at.Sub(u.endAt)/(time.Second/8000)) - frameSamples; !u.endAt.IsZero() && gap > 0 {
		u.pos += gap
	}
}

// tell hands out keys, each press once. u.mu is held.
func (u *uplink) tell(keys []media.Key, at time.Time) {
	u.news = u.news[:0]
	for _, k := range keys {
		u.news = u.merge.Key(u.news, k, at)
	}
	for _, k := range u.news {
		if !u.keep.Load() {
			u.source.WriteKey(k)
		}
		if u.onKey != nil {
			u.onKey(k)
		}
	}
}

// expire ends a key whose end was lost.
func (u *uplink) expire(now time.Time) {
	if !u.mu.TryLock() {
		return // a packet is being read: the clock does not wait for it, the next tick is soon enough
	}
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	u.tell(u.keys.Expire(u.steps[:0], now), now)
	if u.tones.Down() && now.Sub(u.endAt) > toneTimeout {
		u.tell(u.tones.Reset(u.steps[:0]), now)
	}
}

// press takes a whole key that came beside the sound.
func (u *uplink) press(k media.Key, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed {
		down := media.Key{Digit: k.Digit, Method: k.Method}
		u.tell(append(u.steps[:0], down, k), at)
	}
}

// listen looks for keys in the sound and takes them out of it. gap is how many samples are missing before pcm.
func (u *uplink) listen(pcm []int16, gap int64, at time.Time) {
	keys := u.steps[:0]
	if gap > 0 {
		keys = u.tones.Lost(keys, gap)
	}
	keys, mute := u.tones.Sound(keys, pcm)
	if mute {
		clear(pcm)
	}
	u.tell(keys, at)
}

// audio decodes a payload at u.pos and passes it on.
func (u *uplink) audio(payload []byte, at time.Time) {
	pcm, pos := u.pcm[:len(payload)], u.pos
	expand(u.media.Law, pcm, payload)
	u.received++
	gap := pos - u.end
	if gap < 0 { // it overlaps what was heard
		if -gap >= int64(len(pcm)) {
			u.late++
			return
		}
		pcm, pos = pcm[-gap:], u.end
	}
	u.end, u.endAt = pos+int64(len(pcm)), at
	if u.media.InBand {
		u.listen(pcm, gap, at)
	}
	if u.ears != nil && !u.ears.hear(pcm, gap) {
		u.ears = nil
	}
	u.feed.publish(frame{pos: pos, pcm: pcm}, at)

	if !u.track.Wanted() {
		u.idle = true
		return
	}
	if u.idle {
		if !u.wake() {
			return
		}
	} else if gap > 0 {
		u.skip(gap)
	}
	u.lost = 0
	u.frames(pos, pcm)
}

// wake begins anew for listeners that have heard nothing before. It is false when there is no encoder: then the bridge
// has failed.
func (u *uplink) wake() bool {
	if u.opus == nil {
		enc, err := u.encoder()
		if err != nil {
			u.fuse.trip("no encoder for a phone", "error", err)
			return false
		}
		u.opus = enc
	} else {
		_ = u.opus.Reset() // fails for no reason that a running encoder could have
	}
	u.idle, u.n = false, 0
	u.packet.Marker = true
	return true
}

// skip lets the stream of Opus show that samples are missing before the next frame: lost packets as missing sequence
// numbers, which the browser conceals; a pause as time alone (RFC 7587 §4.1).
func (u *uplink) skip(gap int64) {
	if u.n > 0 {
		pad := min(gap, int64(frameSamples-u.n))
		clear(u.part[u.n : u.n+int(pad)])
		u.n += int(pad)
		gap -= pad
		if u.n == frameSamples {
			u.encode(u.part[:], u.partPos)
			u.n = 0
		}
	}
	switch {
	case gap == 0:
	case u.lost > 0:
		u.packet.SequenceNumber += uint16(min(max(1, (gap+frameSamples/2)/frameSamples), seqJump/2))
	default:
		u.packet.Marker = true
	}
}

// frames makes frames of 20 ms, whatever a phone puts into a packet.
func (u *uplink) frames(pos int64, pcm []int16) {
	for len(pcm) > 0 {
		if u.n == 0 && len(pcm) >= frameSamples {
			u.encode(pcm[:frameSamples], pos)
			pcm, pos = pcm[frameSamples:], pos+frameSamples
			continue
		}
		if u.n == 0 {
			u.partPos = pos
		}
		n := copy(u.part[u.n:], pcm)
		u.n += n
		pcm, pos = pcm[n:], pos+int64(n)
		if u.n == frameSamples {
			u.encode(u.part[:], u.partPos)
			u.n = 0
		}
	}
}

// encode sends 20 ms to the track.
func (u *uplink) encode(pcm []int16, pos int64) {
	n, err := u.opus.Encode(pcm, u.encoded[:])
	if err != nil {
		u.malformed++
		return
	}
	u.packet.Timestamp = uint32(pos) * opusRatio
	u.packet.Payload = u.encoded[:n]
	u.track.WriteRTP(&u.packet)
	u.packet.SequenceNumber++
	u.packet.Marker = false
}

// update applies a new agreement.
func (u *uplink) update(m media.PortMedia, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if rate := uint32(max(m.EventRate, 0)); rate != u.keys.Rate {
		u.tell(u.keys.Reset(u.steps[:0]), now)
		u.keys.Rate = rate
	}
	if !m.InBand {
		u.tell(u.tones.Reset(u.steps[:0]), now)
	}
	u.media = m
}

// close lets nothing come any more.
func (u *uplink) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.opus = nil
}

func (u *uplink) stats(s *BridgeStats) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.FromPhone, s.LateFromPhone, s.Malformed = u.received, u.late, u.malformed
}
