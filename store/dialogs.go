package store

import (
	"context"
	"encoding/json"
	"time"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
	"tandem/webhooks"
)

const dialogColumns = `id, account, participant_id, inbound, state, called, caller, user_to_user, ring_timeout, max_duration,
	reason, details, sip_code, created, answered, ended, held_by_us, held_by_far_end, transfer, trunk, headers, quality`

// CreateDialog saves a new dialog with its events, and returns its participant as it stands then. It is errs.NotFound when
// the participant is gone and errs.Conflict when it has another dialog that is not TERMINATED, hidden or not.
func (db *DB) CreateDialog(ctx context.Context, d dialogs.Dialog, events ...webhooks.Event) (p sessions.Participant, err error) {
	err = db.change(ctx, "create dialog "+d.ID, func(t *tx) error {
		own := firstOf(events, d.Account, d.Participant)
		var c counted
		var err error
		if p, c, err = t.count(ctx, d.Account, d.Participant, len(own)); err != nil {
			return err
		}
		if err := t.createDialog(ctx, d); err != nil {
			return err
		}
		if err := t.insertEvents(ctx, c, own); err != nil {
			return err
		}
		return t.writeEvents(ctx, events[len(own):]...)
	})
	if errs.CodeOf(err) == errs.Conflict { // asked only now: it is rare
		var other string
		busy, failed := db.reader().row(ctx, []any{&other},
			`SELECT id FROM dialogs WHERE participant_id = $1 AND state <> 'TERMINATED'`, d.Participant)
		if failed == nil && busy && other != d.ID {
			err = errs.New(errs.Conflict, "participant %s has dialog %s, which is not TERMINATED", d.Participant, other)
		}
	}
	return p, err
}

