package store

import (
	"context"
	"encoding/json"
	"fmt"

	"tandem/errs"
	"tandem/trunks"
)

// Trunks lists all trunks of all accounts, those of the configuration file first, each in the order in which they were made.
func (db *DB) Trunks(ctx context.Context) ([]trunks.Trunk, error) {
	list, err := all(ctx, db.reader(), scanTrunk,
		`SELECT account, name, origin, settings, password, inbound_password FROM trunks ORDER BY origin, position`)
	return list, db.failure(err, "list the trunks")
}

// CreateTrunk saves a new trunk. It is errs.Conflict when the account has one of that name.
func (db *DB) CreateTrunk(ctx context.Context, t trunks.Trunk) error {
	settings, err := json.Marshal(t) //nolint:gosec // a Secret writes itself as [secret]; the true ones have columns of their own
	if err != nil {
		return errs.Wrap(err, errs.Internal, "encode trunk %s", t.Name)
	}
	return db.change(ctx, "create trunk "+t.Name, func(tx *tx) error {
		_, err := tx.exec(ctx, `INSERT INTO trunks (account, name, origin, settings, password, inbound_password, position)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			t.Account, t.Name, t.Origin, string(settings), string(t.Password), string(t.InboundPassword), db.nextPosition())
		return err
	})
}

// SaveTrunk writes a trunk that is there over what it was.
func (db *DB) SaveTrunk(ctx context.Context, t trunks.Trunk) error {
	return db.change(ctx, "save trunk "+t.Name, func(tx *tx) error { return tx.saveTrunk(ctx, t) })
}

func (t *tx) saveTrunk(ctx context.Context, v trunks.Trunk) error {
	settings, err := json.Marshal(v) //nolint:gosec // as in CreateTrunk
	if err != nil {
		return errs.Wrap(err, errs.Internal, "encode trunk %s", v.Name)
	}
	changed, err := t.exec(ctx, `UPDATE trunks SET origin = $1, settings = $2, password = $3, inbound_password = $4
		WHERE account = $5 AND name = $6`,
		v.Origin, string(settings), string(v.Password), string(v.InboundPassword), v.Account, v.Name)
	if err == nil && changed == 0 {
		return noTrunk(v.Name)
	}
	return err
}

// DeleteTrunk removes one.
func (db *DB) DeleteTrunk(ctx context.Context, key trunks.Key) error {
	return db.change(ctx, "delete trunk "+key.Name, func(t *tx) error {
		changed, err := t.exec(ctx, `DELETE FROM trunks WHERE account = $1 AND name = $2`, key.Account, key.Name)
		if err == nil && changed == 0 {
			return noTrunk(key.Name)
		}
		return err
	})
}

func noTrunk(name string) error { return errs.New(errs.NotFound, "trunk %q does not exist", name) }

func scanTrunk(row scanner) (t trunks.Trunk, err error) {
	var account, name, origin, settings, password, inbound string
	if err := row.Scan(&account, &name, &origin, &settings, &password, &inbound); err != nil {
		return t, err
	}
	if err := json.Unmarshal([]byte(settings), &t); err != nil {
		return t, fmt.Errorf("settings of trunk %s: %w", name, err)
	}
	t.Account, t.Name, t.Origin = account, name, origin
	t.Password, t.InboundPassword = trunks.Secret(password), trunks.Secret(inbound)
	return t, nil
}

// Numbers lists all numbers of all accounts, those of the configuration file first, each in the order in which they were made.
func (db *DB) Numbers(ctx context.Context) ([]trunks.Number, error) {
	list, err := all(ctx, db.reader(), scanNumber, `SELECT account, number, origin, settings FROM numbers ORDER BY origin, position`)
	return list, db.failure(err, "list the numbers")
}

// CreateNumber saves a new number. It is errs.Conflict when the account has it already.
func (db *DB) CreateNumber(ctx context.Context, n trunks.Number) error {
	settings, err := json.Marshal(n)
	if err != nil {
		return errs.Wrap(err, errs.Internal, "encode number %s", n.Number)
	}
	return db.change(ctx, "create number "+n.Number, func(t *tx) error {
		_, err := t.exec(ctx, `INSERT INTO numbers (account, number, origin, settings, position) VALUES ($1, $2, $3, $4, $5)`,
			n.Account, n.Number, n.Origin, string(settings), db.nextPosition())
		return err
	})
}

// SaveNumber writes a number that is there over what it was.
func (db *DB) SaveNumber(ctx context.Context, n trunks.Number) error {
	return db.change(ctx, "save number "+n.Number, func(t *tx) error { return t.saveNumber(ctx, n) })
}

func (t *tx) saveNumber(ctx context.Context, n trunks.Number) error {
	settings, err := json.Marshal(n)
	if err != nil {
		return errs.Wrap(err, errs.Internal, "encode number %s", n.Number)
	}
	changed, err := t.exec(ctx, `UPDATE numbers SET origin = $1, settings = $2 WHERE account = $3 AND number = $4`,
		n.Origin, string(settings), n.Account, n.Number)
	if err == nil && changed == 0 {
		return noNumber(n.Number)
	}
	return err
}

// DeleteNumber removes one.
func (db *DB) DeleteNumber(ctx context.Context, account, number string) error {
	return db.change(ctx, "delete number "+number, func(t *tx) error {
		changed, err := t.exec(ctx, `DELETE FROM numbers WHERE account = $1 AND number = $2`, account, number)
		if err == nil && changed == 0 {
			return noNumber(number)
		}
		return err
	})
}

func noNumber(number string) error {
	return errs.New(errs.NotFound, "number %q does not exist", number)
}

func scanNumber(row scanner) (n trunks.Number, err error) {
	var account, number, origin, settings string
	if err := row.Scan(&account, &number, &origin, &settings); err != nil {
		return n, err
	}
	if err := json.Unmarshal([]byte(settings), &n); err != nil {
		return n, fmt.Errorf("settings of number %s: %w", number, err)
	}
	n.Account, n.Number, n.Origin = account, number, origin
	return n, nil
}

// Seed writes trunks and numbers of the configuration file over those of the same name, and removes what came from the
// file and is not in these lists.
func (db *DB) Seed(ctx context.Context, list []trunks.Trunk, numbers []trunks.Number) error {
	return db.change(ctx, "write the configuration's trunks and numbers", func(t *tx) error {
		// The rows of the file go, so that those that stay get the file's order; ON CONFLICT meets those of REST.
		for _, table := range []string{"trunks", "numbers"} {
			if _, err := t.exec(ctx, `DELETE FROM `+table+` WHERE origin = $1`, trunks.OriginFile); err != nil {
				return err
			}
		}
		for _, v := range list {
			if _, err := t.exec(ctx, `INSERT INTO trunks (account, name, origin, settings, password, inbound_password, position)
				VALUES ($1, $2, $3, '{}', '', '', $4) ON CONFLICT (account, name) DO UPDATE SET position = excluded.position`,
				v.Account, v.Name, v.Origin, db.nextPosition()); err != nil {
				return err
			}
			if err := t.saveTrunk(ctx, v); err != nil {
				return err
			}
		}
		for _, n := range numbers {
			if _, err := t.exec(ctx, `INSERT INTO numbers (account, number, origin, settings, position)
				VALUES ($1, $2, $3, '{}', $4) ON CONFLICT (account, number) DO UPDATE SET position = excluded.position`,
				n.Account, n.Number, n.Origin, db.nextPosition()); err != nil {
				return err
			}
			if err := t.saveNumber(ctx, n); err != nil {
				return err
			}
		}
		return nil
	})
}
