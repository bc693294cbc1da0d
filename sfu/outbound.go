package sfu

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"tandem/media"
)

// outbound is what one m-line towards a subscriber sends. Pion binds it (webrtc.TrackLocal) when the answer came; the
// device lets packets of one track after the other into it.
type outbound struct {
	stream string // the msid that this subscriber sees
	id     string // and the track's id
	origin string // the publisher's track id
	kind   media.Kind
	codec  media.Codec
	plain  bool        // a phone's, which may be sent as it comes
	batch  media.Batch // by which it goes out; nil: by itself
	way    *way        // past Pion; nil: there is none
	tell   func([]rtcp.Packet) error

	mu          sync.Mutex // never held while something blocks; no other call uses it
	writer      webrtc.TrackLocalWriter
	ssrc        uint32
	payloadType uint8
	open        bool // answered: packets may pass
	muted       bool // none may
	types       plainTypes
	feed        *feed // whose packets pass; nil: nobody's
	cut         bool  // the next packet is the first of another feed
	numbers     renumber
	outlet      *outlet // nil: Pion sends all
	sent        sent
}

// feed lets one track into an outbound. It is the sink that the track knows; what follows track is its writer's.
type feed struct {
	out    *outbound
	track  *media.Track
	header rtp.Header
	buffer []byte // of what is sent past Pion
	lull   *lull  // nil: the track does not say how loud it is
}

// attach lets track in; the one before is out.
func (o *outbound) attach(track *media.Track) {
	o.detach()
	f := &feed{out: o, track: track, lull: newLull(track)}
	o.mu.Lock()
	o.feed, o.cut = f, true
	laws := o.types.laws
	o.mu.Unlock()
	track.AddPlain(f, laws)
	o.requestKeyframe()
}

// detach lets nothing in any more, at once.
func (o *outbound) detach() {
	o.mu.Lock()
	f := o.feed
	o.feed = nil
	o.mu.Unlock()
	if f != nil {
		f.track.Remove(f)
	}
}

// setOpen says whether the subscriber's answer takes packets.
func (o *outbound) setOpen(open bool) {
	o.mu.Lock()
	news := open && !o.open
	o.open = open
	o.mu.Unlock()
	if news {
		o.requestKeyframe()
	}
}

// setMuted lets no packets pass, or lets them go on in the stream where it would be by now.
func (o *outbound) setMuted(muted bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.muted && !muted {
		o.cut = true
	}
	o.muted = muted
}

// requestKeyframe asks the publisher, once packets may pass.
func (o *outbound) requestKeyframe() {
	o.mu.Lock()
	f := o.feed
	if !o.open {
		f = nil
	}
	o.mu.Unlock()
	if f != nil {
		f.track.RequestKeyframe()
	}
}

// Batch implements media.BatchSink.
func (f *feed) Batch() media.Batch { return f.out.batch }

// WriteRTP implements media.Sink.
func (f *feed) WriteRTP(p *rtp.Packet) {
	if f.lull != nil {
		f.writeSound(p)
		return
	}
	f.out.write(f, p, p.Payload, nil)
}

// write sends a payload in the place of a packet's, if it may pass. law is that of one that passes as it came from a phone, or nil.
func (o *outbound) write(f *feed, p *rtp.Packet, payload []byte, law *media.Speech) (passed bool) {
	how, ok := o.admit(f, p, payload, law)
	if !ok {
		return false
	}
	if how.sealed != nil {
		_, _ = o.way.port.WriteToAddrPort(how.sealed, how.to) // lost like any packet
	} else {
		_, _ = how.writer.WriteRTP(&f.header, payload) // before DTLS is done Pion drops it
	}
	if how.report != nil {
		_ = o.tell([]rtcp.Packet{how.report})
	}
	return true
}

// passage is how a packet goes out.
type passage struct {
	sealed []byte // to be sent to to; nil: the writer sends it
	to     netip.AddrPort
	writer webrtc.TrackLocalWriter
	report *rtcp.SenderReport // that follows it; nil: none
}

// admit fills in the header of a packet that may pass.
func (o *outbound) admit(f *feed, p *rtp.Packet, payload []byte, law *media.Speech) (out passage, passes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.feed != f || !o.open || o.muted || o.writer == nil {
		return passage{}, false
	}
	payloadType, clock := o.payloadType, o.codec.ClockRate
	if law != nil {
		payloadType, clock = o.types.of(*law), clockPlain
	}
	marker := p.Marker
	if f.lull != nil {
		marker = f.lull.resume(&o.numbers) || marker
	}
	now := time.Now()
	seq, ts, ok := o.numbers.next(p, o.cut, clock, now)
	if !ok {
		return passage{}, false
	}
	o.cut = false
	f.header = rtp.Header{
		Version: 2, Marker: marker, PayloadType: payloadType, SequenceNumber: seq, Timestamp: ts, SSRC: o.ssrc,
		Extensions: f.header.Extensions[:0],
	}
	out.writer, out.report = o.writer, o.sent.packet(&f.header, len(payload), tellEvery(o.kind), now)
	if o.outlet != nil {
		out.sealed, out.to = o.outlet.seal(&f.header, payload, &f.buffer)
	}
	return out, true
}

