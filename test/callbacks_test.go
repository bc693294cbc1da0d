package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/harness"
)

// TestDeviceComesBackAtOnce is a page that is loaded again: the end of the old connection is told before the new one.
func TestDeviceComesBackAtOnce(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	callbacks := harness.NewCallbacks(t)
	browser, token := g.Participant(t, callbacks.URL)
	want := []string{}
	for range 20 {
		harness.Connect(t, g, browser, token).Close()
		want = append(want, "onConnect", "onLeave")
	}
	require.Eventually(t, func() bool { return len(callbacks.Words(browser)) == len(want) }, harness.Patience, tick)
	require.Equal(t, want, callbacks.Words(browser))
}

// tick is how often something is looked at that must come.
const tick = 20 * time.Millisecond
