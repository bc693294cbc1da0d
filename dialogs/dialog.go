// Package dialogs is the life of a telephone call as the application sees it: the resource, its state machine, and
// the goroutine that owns each call.
package dialogs

import (
	"time"

	"tandem/media"
)

// State is where a dialog is.
type State string

// The states of the API, in the order in which an outbound call passes them.
const (
	StateNew   State = "NEW"
	Calling    State = "CALLING"
	Ringing    State = "RINGING"
	Answered   State = "ANSWERED"
	Terminated State = "TERMINATED"
)

// States lists all of them.
func States() []State { return []State{StateNew, Calling, Ringing, Answered, Terminated} }

// Reason is the contract's word for why a state was reached; empty for a normal hang-up.
type Reason string

// The reasons of the API.
const (
	NoReason       Reason = ""
	Error          Reason = "ERROR"
	Answer         Reason = "ANSWER"
	RingingReason  Reason = "RINGING"
	FarEndBusy     Reason = "FAR END BUSY"
	FarEndDeclined Reason = "FAR END DECLINED"
	FarEndNotFound Reason = "FAR END NOT FOUND"
)

// Cause says why a dialog came to its state.
type Cause struct {
	Reason  Reason
	Details string // in words: "486 Busy Here", "hung up by the far end"
	SIPCode int    // 0: no SIP answer was involved
}

// The words of from that are no number.
const (
	FromUnknown    = "UNKNOWN"
	FromRestricted = "RESTRICTED"
)

// Dialog is one call between a participant and a telephone.
type Dialog struct {
	ID          string
	Account     string
	Participant string
	Inbound     bool
	State       State
	// To and From are E.164; To may be a sip: URI (inbound: the user part of what was called, or its URI), From may be
	// FromUnknown or FromRestricted. When somebody else takes the far end's place, the one that names the far end names
	// them from then on, and may be any of these.
	To          string
	From        string
	UserToUser  string            // RFC 7433 header value as given by the application; inbound: what came, without the token
	Trunk       string            // the one that the application asked for, or that the call came over; empty: none
	Headers     map[string]string // X- headers, as given by the application or as they came
	RingTimeout time.Duration
	MaxDuration time.Duration // 0: no limit
	Cause       Cause
	Hold        Hold          // who keeps whom waiting
	Transfer    Transfer      // the one that is under way; zero: none
	Quality     media.Quality // of its sound: so far, or in all; zero: nothing was measured
	Created     time.Time
	Answered    time.Time // zero until then
	Ended       time.Time // zero until then
}
