// Package testlog lets what a test starts write to the test's log.
package testlog

import (
	"io"
	"sync"
	"testing"
)

// Writer writes to the log of a test until all ends that the test has started since. What comes later goes nowhere: some of sipgo's
// goroutines log when they end, and nobody can wait for them; testing takes such a line for a race.
func Writer(tb testing.TB) io.Writer {
	tb.Helper()
	w := &writer{out: tb.Output()}
	tb.Cleanup(w.end)
	return w
}

type writer struct {
	out io.Writer

	mu   sync.Mutex
	over bool
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return len(p), nil
	}
	return w.out.Write(p)
}

func (w *writer) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}
