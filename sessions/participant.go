package sessions

import (
	"slices"
	"time"

	"tandem/media"
)

// Permission is a medium that a participant may publish.
type Permission string

// The permissions of the API.
const (
	PublishAudio Permission = "AUDIO"
	PublishVideo Permission = "VIDEO"
)

// Participant is somebody who can take part: a browser, a phone, or both legs of one person.
type Participant struct {
	ID               string
	Account          string
	CallbackURL      string // empty: the application does not want to be told
	Tag              string // at most MaxTag characters
	Permissions      []Permission
	DeviceAPIVersion string // always "V3"
	Session          string // the session that it is in; empty: none
	Passthrough      bool   // of that session
	Subscriptions    Subscriptions
	Muted            bool     // nobody hears its voice
	MutedFor         []string // these participants don't; sorted
	Created          time.Time
	Version          int64 // rises with every saved change; a writer with an old one loses
}

// MayPublish says whether the participant may publish kind.
func (p Participant) MayPublish(kind media.Kind) bool {
	switch kind {
	case media.Audio:
		return slices.Contains(p.Permissions, PublishAudio)
	case media.Video:
		return slices.Contains(p.Permissions, PublishVideo)
	}
	return false
}

// Subscriptions say whom a participant hears and sees. The zero value: nobody.
type Subscriptions struct {
	Session      string         // all its members, present and future, unless Participants is not empty
	Participants []Subscription // exactly these; overrides Session
}

// Empty says whether nothing is subscribed to.
func (s Subscriptions) Empty() bool { return s.Session == "" && len(s.Participants) == 0 }

// Subscription is one participant that is heard.
type Subscription struct {
	Participant   string
	StreamAliases []string // only these of its streams; empty: all
}

// Connection is a device's signalling connection as it is kept in the database, so that one that a crash took gets
// its onDisconnect after the restart.
type Connection struct {
	ID          string
	Account     string
	Participant string
	Device      string
	Opened      time.Time
}
