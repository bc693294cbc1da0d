// Package storetest gives tests real databases: a private PostgreSQL server, and empty databases on it.
package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// dsnVariable names an environment variable with the URL of a server on which tests may create databases.
const dsnVariable = "TANDEM_TEST_POSTGRES"

// server is the one PostgreSQL of this test binary.
type server struct {
	mu   sync.Mutex
	url  *url.URL // of its maintenance database; nil: not started
	err  error    // why it could not be started
	stop func()   // nil: nothing of ours to stop
}

//nolint:gochecknoglobals // one server per test binary: the tests of a package have no other place to share it
var shared server

// Postgres returns the URL of a fresh, empty database that is dropped when the test ends. The server is the one that
// TANDEM_TEST_POSTGRES names; when it is unset, a private one is started from the system's PostgreSQL for all tests of
// the binary, and TestMain must call Stop. Without PostgreSQL the test is skipped; it fails when CI or
// TANDEM_TEST_ALL is set.
func Postgres(tb testing.TB) string {
	tb.Helper()
	base, err := shared.start()
	if err != nil {
		if errors.Is(err, errMissing) && os.Getenv("CI") == "" && os.Getenv("TANDEM_TEST_ALL") == "" {
			tb.Skip(err)
		}
		tb.Fatal(err)
	}
	name := "tandem_" + strings.ToLower(rand.Text()[:12])
	if err := run(base, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		tb.Fatalf("create a database on %s: %v", base.Redacted(), err)
	}
	tb.Cleanup(func() {
		if err := run(base, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("drop database %s: %v", name, err)
		}
	})
	database := *base
	database.Path = "/" + name
	return database.String()
}

// Stop ends the private server, if one was started. TestMain calls it after the tests.
func Stop() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.stop != nil {
		shared.stop()
		shared.stop, shared.url = nil, nil
	}
}

func (s *server) start() (*url.URL, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.url != nil || s.err != nil {
		return s.url, s.err
	}
	if dsn := os.Getenv(dsnVariable); dsn != "" {
		parsed, err := url.Parse(dsn)
		if err != nil || parsed.Host == "" && parsed.RawQuery == "" {
			s.err = fmt.Errorf("%s must be postgres://user:password@host/database", dsnVariable)
			return nil, s.err
		}
		s.url = parsed
		return s.url, nil
	}
	s.url, s.stop, s.err = startPrivate()
	return s.url, s.err
}

// run executes one statement on a connection of its own.
func run(base *url.URL, statement string) error {
	db, err := sql.Open("pgx", base.String())
	if err != nil {
		return err
	}
	_, err = db.ExecContext(context.Background(), statement)
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return err
}

// watch runs the server until its standard input ends, which also happens when the test binary is killed; then it
// removes the data. $1: folder of the binaries, $2: folder of the data.
const watch = `"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c synchronous_commit=off \
	-c full_page_writes=off -c max_connections=200 -c timezone=UTC >"$2/log" 2>&1 </dev/null &
read -r _
kill -INT $!
wait $!
rm -rf "$2"`

// startPrivate makes a database cluster in a temporary folder and starts a server on it that listens on a UNIX socket
// in that folder only.
func startPrivate() (*url.URL, func(), error) {
	bin, err := binaries()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "tandem-pg-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder for PostgreSQL: %w", err)
	}
	attributes, err := unprivileged(dir)
	if err != nil {
		return nil, nil, err
	}
	ctx := context.Background()
	//nolint:gosec // the program is PostgreSQL's, the folders are ours
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"),
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	initdb.SysProcAttr, initdb.Dir = attributes, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	//nolint:gosec // the same
	watcher := exec.CommandContext(ctx, "/bin/sh", "-c", watch, "sh", bin, dir)
	watcher.SysProcAttr, watcher.Dir, watcher.Stdin = attributes, dir, read
	err = watcher.Start()
	_ = read.Close()
	if err != nil {
		_ = write.Close()
		return nil, nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	stop := func() {
		_ = write.Close()
		_ = watcher.Wait()
	}
	base := &url.URL{
		Scheme: "postgres", User: url.User("postgres"), Path: "/postgres",
		RawQuery: url.Values{"host": {dir}}.Encode(),
	}
	if err := ready(base); err != nil {
		out, _ := os.ReadFile(filepath.Join(dir, "log")) //nolint:gosec // our own file
		stop()
		return nil, nil, fmt.Errorf("PostgreSQL does not answer: %w: %s", err, out)
	}
	return base, stop, nil
}

var errMissing = errors.New("no PostgreSQL to test with: install it (apt-get install postgresql) or set " + dsnVariable + " to a server's URL")

// binaries finds the folder of the newest PostgreSQL, where Debian keeps it or in the path.
func binaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errMissing
}

// version reads the 15 of /usr/lib/postgresql/15/bin/initdb.
func version(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
}

// unprivileged gives dir to the system's user postgres when we are root, as whom PostgreSQL refuses to run. The
// process group keeps ^C from the server, whose end is ours to order.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() != 0 {
		return attributes, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("find the user to run PostgreSQL as: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user id of postgres: %w", err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group id of postgres: %w", err)
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return nil, fmt.Errorf("give %s to postgres: %w", dir, err)
	}
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attributes, nil
}

// ready waits until the server answers.
func ready(base *url.URL) error {
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := run(base, "SELECT 1")
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-time.After(50 * time.Millisecond)
	}
}
