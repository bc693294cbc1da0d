package sfu

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"

	"tandem/media"
)

const (
	packetSize = 1500             // bytes; no browser sends longer packets
	drainTime  = time.Millisecond // in which Pion hands out what waits there
)

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
	inlet   *inlet        // of the newest reader; nil: it has none

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
	d        *Device
	lane     *inbound
	remote   *webrtc.TrackRemote
	receiver *webrtc.RTPReceiver // of remote
	pc       *webrtc.PeerConnection
	after    <-chan struct{} // the reader before: a track has one writer at a time
	done     chan struct{}
	inlet    *inlet        // where the packets are taken; nil: they are read from remote
	secret   *srtp.Context // of inlet's packets

	reports reports

	// owned by run
	buf     []byte
	packet  rtp.Packet
	numbers gapless
	keys    keyReader
	asked   int      // payload type that the device was told of; -1: none yet, for 0 is PCMU
	last    rollover // of what Pion handed out
	copied  int      // sequence number of the packet that went to remote as well; -1: none
}

func (r *trackReader) run() {
	defer close(r.done)
	// Of a receiver that Pion stopped a moment before it began, only the RTP is over.
	defer func() { _ = r.receiver.SetReadDeadline(time.Now()) }()
	if r.inlet != nil {
		defer r.inlet.close()
	}
	if r.after != nil {
		<-r.after
	}
	r.buf = make([]byte, packetSize)
	if r.inlet == nil || r.direct() == inletLeft {
		for r.read() == nil {
		}
	}
	if t := r.lane.target.Load(); t != nil {
		r.tell(t, r.keys.reset())
	}
}

// read takes one packet of Pion. The error is the end, or the deadline.
func (r *trackReader) read() error {
	n, _, err := r.remote.Read(r.buf)
	if errors.Is(err, webrtc.ErrCodecNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.packet.Unmarshal(r.buf[:n]) == nil && int(r.packet.SequenceNumber) != r.copied {
		r.last.of(r.packet.SequenceNumber)
		r.came()
	}
	return nil
}

// direct takes packets from the inlet until they don't come there any more, and says why. A first one that can't be decrypted ends it too.
func (r *trackReader) direct() inletState {
	if errors.Is(r.drain(), io.EOF) { // what came before the inlet was there
		return inletOver
	}
	known := false
	for {
		raw, state := r.inlet.next()
		switch {
		case raw == nil && state != inletOpen:
			return state
		case raw == nil:
			_ = r.drain()
			continue
		case !known:
			sequence := binary.BigEndian.Uint16(raw[2:])
			r.copied = int(sequence)
			_ = r.drain() // what was on its way through Pion
			r.secret.SetROC(binary.BigEndian.Uint32(raw[8:]), r.last.of(sequence))
		}
		clear, err := r.secret.DecryptRTP(raw, raw, &r.packet.Header)
		if err != nil && !known {
			r.inlet.move(netip.AddrPort{})
			r.copied = -1
			return inletLeft
		}
		if err != nil || r.packet.Unmarshal(clear) != nil {
			continue
		}
		if known && r.packet.SequenceNumber&turnMask == 0 {
			r.turn(r.packet.SequenceNumber)
		}
		known = true
		r.came()
	}
}

// drain reads what waits at Pion, and says why there is no more.
func (r *trackReader) drain() (err error) {
	_ = r.remote.SetReadDeadline(time.Now().Add(drainTime)) // there are always deadlines
	for err == nil {
		err = r.read()
	}
	_ = r.remote.SetReadDeadline(time.Time{})
	return err
}

// turn follows a packet that went to Pion as well, so that it knows how often the sequence numbers went round (RFC 3711 §3.3.1) if the
// packets are its own again. The one of the turn before is thrown away.
func (r *trackReader) turn(sequence uint16) {
	_ = r.remote.SetReadDeadline(time.Now().Add(drainTime))
	_, _, _ = r.remote.Read(r.buf)
	_ = r.remote.SetReadDeadline(time.Time{})
	r.copied = int(sequence)
}

// came is a packet, wherever it was taken.
func (r *trackReader) came() {
	now := time.Now()
	p := &r.packet
	if report := r.reports.packet(p.SSRC, p.SequenceNumber, p.Timestamp, now); report != nil {
		_ = r.pc.WriteRTCP([]rtcp.Packet{report}) // lost like any packet
	}
	r.take(p, now)
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

// listen reads the RTCP of a stream until it ends.
func (r *trackReader) listen() {
	if r.inlet != nil {
		defer r.inlet.close()
	}
	buf := make([]byte, packetSize)
	for {
		n, _, err := r.receiver.Read(buf)
		if err != nil {
			return
		}
		packets, err := rtcp.Unmarshal(buf[:n])
		if err != nil {
			continue
		}
		for _, p := range packets {
			if sr, ok := p.(*rtcp.SenderReport); ok && sr.SSRC == uint32(r.remote.SSRC()) {
				r.reports.senderReport(sr, time.Now())
			}
		}
	}
}

// rollover counts how often the sequence numbers of a stream went round.
type rollover struct {
	begun bool
	last  uint16
	count uint32
}

// of is the count at a sequence number, which may be one of the round before.
func (r *rollover) of(sequence uint16) uint32 {
	step := int16(sequence - r.last)
	switch {
	case !r.begun:
		r.begun, r.last = true, sequence
	case step > 0:
		if sequence < r.last {
			r.count++
		}
		r.last = sequence
	case sequence > r.last && r.count > 0:
		return r.count - 1
	}
	return r.count
}
