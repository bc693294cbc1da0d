package dialogs

import (
	"context"
	"net/netip"
	"time"

	"tandem/media"
	"tandem/sessions"
	"tandem/trunks"
	"tandem/webhooks"
)

// Phone places calls. The SIP user agent is one.
type Phone interface {
	// Dial sends the INVITE and returns at once; what becomes of it comes out of the Leg. An error means that nothing
	// was sent: errs.Invalid, errs.Unavailable (no trunk, no media port) with words for the application.
	Dial(ctx context.Context, d Dial) (Leg, error)
	// Pair makes two legs that are each other's far end, without a telephone: when answers is answered, so is calls, and
	// when either is hung up, both end. The error is errs.Unavailable: no media port is free.
	Pair() (calls, answers Leg, err error)
}

// Routes says which trunk a call takes, and counts it. A trunks.Book is one.
type Routes interface {
	// Place lets an account place a call.
	Place(r trunks.Request) (*trunks.Place, error)
	// AdmitTo lets a call come in to an account over no trunk.
	AdmitTo(account string) (*trunks.Place, error)
	// MayRefer judges whom the far end of a call, on a trunk (empty: it is not known which), is asked to call.
	MayRefer(account, trunk, to string) error
}

// Dial is what an outbound call needs.
type Dial struct {
	Dialog     string // our id, for logs
	Account    string
	To         string
	From       string
	UserToUser string
	Trunk      string            // the only trunk to try, by name; empty: those that the routes give
	Headers    map[string]string // X- headers for the INVITE; those that the trunk does not let pass are errs.Invalid
	Place      *trunks.Place     // what the call counts at, which Dial takes over; nil: Dial looks for one
	Replaces   string            // value of a Replaces header (RFC 3891): the call that this one takes over; empty: none
	ReferredBy string            // value of a Referred-By header (RFC 3892); empty: none
}

// Refer is a transfer as SIP sees it (RFC 3515).
type Refer struct {
	To string // a sip: URI or E.164, without the Replaces; empty only with Other: its far end
	// Other is the leg of ours that the new call is to replace (RFC 3891); nil: a blind transfer, or not ours.
	Other      Leg
	Replaces   string // value of the Replaces header when it names a call that is not ours; empty: none
	Trunk      string // LegRefer: the trunk that To is meant for, by name; empty: those that the routes give
	ReferredBy string // LegRefer: value of a Referred-By header (RFC 3892); empty: none
}

// Leg is one SIP call. Its methods only post and may be called in any state, from any goroutine, more than once.
type Leg interface {
	// Events tells what happens. LegEnded comes exactly once, last; then the channel is closed. Nobody need read it
	// for the leg to go on. Each event is its reader's.
	Events() <-chan *LegEvent
	// Answer accepts an inbound call.
	Answer()
	// Hangup ends the leg whatever its state: CANCEL, a final refusal, or BYE; also when the far end's 200 crosses it
	// (RFC 3261 §13.2.2.4). For an inbound call that is not answered yet, status is the refusal (0: 603).
	Hangup(status int)
	// Progress tells the caller of an inbound call, before Answer, that it rings: 180, or with early 183 with SDP, so
	// that it hears us before the answer; LegMedia follows an early one.
	Progress(early bool)
	// Watched says whether a session timer (RFC 4028) that the far end takes part in ends the leg when that is gone. Safe
	// from any goroutine.
	Watched() bool
	// Hold puts the far end on hold, or takes it back, by re-INVITE. LegHold tells what came of it.
	Hold(on bool)
	// SendKey sends a DTMF key by SIP INFO (application/dtmf-relay).
	SendKey(digit byte, duration time.Duration)
	// Refer asks the far end to call somebody else (RFC 3515). LegReferred tells how it goes, the last time with Final.
	// Another one while the first is not over takes its place: nothing is told of the first any more.
	Refer(r Refer)
	// Referred tells the far end, which asked for a transfer (LegRefer), how that goes: 1xx, and once a final status. When
	// none comes within the time of the subscription, the leg tells it 503.
	Referred(status int)
}

// LegEventKind is what a LegEvent reports.
type LegEventKind int

