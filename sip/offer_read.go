package sip

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"tandem/media"
	"tandem/trunks"
)

// picked is a stream of the far end that we take.
type picked struct {
	index    int
	agreed   media.PortMedia
	crypto   crypto // its key; nil: plain RTP
	receives bool   // it wants to hear us
}

// pick finds the stream to take: the one in use as long as it can be, then the first that is secure if the trunk wants
// that, then the first.
func (d *description) pick(parsed *sdp.SessionDescription, lines []streamLine, answer bool) (picked, error) {
	var found []picked
	reason := errNothingCommon
	for i, m := range parsed.MediaDescriptions {
		if m.MediaName.Port.Value == 0 {
			continue
		}
		p, err := d.read(parsed, m, lines[i], answer)
		if errors.Is(err, errNothingCommon) {
			reason = err
			continue
		}
		if err != nil {
			return picked{}, err
		}
		p.index = i
		found = append(found, p)
	}
	if len(found) == 0 {
		return picked{}, reason
	}
	best := found[0]
	for _, p := range found {
		switch {
		case d.up && p.index == d.index:
			return p, nil
		case best.crypto.key == nil && p.crypto.key != nil:
			best = p
		}
	}
	return best, nil
}

// read says what a stream of the far end means for the port. The error is errNothingCommon when it cannot be taken.
func (d *description) read(parsed *sdp.SessionDescription, m *sdp.MediaDescription, line streamLine, answer bool) (picked, error) {
	codec, payload, ok := d.commonCodec(m)
	if !ok {
		return picked{}, fmt.Errorf("%w: no codec of the trunk's", errNothingCommon)
	}
	p := picked{agreed: media.PortMedia{Speech: codec, EventType: -1, InBand: d.terms.inBand, KeysByInfo: d.terms.info}}
	if payload != uint8(codec) {
		p.agreed.PayloadType = payload
	}
	if codec != media.Opus && (!answer || d.comfort) && hasComfort(m) {
		p.agreed.ComfortType = comfortType
	}
	if !d.terms.info {
		p.agreed.EventType, p.agreed.EventRate = eventType(m)
	}
	if err := d.readKeys(m, line, answer, &p); err != nil {
		return picked{}, err
	}
	if err := readAddresses(parsed, m, &p.agreed); err != nil {
		return picked{}, err
	}
	if r := p.agreed.Remote; r.IsValid() {
		if theirs, ours := media.FamilyOf(r.Addr()), media.FamilyOf(d.local.Addr()); theirs != ours {
			return picked{}, fmt.Errorf("%w: its address is %s, ours %s", errOtherFamily, theirs, ours)
		}
	}
	if _, ok := m.Attribute("rtcp-mux"); ok && (!answer || d.mux) {
		p.agreed.RTCPMux = true
	}
	if metrics, ok := m.Attribute("rtcp-xr"); ok && slices.Contains(strings.Fields(metrics), voipMetrics) {
		p.agreed.Metrics = true
	}
	readDirection(parsed, m, &p.agreed)
	p.receives = p.agreed.Send
	readPacketTime(m, &p.agreed)
	return p, nil
}

// readKeys decides between SRTP and plain RTP (RFC 4568 §5.1.2, §7.1).
func (d *description) readKeys(m *sdp.MediaDescription, line streamLine, answer bool, p *picked) error {
	var proposals []crypto
	if d.terms.srtp == trunks.SRTPOptional || d.terms.srtp == trunks.SRTPRequired {
		var values []string
		for _, a := range m.Attributes {
			if a.Key == "crypto" {
				values = append(values, a.Value)
			}
		}
		proposals = cryptosOf(values)
	}
	for _, c := range proposals {
		if answer && !slices.ContainsFunc(d.cryptos, func(o crypto) bool { return o.tag == c.tag && o.key.Suite == c.key.Suite }) {
			continue // an answer chooses among what we proposed
		}
		p.crypto, p.agreed.Inbound = c, c.key
		return nil
	}
	if line.secure() {
		return fmt.Errorf("%w: no SRTP key that this trunk lets us use", errNothingCommon)
	}
	if d.terms.srtp == trunks.SRTPRequired {
		return fmt.Errorf("%w: the trunk takes SRTP only", errNothingCommon)
	}
	return nil
}

// hasComfort says whether a stream may have comfort noise.
func hasComfort(m *sdp.MediaDescription) bool {
	format := strconv.Itoa(comfortType)
	encoding, mapped := rtpmap(m, format)
	return slices.Contains(m.MediaName.Formats, format) && (!mapped || strings.EqualFold(encoding, comfortEncoding))
}

// commonCodec returns the far end's first choice among ours, and its payload type. Static payload types need no rtpmap;
// one that contradicts RFC 3551 makes the format another codec.
func (d *description) commonCodec(m *sdp.MediaDescription) (media.Speech, uint8, bool) {
	for _, format := range m.MediaName.Formats {
		payload, err := strconv.ParseUint(format, 10, 7)
		if err != nil {
			continue
		}
		encoding, mapped := rtpmap(m, format)
		for _, codec := range d.terms.codecs {
			static := codec != media.Opus && uint8(payload) == uint8(codec)
			if mapped && isEncoding(codec, encoding) && (static || payload >= 96) || !mapped && static {
				return codec, uint8(payload), true
			}
		}
	}
	return 0, 0, false
}

// learn notes what the payload types of a description mean.
func (s *standing) learn(parsed *sdp.SessionDescription) {
	taken := maps.Clone(s.taken)
	if taken == nil {
		taken = make(map[uint8]string)
	}
	for _, m := range parsed.MediaDescriptions {
		for _, format := range m.MediaName.Formats {
			n, err := strconv.ParseUint(format, 10, 7)
			encoding, ok := rtpmap(m, format)
			if err == nil && ok {
				taken[uint8(n)] = encoding
			}
		}
	}
	s.taken = taken
}
