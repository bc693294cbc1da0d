package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDistIsFresh bundles again and compares: what is committed is what the sources make.
func TestDistIsFresh(t *testing.T) {
	want, err := bundle("../src")
	require.NoError(t, err)
	entries, err := os.ReadDir("../dist")
	require.NoError(t, err)
	assert.Len(t, entries, len(want))
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join("../dist", name))
		require.NoError(t, err, "run: go run ./web/build")
		assert.Equal(t, string(content), string(got), "%s is stale, run: go run ./web/build", name)
	}
}

func TestBundleReportsMistakes(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app.css"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app.ts"), []byte("const = 1"), 0o600))
	_, err := bundle(dir)
	require.ErrorContains(t, err, "app.ts")
}

func TestRunWritesEverything(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, run("../src", dir))
	for _, name := range []string{"app.js", "app.css", "index.html", "icon.svg"} {
		assert.FileExists(t, filepath.Join(dir, name))
	}
	require.Error(t, run("../src", filepath.Join(dir, "missing")))
}
