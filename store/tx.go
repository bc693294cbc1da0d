package store

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"tandem/errs"
	"tandem/sessions"
)

// maxTries is how often a read or a transaction is run that came to nothing: the database rolled it back in favour of
// another one (PostgreSQL's deadlocks and serialization failures), or its connection was gone before the commit.
const maxTries = 10

// querier is what *sql.DB and *sql.Tx have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// query runs statements with arguments that every database takes.
type query struct {
	q    querier
	lost func(error) bool // of single reads: they are run again when the connection was gone; nil in a transaction
}

// tx is a transaction and what must be told when it is committed.
type tx struct {
	query
	db   *DB
	wake []string // participants with new events
}

// change runs f in a transaction that writes, commits it, and then wakes the webhook worker for the events that were
// written. f may be run again from the start: it must have no effects but on the tx and on what it assigns.
func (db *DB) change(ctx context.Context, what string, f func(*tx) error) error {
	for try := 1; ; try++ {
		committing, err := db.try(ctx, f)
		if err == nil {
			return nil
		}
		// What became of a commit whose answer is lost nobody knows; everything else left no trace.
		again := db.dialect.again(err) || !committing && db.dialect.lost(err)
		if !again || !pause(ctx, try) {
			return db.failure(err, what)
		}
	}
}

// pause waits before another try, so that losers don't meet again at the same instant. It is false when there is none.
func pause(ctx context.Context, try int) bool {
	if try >= maxTries || ctx.Err() != nil {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(rand.N(time.Duration(try) * 5 * time.Millisecond)):
		return true
	}
}

// try runs f once and commits it. committing: what became of the commit is not known.
func (db *DB) try(ctx context.Context, f func(*tx) error) (committing bool, err error) {
	m := member{ctx: ctx, run: f}
	if db.dialect.groups {
		m.result = db.group.change(ctx, db, f)
	} else {
		m.alone(db) //nolint:contextcheck // it is in m
	}
	if m.panicked != nil {
		panic(m.panicked)
	}
	if m.err != nil {
		return m.committing, m.err
	}
	for _, participant := range m.wake {
		db.wake.Add(participant)
	}
	return false, nil
}

func (db *DB) reader() query {
	if db.reads == nil {
		return query{q: db.read, lost: db.dialect.lost}
	}
	return query{q: reading{db.read, db.reads}, lost: db.dialect.lost}
}

// again says, after a short wait, that a read that failed shall be run again.
func (q query) again(ctx context.Context, try int, err error) bool {
	return err != nil && q.lost != nil && q.lost(err) && pause(ctx, try)
}

// failure gives an error the code that the asker needs. Those that have one already pass unchanged.
func (db *DB) failure(err error, what string) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*errs.Error](err); ok || errors.Is(err, sessions.ErrStale) {
		return err
	}
	code := db.dialect.code(err)
	if errors.Is(err, context.DeadlineExceeded) {
		code = errs.Unavailable
	}
	switch code {
	case errs.Conflict:
		return errs.Wrap(err, code, "%s: it exists already", what)
	case errs.Unavailable:
		return errs.Wrap(err, code, "%s: the database cannot be reached or is busy, try again", what)
	default:
		return errs.Wrap(err, errs.Internal, "%s", what)
	}
}

// exec returns the number of rows that were changed.
func (q query) exec(ctx context.Context, text string, args ...any) (int64, error) {
	result, err := q.q.ExecContext(ctx, text, clean(args)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// row scans the first row into dest; ok is false when there is none.
func (q query) row(ctx context.Context, dest []any, text string, args ...any) (ok bool, err error) {
	_, ok, err = one(ctx, q, func(row scanner) (struct{}, error) { return struct{}{}, row.Scan(dest...) }, text, args...)
	return ok, err
}

// scanner is what *sql.Row and *sql.Rows have in common.
type scanner interface{ Scan(dest ...any) error }

// all reads every row.
func all[T any](ctx context.Context, q query, scan func(scanner) (T, error), text string, args ...any) ([]T, error) {
	for try := 1; ; try++ {
		list, err := rows(ctx, q, scan, text, args...)
		if !q.again(ctx, try, err) {
			return list, err
		}
	}
}

func rows[T any](ctx context.Context, q query, scan func(scanner) (T, error), text string, args ...any) (list []T, err error) {
	rows, err := q.q.QueryContext(ctx, text, clean(args)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	return list, rows.Err()
}

// one reads the first row; ok is false when there is none.
func one[T any](ctx context.Context, q query, scan func(scanner) (T, error), text string, args ...any) (item T, ok bool, err error) {
	for try := 1; ; try++ {
		item, err = scan(q.q.QueryRowContext(ctx, text, clean(args)...))
		if errors.Is(err, sql.ErrNoRows) {
			return item, false, nil
		}
		if !q.again(ctx, try, err) {
			return item, err == nil, err
		}
	}
}

// clean makes every text storable: PostgreSQL refuses NUL and what is not UTF-8, and a caller's name that comes over
// SIP may hold both. Both databases then keep, and find, the same text.
func clean(args []any) []any {
	for i, arg := range args {
		if s, ok := arg.(string); ok {
			args[i] = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
		}
	}
	return args
}

// millis is how a time is stored; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// fromMillis is the reverse of millis.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// deletedAt is millis for a column in which 0 means that the row is alive.
func deletedAt(t time.Time) int64 {
	if ms := millis(t); ms != 0 {
		return ms
	}
	return 1
}
