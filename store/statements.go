package store

import (
	"context"
	"database/sql"
	"sync"
)

// maxStatements bounds what is kept: the texts are constants, but for a few that depend on what is asked.
const maxStatements = 256

// statements keeps the compiled statements of one pool of SQLite connections, where compiling a statement takes as long as
// running it. PostgreSQL's driver keeps its own.
type statements struct {
	pool *sql.DB
	mu   sync.Mutex
	all  map[string]*sql.Stmt
}

func newStatements(pool *sql.DB) *statements {
	return &statements{pool: pool, all: make(map[string]*sql.Stmt)}
}

// find returns the statement of a text, nil when there is none yet.
func (s *statements) find(text string) *sql.Stmt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[text]
}

// learn compiles a text. It waits for a connection of the pool: whoever holds the only one must not call it. Nil means
// that the text is to be run as it is, which tells what is wrong with it.
func (s *statements) learn(ctx context.Context, text string) *sql.Stmt {
	if known := s.find(text); known != nil {
		return known
	}
	s.mu.Lock()
	full := len(s.all) >= maxStatements
	s.mu.Unlock()
	if full {
		return nil
	}
	made, err := s.pool.PrepareContext(ctx, text) //nolint:sqlclosecheck // kept until close
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.all[text]; known != nil {
		_ = made.Close() //nolint:sqlclosecheck // the other one is kept
		return known
	}
	s.all[text] = made
	return made
}

// close gives the statements back, before their pool is closed.
func (s *statements) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stmt := range s.all {
		_ = stmt.Close()
	}
	clear(s.all)
}

// reading is a pool whose reads run compiled. Who writes uses a transaction.
type reading struct {
	*sql.DB
	known *statements
}

func (r reading) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	if stmt := r.known.learn(ctx, text); stmt != nil { //nolint:sqlclosecheck // kept until close
		return stmt.QueryContext(ctx, args...)
	}
	return r.DB.QueryContext(ctx, text, args...)
}

func (r reading) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	if stmt := r.known.learn(ctx, text); stmt != nil { //nolint:sqlclosecheck // kept until close
		return stmt.QueryRowContext(ctx, args...)
	}
	return r.DB.QueryRowContext(ctx, text, args...)
}

// compiled is a transaction of SQLite that runs what is compiled already, and notes what is not. Its statements run to
// their end: SQLite gives a whole transaction up, and the changes of others with it, when one of its statements is
// interrupted (sqlite3_interrupt). Whoever has no more time finds out before its change.
type compiled struct {
	*sql.Tx
	known   *statements
	missing []string
}

// transaction is what a change runs in.
type transaction interface {
	querier
	learn(ctx context.Context)
}

// plain is a transaction of PostgreSQL.
type plain struct{ *sql.Tx }

func (plain) learn(context.Context) {}

// compile makes a transaction that has begun run compiled statements where the database gains by it.
func (db *DB) compile(begun *sql.Tx) transaction {
	if db.writes == nil {
		return plain{begun}
	}
	return &compiled{Tx: begun, known: db.writes}
}

// learn compiles what was missing, once the transaction is over.
func (c *compiled) learn(ctx context.Context) {
	for _, text := range c.missing {
		c.known.learn(ctx, text)
	}
}

// find returns the statement of a text within the transaction, nil when there is none yet.
func (c *compiled) find(ctx context.Context, text string) *sql.Stmt {
	stmt := c.known.find(text)
	if stmt == nil {
		c.missing = append(c.missing, text)
		return nil
	}
	return c.StmtContext(ctx, stmt)
}

func (c *compiled) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	ctx = context.WithoutCancel(ctx)
	if stmt := c.find(ctx, text); stmt != nil { //nolint:sqlclosecheck // the transaction closes it
		return stmt.ExecContext(ctx, args...)
	}
	return c.Tx.ExecContext(ctx, text, args...)
}

func (c *compiled) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	ctx = context.WithoutCancel(ctx)
	if stmt := c.find(ctx, text); stmt != nil { //nolint:sqlclosecheck // the transaction closes it
		return stmt.QueryContext(ctx, args...)
	}
	return c.Tx.QueryContext(ctx, text, args...)
}

func (c *compiled) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	ctx = context.WithoutCancel(ctx)
	if stmt := c.find(ctx, text); stmt != nil { //nolint:sqlclosecheck // the transaction closes it
		return stmt.QueryRowContext(ctx, args...)
	}
	return c.Tx.QueryRowContext(ctx, text, args...)
}
