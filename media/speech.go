package media

// Speech is how the sound of a phone is coded. The value of the older ones is their static RTP payload type (RFC 3551 §6).
type Speech uint8

// The codecs of phones.
const (
	PCMU Speech = 0
	PCMA Speech = 8
	G722 Speech = 9
	Opus Speech = 255 // RFC 7587; its payload type is dynamic
)

// Speeches lists the codecs, as they are preferred where nobody says.
func Speeches() []Speech { return []Speech{PCMU, PCMA, G722, Opus} }

// String returns the name as SDP has it.
func (s Speech) String() string {
	switch s {
	case PCMU:
		return "PCMU"
	case PCMA:
		return "PCMA"
	case G722:
		return "G722"
	case Opus:
		return "opus"
	}
	return "unknown"
}

// Clock is how many RTP timestamp units make a second. That of G.722 is 8000 by an old mistake (RFC 3551 §4.5.2).
func (s Speech) Clock() int {
	if s == Opus {
		return 48000
	}
	return 8000
}

// Rate is how many samples of sound make a second where the gateway decodes and mixes it.
func (s Speech) Rate() int {
	if s == G722 || s == Opus {
		return 16000
	}
	return 8000
}
