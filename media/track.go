package media

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pion/rtp"
)

// Track is one medium of a Source. Its writer is the goroutine that reads the publisher.
type Track struct {
	ID    string // the publisher's track id, the second word of a=msid
	Kind  Kind
	Codec Codec
	// LevelID is the RTP header extension in which the publisher says how loud each packet is (RFC 6464); 0: it does not.
	// It is set before the first packet.
	LevelID uint8
	// Telephone says that a telephone speaks, so that AddPlain may bring its packets as they come.
	Telephone bool
	// OnBand, if set, is told when what the listeners need changes: narrow says that there are some, and that 8 kHz are
	// enough for every one. Until it is told, they may need everything; when the last one goes, nothing is said. It is set
	// before the first Add, runs in Add and Remove, and must only post.
	OnBand func(narrow bool)

	mu        sync.Mutex // orders changes of who listens; no packet takes it
	members   []member
	narrow    bool // what OnBand was told last
	listeners atomic.Pointer[listeners]

	keyframe func()
	loss     atomic.Uint32 // the worst recentLoss of the members
}

// member is one who takes the packets of a track.
type member struct {
	sink   Sink
	narrow bool       // 8 kHz are enough
	laws   Laws       // what it takes as it comes; it is a PlainSink then
	lost   recentLoss // by its reports
}

// listeners is who takes the packets of a track at one moment. It never changes.
type listeners struct {
	all   []Sink
	plain [laws][]PlainSink // by law: who takes it as it comes
	coded [laws][]Sink      // and who does not
	batch Batch             // what two of them or more send by
}

// laws is how many there are.
const laws = 2

// Laws is a set of the codecs that G.711 has.
type Laws uint8

// LawOf is the set that holds a codec of G.711 alone; that of any other is empty.
func LawOf(s Speech) Laws {
	switch s {
	case PCMU:
		return 1
	case PCMA:
		return 2
	case G722, Opus:
	}
	return 0
}

// Has says whether a codec is in the set.
func (l Laws) Has(s Speech) bool { return l&LawOf(s) != 0 }

// NewTrack makes a track. keyframe asks the publisher for a keyframe and must not block; nil where there is none.
func NewTrack(id string, kind Kind, codec Codec, keyframe func()) *Track {
	return &Track{ID: id, Kind: kind, Codec: codec, keyframe: keyframe}
}

// Add lets s have the track's packets from now on, in full band. Safe from any goroutine.
func (t *Track) Add(s Sink) { t.listen(member{sink: s}) }

// AddNarrow is Add for an s that makes sound at 8 kHz of the packets. Each of these may be called again, when that changes.
func (t *Track) AddNarrow(s Sink) { t.listen(member{sink: s, narrow: true}) }

// AddPlain is Add for an s that has a telephone's packets by WritePlain as long as they are of one of the laws.
func (t *Track) AddPlain(s PlainSink, laws Laws) { t.listen(member{sink: s, laws: laws}) }

func (t *Track) listen(m member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.members, func(o member) bool { return o.sink == m.sink })
	if i < 0 {
		t.members = append(t.members, m)
	} else {
		m.lost = t.members[i].lost
		t.members[i] = m
	}
	t.changed()
}

// Remove ends what was added. Safe from any goroutine. A writer that began before may still reach s once.
func (t *Track) Remove(s Sink) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.members = slices.DeleteFunc(t.members, func(o member) bool { return o.sink == s })
	t.changed()
	t.worst()
}

