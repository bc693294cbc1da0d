package sfu

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"tandem/media"
)

const packetSize = 1500 // bytes; no browser sends longer packets

// inbound is one m-line on which a device sends. The device's goroutine owns it; the track's reader sees target only.
type inbound struct {
	mid     string
	id      string // the track's id
	kind    media.Kind
	codecs  []agreed // without telephone-event
	events  []agreed // telephone-event
	current agreed   // of codecs: what the browser sends
	levelID uint8    // the header extension with the loudness (RFC 6464); 0: none
	narrow  bool     // 8 kHz are enough for all who hear it
	settled bool     // and that has lasted
	told    bool     // and the device was told so in its last answer
	frames  *keyframes
	reading chan struct{} // closed when the newest reader is done

	target atomic.Pointer[target]
}

// target is where the packets of a lane go.
type target struct {
	source      *media.Source
	track       *media.Track
	payloadType uint8
	codecs      []agreed
	events      []agreed
}

func newInbound(mid string, kind media.Kind) *inbound {
	lane := &inbound{mid: mid, kind: kind}
	if kind == media.Video {
		lane.frames = newKeyframes()
	}
	return lane
}

// agree takes the codecs of an answer. The browser sends the first, unless it is already sending another of them.
func (l *inbound) agree(all []agreed) bool {
	l.codecs, l.events = nil, nil
	for _, a := range all {
		if strings.EqualFold(a.codec.MimeType, mimeTelephoneEvent) {
			l.events = append(l.events, a)
		} else {
			l.codecs = append(l.codecs, a)
		}
	}
	if len(l.codecs) == 0 {
		return false
	}
	if !slices.Contains(l.codecs, l.current) {
		l.current = l.codecs[0]
	}
	return true
}

// use makes the codec with payloadType the current one; false when that changes nothing.
func (l *inbound) use(payloadType uint8) bool {
	i := slices.IndexFunc(l.codecs, func(a agreed) bool { return a.payloadType == payloadType })
	if i < 0 || l.codecs[i] == l.current {
		return false
	}
	l.current = l.codecs[i]
	return true
}

// aim makes the track of src that the packets go to from now on. onBand is media.Track.OnBand.
func (l *inbound) aim(src *media.Source, onBand func(t *media.Track, narrow bool)) *media.Track {
	var ask func()
	if l.frames != nil {
		ask = l.frames.request
	}
	track := media.NewTrack(l.id, l.kind, l.current.codec, ask)
	track.LevelID = l.levelID
	track.OnBand = func(narrow bool) { onBand(track, narrow) }
	l.narrow, l.settled = false, false
	l.target.Store(&target{source: src, track: track, payloadType: l.current.payloadType, codecs: l.codecs, events: l.events})
	return track
}

// trackReader carries the packets of one RTP stream to the lane's target. It owns one buffer and one packet.
type trackReader struct {
	d      *Device
	lane   *inbound
	remote *webrtc.TrackRemote
	pc     *webrtc.PeerConnection
	after  <-chan struct{} // the reader before: a track has one writer at a time
	done   chan struct{}

	// owned by run
	packet  rtp.Packet
	numbers gapless
	keys    keyReader
	asked   int // payload type that the device was told of; -1: none yet, for 0 is PCMU
}

func (r *trackReader) run() {
	defer close(r.done)
	if r.after != nil {
		<-r.after
	}
	buf := make([]byte, packetSize)
	for {
		n, _, err := r.remote.Read(buf)
		if errors.Is(err, webrtc.ErrCodecNotFound) {
			continue
		}
		if err != nil {
			break
		}
		if r.packet.Unmarshal(buf[:n]) == nil {
			r.take(&r.packet, time.Now())
		}
	}
	if t := r.lane.target.Load(); t != nil {
		r.tell(t, r.keys.reset())
	}
}

// take sends one packet on. DTMF and padding are taken out, and the others close the gap.
func (r *trackReader) take(p *rtp.Packet, now time.Time) {
	t := r.lane.target.Load()
	if t == nil {
		return
	}
	if p.PayloadType != t.payloadType {
		for i := range t.events {
			if t.events[i].payloadType == p.PayloadType {
				r.numbers.take(p.SequenceNumber)
				r.tell(t, r.keys.packet(p.Timestamp, t.events[i].codec.ClockRate, p.Payload, now))
				return
			}
		}
		r.change(t, p.PayloadType)
		return
	}
	if len(p.Payload) == 0 {
		r.numbers.take(p.SequenceNumber)
		return
	}
	if len(t.events) > 0 {
		r.tell(t, r.keys.expire(now))
	}
	p.SequenceNumber = r.numbers.number(p.SequenceNumber)
	t.track.WriteRTP(p)
}

// change tells the device once that another agreed codec arrives.
func (r *trackReader) change(t *target, payloadType uint8) {
	if r.asked == int(payloadType) || !slices.ContainsFunc(t.codecs, func(a agreed) bool { return a.payloadType == payloadType }) {
		return
	}
	r.asked = int(payloadType)
	r.d.post(func() { r.d.publish.switched(r.lane, payloadType) })
}

func (r *trackReader) tell(t *target, keys []media.Key) {
	for _, k := range keys {
		t.source.WriteKey(k)
	}
}

// askForKeyframe runs on the goroutine of keyframes.
func (r *trackReader) askForKeyframe() {
	_ = r.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(r.remote.SSRC())}})
}

// discard reads a publisher's RTCP, which Pion's reports want to see, until the track ends.
func discard(receiver *webrtc.RTPReceiver) {
	buf := make([]byte, packetSize)
	for {
		if _, _, err := receiver.Read(buf); err != nil {
			return
		}
	}
}
