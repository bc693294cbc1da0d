package browser_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/test/audio"
	"tandem/test/browser"
	"tandem/test/harness"
)

// The tones of the fake microphones in Hz, and that of somebody who must not be heard.
const (
	lowTone      = 700
	highTone     = 1000
	strangerTone = 1500
)

// listen is how long a piece of sound is judged; settle, what is recorded before it and thrown away while the jitter
// buffer fills.
const (
	listen = 2 * time.Second
	settle = time.Second
)

const patience = 30 * time.Second

// hear records a stream and returns the piece to judge.
func hear(t *testing.T, p *browser.Page, stream string) []int16 {
	t.Helper()
	samples, err := p.Record(stream, settle+listen)
	require.NoError(t, err)
	return samples[int(settle.Seconds()*browser.Rate):]
}

// requireTone wants a clear tone of hz in what a browser heard, and nothing of the tones in not.
func requireTone(t *testing.T, samples []int16, rate int, hz float64, not ...float64) {
	t.Helper()
	snr := audio.MedianSNR(samples, rate, hz)
	t.Logf("%.1f Hz, SNR %.1f dB, %.1f dBFS", audio.Frequency(samples, rate), snr, audio.Level(samples))
	require.InDelta(t, hz, audio.Frequency(samples, rate), 5)
	require.GreaterOrEqual(t, snr, 20.0)
	for _, leak := range not {
		require.Less(t, audio.Goertzel(samples, rate, leak), audio.Goertzel(samples, rate, hz)-45, "%g Hz leaks", leak)
	}
}

// connect opens a page and connects it as a new participant.
func connect(t *testing.T, g *harness.Gateway, b *browser.Browser, callbackURL string) (p *browser.Page, participant string) {
	t.Helper()
	participant, token := g.Participant(t, callbackURL)
	p = b.Page(t)
	require.NoError(t, p.Connect(token, g.App.DeviceURL()))
	return p, participant
}

// TestTwoBrowsersHearEachOther: two browsers with different tones, and a third publisher in the session to whom
// neither is subscribed.
func TestTwoBrowsersHearEachOther(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	low, a := connect(t, g, browser.Start(t, browser.WriteTone(t, lowTone, -12)), "")
	high, b := connect(t, g, browser.Start(t, browser.WriteTone(t, highTone, -12)), "")
	stranger, token := g.Participant(t, "")

	session := g.Session(t)
	for _, p := range []string{a, b, stranger} {
		g.Join(t, session, p)
	}
	g.Hear(t, session, a, b)
	g.Hear(t, session, b, a)
	loud := harness.Connect(t, g, stranger, token)
	loud.PublishTone(strangerTone, -6, "stranger")

	_, err := low.Publish(true, false, "microphone")
	require.NoError(t, err)
	_, err = high.Publish(true, false, "microphone")
	require.NoError(t, err)

	atLow := low.WaitStream(t, b, "microphone")
	atHigh := high.WaitStream(t, a, "microphone")
	assert.Equal(t, []string{"AUDIO"}, atLow.MediaTypes)
	requireTone(t, hear(t, low, atLow.ID), browser.Rate, highTone, lowTone, strangerTone)
	requireTone(t, hear(t, high, atHigh.ID), browser.Rate, lowTone, highTone, strangerTone)

	// The stranger hears both, so it was in the session all the time; the two have one stream each and no more.
	loud.WaitHeard(t, a, time.Second)
	loud.WaitHeard(t, b, time.Second)
	for _, p := range []*browser.Page{low, high} {
		events, err := p.Events()
		require.NoError(t, err)
		require.Len(t, events, 1, "%v", events)
	}
}

// TestMicrophoneOff: setMicEnabled silences the stream and does not end it.
func TestMicrophoneOff(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	chromium := browser.Start(t, browser.WriteTone(t, highTone, -12))
	speaker, from := connect(t, g, chromium, "")
	listener, to := connect(t, g, chromium, "")
	session := g.Session(t)
	g.Join(t, session, from)
	g.Join(t, session, to)
	_, err := speaker.Publish(true, false, "microphone")
	require.NoError(t, err)
	stream := listener.WaitStream(t, from, "microphone")
	requireTone(t, hear(t, listener, stream.ID), browser.Rate, highTone)

	require.NoError(t, speaker.SetMic(false))
	// What is on its way, and in the listener's buffer, is heard first.
	level := audio.Level(hear(t, listener, stream.ID))
	for until := time.Now().Add(harness.Patience); level >= -70 && time.Now().Before(until); {
		level = audio.Level(hear(t, listener, stream.ID))
	}
	require.Less(t, level, -70.0)
	received := func() browser.Statistics {
		s, err := listener.Received(stream.ID, "audio")
		require.NoError(t, err)
		return s
	}
	before := received()
	require.Less(t, audio.Level(hear(t, listener, stream.ID)), -70.0, "and stays so")
	off := received()
	require.LessOrEqual(t, off.PacketsReceived-before.PacketsReceived, 30, "in 3 s: one in 0.4 s, and what begins and ends them")
	require.NoError(t, speaker.SetMic(true))
	requireTone(t, hear(t, listener, stream.ID), browser.Rate, highTone)
	require.Greater(t, received().PacketsReceived-off.PacketsReceived, 100)
	require.Zero(t, received().PacketsLost)
}

