package store

import (
	"context"
	"time"

	"tandem/errs"
)

const (
	// answersKept is how long an answer is kept for its Idempotency-Key.
	answersKept = 24 * time.Hour
	// longestRequest is how long a request may be at work. One that is not answered by then was cut.
	longestRequest = time.Minute
)

// ClaimAnswer takes an Idempotency-Key for a request, or returns the answer that it got (status is not 0). It is
// errs.Conflict while that is at work or when it was cut, and errs.Invalid when the key was that of another request.
func (db *DB) ClaimAnswer(ctx context.Context, account, key, fingerprint string, at time.Time) (status int, body []byte, err error) {
	err = db.change(ctx, "claim an idempotency key", func(t *tx) error {
		status, body = 0, nil
		if _, err := t.exec(ctx, `DELETE FROM answers WHERE created < $1`, millis(at.Add(-answersKept))); err != nil {
			return err
		}
		claimed, err := t.exec(ctx, `INSERT INTO answers (account, name, fingerprint, status, body, created)
			VALUES ($1, $2, $3, 0, '', $4) ON CONFLICT (account, name) DO NOTHING`, account, key, fingerprint, millis(at))
		if err != nil || claimed > 0 {
			return err
		}
		var known, text string
		var answered, created int64
		// Between the two another request may have given the key back: then there is nothing, and the client tries again.
		ok, err := t.row(ctx, []any{&known, &answered, &text, &created},
			`SELECT fingerprint, status, body, created FROM answers WHERE account = $1 AND name = $2`, account, key)
		switch {
		case err != nil:
			return err
		case ok && known != fingerprint:
			return errs.New(errs.Invalid, "Idempotency-Key: was used for another request")
		case ok && answered != 0:
			status, body = int(answered), []byte(text)
			return nil
		case ok && at.Sub(fromMillis(created)) > longestRequest:
			return errs.New(errs.Conflict, "Idempotency-Key: the first request was cut; nobody knows how far it came: look before you try again with another key")
		}
		return errs.New(errs.Conflict, "Idempotency-Key: the first request is still at work")
	})
	return status, body, err
}

// KeepAnswer keeps the answer under a key that ClaimAnswer took.
func (db *DB) KeepAnswer(ctx context.Context, account, key string, status int, body []byte) error {
	return db.change(ctx, "keep an answer", func(t *tx) error {
		_, err := t.exec(ctx, `UPDATE answers SET status = $1, body = $2 WHERE account = $3 AND name = $4`,
			int64(status), string(body), account, key)
		return err
	})
}

// DropAnswer gives a key back that ClaimAnswer took.
func (db *DB) DropAnswer(ctx context.Context, account, key string) error {
	return db.change(ctx, "give an idempotency key back", func(t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM answers WHERE account = $1 AND name = $2 AND status = 0`, account, key)
		return err
	})
}
