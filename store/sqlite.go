package store

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"tandem/errs"
)

const (
	// busyTimeout is how long, in ms, a connection waits for another process that writes to the same file.
	busyTimeout = "10000"
	// sqliteReaders is the number of connections that read beside the one that writes.
	sqliteReaders = 4
	// writerCache is what the connection that writes keeps of the file, in KiB, as SQLite wants it: negative. Keys are random, so
	// the pages that a call writes to lie anywhere; with SQLite's 2 MiB it reads most of them again.
	writerCache = "-8192"
)

// connectSQLite opens path, or a database in memory for ":memory:". One connection writes: SQLite has one writer at a
// time anyway, and a queue in the pool is fair where its busy handler polls. Others read beside it (WAL).
func (db *DB) connectSQLite(ctx context.Context, path string) error {
	db.dialect = dialect{
		goose:   goose.DialectSQLite3,
		options: func() ([]goose.ProviderOption, error) { return nil, nil },
		code:    sqliteCode,
		again:   func(error) bool { return false }, // a transaction holds the write lock from its start
		lost:    func(error) bool { return false },
		groups:  true,
	}
	if path == ":memory:" {
		return db.connectMemory(ctx)
	}
	if path == "" {
		return errs.New(errs.Invalid, "the database URL sqlite: lacks the path of the file")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return errs.Wrap(err, errs.Invalid, "database file %s", path)
	}
	if err := createFile(path); err != nil {
		return err
	}
	// FULL syncs the log at every commit, so that a write survives a power cut too; a kill -9 alone it would survive with
	// NORMAL. Measured with BenchmarkWriteEvent on ext4 on a virtual SSD: 0.3 to 0.5 ms per commit, against 0.08 ms. Changes
	// that come at once share a commit (group): then 0.06 ms each.
	options := url.Values{
		"_busy_timeout": {busyTimeout},
		"_foreign_keys": {"1"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_txlock":       {"immediate"},
	}
	file := (&url.URL{Scheme: "file", Path: path}).String() + "?"
	options.Set("_pragma", "cache_size("+writerCache+")")
	if db.write, err = sql.Open("sqlite", file+options.Encode()); err != nil {
		return errs.Wrap(err, errs.Internal, "open database %s", path)
	}
	db.write.SetMaxOpenConns(1)
	options.Del("_pragma")
	options.Set("_query_only", "1")
	if db.read, err = sql.Open("sqlite", file+options.Encode()); err != nil {
		return joinClose(errs.Wrap(err, errs.Internal, "open database %s", path), db)
	}
	db.read.SetMaxOpenConns(sqliteReaders)
	db.read.SetMaxIdleConns(sqliteReaders)
	// Of two programs that turn a new file to WAL at once, SQLite lets one fail without a wait.
	for try := 1; ; try++ {
		err := db.write.PingContext(ctx)
		if err == nil {
			db.reads, db.writes = newStatements(db.read), newStatements(db.write)
			return nil
		}
		if sqliteCode(err) != errs.Unavailable {
			return joinClose(errs.Wrap(err, errs.Invalid, "open database %s", path), db)
		}
		if !pause(ctx, try) {
			return joinClose(errs.Wrap(err, errs.Unavailable, "open database %s", path), db)
		}
	}
}

// createFile makes the database file and its folder, readable by us alone: it holds the key that signs tokens.
func createFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return errs.Wrap(err, errs.Invalid, "create the folder of database %s", path)
	}
	// Only a new file: closing one that is open elsewhere in this program would take the locks that SQLite holds on it.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator's configuration names it
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return errs.Wrap(err, errs.Invalid, "create database %s", path)
	}
	if err := file.Close(); err != nil {
		return errs.Wrap(err, errs.Internal, "create database %s", path)
	}
	return nil
}

// connectMemory opens a database of its own that lives as long as the DB. All share one connection; a second one does
// nothing but keep the database alive should the pool ever replace the first.
func (db *DB) connectMemory(ctx context.Context) error {
	options := url.Values{
		"vfs":           {"memdb"},
		"_busy_timeout": {busyTimeout},
		"_foreign_keys": {"1"},
		"_txlock":       {"immediate"},
	}
	pool, err := sql.Open("sqlite", "file:/"+uuid.NewString()+"?"+options.Encode())
	if err != nil {
		return errs.Wrap(err, errs.Internal, "open a database in memory")
	}
	db.write, db.read = pool, pool
	anchor, err := pool.Conn(ctx)
	if err != nil {
		return joinClose(errs.Wrap(err, errs.Internal, "open a database in memory"), db)
	}
	db.dialect.close = anchor.Close
	pool.SetMaxOpenConns(2) // the anchor and the one that works
	db.reads, db.writes = newStatements(pool), newStatements(pool)
	return nil
}

func sqliteCode(err error) errs.Code {
	failure, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return errs.Internal
	}
	switch code := failure.Code(); {
	case code == sqlite3.SQLITE_CONSTRAINT_UNIQUE, code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return errs.Conflict
	case code&0xff == sqlite3.SQLITE_BUSY, code&0xff == sqlite3.SQLITE_LOCKED, code&0xff == sqlite3.SQLITE_FULL:
		return errs.Unavailable
	}
	return errs.Internal
}
