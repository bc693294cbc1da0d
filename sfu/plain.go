package sfu

import (
	"slices"
	"strings"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"tandem/media"
)

// Where a session wants no codecs (passthrough), a browser that takes G.711 has it as it comes from a phone, and may
// publish it.

// clockPlain is that of G.711.
const clockPlain = 8000

// plainLaws are the codecs of phones that browsers have too (RFC 7874 §3), with their static payload types.
func plainLaws() []webrtc.RTPCodecParameters {
	law := func(mime string, s media.Speech) webrtc.RTPCodecParameters {
		return webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: mime, ClockRate: clockPlain}, PayloadType: webrtc.PayloadType(s),
		}
	}
	return []webrtc.RTPCodecParameters{law(webrtc.MimeTypePCMU, media.PCMU), law(webrtc.MimeTypePCMA, media.PCMA)}
}

// plainSpeech is the law that a MIME type names.
func plainSpeech(mime string) (s media.Speech, ok bool) {
	switch {
	case strings.EqualFold(mime, webrtc.MimeTypePCMU):
		return media.PCMU, true
	case strings.EqualFold(mime, webrtc.MimeTypePCMA):
		return media.PCMA, true
	}
	return 0, false
}

// SetPassthrough says whether the session of the device's participant wants no codecs. It implements sessions.Plain.
func (d *Device) SetPassthrough(on bool) { d.post(func() { d.passthrough = on }) }

// plainTypes are the payload types of G.711 that a subscriber agreed to.
type plainTypes struct {
	laws media.Laws
	pcmu uint8
	pcma uint8
}

func plainTypesOf(codecs []agreed) (p plainTypes) {
	for _, c := range codecs {
		law, ok := plainSpeech(c.codec.MimeType)
		if !ok || c.codec.ClockRate != clockPlain || p.laws.Has(law) {
			continue
		}
		p.laws |= media.LawOf(law)
		if law == media.PCMU {
			p.pcmu = c.payloadType
		} else {
			p.pcma = c.payloadType
		}
	}
	return p
}

func (p plainTypes) of(law media.Speech) uint8 {
	if law == media.PCMU {
		return p.pcmu
	}
	return p.pcma
}

// take lets the outbound's track come as the subscriber's answer says. It belongs to the device's goroutine.
func (o *outbound) take(codecs []agreed) {
	if !o.plain {
		return
	}
	types := plainTypesOf(codecs)
	o.mu.Lock()
	same := o.types == types
	o.types = types
	f := o.feed
	o.mu.Unlock()
	if f != nil && !same {
		f.track.AddPlain(f, types.laws)
	}
}

// WritePlain implements media.PlainSink.
func (f *feed) WritePlain(law media.Speech, p *rtp.Packet) {
	f.out.write(f, p, p.Payload, &law)
}

// mayCome says whether a device may publish a codec: G.711 only where the session wants it.
func (d *Device) mayCome(mime string) bool {
	_, plain := plainSpeech(mime)
	return !plain || d.passthrough
}

// permit keeps the codecs of an m-line's answer to those that may come. False: there are none.
func (p *publisher) permit(t *webrtc.RTPTransceiver) bool {
	if t.Kind() != webrtc.RTPCodecTypeAudio || t.Receiver() == nil {
		return true
	}
	all, known := p.offered[t]
	if !known {
		all = t.Receiver().GetParameters().Codecs
		p.offered[t] = all
	}
	permitted := slices.Clone(all)
	permitted = slices.DeleteFunc(permitted, func(c webrtc.RTPCodecParameters) bool { return !p.d.mayCome(c.MimeType) })
	voice := slices.ContainsFunc(permitted, func(c webrtc.RTPCodecParameters) bool {
		return !strings.EqualFold(c.MimeType, mimeTelephoneEvent)
	})
	return voice && t.SetCodecPreferences(permitted) == nil
}
