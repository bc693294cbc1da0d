package sfu_test

import (
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/sfu"
)

func TestPublishAndSubscribe(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")

	mic := ann.track(webrtc.MimeTypeOpus, "camera", "mic")
	cam := ann.track(webrtc.MimeTypeVP8, "camera", "cam")
	result := ann.offerPublish(map[string]string{"camera": "front"}, nil)
	require.Equal(t, map[string]metadata{
		"camera": {EndpointID: "camera", MediaTypes: []string{"AUDIO", "VIDEO"}, Alias: "front", ParticipantID: "ann"},
	}, result.StreamMetadata)
	require.NotEmpty(t, result.EndpointID)

	first := bob.nextOffer()
	require.Equal(t, 1, first.SDPRevision)
	require.Equal(t, result.StreamMetadata, first.StreamMetadata)

	mic.until(t, "voice", func() bool { return bob.hears("camera", "mic").count("voice") >= 10 })
	cam.until(t, "picture", func() bool { return bob.hears("camera", "cam").count("picture") >= 10 })
	require.Zero(t, bob.hears("camera", "mic").count("picture"))
	require.Equal(t, []string{"ann connected a1", "bob connected b1"}, g.room.log())
	require.Eventually(t, func() bool { return len(ann.offers) == 0 }, patience, time.Millisecond)
}
