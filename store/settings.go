package store

import (
	"context"
	"encoding/base64"

	"tandem/errs"
)

// Secret returns the secret that is kept under name; when there is none yet, the one that makeSecret makes, which is
// kept. Of several that ask at once, in one process or many, all get the same.
func (db *DB) Secret(ctx context.Context, name string, makeSecret func() ([]byte, error)) ([]byte, error) {
	var value string
	read := func(q query) (bool, error) {
		return q.row(ctx, []any{&value}, `SELECT value FROM settings WHERE name = $1`, name)
	}
	found, err := read(db.reader())
	if err != nil {
		return nil, db.failure(err, "read secret "+name)
	}
	if !found {
		made, err := makeSecret()
		if err != nil {
			return nil, errs.Wrap(err, errs.Internal, "make secret %s", name)
		}
		err = db.change(ctx, "keep secret "+name, func(t *tx) error {
			if _, err := t.exec(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
				name, base64.StdEncoding.EncodeToString(made)); err != nil {
				return err
			}
			_, err := read(t.query)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	secret, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, "secret %s in the database is damaged", name)
	}
	return secret, nil
}
