package sip

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// TestPair: two legs that are each other's far end, over two ports.
func TestPair(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{}, newCallers(nil))
	a, b, err := g.Pair()
	require.NoError(t, err)
	a.Answer() // only the other one answers
	a.Hold(true)
	a.Progress(true)
	a.SendKey('1', 0)
	a.Referred(200)
	require.Empty(t, a.Events())
	b.Answer()
	b.Answer()
	inA, inB := next(t, a), next(t, b)
	require.Equal(t, dialogs.LegMedia, inA.Kind)
	require.Equal(t, inA.Port.Bound(), inB.Media.Remote)
	require.Equal(t, inB.Port.Bound(), inA.Media.Remote)
	require.Equal(t, dialogs.LegAnswered, next(t, a).Kind)
	require.Equal(t, dialogs.LegAnswered, next(t, b).Kind)
	a.Hold(true)
	require.False(t, next(t, a).Media.Receive)
	require.Equal(t, dialogs.Hold{ByUs: true}, next(t, a).Hold)
	a.Refer(dialogs.Refer{To: "+15550105"})
	refused := next(t, a)
	require.True(t, refused.Final)
	require.Equal(t, dialogs.Error, refused.Cause.Reason)
	for range 2 * pairEvents { // nobody reads them
		a.Refer(dialogs.Refer{})
		a.Hold(false)
	}
	b.Hangup(0)
	a.Hangup(0)
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, b))
	require.Equal(t, dialogs.Cause{Details: byFarEnd}, end(t, a))
	b.Answer()
	g.idle(t)
}

func TestPairIsRefused(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{}, newCallers(nil))
	a, b, err := g.Pair()
	require.NoError(t, err)
	b.Hangup(486)
	require.Equal(t, dialogs.Cause{Reason: dialogs.FarEndBusy, Details: "486 Busy Here", SIPCode: 486}, end(t, a))
	require.Equal(t, dialogs.Cause{Details: byThisEnd}, end(t, b))
	g.idle(t)
}
