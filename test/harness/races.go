package harness

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// ShowRaces brings what the race detector reports from now on into the log of a test that fails for it. The detector itself
// writes to the standard error of all tests, far from the test that failed, or where log_path in GORACE says; only with the
// latter, which scripts/test sets, there is something to bring.
func ShowRaces(tb testing.TB) {
	tb.Helper()
	path := racesPath()
	if path == "" {
		return
	}
	before := len(readRaces(path))
	tb.Cleanup(func() {
		if !tb.Failed() { // a race makes it fail
			return
		}
		if reports := readRaces(path); len(reports) > before {
			tb.Logf("the race detector reports, of all that ran beside this test too:\n%s", reports[before:])
		}
	})
}

// racesPath is the file of this process; empty: there is none.
func racesPath() string {
	for option := range strings.FieldsSeq(os.Getenv("GORACE")) {
		if path, ok := strings.CutPrefix(option, "log_path="); ok && path != "stdout" && path != "stderr" {
			return fmt.Sprintf("%s.%d", path, os.Getpid())
		}
	}
	return ""
}

// readRaces reads it; the detector makes it when there is something to write, so that none is no error.
func readRaces(path string) string {
	text, _ := os.ReadFile(path) //nolint:gosec // who runs the tests names it
	return string(text)
}