// createDialog inserts a row.
func (t *tx) createDialog(ctx context.Context, d dialogs.Dialog) error {
	transfer, err := encodeTransfer(d.Transfer)
	if err != nil {
		return err
	}
	headers, err := encodeHeaders(d.Headers)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO dialogs (`+dialogColumns+`, position)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`,
		d.ID, d.Account, d.Participant, flag(d.Inbound), string(d.State), d.To, d.From, d.UserToUser,
		d.RingTimeout.Milliseconds(), d.MaxDuration.Milliseconds(),
		string(d.Cause.Reason), d.Cause.Details, int64(d.Cause.SIPCode),
		millis(d.Created), millis(d.Answered), millis(d.Ended),
		flag(d.Hold.ByUs), flag(d.Hold.ByFarEnd), transfer, d.Trunk, headers, "", t.db.nextPosition())
	return err
}

// SaveDialog writes a dialog's state, cause, times, hold, transfer and numbers with the events that report them. A hidden
// dialog is saved too: its call may still have to end.
func (db *DB) SaveDialog(ctx context.Context, d dialogs.Dialog, events ...webhooks.Event) error {
	return db.change(ctx, "save dialog "+d.ID, func(t *tx) error {
		// Events first: like CreateDialog, the participant's row is locked before the dialog's.
		if err := t.writeEvents(ctx, events...); err != nil {
			return err
		}
		transfer, err := encodeTransfer(d.Transfer)
		if err != nil {
			return err
		}
		quality, err := encodeQuality(d.Quality)
		if err != nil {
			return err
		}
		changed, err := t.exec(ctx, `UPDATE dialogs
			SET state = $1, reason = $2, details = $3, sip_code = $4, answered = $5, ended = $6,
				held_by_us = $7, held_by_far_end = $8, transfer = $9, called = $10, caller = $11, quality = $12
			WHERE id = $13 AND account = $14 AND participant_id = $15`,
			string(d.State), string(d.Cause.Reason), d.Cause.Details, int64(d.Cause.SIPCode), millis(d.Answered), millis(d.Ended),
			flag(d.Hold.ByUs), flag(d.Hold.ByFarEnd), transfer, d.To, d.From, quality,
			d.ID, d.Account, d.Participant)
		if err == nil && changed == 0 {
			return noDialog(d.ID)
		}
		return err
	})
}

// Dialog returns one of a participant's dialogs that is not hidden.
func (db *DB) Dialog(ctx context.Context, account, participant, id string) (dialogs.Dialog, error) {
	d, ok, err := one(ctx, db.reader(), scanDialog, `SELECT `+dialogColumns+` FROM dialogs
		WHERE id = $1 AND account = $2 AND participant_id = $3 AND deleted = 0`, id, account, participant)
	if err != nil {
		return d, db.failure(err, "read dialog "+id)
	}
	if !ok {
		return d, noDialog(id)
	}
	return d, nil
}

// Dialogs lists a participant's dialogs that are not hidden, in the order in which they were created. A participant
// that is gone is errs.NotFound.
func (db *DB) Dialogs(ctx context.Context, account, participant string) ([]dialogs.Dialog, error) {
	if _, err := db.Participant(ctx, account, participant); err != nil {
		return nil, err
	}
	list, err := all(ctx, db.reader(), scanDialog, `SELECT `+dialogColumns+` FROM dialogs
		WHERE account = $1 AND participant_id = $2 AND deleted = 0 ORDER BY created, position`, account, participant)
	return list, db.failure(err, "list the dialogs of participant "+participant)
}

// DeleteDialog hides it.
func (db *DB) DeleteDialog(ctx context.Context, account, participant, id string, at time.Time) error {
	return db.change(ctx, "delete dialog "+id, func(t *tx) error {
		changed, err := t.exec(ctx, `UPDATE dialogs SET deleted = $1
			WHERE id = $2 AND account = $3 AND participant_id = $4 AND deleted = 0`, deletedAt(at), id, account, participant)
		if err == nil && changed == 0 {
			return noDialog(id)
		}
		return err
	})
}

// Unfinished lists all dialogs that are not TERMINATED, of every account, hidden ones too, in the order in which they
// were created.
func (db *DB) Unfinished(ctx context.Context) ([]dialogs.Dialog, error) {
	list, err := all(ctx, db.reader(), scanDialog,
		`SELECT `+dialogColumns+` FROM dialogs WHERE state <> 'TERMINATED' ORDER BY created, position`)
	return list, db.failure(err, "list unfinished dialogs")
}

func scanDialog(row scanner) (d dialogs.Dialog, err error) {
	var inbound, ringTimeout, maxDuration, created, answered, ended, byUs, byFarEnd int64
	var transfer, headers, quality string
	err = row.Scan(&d.ID, &d.Account, &d.Participant, &inbound, &d.State, &d.To, &d.From, &d.UserToUser, &ringTimeout, &maxDuration,
		&d.Cause.Reason, &d.Cause.Details, &d.Cause.SIPCode, &created, &answered, &ended, &byUs, &byFarEnd, &transfer, &d.Trunk, &headers, &quality)
	d.Inbound = inbound != 0
	d.Hold = dialogs.Hold{ByUs: byUs != 0, ByFarEnd: byFarEnd != 0}
	if err == nil && transfer != "" {
		err = json.Unmarshal([]byte(transfer), &d.Transfer)
	}
	if err == nil && headers != "" {
		err = json.Unmarshal([]byte(headers), &d.Headers)
	}
	if err == nil && quality != "" {
		err = json.Unmarshal([]byte(quality), &d.Quality)
	}
	d.RingTimeout, d.MaxDuration = time.Duration(ringTimeout)*time.Millisecond, time.Duration(maxDuration)*time.Millisecond
	d.Created, d.Answered, d.Ended = fromMillis(created), fromMillis(answered), fromMillis(ended)
	return d, err
}

// encodeHeaders is empty for none.
func encodeHeaders(headers map[string]string) (string, error) {
	if len(headers) == 0 {
		return "", nil
	}
	text, err := json.Marshal(headers)
	return string(text), err
}

// encodeQuality is empty where nothing was measured.
func encodeQuality(q media.Quality) (string, error) {
	if q == (media.Quality{}) {
		return "", nil
	}
	text, err := json.Marshal(q)
	return string(text), err
}

// Talked sums up, for each account, how long the calls that it placed and that ended since then have lasted.
func (db *DB) Talked(ctx context.Context, since time.Time) (map[string]time.Duration, error) {
	type sum struct {
		account string
		ms      int64
	}
	sums, err := all(ctx, db.reader(), func(row scanner) (s sum, err error) { return s, row.Scan(&s.account, &s.ms) },
		`SELECT account, CAST(SUM(ended - answered) AS BIGINT) FROM dialogs
		WHERE inbound = 0 AND answered > 0 AND ended >= $1 GROUP BY account`, millis(since))
	if err != nil {
		return nil, db.failure(err, "sum up what the accounts talked")
	}
	talked := make(map[string]time.Duration, len(sums))
	for _, s := range sums {
		talked[s.account] = time.Duration(s.ms) * time.Millisecond
	}
	return talked, nil
}

// encodeTransfer is empty for none.
func encodeTransfer(t dialogs.Transfer) (string, error) {
	if t == (dialogs.Transfer{}) {
		return "", nil
	}
	text, err := json.Marshal(t)
	return string(text), err
}

// flag is how a yes or no is stored.
func flag(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

func noDialog(id string) error {
	return errs.New(errs.NotFound, "dialog %s does not exist", id)
}
