// Package media holds what carries RTP: sources and sinks, ports, DTMF. It knows no call and no participant.
package media

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
)

// Kind is the medium of a track.
type Kind uint8

// The two kinds of media.
const (
	Audio Kind = iota + 1
	Video
)

// String returns the kind as SDP writes it.
func (k Kind) String() string {
	switch k {
	case Audio:
		return "audio"
	case Video:
		return "video"
	}
	return "unknown"
}

// Codec describes the packets of a track.
type Codec struct {
	MimeType  string // as in SDP with the kind before it: "audio/opus"
	ClockRate uint32 // RTP timestamp units per second
	Channels  uint16 // audio only
	Fmtp      string // format parameters as the publisher announced them
}

// BrowserOpus is what the gateway sends to browsers for a phone's voice (RFC 7587).
func BrowserOpus() Codec {
	return Codec{MimeType: "audio/opus", ClockRate: 48000, Channels: 2, Fmtp: "minptime=10;useinbandfec=1"}
}

// Sink takes the packets of one track.
//
// WriteRTP runs on the goroutine that reads the publisher's socket: it must not block, and it must neither change
// the packet nor keep it or its payload after returning. One more packet may arrive after Track.Remove has returned.
type Sink interface {
	WriteRTP(p *rtp.Packet)
}

// Key is one step of a DTMF key (RFC 4733): a key is down once (Ended false) and up once (Ended true).
type Key struct {
	Digit    byte          // '0'-'9', '*', '#', 'A'-'D'
	Ended    bool          // the key was released
	Duration time.Duration // how long it was held; set when Ended
	Method   KeyMethod     // how it came
}

// KeyMethod is a way in which keys come.
type KeyMethod uint8

// The ways.
const (
	RFC4733 KeyMethod = iota // events beside the sound
	Info                     // SIP INFO
	InBand                   // tones in the sound
)

// keyMethods is how many there are.
const keyMethods = 3

// String returns the word of the callbacks.
func (m KeyMethod) String() string {
	switch m {
	case RFC4733:
		return "rfc4733"
	case Info:
		return "info"
	case InBand:
		return "inband"
	}
	return "unknown"
}

// KeySink takes the DTMF keys of one source, under the rules of Sink.
type KeySink interface {
	WriteKey(k Key)
}

// Track is one medium of a Source. Its writer is the goroutine that reads the publisher.
type Track struct {
	ID    string // the publisher's track id, the second word of a=msid
	Kind  Kind
	Codec Codec
	// LevelID is the RTP header extension in which the publisher says how loud each packet is (RFC 6464); 0: it does not.
	// It is set before the first packet.
	LevelID uint8
	// OnBand, if set, is told when what the listeners need changes: narrow says that there are some, and that 8 kHz are
	// enough for every one. Until it is told, they may need everything; when the last one goes, nothing is said. It is set
	// before the first Add, runs in Add and Remove, and must only post.
	OnBand func(narrow bool)

	mu      sync.Mutex // orders changes of who listens; no packet takes it
	content []Sink     // of sinks: those for which 8 kHz are enough
	narrow  bool       // what OnBand was told last

	sinks    Fanout[Sink]
	keyframe func()
	loss     atomic.Uint32 // in 1/256 percent
}

// NewTrack makes a track. keyframe asks the publisher for a keyframe and must not block; nil where there is none.
func NewTrack(id string, kind Kind, codec Codec, keyframe func()) *Track {
	return &Track{ID: id, Kind: kind, Codec: codec, keyframe: keyframe}
}

// Add lets s have the track's packets from now on, in full band. Safe from any goroutine.
func (t *Track) Add(s Sink) { t.listen(s, false) }

// AddNarrow is Add for an s that makes sound at 8 kHz of the packets. Either may be called again, when that changes.
func (t *Track) AddNarrow(s Sink) { t.listen(s, true) }

func (t *Track) listen(s Sink, narrow bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sinks.Add(s)
	t.content = slices.DeleteFunc(t.content, func(c Sink) bool { return c == s })
	if narrow {
		t.content = append(t.content, s)
	}
	t.tellBand()
}

// Remove ends what Add or AddNarrow began. Safe from any goroutine.
func (t *Track) Remove(s Sink) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sinks.Remove(s)
	t.content = slices.DeleteFunc(t.content, func(c Sink) bool { return c == s })
	t.tellBand()
}

// tellBand tells OnBand of a change. t.mu is held, so that changes are told in order.
func (t *Track) tellBand() {
	all := t.sinks.Len()
	if narrow := len(t.content) == all; all > 0 && narrow != t.narrow {
		t.narrow = narrow
		if t.OnBand != nil {
			t.OnBand(narrow)
		}
	}
}

// Quiet says that a packet of the track holds nothing that is meant to be heard, by the publisher's own measure: less than
// −60 dBov. Without a measure it is false.
func (t *Track) Quiet(p *rtp.Packet) bool {
	if t.LevelID == 0 {
		return false
	}
	level := p.GetExtension(t.LevelID)
	return len(level) > 0 && level[0]&0x7f > quietPacket
}

// quietPacket is in −dBov.
const quietPacket = 60

// ReportLoss notes what one of those who take the packets has lost of them lately, from 0 to 1. The worst counts, and is
// forgotten slowly.
func (t *Track) ReportLoss(share float64) {
	now := uint32(min(max(share, 0), 1) * 100 * 256)
	before := t.loss.Load()
	t.loss.Store(max(now, before-before/8))
}

// Loss is the worst of what was reported lately, in percent.
func (t *Track) Loss() int { return int((t.loss.Load() + 255) / 256) }

// Wanted says whether anybody takes the packets: who must first encode them can save the work.
func (t *Track) Wanted() bool { return t.sinks.Len() > 0 }

// WriteRTP hands p to every sink.
func (t *Track) WriteRTP(p *rtp.Packet) {
	for _, s := range t.sinks.All() {
		s.WriteRTP(p)
	}
}

// RequestKeyframe asks the publisher for a keyframe (RFC 4585 PLI). It does nothing for audio.
func (t *Track) RequestKeyframe() {
	if t.keyframe != nil {
		t.keyframe()
	}
}

// Source is one published stream: what a participant sends under one msid, with all its tracks. It does not change
// after it was made; a stream whose tracks change is published anew as another Source.
type Source struct {
	Participant string // who publishes it
	Stream      string // the msid that subscribers see; stable for the life of the stream
	Alias       string // the name that subscriptions may pick it by; may be empty
	Tracks      []*Track

	keys Fanout[KeySink]
}

// AddKeys lets s have the source's DTMF keys from now on.
func (s *Source) AddKeys(k KeySink) { s.keys.Add(k) }

// RemoveKeys ends what AddKeys began.
func (s *Source) RemoveKeys(k KeySink) { s.keys.Remove(k) }

// WriteKey hands k to everybody who takes the source's keys.
func (s *Source) WriteKey(k Key) {
	for _, sink := range s.keys.All() {
		sink.WriteKey(k)
	}
}

// Audio returns the first audio track, or nil.
func (s *Source) Audio() *Track {
	for _, t := range s.Tracks {
		if t.Kind == Audio {
			return t
		}
	}
	return nil
}
