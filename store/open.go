// Package store keeps everything durable in SQLite or PostgreSQL: one SQL text for both, through database/sql.
package store

import (
	"context"
	"database/sql"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
	"tandem/trunks"
	"tandem/webhooks"
)

// DB is the database. Its methods may be called from any goroutine; it starts none itself.
type DB struct {
	dialect  dialect
	write    *sql.DB     // transactions that change something
	read     *sql.DB     // single reads; the same pool as write where the database likes it so
	group    group       // of dialects that want it
	reads    *statements // compiled for read; nil: the driver keeps its own
	writes   *statements // compiled for write; nil: likewise
	wake     *webhooks.Wakeups
	log      *slog.Logger
	position atomic.Int64
}

var (
	_ sessions.Store  = (*DB)(nil)
	_ dialogs.Store   = (*DB)(nil)
	_ webhooks.Outbox = (*DB)(nil)
	_ trunks.Store    = (*DB)(nil)
)

// Alive says whether the database answers.
func (db *DB) Alive(ctx context.Context) error {
	if err := db.read.PingContext(ctx); err != nil {
		return errs.Wrap(err, errs.Unavailable, "the database cannot be reached")
	}
	return nil
}

// dialect is all that SQLite and PostgreSQL do differently. Its two values are made in sqlite.go and postgres.go.
type dialect struct {
	goose   goose.Dialect
	options func() ([]goose.ProviderOption, error) // what the migration needs, beyond the schema
	// code says what kind of failure a driver's error is.
	code func(error) errs.Code
	// again says that the transaction was rolled back in favour of another one and may simply be run again.
	again func(error) bool
	// lost says that the connection was gone, so that another one may do better.
	lost func(error) bool
	// groups says that changes share commits: there is one writer at a time anyway.
	groups bool
	close  func() error // closes what belongs to the dialect beside the pools
}

// Open opens the database that url names (sqlite:PATH, sqlite::memory: or postgres://…), creates its folder and brings
// its schema up to date; a schema that is newer than this program is refused. wake is told after every commit that
// wrote events; nil: nobody is told. The caller closes the DB.
func Open(ctx context.Context, url string, wake *webhooks.Wakeups, log *slog.Logger) (*DB, error) {
	if wake == nil {
		wake = webhooks.NewWakeups()
	}
	db := &DB{wake: wake, log: log}
	if err := db.connect(ctx, url); err != nil {
		return nil, err
	}
	if err := db.migrate(ctx); err != nil {
		return nil, joinClose(err, db)
	}
	return db, nil
}

// Migrate brings the schema of the database that url names up to date and does nothing else.
func Migrate(ctx context.Context, url string, log *slog.Logger) error {
	db, err := Open(ctx, url, nil, log)
	if err != nil {
		return err
	}
	return db.Close()
}

func (db *DB) connect(ctx context.Context, url string) error {
	switch scheme, rest, _ := strings.Cut(url, ":"); scheme {
	case "sqlite":
		return db.connectSQLite(ctx, rest)
	case "postgres", "postgresql":
		return db.connectPostgres(ctx, url)
	}
	return errs.New(errs.Invalid, "the database URL must be sqlite:PATH or postgres://user:password@host/database")
}

// Close closes all connections. Nothing may be asked of the DB afterwards.
func (db *DB) Close() error {
	var first error
	db.reads.close()
	db.writes.close()
	for _, pool := range []*sql.DB{db.read, db.write} {
		if pool == nil {
			continue
		}
		if err := pool.Close(); err != nil && first == nil {
			first = errs.Wrap(err, errs.Internal, "close the database")
		}
	}
	if db.dialect.close != nil {
		if err := db.dialect.close(); err != nil && first == nil {
			first = errs.Wrap(err, errs.Internal, "close the database")
		}
	}
	return first
}

// nextPosition returns a number that rises with every call and from one run of the program to the next, so that rows
// of the same millisecond keep the order in which they were made.
func (db *DB) nextPosition() int64 {
	for {
		last := db.position.Load()
		next := max(last+1, time.Now().UnixNano())
		if db.position.CompareAndSwap(last, next) {
			return next
		}
	}
}
