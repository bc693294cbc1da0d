package webhooks_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/webhooks"
)

func TestNewIDGrows(t *testing.T) {
	t.Parallel()
	var ids []string
	for range 1000 {
		ids = append(ids, webhooks.NewID())
	}
	require.True(t, slices.IsSorted(ids))
	require.Len(t, slices.Compact(ids), 1000)
	require.Regexp(t, `^msg_[0-9A-V]{26}$`, ids[0])
}
