package store

import (
	"context"
	"embed"
	"errors"
	"io/fs"

	"github.com/pressly/goose/v3"

	"tandem/errs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies the migrations that are missing, each in its transaction, and refuses a schema from the future.
func (db *DB) migrate(ctx context.Context) error {
	provider, err := db.provider()
	if err != nil {
		return err
	}
	for last := int64(-1); ; {
		current, target, err := provider.GetVersions(ctx)
		if err != nil {
			return db.failure(err, "read the schema's version")
		}
		if current > target {
			return errs.New(errs.Invalid, "the database has schema version %d, but this program knows versions up to %d only: use the newer program", current, target)
		}
		if current == target {
			return nil
		}
		applied, err := provider.Up(ctx)
		// On SQLite nothing keeps two programs from starting the same migration. The loser goes on where the winner was.
		if err != nil && current == last {
			return db.failure(err, "migrate the schema")
		}
		last = current
		for _, m := range applied {
			db.log.Info("database schema migrated", "version", m.Source.Version, "took", m.Duration)
		}
	}
}

func (db *DB) provider() (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, "find the migrations")
	}
	options, err := db.dialect.options()
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, "prepare the migration")
	}
	provider, err := goose.NewProvider(db.dialect.goose, db.write, files,
		append(options, goose.WithDisableGlobalRegistry(true), goose.WithSlog(db.log))...)
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, "read the migrations")
	}
	return provider, nil
}

// joinClose closes db after err and keeps both errors.
func joinClose(err error, db *DB) error {
	return errors.Join(err, db.Close())
}
