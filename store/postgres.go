package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"tandem/errs"
)

const (
	postgresConnections    = 16
	postgresConnectTimeout = 10 * time.Second
)

// connectPostgres opens a pool on a PostgreSQL server. Everything is written for its READ COMMITTED: what must not
// change under a transaction is locked by an UPDATE of the row that guards it before it is read.
func (db *DB) connectPostgres(ctx context.Context, url string) error {
	db.dialect = dialect{goose: goose.DialectPostgres, options: postgresOptions, code: postgresCode, again: postgresAgain}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return errs.Wrap(err, errs.Invalid, "the database URL is no PostgreSQL URL") // pgx redacts the password
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = postgresConnectTimeout
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(postgresConnections)
	pool.SetMaxIdleConns(postgresConnections)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	db.write, db.read = pool, pool
	if err := pool.PingContext(ctx); err != nil {
		return joinClose(errs.Wrap(err, errs.Unavailable, "connect to PostgreSQL at %s:%d", config.Host, config.Port), db)
	}
	return nil
}

// postgresOptions: gateways that start together on an empty database migrate one after the other.
func postgresOptions() ([]goose.ProviderOption, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, err
	}
	return []goose.ProviderOption{goose.WithSessionLocker(locker)}, nil
}

// PostgreSQL's error codes that we tell apart (its manual, appendix A).
const (
	uniqueViolation      = "23505"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
)

func postgresCode(err error) errs.Code {
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		if failure.Code == uniqueViolation {
			return errs.Conflict
		}
		switch failure.Code[:min(2, len(failure.Code))] {
		case "08", "40", "53", "57": // connection, rolled back for another, out of resources, shut down
			return errs.Unavailable
		}
		return errs.Internal
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return errs.Unavailable
	}
	if _, ok := errors.AsType[net.Error](err); ok && !errors.Is(err, context.Canceled) {
		return errs.Unavailable
	}
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.Unavailable
	}
	return errs.Internal
}

func postgresAgain(err error) bool {
	failure, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (failure.Code == serializationFailure || failure.Code == deadlockDetected)
}
