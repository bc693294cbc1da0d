// Package webhooks reports what happened to the application: the event, its outbox, signing and delivery.
package webhooks

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"tandem/errs"
)

// Name is the kind of an event, as the callback's "event" field says it.
type Name string

// The events. The first four are the Bandwidth API's, the others ours.
const (
	OnConnect              Name = "onConnect"
	OnLeave                Name = "onLeave"
	OnDisconnect           Name = "onDisconnect"
	OnSipDialogStateChange Name = "onSipDialogStateChange"
	OnIncomingCall         Name = "onIncomingCall"
	OnDtmf                 Name = "onDtmf"
	OnTransfer             Name = "onTransfer"
	OnMachineDetection     Name = "onMachineDetection"
	OnNoMedia              Name = "onNoMedia"
	OnSessionExpired       Name = "onSessionExpired"
)

// Names lists every event.
func Names() []Name {
	return []Name{OnConnect, OnLeave, OnDisconnect, OnSipDialogStateChange, OnIncomingCall, OnDtmf, OnTransfer, OnMachineDetection, OnNoMedia, OnSessionExpired}
}

// Event is one change in the outside world. It is written in the transaction that records the change.
type Event struct {
	ID          string // the webhook-id, the same on every retry: NewID
	Account     string
	URL         string // where it is sent; empty: the participant's callback URL, and if it has none, recorded only
	Name        Name
	Time        time.Time
	Participant string
	Tag         string      // the participant's; filled in by the store when empty
	Device      string      // set when a device's connection is meant
	Session     string      // set when a session is meant
	DialogID    string      // set when a phone leg's connection is meant
	Dialog      *DialogData // set when a dialog's state is meant
	Key         *Key        // set for OnDtmf, unless Gather is
	Gather      *Gather     // set for OnDtmf when the application asked for several keys
	Transfer    *Transfer   // set for OnTransfer
	NoMedia     *NoMedia    // set for OnNoMedia
	Verdict     string      // set for OnMachineDetection: HUMAN, MACHINE, UNKNOWN or BEEP
}

// DialogData is what an event says of a dialog.
type DialogData struct {
	ID         string
	State      string
	To, From   string
	UserToUser string
	Headers    map[string]string // X- headers of a call that came in
	Reason     string            // one of the contract's words, or empty
	Details    string            // more in words
	SIPCode    int               // 0: none
}

// Key is a DTMF key that was pressed (RFC 4733).
type Key struct {
	Digit    string
	Duration time.Duration
	Method   string // how it came: "rfc4733"
}

// Transfer is the outcome of a transfer: each has exactly one.
type Transfer struct {
	State   string // SUCCEEDED or FAILED
	To      string // who was to be reached: E.164 or a sip: URI
	Mode    string // refer, bridge or replaces
	By      string // who wanted it: APPLICATION or FAR END
	SIPCode int    // the final status; 0: none came
	Details string // more in words
}

// Gather is what was typed when the application had asked for it.
type Gather struct {
	Digits       string // without the terminator
	TerminatedBy string // digits, terminator, timeout, hangup or cancelled
}

// NoMedia is that a far end was answered and no RTP came of it.
type NoMedia struct {
	Expected string // the address that it should come from
	Seen     string // in words, what came instead
	Details  string // in words, for how long
}

type wireEvent struct {
	Event           Name        `json:"event"`
	Timestamp       string      `json:"timestamp"`
	AccountID       string      `json:"accountId,omitempty"`
	ParticipantID   string      `json:"participantId"`
	DeviceID        string      `json:"deviceId,omitempty"`
	SessionID       string      `json:"sessionId,omitempty"`
	DialogID        string      `json:"dialogId,omitempty"`
	Tag             string      `json:"tag,omitempty"`
	DialogType      string      `json:"dialogType,omitempty"`
	DialogStateData *wireState  `json:"dialogStateData,omitempty"`
	Type            string      `json:"type,omitempty"`
	State           string      `json:"state,omitempty"`
	Data            *wireDialog `json:"data,omitempty"`
	EventData       *wireCause  `json:"eventData,omitempty"`
	Digit           string      `json:"digit,omitempty"`
	Duration        int64       `json:"duration,omitempty"` // ms
	Method          string      `json:"method,omitempty"`
	Digits          *string     `json:"digits,omitempty"`
	TerminatedBy    string      `json:"terminatedBy,omitempty"`
	To              string      `json:"to,omitempty"`
	Mode            string      `json:"mode,omitempty"`
	Verdict         string      `json:"verdict,omitempty"`
	Expected        string      `json:"expected,omitempty"`
	Seen            string      `json:"seen,omitempty"`
	By              string      `json:"by,omitempty"`
	SIPCode         int         `json:"sipCode,omitempty"`
	Details         string      `json:"details,omitempty"`
}

type wireState struct {
	State string `json:"state"`
	To    string `json:"to"`
	From  string `json:"from"`
}

type wireDialog struct {
	To         string `json:"to"`
	From       string `json:"from"`
	UserToUser string `json:"userToUser,omitempty"`

	Headers map[string]string `json:"headers,omitempty"`
}

type wireCause struct {
	Reason  string `json:"reason,omitempty"`
	Details string `json:"details,omitempty"`
	SIPCode int    `json:"sipCode,omitempty"`
}

// Body returns the JSON that is posted to the application: the seed's words and the OpenAPI's beside each other.
func (e Event) Body() ([]byte, error) {
	w := wireEvent{
		Event:         e.Name,
		Timestamp:     strconv.FormatInt(e.Time.UnixMilli(), 10),
		AccountID:     e.Account,
		ParticipantID: e.Participant,
		DeviceID:      e.Device,
		SessionID:     e.Session,
		DialogID:      e.DialogID,
		Tag:           e.Tag,
		Verdict:       e.Verdict,
	}
	if d := e.Dialog; d != nil {
		w.DialogID = d.ID
		w.DialogType, w.Type = "SIP", "SIP"
		w.State = d.State
		w.DialogStateData = &wireState{State: d.State, To: d.To, From: d.From}
		w.Data = &wireDialog{To: d.To, From: d.From, UserToUser: d.UserToUser, Headers: d.Headers}
		if d.Reason != "" || d.Details != "" || d.SIPCode != 0 {
			w.EventData = &wireCause{Reason: d.Reason, Details: d.Details, SIPCode: d.SIPCode}
		}
	}
	if k := e.Key; k != nil {
		w.Digit, w.Duration, w.Method = k.Digit, k.Duration.Milliseconds(), k.Method
	}
	if t := e.Transfer; t != nil {
		w.State, w.To, w.Mode, w.By, w.SIPCode, w.Details = t.State, t.To, t.Mode, t.By, t.SIPCode, t.Details
	}
	if n := e.NoMedia; n != nil {
		w.Expected, w.Seen, w.Details = n.Expected, n.Seen, n.Details
	}
	if g := e.Gather; g != nil {
		w.Digits, w.TerminatedBy = &g.Digits, g.TerminatedBy
	}
	body, err := json.Marshal(w)
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, "encode event %s", fmt.Sprint(e.Name))
	}
	return body, nil
}
