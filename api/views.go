package api

import (
	"time"

	"tandem/dialogs"
	"tandem/sessions"
)

// The JSON of the answers. Fields that are absent in the contract when they are empty are omitted here.

type createdView struct {
	Participant participantView `json:"participant"`
	Token       string          `json:"token"`
	ICEServers  []ICEServer     `json:"iceServers,omitempty"`
}

type participantView struct {
	ID                 string                `json:"id"`
	CallbackURL        string                `json:"callbackUrl,omitempty"`
	PublishPermissions []sessions.Permission `json:"publishPermissions"`
	Sessions           []string              `json:"sessions"`
	Subscriptions      subscriptionsView     `json:"subscriptions"`
	Tag                string                `json:"tag,omitempty"`
	DeviceAPIVersion   string                `json:"deviceApiVersion"`
	Muted              bool                  `json:"muted,omitempty"`
	MutedFor           []string              `json:"mutedFor,omitempty"`
}

func viewParticipant(p sessions.Participant) participantView {
	v := participantView{
		ID:                 p.ID,
		CallbackURL:        p.CallbackURL,
		PublishPermissions: append([]sessions.Permission{}, p.Permissions...),
		Sessions:           []string{},
		Subscriptions:      viewSubscriptions(p.Subscriptions),
		Tag:                p.Tag,
		DeviceAPIVersion:   p.DeviceAPIVersion,
		Muted:              p.Muted,
		MutedFor:           p.MutedFor,
	}
	if p.Session != "" {
		v.Sessions = append(v.Sessions, p.Session)
	}
	return v
}

type sessionView struct {
	ID          string `json:"id"`
	Tag         string `json:"tag,omitempty"`
	Passthrough bool   `json:"passthrough,omitempty"`
}

func viewSession(s sessions.Session) sessionView {
	return sessionView{ID: s.ID, Tag: s.Tag, Passthrough: s.Passthrough}
}

type subscriptionsView struct {
	SessionID    string             `json:"sessionId,omitempty"`
	Participants []subscriptionView `json:"participants,omitempty"`
}

type subscriptionView struct {
	ParticipantID string   `json:"participantId"`
	StreamAliases []string `json:"streamAliases,omitempty"`
}

func viewSubscriptions(s sessions.Subscriptions) subscriptionsView {
	return subscriptionsView{
		SessionID: s.Session,
		Participants: viewAll(s.Participants, func(p sessions.Subscription) subscriptionView {
			return subscriptionView{ParticipantID: p.Participant, StreamAliases: p.StreamAliases}
		}),
	}
}

// dialogView says everything twice: in the guide's words and in the OpenAPI document's.
type dialogView struct {
	DialogID        string          `json:"dialogId"`
	ID              string          `json:"id"`
	DialogType      string          `json:"dialogType"`
	Type            string          `json:"type"`
	State           dialogs.State   `json:"state"`
	Direction       string          `json:"direction"`
	ParticipantID   string          `json:"participantId"`
	DialogStateData dialogStateView `json:"dialogStateData"`
	Data            dialogDataView  `json:"data"`
	EventData       *causeView      `json:"eventData,omitempty"`
	Hold            holdView        `json:"hold"`
	Transfer        *transferView   `json:"transfer,omitempty"`
	Quality         *qualityView    `json:"quality,omitempty"`
	CreatedTime     string          `json:"createdTime"`
	AnsweredTime    string          `json:"answeredTime,omitempty"`
	EndedTime       string          `json:"endedTime,omitempty"`
}

type dialogStateView struct {
	State      dialogs.State `json:"state"`
	To         string        `json:"to"`
	From       string        `json:"from"`
	UserToUser string        `json:"userToUser,omitempty"`
}

type dialogDataView struct {
	To          string  `json:"to"`
	From        string  `json:"from"`
	UserToUser  string  `json:"userToUser,omitempty"`
	Trunk       string  `json:"trunk,omitempty"`
	RingTimeout float64 `json:"ringTimeout,omitempty"` // seconds
	MaxDuration float64 `json:"maxDuration,omitempty"` // seconds

	Headers map[string]string `json:"headers,omitempty"`
}

type causeView struct {
	Reason  dialogs.Reason `json:"reason,omitempty"`
	Details string         `json:"details,omitempty"`
	SIPCode int            `json:"sipCode,omitempty"`
}

func viewDialog(d dialogs.Dialog) dialogView {
	v := dialogView{
		DialogID:        d.ID,
		ID:              d.ID,
		DialogType:      dialogType,
		Type:            dialogType,
		State:           d.State,
		Direction:       "outbound",
		ParticipantID:   d.Participant,
		DialogStateData: dialogStateView{State: d.State, To: d.To, From: d.From, UserToUser: d.UserToUser},
		Data: dialogDataView{
			To:          d.To,
			From:        d.From,
			UserToUser:  d.UserToUser,
			Trunk:       d.Trunk,
			Headers:     d.Headers,
			RingTimeout: d.RingTimeout.Seconds(),
			MaxDuration: d.MaxDuration.Seconds(),
		},
		Hold:         holdView{ByUs: d.Hold.ByUs, ByFarEnd: d.Hold.ByFarEnd},
		Transfer:     viewTransfer(d.Transfer),
		Quality:      viewQuality(d.Quality),
		CreatedTime:  viewTime(d.Created),
		AnsweredTime: viewTime(d.Answered),
		EndedTime:    viewTime(d.Ended),
	}
	if d.Inbound {
		v.Direction = "inbound"
	}
	if d.Cause != (dialogs.Cause{}) {
		v.EventData = &causeView{Reason: d.Cause.Reason, Details: d.Cause.Details, SIPCode: d.Cause.SIPCode}
	}
	return v
}

// viewTime is RFC 3339 in UTC with milliseconds; empty for the zero time.
func viewTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// viewAll views each of the items; of none, it is an empty list, never null.
func viewAll[T, V any](items []T, view func(T) V) []V {
	views := make([]V, 0, len(items))
	for _, item := range items {
		views = append(views, view(item))
	}
	return views
}
