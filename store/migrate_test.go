package store_test

import (
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
	"tandem/sessions"
	"tandem/store"
)

// raw opens the database behind the store's back.
func raw(t *testing.T, dsn string) (*sql.DB, goose.Dialect) {
	t.Helper()
	driver, dialect := "pgx", goose.DialectPostgres
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		driver, dialect, dsn = "sqlite", goose.DialectSQLite3, (&url.URL{Scheme: "file", Path: path}).String()+"?_busy_timeout=10000"
	}
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db, dialect
}

// durable runs a test on the databases that can be opened twice, before the store opened them.
func durable(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Helper()
	for _, d := range databases {
		if d.durable {
			t.Run(d.name, func(t *testing.T) { test(t, d.url(t)) })
		}
	}
}

// TestMigrationsFromV1 fills the first schema with rows and lets the program of today open it.
func TestMigrationsFromV1(t *testing.T) {
	rows, err := os.ReadFile(filepath.Join("testdata", "v1.sql"))
	require.NoError(t, err)
	durable(t, func(t *testing.T, dsn string) {
		ctx := t.Context()
		db, dialect := raw(t, dsn)
		provider, err := goose.NewProvider(dialect, db, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
		require.NoError(t, err)
		_, err = provider.UpTo(ctx, 1)
		require.NoError(t, err)
		for statement := range strings.SplitSeq(strings.TrimSpace(string(rows)), ";\n") {
			_, err := db.ExecContext(ctx, statement)
			require.NoError(t, err)
		}

		s := &suite{t: t, url: dsn}
		s.open()
		defer func() { require.NoError(t, s.db.Close()) }()
		current, target, err := provider.GetVersions(ctx)
		require.NoError(t, err)
		require.Equal(t, target, current)
		session, err := s.db.Session(ctx, account, "s1")
		require.NoError(t, err)
		require.Equal(t, "first", session.Tag)
		members, err := s.db.Members(ctx, "s1")
		require.NoError(t, err)
		require.Equal(t, []sessions.Participant{{
			ID: "p1", Account: account, CallbackURL: "https://app.example.com/", Tag: "agent",
			Permissions: []sessions.Permission{sessions.PublishAudio}, DeviceAPIVersion: "V3", Session: "s1",
			Subscriptions: sessions.Subscriptions{
				Session: "s1", Participants: []sessions.Subscription{{Participant: "p2", StreamAliases: []string{"cam"}}},
			},
			Created: time.UnixMilli(1000).UTC(), Version: 3,
		}}, members)
		connections, _, err := s.db.Connections(ctx)
		require.NoError(t, err)
		require.Equal(t, "laptop", connections[0].Device)
		unfinished, err := s.db.Unfinished(ctx)
		require.NoError(t, err)
		require.Equal(t, dialogs.Answered, unfinished[0].State)
		require.Equal(t, time.Minute, unfinished[0].RingTimeout)
		waiting := s.drain("p1")
		require.Len(t, waiting, 1)
		require.Equal(t, "msg_2", waiting[0].ID)
		secret, err := s.db.Secret(ctx, "token key", func() ([]byte, error) { return nil, errors.New("made anew") })
		require.NoError(t, err)
		require.Equal(t, []byte{1, 2, 3}, secret)
		require.NoError(t, s.db.WriteEvent(ctx, event("p1", "msg_3")))
		require.EqualValues(t, 3, s.drain("p1")[0].Sequence)
	})
}

func TestNewerSchema(t *testing.T) {
	durable(t, func(t *testing.T, dsn string) {
		ctx := t.Context()
		require.NoError(t, store.Migrate(ctx, dsn, silent))
		require.NoError(t, store.Migrate(ctx, dsn, silent), "nothing left to do")
		db, _ := raw(t, dsn)
		_, err := db.ExecContext(ctx, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, $1)`, true)
		require.NoError(t, err)
		_, err = store.Open(ctx, dsn, nil, silent)
		requireCode(t, err, errs.Invalid, "")
		require.Regexp(t, `^the database has schema version 999, but this program knows versions up to \d+ only: use the newer program$`, err.Error())
		require.EqualError(t, store.Migrate(ctx, dsn, silent), err.Error())
	})
}

// TestOpenTogether: programs that start at once on an empty database do not stumble over each other's migration.
func TestOpenTogether(t *testing.T) {
	durable(t, func(t *testing.T, dsn string) {
		parallel(t, 4, func(int) error {
			db, err := store.Open(t.Context(), dsn, nil, silent)
			if err != nil {
				return err
			}
			return db.Close()
		})
	})
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a file")
	require.NoError(t, os.WriteFile(file, []byte("this is no database, but long enough to be mistaken for one"), 0o600))
	cases := []struct {
		name, url string
		code      errs.Code
	}{
		{"nothing", "", errs.Invalid},
		{"no scheme", "tandem.db", errs.Invalid},
		{"unknown scheme", "mysql://root:hush@localhost/tandem", errs.Invalid},
		{"no path", "sqlite:", errs.Invalid},
		{"a folder below a file", "sqlite:" + filepath.Join(file, "tandem.db"), errs.Invalid},
		{"a folder", "sqlite:" + t.TempDir(), errs.Invalid},
		{"another kind of file", "sqlite:" + file, errs.Invalid},
		{"no PostgreSQL URL", "postgres://user:hush@host:port/db", errs.Invalid},
		{"no PostgreSQL there", "postgres://user:hush@127.0.0.1:1/db", errs.Unavailable},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := store.Open(t.Context(), c.url, nil, silent)
			requireCode(t, err, c.code, "")
			require.NotContains(t, err.Error(), "hush")
			require.NotContains(t, err.Error(), "\n", "one line")
		})
	}
}

func TestFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "tandem.db")
	s := &suite{t: t, url: "sqlite:" + path}
	s.open()
	defer func() { require.NoError(t, s.db.Close()) }()
	s.participant("p1")
	files, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	require.Len(t, files, 3, "the file, its log and their index")
	for _, file := range files {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s", file)
	}
}

// TestDamage: what somebody else wrote into the database is an error or passes, and never a panic.
func TestDamage(t *testing.T) {
	durable(t, func(t *testing.T, dsn string) {
		ctx := t.Context()
		s := &suite{t: t, url: dsn}
		s.open()
		defer func() { require.NoError(t, s.db.Close()) }()
		s.session("s1")
		s.participant("p1")
		s.join("p1", "s1")
		require.NoError(t, s.db.Connected(ctx, sessions.Connection{ID: "c1", Account: account, Participant: "p1"}, s.event("p1")))
		require.NoError(t, failure(s.db.CreateDialog(ctx, s.dialog("d1", "p1"), s.event("p1"))))
		db, _ := raw(t, dsn)
		damage := func(statement string) {
			_, err := db.ExecContext(ctx, statement)
			require.NoError(t, err)
		}
		for _, column := range []string{"permissions", "subscriptions", "muted_for"} {
			for _, value := range []string{"", "{", "[[]]", "7", `{"participants":{}}`, "\"\uFFFD\""} {
				damage("UPDATE participants SET permissions = '[]', subscriptions = '{}', muted_for = '[]'")
				damage("UPDATE participants SET " + column + " = '" + value + "'")
				got, err := s.db.Participant(ctx, account, "p1")
				if column != "subscriptions" || value != "[[]]" {
					requireCode(t, err, errs.Internal, "internal error")
				}
				_, _, err = s.db.Connections(ctx)
				require.Error(t, err)
				_, err = s.db.Members(ctx, "s1")
				require.Error(t, err)
				_, err = s.db.SaveMembership(ctx, got, 20)
				require.Error(t, err)
				_, err = s.db.DeleteSession(ctx, account, "s1", noEvent)
				if column != "subscriptions" {
					requireCode(t, err, errs.Internal, "internal error")
				}
				if err == nil {
					s.session("s1")
				}
				damage("UPDATE participants SET session_id = 's1'")
			}
		}
		damage("UPDATE participants SET permissions = '[\"TELEPATHY\"]', subscriptions = 'null', muted_for = 'null'")
		got, err := s.db.Participant(ctx, account, "p1")
		require.NoError(t, err)
		require.Equal(t, []sessions.Permission{"TELEPATHY"}, got.Permissions)
		damage("UPDATE dialogs SET state = 'DREAMING', created = -9223372036854775808, ring_timeout = 9223372036854775807")
		_, err = s.db.Dialog(ctx, account, "p1", "d1")
		require.NoError(t, err)
		damage("UPDATE events SET body = 'no JSON', status = 'lost' WHERE sequence = 1")
		_, _, err = s.db.Next(ctx, "p1")
		require.NoError(t, err)
		damage("UPDATE settings SET value = '%'")
		damage("INSERT INTO settings (name, value) VALUES ('token key', '%')")
		_, err = s.db.Secret(ctx, "token key", nil)
		requireCode(t, err, errs.Internal, "internal error")
	})
}
