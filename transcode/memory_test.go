package transcode

import (
	"runtime"
	"testing"

	"github.com/hraban/opus"
	"github.com/stretchr/testify/require"

	"tandem/media"
)

// heapOf is how many bytes of the heap each of some things takes that are made.
func heapOf(n int, build func() any) int {
	kept := make([]any, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range kept {
		kept[i] = build()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return (int(after.HeapAlloc) - int(before.HeapAlloc)) / n
}

// TestABridgeTakesLittleMemory: between a phone and one browser most of what a bridge can do is never done.
func TestABridgeTakesLittleMemory(t *testing.T) { // what others allocate would count
	const calls = 40
	libopus := heapOf(calls, func() any {
		enc, err := newVoiceEncoder(Config{}, narrow)
		require.NoError(t, err)
		dec, err := opus.NewDecoder(narrow, 1)
		require.NoError(t, err)
		return []any{enc, dec}
	})
	c := newClock()
	e := testEngine(c, Config{})
	var tel, web discard
	p := newBenchPair(t)
	all := heapOf(calls, func() any {
		b, err := e.newBridge(BridgeConfig{Media: pcmu}, &tel)
		require.NoError(t, err)
		t.Cleanup(func() { b.Close(nil) })
		b.Source().Audio().Add(&web)
		track := media.NewTrack("audio", media.Audio, media.BrowserOpus(), nil)
		b.Subscribe(&media.Source{Tracks: []*media.Track{track}})
		for i := range 50 {
			b.up.ReceiveRTP(p.tel[i], c.t)
			track.WriteRTP(p.web[i])
			b.tick(c.t)
			next(p.tel[i], 8000)
			next(p.web[i], 48000)
			c.add(frameTime)
		}
		return b
	})
	require.GreaterOrEqual(t, tel.packets, calls*49)
	require.GreaterOrEqual(t, web.packets, calls*49)
	t.Logf("%d bytes, and %d of libopus", all-libopus, libopus)
	require.Less(t, all-libopus, 16<<10)
}
