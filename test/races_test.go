package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/test/harness"
)

// failing is a test that fails, as far as ShowRaces sees it.
type failing struct {
	testing.TB
	failed   bool
	cleanups []func()
	log      string
}

func (f *failing) Helper()                        {}
func (f *failing) Failed() bool                   { return f.failed }
func (f *failing) Cleanup(do func())              { f.cleanups = append(f.cleanups, do) }
func (f *failing) Logf(format string, all ...any) { f.log += fmt.Sprintf(format, all...) }

// TestRaceReportIsInTheLogOfItsTest: what the race detector wrote while a test ran that failed is in that test's log, and
// what it wrote before is not.
func TestRaceReportIsInTheLogOfItsTest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "race")
	t.Setenv("GORACE", "halt_on_error=0 log_path="+path)
	write := func(text string) {
		file, err := os.OpenFile(fmt.Sprintf("%s.%d", path, os.Getpid()), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = file.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, file.Close())
	}
	run := func(failed bool, during string) string {
		f := &failing{TB: t, failed: failed}
		harness.ShowRaces(f)
		if during != "" {
			write(during)
		}
		for _, do := range f.cleanups {
			do()
		}
		return f.log
	}
	require.Contains(t, run(true, "WARNING: DATA RACE of one"), "DATA RACE of one", "the file is made by the first report")
	log := run(true, "WARNING: DATA RACE of another")
	require.Contains(t, log, "DATA RACE of another")
	require.NotContains(t, log, "of one")
	require.Empty(t, run(true, ""), "it fails for something else")
	require.Empty(t, run(false, "WARNING: DATA RACE of a third"), "a test that passes")

	t.Setenv("GORACE", "")
	require.Empty(t, run(true, "WARNING: DATA RACE of a fourth"))
}
