package store

import (
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSQLiteIsDurable asks the connection that writes what the options have made of it: every commit is synced. Its cache is
// larger than SQLite's own.
func TestSQLiteIsDurable(t *testing.T) {
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "t.db"), nil, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for pragma, want := range map[string]string{
		"synchronous":  "2", // FULL
		"journal_mode": "wal", "foreign_keys": "1", "cache_size": writerCache,
	} {
		var got any
		require.NoError(t, db.write.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
		if n, ok := got.(int64); ok {
			got = strconv.FormatInt(n, 10)
		}
		require.Equal(t, want, got, pragma)
	}
}
