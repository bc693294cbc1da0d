package transcode

import (
	"testing"

	"github.com/hraban/opus"
	"github.com/stretchr/testify/require"

	"tandem/media"
)

// A phone that nobody listens to has no encoder; one that is heard has one until its bridge is closed.
func TestEncoderIsMadeForAListener(t *testing.T) {
	c := newClock()
	b, _ := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	voice := newPhoneVoice(media.PCMU)
	b.up.ReceiveRTP(voice.make(make([]int16, frameSamples)), c.now())
	require.Nil(t, b.up.opus)

	b.Source().Audio().Add(&opusEar{})
	b.up.ReceiveRTP(voice.make(make([]int16, frameSamples)), c.now())
	require.NotNil(t, b.up.opus)
	b.Close(nil)
	require.Nil(t, b.up.opus)
}

// Where no encoder can be made, the call's owner is told once, and the bridge does nothing any more.
func TestBridgeWithoutEncoderFails(t *testing.T) {
	c := newClock()
	b, _ := testBridge(t, testEngine(c, Config{}), c, pcmu, nil)
	b.up.encoder = func(int) (*voiceEncoder, error) { return nil, opus.ErrAllocFail }
	told := 0
	b.fuse.tell = func() { told++ }
	var web discard
	b.Source().Audio().Add(&web)
	voice := newPhoneVoice(media.PCMU)
	for range 3 {
		b.up.ReceiveRTP(voice.make(make([]int16, frameSamples)), c.now())
	}
	require.Equal(t, 1, told)
	require.Zero(t, web.packets)
}
