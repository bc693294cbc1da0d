package transcode

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

// TestPanicTakesOutOneBridge lets what a packet sets off panic: the goroutine that reads packets goes on, the owner is
// told once, the log has its stack, and the bridge does nothing any more.
func TestPanicTakesOutOneBridge(t *testing.T) {
	c := newClock()
	m := pcmu
	m.InBand = true
	keys := 0
	var log strings.Builder
	e := NewEngine(Config{}, slog.New(slog.NewTextHandler(&log, nil)))
	e.now = c.now
	b, _ := testBridge(t, e, c, m, func(media.Key) { keys++; panic("injected") })
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
	require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"))
	require.Contains(t, log.String(), `msg="a phone's media failed"`)
	require.Contains(t, log.String(), "panic=injected stack=")
	require.Contains(t, log.String(), "tandem/transcode.TestPanicTakesOutOneBridge.func1(")
}
