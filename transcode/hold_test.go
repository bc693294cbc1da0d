package transcode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A phone that was on hold for 15 minutes hears the next frame, at the time that has passed meanwhile; and so do others
// what it says.
func TestSoundIsThereAtOnceAfterALongHold(t *testing.T) {
	const hold = 15 * time.Minute
	c := newClock()
	bridge, ear := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	b := newBrowser(t, "a", 1)
	bridge.Subscribe(b.src)
	say := b.speaker(440, 0.3)
	for range 50 {
		step(c, []*Bridge{bridge}, say)
	}
	held := pcmu
	held.Send, held.Receive = false, false
	bridge.Update(held)
	before := ear.got[len(ear.got)-1]
	sent := len(ear.got)
	for range int(hold / frameTime) {
		step(c, []*Bridge{bridge})
	}
	require.Len(t, ear.got, sent, "nothing is sent to a phone that is held")
	bridge.Update(pcmu)
	step(c, []*Bridge{bridge}, say)
	require.Greater(t, len(ear.got), sent, "the first frame after the hold is not heard")
	after := ear.got[sent]
	require.True(t, after.marker)
	require.InDelta(t, 8000*hold.Seconds(), float64(after.ts-before.ts), 8*200)
	for range 50 {
		step(c, []*Bridge{bridge}, say)
	}
	require.InDelta(t, 50, len(ear.got)-sent, 5)
}