// Bind implements webrtc.TrackLocal. A codec that the subscriber did not agree to is not an error, which would spoil
// the answer for all other streams: the track stays silent.
func (o *outbound) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	codec, ok := matchCodec(o.codec, ctx.CodecParameters())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writer = nil
	if ok {
		if o.ssrc != uint32(ctx.SSRC()) {
			o.outlet, o.sent = nil, sent{}
			if o.way != nil {
				o.outlet = &outlet{way: o.way}
			}
		}
		o.writer, o.ssrc, o.payloadType = ctx.WriteStream(), uint32(ctx.SSRC()), uint8(codec.PayloadType)
	}
	if o.plain { // the clock of Pion's sender reports is that of what is sent
		for _, c := range ctx.CodecParameters() {
			if _, plain := plainSpeech(c.MimeType); plain {
				return c, nil
			}
		}
	}
	return codec, nil
}

// Unbind implements webrtc.TrackLocal.
func (o *outbound) Unbind(webrtc.TrackLocalContext) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writer = nil
	return nil
}

// ID implements webrtc.TrackLocal.
func (o *outbound) ID() string { return o.id }

// RID implements webrtc.TrackLocal: there is no simulcast.
func (o *outbound) RID() string { return "" }

// StreamID implements webrtc.TrackLocal.
func (o *outbound) StreamID() string { return o.stream }

// Kind implements webrtc.TrackLocal.
func (o *outbound) Kind() webrtc.RTPCodecType { return codecType(o.kind) }

// feedback passes what the subscriber asks for on to the publisher, until the sender ends.
func (o *outbound) feedback(sender *webrtc.RTPSender) {
	buf := make([]byte, packetSize)
	for {
		n, _, err := sender.Read(buf)
		if err != nil {
			return
		}
		packets, err := rtcp.Unmarshal(buf[:n])
		if err != nil {
			continue
		}
		for _, p := range packets {
			switch p := p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				o.requestKeyframe()
			case *rtcp.ReceiverReport:
				o.reportLoss(p.Reports)
			case *rtcp.SenderReport: // a browser that sends as well
				o.reportLoss(p.Reports)
			}
		}
	}
}

// reportLoss tells who makes the packets how many get lost on the way to the subscriber.
func (o *outbound) reportLoss(reports []rtcp.ReceptionReport) {
	o.mu.Lock()
	f, ssrc := o.feed, o.ssrc
	o.mu.Unlock()
	for _, r := range reports {
		if f != nil && r.SSRC == ssrc {
			f.track.ReportLoss(f, float64(r.FractionLost)/256)
		}
	}
}

func codecType(k media.Kind) webrtc.RTPCodecType {
	if k == media.Video {
		return webrtc.RTPCodecTypeVideo
	}
	return webrtc.RTPCodecTypeAudio
}

// matchCodec finds c among the negotiated ones. Without a match it returns the first, and false.
func matchCodec(c media.Codec, negotiated []webrtc.RTPCodecParameters) (webrtc.RTPCodecParameters, bool) {
	for _, n := range negotiated {
		if strings.EqualFold(n.MimeType, c.MimeType) && n.ClockRate == c.ClockRate && sameFormat(c.MimeType, c.Fmtp, n.SDPFmtpLine) {
			return n, true
		}
	}
	if len(negotiated) == 0 {
		return webrtc.RTPCodecParameters{}, false
	}
	return negotiated[0], false
}

// sameFormat compares the parameters that make two formats of one codec different things: H.264's profile (RFC 6184
// §8.2.2; the level is not part of it) and packetization, VP9's and AV1's profile.
func sameFormat(mime, a, b string) bool {
	switch strings.ToLower(mime) {
	case "video/h264":
		pa, pb := fmtpValue(a, "profile-level-id", "42001f"), fmtpValue(b, "profile-level-id", "42001f")
		return fmtpValue(a, "packetization-mode", "0") == fmtpValue(b, "packetization-mode", "0") &&
			len(pa) == 6 && len(pb) == 6 && strings.EqualFold(pa[:4], pb[:4])
	case "video/vp9":
		return fmtpValue(a, "profile-id", "0") == fmtpValue(b, "profile-id", "0")
	case "video/av1":
		return fmtpValue(a, "profile", "0") == fmtpValue(b, "profile", "0")
	}
	return true
}

func fmtpValue(line, key, fallback string) string {
	for field := range strings.SplitSeq(line, ";") {
		if k, v, ok := strings.Cut(strings.TrimSpace(field), "="); ok && strings.EqualFold(k, key) {
			return v
		}
	}
	return fallback
}
