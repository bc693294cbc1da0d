package sfu

import (
	"strings"

	"github.com/pion/sdp/v3"

	"tandem/errs"
	"tandem/media"
)

// narrowFmtp asks a sender of Opus for no more than what is heard at 8 kHz (RFC 7587 §6.1).
const narrowFmtp = "maxplaybackrate=8000"

// A browser is told in the answer to its offer that 8 kHz are enough, and only if it offers anew when it is asked to: one
// that does not could not be told when that ends. It ends at once; it begins when it has lasted for a while.

// heard notes what those who hear a lane need.
func (p *publisher) heard(lane *inbound, track *media.Track, narrow bool) {
	if t := lane.target.Load(); t == nil || t.track != track {
		return // of a source that is gone
	}
	lane.narrow = narrow
	if !narrow {
		lane.settled = false
		p.askForOffer()
		return
	}
	p.d.bandTimer.Reset(p.d.server.cfg.BandPause)
}

// settleBand takes what has lasted for the truth.
func (p *publisher) settleBand() {
	for _, lane := range p.lanes {
		lane.settled = lane.narrow
	}
	p.askForOffer()
}

// askForOffer asks the device to offer again if the answer would be another one than it has.
func (p *publisher) askForOffer() {
	if !p.d.follows {
		return
	}
	for _, lane := range p.lanes {
		if lane.settled != lane.told {
			p.d.notify("offerWanted", emptyResult{})
			return
		}
	}
}

// narrowLines notes in an answer for which lines 8 kHz are enough.
func (p *publisher) narrowLines(answer string) (string, error) {
	narrow := make(map[string]bool)
	for mid, lane := range p.lanes {
		if lane.told = p.d.follows && lane.settled; lane.told {
			narrow[mid] = true
		}
	}
	if len(narrow) == 0 {
		return answer, nil
	}
	var parsed sdp.SessionDescription
	if err := parsed.UnmarshalString(answer); err != nil {
		return "", errs.Wrap(err, errs.Internal, "answer")
	}
	for _, m := range parsed.MediaDescriptions {
		if mid, _ := m.Attribute(sdp.AttrKeyMID); narrow[mid] {
			narrowOpus(m)
		}
	}
	out, err := parsed.Marshal()
	if err != nil {
		return "", errs.Wrap(err, errs.Internal, "answer")
	}
	return string(out), nil
}

// narrowOpus adds narrowFmtp to the parameters of Opus, which our answers always have.
func narrowOpus(m *sdp.MediaDescription) {
	for _, format := range m.MediaName.Formats {
		if c, ok := codecOf(m, format); !ok || !strings.EqualFold(c.MimeType, "audio/opus") {
			continue
		}
		for i, a := range m.Attributes {
			if a.Key == "fmtp" && strings.HasPrefix(a.Value, format+" ") {
				m.Attributes[i].Value += ";" + narrowFmtp
			}
		}
	}
}
