package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
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
	db.dialect = dialect{
		goose: goose.DialectPostgres, options: postgresOptions, code: postgresCode, again: postgresAgain, lost: postgresLost,
	}
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
		return joinClose(errs.Wrap(oneLine{err}, errs.Unavailable, "connect to PostgreSQL at %s:%d", config.Host, config.Port), db)
	}
	return nil
}

// oneLine joins the lines of an error: pgx puts each address that it tried on its own.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }
func (e oneLine) Unwrap() error { return e.error }

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
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok || postgresLost(err) || postgresAgain(err) {
		return errs.Unavailable
	}
	switch state := sqlState(err); {
	case state == uniqueViolation:
		return errs.Conflict
	case strings.HasPrefix(state, "53"): // out of disk, memory or connections
		return errs.Unavailable
	}
	return errs.Internal
}

// postgresLost says that a connection that stood is gone, also because the server shuts down (57P01, 57P02). One that
// cannot be made at all is not worth another try at once: each may take postgresConnectTimeout.
func postgresLost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return false
	}
	if state := sqlState(err); state != "" {
		return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "57P0")
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

func postgresAgain(err error) bool {
	state := sqlState(err)
	return state == serializationFailure || state == deadlockDetected
}

// sqlState is the server's error code, or empty when it sent none.
func sqlState(err error) string {
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok {
		return failure.Code
	}
	return ""
}
