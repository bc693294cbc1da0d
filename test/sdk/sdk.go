// Package sdk holds the published Bandwidth SDKs that Tandem is tested with, unmodified, as npm installs them from
// the lock file beside this file.
package sdk

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Dir returns the folder that holds package.json and node_modules. What is missing there, or is older than the lock
// file, is installed first; several test programs may ask at once.
func Dir(tb testing.TB) string {
	tb.Helper()
	_, file, _, ok := runtime.Caller(0)
	require.True(tb, ok)
	dir := filepath.Dir(file)

	lock, err := os.OpenFile(filepath.Join(dir, "package.json"), os.O_RDONLY, 0)
	require.NoError(tb, err)
	defer func() { _ = lock.Close() }() // which unlocks, too
	require.NoError(tb, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	if fresh(dir) {
		return dir
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(tb, err, "npm ci in %s: %s", dir, out)
	return dir
}

// fresh says whether the last installation is newer than the lock file. npm leaves a copy of it when it is done.
func fresh(dir string) bool {
	want, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return false
	}
	got, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json"))
	return err == nil && !got.ModTime().Before(want.ModTime())
}
