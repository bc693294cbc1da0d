package store

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// maxGroup is how many changes share one commit: whoever is first waits for the last.
const maxGroup = 128

// gathering is how long a group waits for others while changes come so fast that some share a commit already. A commit
// costs as much as several changes: at 1000 changes a second 8 % of a call's whole CPU time was saved by this.
const gathering = 2 * time.Millisecond

// group lets changes that wait for SQLite's one writer share a commit, which is what takes time: it syncs the log to the
// disk. Changes run one after the other in the order in which they came. Where one fails, all begin anew, each in a
// transaction of its own, so that it takes nothing with it. There is no goroutine: of those who wait, one leads, and hands
// that on.
type group struct {
	mu      sync.Mutex
	waiting []*member
	led     bool // somebody leads
	crowded bool // the last group had more than one member
}

// member is one change in a group.
type member struct {
	ctx  context.Context //nolint:containedctx // of whoever waits for it
	run  func(*tx) error
	lead chan struct{} // closed when it is to lead
	done chan struct{} // closed when what follows is set
	result
}

// result is what became of a change.
type result struct {
	wake       []string // participants with new events
	committing bool     // err is of the commit
	err        error
	panicked   any
}

// change runs f in a transaction that others may share. When it returns, f is committed, or left no trace; but for a
// failed commit, which nobody knows about.
func (g *group) change(ctx context.Context, db *DB, f func(*tx) error) result {
	m := &member{ctx: ctx, run: f, lead: make(chan struct{}), done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, m)
	if !g.led {
		g.led = true
		close(m.lead)
	}
	g.mu.Unlock()
	select {
	case <-m.lead:
		g.work(db) //nolint:contextcheck // what is shared ends with nobody's time
	case <-m.done:
	case <-ctx.Done():
		if g.leave(m) {
			return result{err: ctx.Err()}
		}
		select { // too late to leave
		case <-m.lead:
			g.work(db) //nolint:contextcheck // as above
		case <-m.done:
		}
	}
	<-m.done
	return m.result
}

// leave takes a change back that nobody has begun and that does not lead.
func (g *group) leave(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-m.lead:
		return false
	default:
	}
	i := slices.Index(g.waiting, m)
	if i < 0 {
		return false
	}
	g.waiting = slices.Delete(slices.Clone(g.waiting), i, i+1) // a group at work has a part of the old one
	return true
}

// work runs those who wait, the leader among them, and lets the next lead.
func (g *group) work(db *DB) {
	g.mu.Lock()
	crowded := g.crowded
	g.mu.Unlock()
	if crowded {
		time.Sleep(gathering) // for time alone: nobody knows who will come, and who leads has nothing else to do
	}
	g.mu.Lock()
	n := min(len(g.waiting), maxGroup)
	members := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.crowded = n > 1
	g.mu.Unlock()
	defer func() {
		for _, m := range members {
			close(m.done)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.led = len(g.waiting) > 0; g.led {
			close(g.waiting[0].lead)
		}
	}()
	if n == 1 {
		members[0].alone(db)
		return
	}
	if together(db, members) {
		return
	}
	// One failed, or the database gave the whole transaction up for the sake of one: nothing of it stands.
	for _, m := range members {
		m.result = result{}
		m.alone(db)
	}
}

// alone runs a change in a transaction of its own.
func (m *member) alone(db *DB) {
	begun, err := db.write.BeginTx(m.ctx, nil)
	if err != nil {
		m.err = err
		return
	}
	q := db.compile(begun)
	defer q.learn(context.WithoutCancel(m.ctx))
	defer func() { _ = begun.Rollback() }() // does nothing after the commit
	if m.apply(db, q); m.err != nil || m.panicked != nil {
		return
	}
	if m.err = begun.Commit(); m.err != nil {
		m.committing = true
	}
}

// together runs changes in one transaction. It is false when that came to nothing before its commit: also when one of
// them fails, since what it had done by then would stay. Guarding each by a savepoint would cost every change for that.
func together(db *DB, members []*member) bool {
	ctx := context.WithoutCancel(members[0].ctx)
	begun, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return false
	}
	q := db.compile(begun)
	defer q.learn(ctx)
	defer func() { _ = begun.Rollback() }() // does nothing after the commit
	for _, m := range members {
		if m.err = m.ctx.Err(); m.err != nil {
			continue
		}
		if m.apply(db, q); m.err != nil || m.panicked != nil {
			return false
		}
	}
	err = begun.Commit()
	for _, m := range members {
		if err != nil && m.err == nil {
			m.err, m.committing = err, true
		}
	}
	return true
}

// apply runs the change in a transaction that has begun. A panic is kept for whoever asked for the change.
func (m *member) apply(db *DB, q querier) {
	defer func() {
		if p := recover(); p != nil {
			m.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	t := &tx{query: query{q: q}, db: db}
	m.err = m.run(t)
	m.wake = t.wake
}
