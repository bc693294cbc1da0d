package store_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/errs"
)

func TestAnswers(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		now := time.Now()
		claim := func(key, fingerprint string, at time.Time) (int, string, error) {
			status, body, err := s.db.ClaimAnswer(t.Context(), account, key, fingerprint, at)
			return status, string(body), err
		}
		status, _, err := claim("k", "f", now)
		require.NoError(t, err)
		require.Zero(t, status)
		_, _, err = claim("k", "f", now)
		require.Equal(t, errs.Conflict, errs.CodeOf(err), "it is still at work")
		_, _, err = claim("k", "f", now.Add(time.Hour))
		require.Equal(t, errs.Conflict, errs.CodeOf(err))
		require.ErrorContains(t, err, "cut")

		require.NoError(t, s.db.KeepAnswer(t.Context(), account, "k", http.StatusOK, []byte(`{"id":1}`)))
		status, body, err := claim("k", "f", now.Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		require.JSONEq(t, `{"id":1}`, body)
		_, _, err = claim("k", "another", now)
		require.Equal(t, errs.Invalid, errs.CodeOf(err))
		require.NoError(t, s.db.DropAnswer(t.Context(), account, "k"), "an answer that stands is not dropped")
		status, _, err = claim("k", "f", now)
		require.NoError(t, err)
		require.NotZero(t, status)

		status, _, err = s.db.ClaimAnswer(t.Context(), "another account", "k", "f", now)
		require.NoError(t, err)
		require.Zero(t, status)

		status, _, err = claim("k", "f", now.Add(25*time.Hour))
		require.NoError(t, err)
		require.Zero(t, status, "after a day it is forgotten")
		require.NoError(t, s.db.DropAnswer(t.Context(), account, "k"))
		status, _, err = claim("k", "g", now.Add(25*time.Hour))
		require.NoError(t, err)
		require.Zero(t, status, "given back")

		var first atomic.Int64
		parallel(t, 20, func(int) error {
			_, _, err := s.db.ClaimAnswer(t.Context(), account, "race", "f", now)
			switch {
			case err == nil:
				first.Add(1)
			case errs.CodeOf(err) == errs.Conflict:
				err = nil
			}
			return err
		})
		require.EqualValues(t, 1, first.Load())
	})
}
