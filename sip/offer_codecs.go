package sip

import (
	"slices"
	"strings"

	"tandem/media"
)

// codecsOf reads a trunk's codecs: all when it names none.
func codecsOf(names []string) []media.Speech {
	var codecs []media.Speech
	for _, name := range names {
		for _, codec := range media.Speeches() {
			if strings.EqualFold(name, codec.String()) && !slices.Contains(codecs, codec) {
				codecs = append(codecs, codec)
			}
		}
	}
	if len(codecs) == 0 {
		return media.Speeches()
	}
	return codecs
}

// encodingOf is what a=rtpmap says of a codec.
func encodingOf(s media.Speech) string {
	if s == media.Opus {
		return "opus/48000/2" // RFC 7587 §7
	}
	return s.String() + "/8000"
}

// isEncoding says whether an a=rtpmap is that of a codec, with or without the number of channels that it has anyway.
func isEncoding(s media.Speech, encoding string) bool {
	if strings.EqualFold(encoding, encodingOf(s)) {
		return true
	}
	return s != media.Opus && strings.EqualFold(encoding, encodingOf(s)+"/1")
}

// voipMetrics is what a=rtcp-xr names the block of RFC 3611 §4.7 (§5.1).
const voipMetrics = "voip-metrics"

// comfortType is the payload type of comfort noise at 8 kHz, and comfortEncoding what an a=rtpmap calls it (RFC 3389 §4).
const (
	comfortType     = 13
	comfortEncoding = "CN/8000"
)