// TestStreamsAndSubscriptions: several streams with aliases, subscriptions to a session, to a participant and to one
// stream of it, unpublishing, all in running media over the same peer connections.
func TestStreamsAndSubscriptions(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	chromium := browser.Start(t, browser.WriteTone(t, highTone, -12))
	speaker, from := connect(t, g, chromium, "")
	watcher, to := connect(t, g, chromium, "")
	session := g.Session(t)
	g.Join(t, session, from)
	g.Join(t, session, to)

	_, err := speaker.Publish(true, false, "microphone")
	require.NoError(t, err)
	_, err = speaker.Publish(true, true, "camera")
	require.NoError(t, err)
	screen, err := speaker.PublishCanvas("screen", "")
	require.NoError(t, err)

	available := func(aliases ...string) {
		t.Helper()
		slices.Sort(aliases)
		watcher.Wait(t, "the streams should be these", func(all []browser.Stream) bool {
			got := []string{}
			for _, s := range all {
				got = append(got, s.Alias)
			}
			slices.Sort(got)
			return slices.Equal(aliases, got)
		})
	}
	subscribe := func(body harness.Object) {
		t.Helper()
		g.Must(t, http.MethodPut, "/sessions/"+session+"/participants/"+to+"/subscriptions", body)
	}
	available("camera", "microphone", "screen")
	camera := watcher.WaitStream(t, from, "camera")
	assert.Equal(t, []int{1, 1}, []int{camera.Audio, camera.Video}, "both kinds of a stream come at once")
	assert.ElementsMatch(t, []string{"AUDIO", "VIDEO"}, camera.MediaTypes)
	assert.Equal(t, []string{"VIDEO"}, watcher.WaitStream(t, from, "screen").MediaTypes)
	requireFrames(t, watcher, camera.ID)
	requireTone(t, hear(t, watcher, camera.ID), browser.Rate, highTone)

	before, err := watcher.Peers()
	require.NoError(t, err)
	one := func(aliases ...string) harness.Object {
		return harness.Object{"sessionId": session, "participants": []harness.Object{{"participantId": from, "streamAliases": aliases}}}
	}
	subscribe(one("screen"))
	available("screen")
	watcher.WaitGone(t, camera.ID)
	requireFrames(t, watcher, watcher.WaitStream(t, from, "screen").ID)
	subscribe(one("microphone", "camera"))
	available("camera", "microphone")
	subscribe(harness.Object{})
	available()
	subscribe(harness.Subscribe(session, from))
	available("camera", "microphone", "screen")
	requireFrames(t, watcher, watcher.WaitStream(t, from, "screen").ID)

	shown := watcher.WaitStream(t, from, "screen")
	require.NoError(t, speaker.Unpublish(screen.ID))
	watcher.WaitGone(t, shown.ID)
	available("camera", "microphone")
	requireTone(t, hear(t, watcher, watcher.WaitStream(t, from, "microphone").ID), browser.Rate, highTone)

	g.Must(t, http.MethodDelete, "/sessions/"+session+"/participants/"+from, nil)
	available()
	g.Join(t, session, from)
	available("camera", "microphone")

	after, err := watcher.Peers()
	require.NoError(t, err)
	assert.Len(t, after, len(before), "no new peer connection")
	assert.LessOrEqual(t, after[0].Lines, 2*4+1, "m-lines: twice the four tracks at once, and the data channels")
}

// requireFrames waits until frames of a stream are decoded, and go on being decoded.
func requireFrames(t *testing.T, p *browser.Page, stream string) browser.Statistics {
	t.Helper()
	const enough = 15
	first, last := -1, browser.Statistics{}
	p.Until(t, func() (err error) {
		last, err = p.Received(stream, "video")
		if err != nil {
			return err
		}
		if first < 0 {
			first = last.FramesDecoded
		}
		if last.FramesDecoded < first+enough {
			return fmt.Errorf("too few frames after %d: %+v", first, last)
		}
		return nil
	})
	return last
}

