package store

import (
	"context"
	"time"

	"tandem/dialogs"
	"tandem/sessions"
	"tandem/webhooks"
)

// CreateCaller saves who dialled in, its dialog, and their events, all or nothing.
func (db *DB) CreateCaller(ctx context.Context, p sessions.Participant, d dialogs.Dialog, events ...webhooks.Event) error {
	return db.change(ctx, "create dialog "+d.ID, func(t *tx) error {
		if err := t.createParticipant(ctx, p, true); err != nil {
			return err
		}
		if err := t.createDialog(ctx, d); err != nil {
			return err
		}
		return t.writeEvents(ctx, events...)
	})
}

// IdleCallers lists participants that CreateCaller made, that are not deleted and whose dialogs were all over before a
// time: the oldest first, at most limit.
func (db *DB) IdleCallers(ctx context.Context, before time.Time, limit int) ([]sessions.Participant, error) {
	list, err := all(ctx, db.reader(), scanParticipant, `SELECT `+participantFields+` FROM participants
		WHERE caller = 1 AND deleted = 0 AND created < $1 AND NOT EXISTS (
			SELECT 1 FROM dialogs WHERE dialogs.participant_id = participants.id AND (dialogs.state <> 'TERMINATED' OR dialogs.ended >= $2))
		ORDER BY created, position LIMIT $3`, millis(before), millis(before), int64(limit))
	return list, db.failure(err, "list the participants of callers")
}
