package webhooks

import (
	"context"
	"time"
)

// Delivery is an event that waits to be posted.
type Delivery struct {
	ID          string // the webhook-id
	Name        Name
	Account     string
	Participant string
	Sequence    int64 // 1, 2, 3 … per participant, without gaps
	URL         string
	Body        []byte
	Created     time.Time // when it happened
	Attempts    int       // how often it was tried
	NotBefore   time.Time // when it may be tried again
}

// Outbox is where events wait. Whoever records a change writes its events there in the same transaction.
type Outbox interface {
	// Waiting lists the participants that have undelivered events.
	Waiting(ctx context.Context) ([]string, error)
	// Next returns a participant's oldest undelivered event, or ok false.
	Next(ctx context.Context, participant string) (d Delivery, ok bool, err error)
	// Delivered marks an event as taken by the application.
	Delivered(ctx context.Context, id string, at time.Time) error
	// Failed notes an attempt; the event is tried again at next, or never when gaveUp.
	Failed(ctx context.Context, id string, reason string, next time.Time, gaveUp bool) error
}
