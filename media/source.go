// Package media holds what carries RTP: sources and sinks, ports, DTMF. It knows no call and no participant.
package media

import (
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

// PlainSink is a Sink that may also take a telephone's G.711 as it comes, under the same rules.
type PlainSink interface {
	Sink
	// WritePlain takes a packet of PCMU or PCMA. Its numbers go on by themselves, apart from those of WriteRTP.
	WritePlain(law Speech, p *rtp.Packet)
}

// Batch is a way out that several sinks share. What they write between Cork and Uncork may wait, and then goes out at once.
type Batch interface {
	Cork()
	Uncork()
}

// BatchSink is a Sink that sends by such a way, which is always the same; nil: by one of its own.
type BatchSink interface {
	Sink
	Batch() Batch
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
