package sfu

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"tandem/errs"
	"tandem/media"
)

const (
	maxSections = 128 // m-lines of one description
	maxToken    = 256 // bytes of a msid or a mid

	offerField  = "sdpOffer"
	answerField = "sdpAnswer"
)

// section is one m-line of a device's offer.
type section struct {
	mid      string
	kind     media.Kind // 0: application
	rejected bool       // port 0: stopped by the device
	sends    bool
	receives bool
	stream   string // the msid, of an offer's section that sends
	track    string
}

// description is what we need to know of a device's SDP before Pion has it.
type description struct {
	sdp         string
	sections    []section
	fingerprint string
}

// readDescription checks an SDP of a device. What Pion would stumble over, or would let grow without bound, is refused
// here: the message names field.
func readDescription(field, text string) (description, error) {
	if text == "" {
		return description{}, errs.New(errs.Invalid, "%s: expected a session description", field)
	}
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(text); err != nil {
		return description{}, errs.Wrap(err, errs.Invalid, "%s: not a session description", field)
	}
	if n := len(parsed.MediaDescriptions); n == 0 || n > maxSections {
		return description{}, errs.New(errs.Invalid, "%s: %d media sections; expected 1 to %d", field, n, maxSections)
	}
	d := description{fingerprint: fingerprintOf(&parsed)}
	if d.fingerprint == "" {
		return description{}, errs.New(errs.Invalid, "%s: has no a=fingerprint", field)
	}
	mids := make(map[string]bool)
	for i, m := range parsed.MediaDescriptions {
		s, err := readSection(m, field)
		if err != nil {
			return description{}, errs.New(errs.Invalid, "%s: media section %d: %s", field, i+1, err.Error())
		}
		if mids[s.mid] {
			return description{}, errs.New(errs.Invalid, "%s: media section %d: a=mid:%s is there twice", field, i+1, s.mid)
		}
		mids[s.mid] = true
		d.sections = append(d.sections, s)
		// One encoding is forwarded, so simulcast is not accepted.
		m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool { return a.Key == "rid" || a.Key == "simulcast" })
	}
	clean, err := parsed.Marshal()
	if err != nil {
		return description{}, errs.Wrap(err, errs.Invalid, "%s: not a session description", field)
	}
	d.sdp = string(clean)
	return d, nil
}

func fingerprintOf(s *sdp.SessionDescription) string {
	if f, ok := s.Attribute("fingerprint"); ok {
		return f
	}
	for _, m := range s.MediaDescriptions {
		if f, ok := m.Attribute("fingerprint"); ok {
			return f
		}
	}
	return ""
}

func readSection(m *sdp.MediaDescription, field string) (section, error) {
	var s section
	switch m.MediaName.Media {
	case "audio":
		s.kind = media.Audio
	case "video":
		s.kind = media.Video
	case "application":
	default:
		return s, errs.New(errs.Invalid, "m=%s is not supported", m.MediaName.Media)
	}
	s.mid, _ = m.Attribute(sdp.AttrKeyMID)
	if s.mid == "" || len(s.mid) > maxToken {
		return s, errs.New(errs.Invalid, "expected an a=mid of at most %d bytes", maxToken)
	}
	_, bundleOnly := m.Attribute("bundle-only")
	s.rejected = m.MediaName.Port.Value == 0 && !bundleOnly
	_, recvonly := m.Attribute(sdp.AttrKeyRecvOnly)
	_, inactive := m.Attribute(sdp.AttrKeyInactive)
	_, sendonly := m.Attribute(sdp.AttrKeySendOnly)
	s.sends = s.kind != 0 && !s.rejected && !recvonly && !inactive
	s.receives = s.kind != 0 && !s.rejected && !sendonly && !inactive
	if !s.sends || field == answerField {
		return s, nil
	}
	if _, ok := m.Attribute(sdp.AttrKeySSRC); !ok {
		return s, errs.New(errs.Invalid, "expected an a=ssrc line")
	}
	msid, _ := m.Attribute(sdp.AttrKeyMsid)
	s.stream, s.track, _ = strings.Cut(msid, " ")
	if s.track == "" {
		s.track = s.mid
	}
	if s.stream == "" || s.stream == "-" { // a track of no stream is a stream of its own
		s.stream = s.track
	}
	if len(s.stream) > maxToken || len(s.track) > maxToken {
		return s, errs.New(errs.Invalid, "a=msid is longer than %d bytes", maxToken)
	}
	return s, nil
}

