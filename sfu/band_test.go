package sfu_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/sfu"
)

// ear is somebody who takes a track's packets.
type ear struct{ _ byte }

func (*ear) WriteRTP(*rtp.Packet) {}

const narrowband = "maxplaybackrate=8000"

// A browser whom only phones of G.711 hear sends narrowband, and full band as soon as somebody else hears it.
func TestBandFollowsTheListeners(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{BandPause: time.Millisecond})
	ann := g.browser(t, "ann", "a1", follows)
	ann.track(webrtc.MimeTypeOpus, "s", "mic")
	require.NotContains(t, ann.offerPublish(nil, nil).SDPAnswer, narrowband, "nobody hears it yet")
	track := g.room.sources("ann")[0].Audio()

	wanted := func(narrow bool) {
		t.Helper()
		require.Equal(t, "offerWanted", ann.nextNote().Method)
		answer := ann.offerPublish(nil, nil).SDPAnswer
		require.Equal(t, narrow, strings.Contains(answer, narrowband), "%s", answer)
		require.Same(t, track, g.room.sources("ann")[0].Audio(), "nothing is published anew")
	}
	phone, other, browser := &ear{}, &ear{}, &ear{}
	track.AddNarrow(phone)
	wanted(true)
	track.AddNarrow(other)
	track.Remove(phone)
	track.Add(browser)
	wanted(false)
	track.Remove(other)
	track.Remove(browser) // nobody: nothing to say
	track.AddNarrow(phone)
	wanted(true)
	track.Add(phone) // another codec
	wanted(false)
	ann.call("ping", nil)
	require.Empty(t, ann.notes)
}

// What does not last is not told, and what ends meanwhile is not asked for.
func TestBandDoesNotFlap(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{BandPause: time.Hour})
	ann := g.browser(t, "ann", "a1", follows)
	ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	track := g.room.sources("ann")[0].Audio()
	phone, browser := &ear{}, &ear{}
	track.AddNarrow(phone)
	require.NotContains(t, ann.offerPublish(nil, nil).SDPAnswer, narrowband, "it has not lasted")
	for range 20 {
		track.Add(browser)
		track.Remove(browser)
	}
	ann.call("ping", nil)
	require.Empty(t, ann.notes)
}

// What ends is told at once, however long it has to last before it is told that it begins.
func TestBandWidensAtOnce(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{BandPause: time.Hour})
	ann := g.browser(t, "ann", "a1", follows)
	ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	track := g.room.sources("ann")[0].Audio()
	track.AddNarrow(&ear{})
	g.EndBandPause("ann")
	require.Equal(t, "offerWanted", ann.nextNote().Method)
	require.Contains(t, ann.offerPublish(nil, nil).SDPAnswer, narrowband)

	track.Add(&ear{})
	require.Equal(t, "offerWanted", ann.nextNote().Method)
	require.NotContains(t, ann.offerPublish(nil, nil).SDPAnswer, narrowband)
}

// A client that does not offer when it is asked to is never held to narrowband: it could not be told when that ends.
func TestBandOfOldClients(t *testing.T) {
	var ann, bob *browser
	for who, options := range map[**browser][]browserOption{&ann: nil, &bob: {follows}} {
		g := serve(t, anybody("somebody"), sfu.Config{BandPause: time.Millisecond})
		*who = g.browser(t, "somebody", "d", options...)
		(*who).track(webrtc.MimeTypeOpus, "s", "mic")
		(*who).offerPublish(nil, nil)
	}
	for _, b := range []*browser{ann, bob} {
		b.g.room.sources("somebody")[0].Audio().AddNarrow(&ear{})
	}
	require.Equal(t, "offerWanted", bob.nextNote().Method) // it has lasted
	require.NotContains(t, ann.offerPublish(nil, nil).SDPAnswer, narrowband)
	require.Empty(t, ann.notes)
}

// A browser that was gone while it should have been asked is asked when it is back.
func TestBandAfterAReconnect(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{BandPause: time.Millisecond})
	ann := g.browser(t, "ann", "a1", follows)
	ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	track := g.room.sources("ann")[0].Audio()
	phone := &ear{}
	track.AddNarrow(phone)
	require.Equal(t, "offerWanted", ann.nextNote().Method)
	require.Contains(t, ann.offerPublish(nil, nil).SDPAnswer, narrowband)

	_ = ann.conn.CloseNow()
	ann.waitClosed()
	track.Add(&ear{})
	ann.dial("ann", "a1")
	require.Equal(t, "offerWanted", ann.nextNote().Method)
	require.NotContains(t, ann.offerPublish(nil, nil).SDPAnswer, narrowband)
}

var _ media.Sink = (*ear)(nil)

// A browser that was held to narrowband and sends another agreed codec is another source: it is asked anew, since who hears
// that one may need everything.
func TestBandEndsWithTheCodec(t *testing.T) {
	g := serve(t, plainRoom("ann"), sfu.Config{BandPause: time.Millisecond})
	ann := g.browser(t, "ann", "a1", follows)
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	opus := g.room.sources("ann")[0].Audio()
	opus.AddNarrow(&ear{})
	require.Equal(t, "offerWanted", ann.nextNote().Method)
	require.Contains(t, ann.offerPublish(nil, nil).SDPAnswer, narrowband)

	heard := make(arrived, 1000)
	opus.AddNarrow(heard)
	mic.until(t, "v", func() bool { return len(heard) > 0 })
	require.Eventually(t, func() bool {
		mic.seq++
		mic.ts += 160
		mic.send(0, &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: mic.seq, Timestamp: mic.ts}, Payload: []byte("law")})
		now := g.room.sources("ann")
		return len(now) == 1 && now[0].Audio().Codec.MimeType == webrtc.MimeTypePCMU
	}, patience, 5*time.Millisecond)
	g.room.sources("ann")[0].Audio().Add(&ear{}) // nothing to tell: a new track is thought to be heard in full band
	for note := ann.nextNote(); note.Method != "offerWanted"; note = ann.nextNote() {
	}
	require.NotContains(t, ann.offerPublish(nil, nil).SDPAnswer, narrowband)
}

// arrived tells of each packet of a track.
type arrived chan struct{}

func (a arrived) WriteRTP(*rtp.Packet) {
	select {
	case a <- struct{}{}:
	default:
	}
}
