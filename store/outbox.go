package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"tandem/errs"
	"tandem/sessions"
	"tandem/webhooks"
)

// What becomes of an event, as the status column says it.
const (
	statusRecorded  = "recorded" // it has no URL: nobody waits for it
	statusWaiting   = "waiting"
	statusDelivered = "delivered"
	statusGivenUp   = "given up"
)

const deliveryColumns = `id, name, account, participant_id, sequence, url, body, created, attempts, not_before`

// WriteEvent writes an event that reports no change of a row. The participant may be deleted, but must have existed:
// else errs.NotFound.
func (db *DB) WriteEvent(ctx context.Context, e webhooks.Event) error {
	return db.change(ctx, "write event", func(t *tx) error { return t.writeEvents(ctx, e) })
}

// writeEvents gives each event the next sequence of its participant. The participant's row is locked by that until the
// commit, so the order of sequences is the order of commits, and a transaction that fails leaves no gap. An event that
// names no URL and no tag gets its participant's.
func (t *tx) writeEvents(ctx context.Context, events ...webhooks.Event) error {
	for len(events) > 0 {
		same := firstOf(events, events[0].Account, events[0].Participant) // they take their sequences at once
		var c counted
		ok, err := t.row(ctx, []any{&c.last, &c.url, &c.tag},
			`UPDATE participants SET last_event = last_event + $1 WHERE id = $2 AND account = $3
				RETURNING last_event, callback_url, tag`,
			len(same), events[0].Participant, events[0].Account)
		if err != nil {
			return err
		}
		if !ok {
			return noParticipant(events[0].Participant)
		}
		if err := t.insertEvents(ctx, c, same); err != nil {
			return err
		}
		events = events[len(same):]
	}
	return nil
}

// firstOf returns those events at the head of a list that are of one participant.
func firstOf(events []webhooks.Event, account, participant string) []webhooks.Event {
	for i, e := range events {
		if e.Participant != participant || e.Account != account {
			return events[:i]
		}
	}
	return events
}

// counted is a participant that has sequences for new events.
type counted struct {
	last     int64 // the sequence of the last of them
	url, tag string
}

// count takes the next n sequences of a participant, which may be none, reads it, and keeps it as it is until the commit.
// It is errs.NotFound when the participant is gone.
func (t *tx) count(ctx context.Context, account, participant string, n int) (p sessions.Participant, c counted, err error) {
	p, there, err := one(ctx, t.query, func(row scanner) (sessions.Participant, error) { return scanInto(row, &c.last) },
		`UPDATE participants SET last_event = last_event + $1 WHERE id = $2 AND account = $3 AND deleted = 0
			RETURNING last_event, `+participantFields, n, participant, account)
	if err == nil && !there {
		err = noParticipant(participant)
	}
	c.url, c.tag = p.CallbackURL, p.Tag
	return p, c, err
}

// insertEvents writes events of one participant under the sequences that it has for them.
func (t *tx) insertEvents(ctx context.Context, c counted, events []webhooks.Event) error {
	sequence := c.last - int64(len(events))
	for part := range slices.Chunk(events, maxRows) {
		args := make([]any, 0, eventArgs*len(part))
		for _, e := range part {
			sequence++
			e.URL, e.Tag = cmp.Or(e.URL, c.url), cmp.Or(e.Tag, c.tag)
			body, err := e.Body()
			if err != nil {
				return err
			}
			if e.ID == "" {
				e.ID = webhooks.NewID()
			}
			status := statusWaiting
			if e.URL == "" {
				status = statusRecorded
			} else {
				t.wake = append(t.wake, e.Participant)
			}
			args = append(args, e.ID, e.Account, e.Participant, sequence, string(e.Name), e.URL, string(body), millis(e.Time), status)
		}
		if _, err := t.exec(ctx, [maxRows]string{insertEvent, insertTwo, insertThree, insertFour}[len(part)-1], args...); err != nil {
			return err
		}
	}
	return nil
}

const (
	// maxRows is how many events one statement inserts: a change of a call has no more.
	maxRows   = 4
	eventArgs = 9

	insertEvent = `INSERT INTO events (id, account, participant_id, sequence, name, url, body, created, status)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	insertTwo   = insertEvent + `, ($10, $11, $12, $13, $14, $15, $16, $17, $18)`
	insertThree = insertTwo + `, ($19, $20, $21, $22, $23, $24, $25, $26, $27)`
	insertFour  = insertThree + `, ($28, $29, $30, $31, $32, $33, $34, $35, $36)`
)

// Waiting lists the participants that have undelivered events, those first whose oldest has waited longest.
func (db *DB) Waiting(ctx context.Context) ([]string, error) {
	list, err := all(ctx, db.reader(), scanString,
		`SELECT participant_id FROM events WHERE status = 'waiting'
			GROUP BY participant_id ORDER BY MIN(created), participant_id`)
	return list, db.failure(err, "list participants with waiting events")
}

// Next returns a participant's oldest undelivered event, or ok false.
func (db *DB) Next(ctx context.Context, participant string) (d webhooks.Delivery, ok bool, err error) {
	d, ok, err = one(ctx, db.reader(), scanDelivery,
		`SELECT `+deliveryColumns+` FROM events WHERE participant_id = $1 AND status = 'waiting'
			ORDER BY sequence LIMIT 1`, participant)
	return d, ok, db.failure(err, "read the next event")
}

// Delivered marks an event as taken by the application. One that is marked or given up already stays as it is.
func (db *DB) Delivered(ctx context.Context, id string, at time.Time) error {
	return db.change(ctx, "mark an event delivered", func(t *tx) error {
		changed, err := t.exec(ctx, `UPDATE events SET status = $1, finished = $2, attempts = attempts + 1
			WHERE id = $3 AND status = 'waiting'`, statusDelivered, millis(at), id)
		if err != nil || changed > 0 {
			return err
		}
		return t.requireEvent(ctx, id)
	})
}

// Failed notes an attempt; the event is tried again at next, or never when gaveUp. One that is delivered or given up
// already stays as it is.
func (db *DB) Failed(ctx context.Context, id, reason string, next time.Time, gaveUp bool) error {
	status := statusWaiting
	if gaveUp {
		status = statusGivenUp
	}
	return db.change(ctx, "note a failed delivery", func(t *tx) error {
		changed, err := t.exec(ctx, `UPDATE events SET status = $1, failure = $2, not_before = $3, attempts = attempts + 1
			WHERE id = $4 AND status = 'waiting'`, status, reason, millis(next), id)
		if err != nil || changed > 0 {
			return err
		}
		return t.requireEvent(ctx, id)
	})
}

func (t *tx) requireEvent(ctx context.Context, id string) error {
	var found int64
	ok, err := t.row(ctx, []any{&found}, `SELECT 1 FROM events WHERE id = $1`, id)
	if err == nil && !ok {
		return errs.New(errs.NotFound, "event %s does not exist", id)
	}
	return err
}

func scanDelivery(row scanner) (d webhooks.Delivery, err error) {
	var body string
	var created, notBefore int64
	err = row.Scan(&d.ID, &d.Name, &d.Account, &d.Participant, &d.Sequence, &d.URL, &body, &created, &d.Attempts, &notBefore)
	d.Body, d.Created, d.NotBefore = []byte(body), fromMillis(created), fromMillis(notBefore)
	return d, err
}

func scanString(row scanner) (s string, err error) {
	err = row.Scan(&s)
	return s, err
}
