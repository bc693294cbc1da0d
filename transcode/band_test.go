package transcode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

// Phones at 8 kHz need no more than that of a browser; any other phone, and any mix for one, does.
func TestBandThatPhonesNeed(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{})
	web, second := newBrowser(t, "web", 1), newBrowser(t, "second", 1)
	var told []bool
	web.track.OnBand = func(narrow bool) { told = append(told, narrow) }
	steps := func(want ...bool) {
		t.Helper()
		require.Equal(t, want, told)
		told = nil
	}
	mulaw, _ := testBridge(t, e, c, pcmu, nil)
	alaw, _ := testBridge(t, e, c, media.PortMedia{Speech: media.PCMA, Send: true, Receive: true}, nil)
	better, _ := testBridge(t, e, c, media.PortMedia{Speech: media.G722, Send: true, Receive: true}, nil)
	best, _ := testBridge(t, e, c, media.PortMedia{Speech: media.Opus, Send: true, Receive: true}, nil)

	mulaw.Subscribe(web.src)
	steps(true)
	alaw.Subscribe(web.src)
	mulaw.Subscribe(second.src) // a mix
	steps()
	better.Subscribe(web.src)
	steps(false)
	better.Unsubscribe(web.src)
	steps(true)
	best.Subscribe(web.src)
	steps(false)
	best.Subscribe(second.src)
	steps()
	best.Close(nil)
	steps(true)
	alaw.Update(media.PortMedia{Speech: media.G722, Send: true, Receive: true})
	steps(false)
	alaw.Update(pcmu)
	steps(true)
	mulaw.Close(nil)
	alaw.Close(nil)
	steps()
}