// What happens to a leg.
const (
	LegCalling  LegEventKind = iota // outbound: the INVITE is on the wire
	LegRinging                      // 180, 181, 182 or 183 came
	LegAnswered                     // outbound: 200 came and is acknowledged; inbound: the ACK to our 200 came
	LegMedia                        // Media is known, or changed
	LegHold                         // who holds changed, or our wish failed: Hold says how it stands, Cause why not
	LegKey                          // the far end sent a key by SIP INFO: Key
	LegRefer                        // the far end asks for a transfer: Refer; Leg.Referred answers
	LegReferred                     // how our Refer goes: Cause.SIPCode (202: it was accepted; 0: none came), Final
	LegEnded                        // the leg is over and holds nothing any more; Cause says why
)

// LegEvent is one thing that happened to a Leg.
type LegEvent struct {
	Kind  LegEventKind
	Cause Cause           // LegRinging, LegHold, LegReferred, LegEnded
	Port  *media.Port     // LegMedia: the leg's socket; the leg closes it after LegEnded
	Media media.PortMedia // LegMedia: what was agreed for it
	Hold  Hold            // LegHold
	Key   media.Key       // LegKey: Ended is set, with its Duration
	Refer Refer           // LegRefer
	Final bool            // LegReferred: the transfer is over
}

// Hold says who keeps whom waiting (RFC 3264 §8.4).
type Hold struct {
	ByUs     bool
	ByFarEnd bool
}

// Incoming is an INVITE that came in.
type Incoming struct {
	Trunk      string // the trunk that its sender belongs to; empty: none
	Account    string // the trunk's account; empty: none
	Source     netip.AddrPort
	To         string // the user part of the Request-URI; may be empty
	From       string // E.164, FromUnknown or FromRestricted
	UserToUser string // the User-to-User header's value, its instances joined by commas; empty: none
	// Headers are the X- headers that the trunk lets pass.
	Headers map[string]string
	// Replaces is the leg of ours whose place the caller takes (RFC 3891); nil: none.
	Replaces Leg
}

// Callers takes the calls that come in. Service is one.
type Callers interface {
	// Incoming decides about a call before anything is spent on it. The error's code says which refusal is sent. On
	// nil, accept is called by the user agent once the leg exists; the leg rings until it is told otherwise.
	Incoming(ctx context.Context, in Incoming) (accept func(Leg), err error)
}

// Store keeps dialogs. What is not there or belongs to another account or participant is errs.NotFound.
type Store interface {
	// CreateDialog saves a new dialog with its events, and returns its participant as it stands then. It is errs.NotFound
	// when the participant is gone and errs.Conflict when it has another dialog that is not TERMINATED.
	CreateDialog(ctx context.Context, d Dialog, events ...webhooks.Event) (sessions.Participant, error)
	// CreateCaller saves who dialled in, its dialog, and their events, all or nothing.
	CreateCaller(ctx context.Context, p sessions.Participant, d Dialog, events ...webhooks.Event) error
	// IdleCallers lists at most limit participants that CreateCaller made, that are not deleted and whose dialogs were all
	// over before a time.
	IdleCallers(ctx context.Context, before time.Time, limit int) ([]sessions.Participant, error)
	// SaveDialog writes a dialog's state, cause, times, hold, transfer and numbers with the events that report them. It is errs.Conflict, and
	// changes nothing, when an event of that ID stands already: an earlier attempt was saved, but its answer was lost.
	SaveDialog(ctx context.Context, d Dialog, events ...webhooks.Event) error
	Dialog(ctx context.Context, account, participant, id string) (Dialog, error)
	Dialogs(ctx context.Context, account, participant string) ([]Dialog, error)
	// DeleteDialog hides it.
	DeleteDialog(ctx context.Context, account, participant, id string, at time.Time) error
	// Unfinished lists all dialogs that are not TERMINATED, of every account.
	Unfinished(ctx context.Context) ([]Dialog, error)
	// WriteEvent writes an event that reports no change of a row. It is errs.Conflict when one of that ID stands already.
	WriteEvent(ctx context.Context, e webhooks.Event) error
}
