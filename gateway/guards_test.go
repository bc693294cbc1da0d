package gateway

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAccountsAreGuardedByDefault: without a key of its own an account can neither call without end nor wherever it likes.
func TestAccountsAreGuardedByDefault(t *testing.T) {
	limits, err := (&AccountConfig{ID: "1"}).limits()
	require.NoError(t, err)
	require.Equal(t, 50, limits.MaxNewPerSecond)
	require.Equal(t, 100_000, limits.MinutesPerDay)
	require.False(t, limits.SIPURIs)
	require.Equal(t, 100, limits.MaxTrunks)
	require.Equal(t, 10_000, limits.MaxNumbers)
	none := 0
	limits, err = (&AccountConfig{ID: "1", MaxNewPerSecond: &none, MinutesPerDay: &none, MaxTrunks: &none, MaxNumbers: &none}).limits()
	require.NoError(t, err)
	require.Zero(t, limits.MaxNewPerSecond, "0 is no limit")
	require.Zero(t, limits.MinutesPerDay, "0 is no limit")
	require.Zero(t, limits.MaxTrunks+limits.MaxNumbers, "0 is no limit")
	less := -1
	_, err = (&AccountConfig{ID: "1", MaxTrunks: &less}).limits()
	require.ErrorContains(t, err, "maxTrunks: -1 should be 0 (no limit) or more")
}
