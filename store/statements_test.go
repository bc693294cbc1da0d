package store

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStatementsAreCompiledOnce(t *testing.T) {
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "a.db"), nil, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	one := db.reads.learn(t.Context(), "SELECT 1")
	require.NotNil(t, one)
	require.Same(t, one, db.reads.learn(t.Context(), "SELECT 1"))
	require.Nil(t, db.reads.learn(t.Context(), "SELEKT 1"), "what is no SQL is run as it is, and fails there")
	require.ErrorContains(t, db.reader().q.QueryRowContext(t.Context(), "SELEKT 1").Err(), "SELEKT")

	for i := range maxStatements {
		db.reads.learn(t.Context(), fmt.Sprintf("SELECT %d + 1", i))
	}
	require.Len(t, db.reads.all, maxStatements)
	var n int
	require.NoError(t, db.reader().q.QueryRowContext(t.Context(), "SELECT 41 + 1 -- one more").Scan(&n))
	require.Equal(t, 42, n)
}

func TestChangesRunCompiledTheSecondTime(t *testing.T) {
	db, err := Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "a.db"), nil, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	const text = "SELECT $1 + 1"
	ask := func() (n int) {
		require.NoError(t, db.change(t.Context(), "test", func(tx *tx) error {
			_, err := tx.row(context.Background(), []any{&n}, text, 1)
			return err
		}))
		return n
	}
	require.Nil(t, db.writes.find(text))
	require.Equal(t, 2, ask())
	require.NotNil(t, db.writes.find(text))
	require.Equal(t, 2, ask())
}
