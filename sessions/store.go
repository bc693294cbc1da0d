package sessions

import (
	"context"
	"errors"
	"time"

	"tandem/webhooks"
)

// ErrStale is returned by a Store when the row was changed since it was read: read again and retry.
var ErrStale = errors.New("the row was changed by another writer")

// Store keeps sessions and participants. What is not there, is deleted or belongs to another account is an
// errs.NotFound whose message names it ("participant 1234 does not exist").
type Store interface {
	CreateSession(ctx context.Context, s Session) error
	Session(ctx context.Context, account, id string) (Session, error)
	// DeleteSession removes the session, takes its members out of it and empties their subscriptions. It returns the
	// members as they are afterwards. event makes the event that is written for each member, if any.
	DeleteSession(ctx context.Context, account, id string, event func(Participant) (webhooks.Event, bool)) ([]Participant, error)
	// NextExpiry returns the session that expires first, or ok false when there is none.
	NextExpiry(ctx context.Context) (s Session, ok bool, err error)
	// Members lists the participants of a session in the order in which they were created.
	Members(ctx context.Context, session string) ([]Participant, error)

	CreateParticipant(ctx context.Context, p Participant) error
	Participant(ctx context.Context, account, id string) (Participant, error)
	// SaveMembership writes p.Session and p.Subscriptions over the row that was read with p.Version and returns p with
	// its new version. Joining a session that has limit members already is errs.Conflict, one that is gone
	// errs.NotFound, a row that was changed meanwhile ErrStale.
	SaveMembership(ctx context.Context, p Participant, limit int) (Participant, error)
	// DeleteParticipant takes it out of its session and hides it. Events about it can still be written.
	DeleteParticipant(ctx context.Context, account, id string, at time.Time) error

	// Connected keeps c and writes e.
	Connected(ctx context.Context, c Connection, e webhooks.Event) error
	// Disconnected forgets the connection and writes e; when the connection is not there any more it does nothing.
	Disconnected(ctx context.Context, connection string, e webhooks.Event) error
	// Connections lists all that were connected and never disconnected, with their participants (deleted ones too).
	Connections(ctx context.Context) ([]Connection, []Participant, error)
	// WriteEvent writes an event that reports no change of a row.
	WriteEvent(ctx context.Context, e webhooks.Event) error
}
