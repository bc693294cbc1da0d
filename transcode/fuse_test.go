package transcode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

// TestPanicTakesOutOneBridge lets what a packet sets off panic: the goroutine that reads packets goes on, the owner is
// told once, and the bridge does nothing any more.
func TestPanicTakesOutOneBridge(t *testing.T) {
	c := newClock()
	m := pcmu
	m.InBand = true
	keys := 0
	b, _ := testBridge(t, testEngine(c, Config{}), c, m, func(media.Key) { keys++; panic("injected") })
	told := 0
	b.fuse.tell = func() { told++ }
	voice := newPhoneVoice(media.PCMU)
	pcm := dialTones("11", 120*1e6)
	for i := 0; (i+1)*160 <= len(pcm); i++ {
		b.up.ReceiveRTP(voice.make(pcm[i*160:(i+1)*160]), c.now())
		b.tick(c.now())
		c.add(frameTime)
	}
	require.Equal(t, 1, keys)
	require.Equal(t, 1, told)
}