// TestVideoCodecs forwards each codec that this browser can encode; the screen is a canvas.
func TestVideoCodecs(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	chromium := browser.Start(t, "")
	speaker, from := connect(t, g, chromium, "")
	watcher, to := connect(t, g, chromium, "")
	session := g.Session(t)
	g.Join(t, session, from)
	g.Join(t, session, to)

	codecs, err := speaker.VideoCodecs()
	require.NoError(t, err)
	require.Subset(t, codecs, []string{"VP8", "VP9"})
	t.Log("this Chromium encodes", codecs)
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			screen, err := speaker.PublishCanvas("screen "+codec, codec)
			require.NoError(t, err)
			shown := watcher.WaitStream(t, from, "screen "+codec)
			t.Cleanup(func() {
				if t.Failed() {
					sent, err := speaker.Sent(screen.ID, "video")
					own, _ := speaker.Peers()
					theirs, _ := watcher.Peers()
					t.Logf("sent: %+v %v, speaker's peers: %v, watcher's: %v", sent, err, own, theirs)
				}
			})
			got := requireFrames(t, watcher, shown.ID)
			assert.Equal(t, "video/"+codec, got.Codec)
			assert.Positive(t, got.FrameWidth)
			require.NoError(t, speaker.Unpublish(screen.ID))
			watcher.WaitGone(t, shown.ID)
		})
	}
}

// TestPublishPermissions: the gateway keeps them, whatever the client sends.
func TestPublishPermissions(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	chromium := browser.Start(t, browser.WriteTone(t, highTone, -12))
	session := g.Session(t)
	watcher, to := connect(t, g, chromium, "")
	g.Join(t, session, to)

	join := func(permissions ...string) (*browser.Page, string) {
		t.Helper()
		o := g.Must(t, http.MethodPost, "/participants", harness.Object{"publishPermissions": permissions})
		p := chromium.Page(t)
		require.NoError(t, p.Connect(o.Text("token"), g.App.DeviceURL()))
		id := o.Text("participant", "id")
		g.Join(t, session, id)
		return p, id
	}

	mute, muteID := join()
	_, err := mute.Publish(true, true, "forbidden")
	require.NoError(t, err)

	speaker, speakerID := join("AUDIO")
	own, err := speaker.Publish(true, true, "both")
	require.NoError(t, err)
	assert.Equal(t, []string{"AUDIO"}, own.MediaTypes)
	stream := watcher.WaitStream(t, speakerID, "both")
	assert.Equal(t, []int{1, 0}, []int{stream.Audio, stream.Video})
	assert.Equal(t, []string{"AUDIO"}, stream.MediaTypes)
	requireTone(t, hear(t, watcher, stream.ID), browser.Rate, highTone)
	sent, err := speaker.Sent(own.ID, "video")
	require.NoError(t, err)
	assert.Zero(t, sent.PacketsSent, "the answer to video is inactive")

	filmer, filmerID := join("VIDEO")
	_, err = filmer.Publish(true, true, "both")
	require.NoError(t, err)
	film := watcher.WaitStream(t, filmerID, "both")
	assert.Equal(t, []int{0, 1}, []int{film.Audio, film.Video})
	requireFrames(t, watcher, film.ID)

	all, err := watcher.Streams()
	require.NoError(t, err)
	assert.False(t, slices.ContainsFunc(all, func(s browser.Stream) bool { return s.ParticipantID == muteID }))
}

// TestDisconnect: the SDK's disconnect ends the streams for the others, and is onLeave, once.
func TestDisconnect(t *testing.T) {
	g := harness.Start(t, harness.Config(t))
	calls := harness.NewCallbacks(t)
	chromium := browser.Start(t, browser.WriteTone(t, highTone, -12))
	speaker, from := connect(t, g, chromium, calls.URL)
	watcher, to := connect(t, g, chromium, "")
	session := g.Session(t)
	g.Join(t, session, from)
	g.Join(t, session, to)
	_, err := speaker.Publish(true, false, "microphone")
	require.NoError(t, err)
	stream := watcher.WaitStream(t, from, "microphone")

	require.NoError(t, speaker.Disconnect())
	watcher.WaitGone(t, stream.ID)
	left := calls.WaitEvent(t, from, "onLeave")
	assert.NotEmpty(t, left.Text("deviceId"))
	// The same page comes back as the same participant.
	token := g.Must(t, http.MethodPost, "/participants", harness.Object{"callbackUrl": calls.URL})
	require.NoError(t, speaker.Connect(token.Text("token"), g.App.DeviceURL()))
	calls.WaitEvent(t, token.Text("participant", "id"), "onConnect")
	assert.Equal(t, []string{"onConnect", "onLeave"}, calls.Words(from))
}