// agreed is a codec of an answer: what arrives with its payload type.
type agreed struct {
	payloadType uint8
	codec       media.Codec
}

// agreedCodecs reads the codecs of every m-line of our answer, in the answer's order, keyed by mid. The browser sends
// the first that is not telephone-event.
func agreedCodecs(answer string) map[string][]agreed {
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(answer); err != nil {
		return nil
	}
	all := make(map[string][]agreed)
	for _, m := range parsed.MediaDescriptions {
		mid, _ := m.Attribute(sdp.AttrKeyMID)
		for _, format := range m.MediaName.Formats {
			pt, err := strconv.ParseUint(format, 10, 7)
			if err != nil {
				continue
			}
			if c, ok := codecOf(m, format); ok {
				all[mid] = append(all[mid], agreed{uint8(pt), c})
			}
		}
	}
	return all
}

func codecOf(m *sdp.MediaDescription, format string) (media.Codec, bool) {
	var c media.Codec
	for _, a := range m.Attributes {
		key, value, _ := strings.Cut(a.Value, " ")
		if key != format {
			continue
		}
		switch a.Key {
		case "rtpmap":
			parts := strings.Split(value, "/")
			if len(parts) < 2 {
				return c, false
			}
			rate, err := strconv.ParseUint(parts[1], 10, 32)
			if err != nil {
				return c, false
			}
			c.MimeType, c.ClockRate = m.MediaName.Media+"/"+parts[0], uint32(rate)
			if len(parts) > 2 {
				channels, _ := strconv.ParseUint(parts[2], 10, 16)
				c.Channels = uint16(channels)
			}
		case "fmtp":
			c.Fmtp = value
		}
	}
	return c, c.MimeType != "" && !strings.EqualFold(c.MimeType, m.MediaName.Media+"/rtx")
}

// steer returns the offer with these directions of its m-lines; one that is empty stays what it is.
func steer(offer description, directions []string) (string, error) {
	return rewrite(offer.sdp, func(i int, m *sdp.MediaDescription) {
		if directions[i] == "" {
			return
		}
		m.Attributes = slices.DeleteFunc(m.Attributes, isDirection)
		m.WithPropertyAttribute(directions[i])
	})
}

func isDirection(a sdp.Attribute) bool {
	switch a.Key {
	case sdp.AttrKeySendRecv, sdp.AttrKeySendOnly, sdp.AttrKeyRecvOnly, sdp.AttrKeyInactive:
		return true
	}
	return false
}

// reject gives the m-lines of our answer that the device stopped port 0, as RFC 3264 §6 wants it: only then it may use
// the line again. Pion answers them with a port.
func reject(answer string, offer description) (string, error) {
	if !slices.ContainsFunc(offer.sections, func(s section) bool { return s.rejected }) {
		return answer, nil
	}
	return rewrite(answer, func(i int, m *sdp.MediaDescription) {
		if i < len(offer.sections) && offer.sections[i].rejected {
			m.MediaName.Port.Value = 0
		}
	})
}

// rewrite changes the m-lines of a description that is ours or that was read before.
func rewrite(text string, change func(i int, m *sdp.MediaDescription)) (string, error) {
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(text); err != nil {
		return "", errs.Wrap(err, errs.Internal, "session description")
	}
	for i, m := range parsed.MediaDescriptions {
		change(i, m)
	}
	out, err := parsed.Marshal()
	if err != nil {
		return "", errs.Wrap(err, errs.Internal, "session description")
	}
	return string(out), nil
}

// receives says whether the m-line takes packets.
func (d description) receives(mid string) bool {
	return slices.ContainsFunc(d.sections, func(s section) bool { return s.mid == mid && s.receives })
}