// changed makes the lists anew, and tells OnBand. t.mu is held, so that changes are told in order.
func (t *Track) changed() {
	l := &listeners{all: make([]Sink, 0, len(t.members)), batch: alone{}}
	narrow := true
	ways := make(map[Batch]int)
	for _, m := range t.members {
		l.all = append(l.all, m.sink)
		narrow = narrow && m.narrow
		s, ok := m.sink.(BatchSink)
		if !ok {
			continue
		}
		if b := s.Batch(); b != nil {
			if ways[b]++; ways[b] > 1 {
				l.batch = b
			}
		}
	}
	for i, law := range [laws]Speech{PCMU, PCMA} {
		l.coded[i] = l.all
		if !slices.ContainsFunc(t.members, func(m member) bool { return m.laws.Has(law) }) {
			continue
		}
		l.coded[i] = nil
		for _, m := range t.members {
			if s, ok := m.sink.(PlainSink); ok && m.laws.Has(law) {
				l.plain[i] = append(l.plain[i], s)
			} else {
				l.coded[i] = append(l.coded[i], m.sink)
			}
		}
	}
	t.listeners.Store(l)
	if len(t.members) > 0 && narrow != t.narrow {
		t.narrow = narrow
		if t.OnBand != nil {
			t.OnBand(narrow)
		}
	}
}

// Wanted says whether anybody takes the packets: who must first encode them can save the work.
func (t *Track) Wanted() bool {
	l := t.listeners.Load()
	return l != nil && len(l.all) > 0
}

// WriteRTP hands p to every sink.
func (t *Track) WriteRTP(p *rtp.Packet) {
	l := t.listeners.Load()
	if l == nil {
		return
	}
	l.batch.Cork()
	defer l.batch.Uncork()
	for _, s := range l.all {
		s.WriteRTP(p)
	}
}

// Cork lets what the listeners send of a packet wait for each other, until the caller uncorks what is returned. It is for those
// who write to each by itself, see ListenersOf.
func (t *Track) Cork() Batch {
	l := t.listeners.Load()
	if l == nil {
		return alone{}
	}
	l.batch.Cork()
	return l.batch
}

// alone is for those who share nothing.
type alone struct{}

func (alone) Cork()   {}
func (alone) Uncork() {}

// ListenersOf returns who has the sound of a telephone that speaks s: by WritePlain, and by WriteRTP in the track's own codec.
// The slices must not be changed.
func (t *Track) ListenersOf(s Speech) (plain []PlainSink, coded []Sink) {
	l := t.listeners.Load()
	switch {
	case l == nil:
		return nil, nil
	case s == PCMU:
		return l.plain[0], l.coded[0]
	case s == PCMA:
		return l.plain[1], l.coded[1]
	}
	return nil, l.all
}

// Silent says that nobody hears anything in a packet of the track, by the publisher's own measure: less than −65 dBov. Without a
// measure it is false.
func (t *Track) Silent(p *rtp.Packet) bool { return t.below(p, silentPacket) }

// Quiet says that a packet of the track holds nothing that is meant to be heard, by the publisher's own measure: less than
// −60 dBov. Without a measure it is false.
func (t *Track) Quiet(p *rtp.Packet) bool { return t.below(p, quietPacket) }

// In −dBov.
const (
	quietPacket  = 60
	silentPacket = 65
)

// below says whether a packet is said to be quieter than so many −dBov.
func (t *Track) below(p *rtp.Packet, level byte) bool {
	if t.LevelID == 0 {
		return false
	}
	said := p.GetExtension(t.LevelID)
	return len(said) > 0 && said[0]&0x7f > level
}

// ReportLoss notes what s, who takes the packets, has lost of them lately, from 0 to 1. The worst of all who listen counts. It
// is forgotten slowly, as s itself reports less, and when s goes.
func (t *Track) ReportLoss(s Sink, share float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.members, func(m member) bool { return m.sink == s })
	if i < 0 {
		return // a report that comes behind its end
	}
	t.members[i].lost.report(share)
	t.worst()
}

// worst finds the loss of those who have most. t.mu is held.
func (t *Track) worst() {
	most := recentLoss(0)
	for _, m := range t.members {
		most = max(most, m.lost)
	}
	t.loss.Store(uint32(most))
}

// Loss is the worst of what those who listen reported lately, in percent.
func (t *Track) Loss() int { return recentLoss(t.loss.Load()).percent() }

// RequestKeyframe asks the publisher for a keyframe (RFC 4585 PLI). It does nothing for audio.
func (t *Track) RequestKeyframe() {
	if t.keyframe != nil {
		t.keyframe()
	}
}
