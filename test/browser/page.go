package browser

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// Stream is a stream as the SDK shows it to an application.
type Stream struct {
	ID            string   `json:"id"`
	Alias         string   `json:"alias"`
	ParticipantID string   `json:"participantId"`
	MediaTypes    []string `json:"mediaTypes"`
	Audio         int      `json:"audio"` // tracks
	Video         int      `json:"video"` // tracks
}

// Event is a call of onStreamAvailable ("available") or onStreamUnavailable ("unavailable").
type Event struct {
	Event string `json:"event"`
	Stream
}

// Statistics are what getStats says about one direction of one track.
type Statistics struct {
	Codec           string `json:"codec"` // "video/VP8"
	FramesDecoded   int    `json:"framesDecoded"`
	FramesEncoded   int    `json:"framesEncoded"`
	FrameWidth      int    `json:"frameWidth"`
	PacketsReceived int    `json:"packetsReceived"`
	PacketsSent     int    `json:"packetsSent"`
	BytesSent       int    `json:"bytesSent"`
	BytesReceived   int    `json:"bytesReceived"`
	PacketsLost     int    `json:"packetsLost"`
	// Samples of sound that was played, that the jitter buffer made up, and that it made up as silence.
	TotalSamplesReceived   int `json:"totalSamplesReceived"`
	ConcealedSamples       int `json:"concealedSamples"`
	SilentConcealedSamples int `json:"silentConcealedSamples"`
}

// Peer is one peer connection that the page made.
type Peer struct {
	State string `json:"state"`
	Lines int    `json:"lines"` // m-lines of the remote description
}

// Connect connects the SDK; it returns when the gateway has taken the device in.
func (p *Page) Connect(token, websocketURL string) error {
	return p.run(0, nil, "connect", token, websocketURL)
}

// JoinAsDemo joins and publishes the fake microphone with the client of the demo page in place of the SDK.
func (p *Page) JoinAsDemo(token, websocketURL string) error {
	return p.run(0, nil, "joinAsDemo", token, websocketURL)
}

// StartConnect begins to connect and does not wait.
func (p *Page) StartConnect(token, websocketURL string) error {
	return p.run(0, nil, "startConnect", token, websocketURL)
}

// Publish publishes the fake microphone, without any processing, and the fake camera.
func (p *Page) Publish(microphone, camera bool, alias string) (Stream, error) {
	var s Stream
	err := p.run(0, &s, "publish", map[string]bool{"audio": microphone, "video": camera}, alias)
	return s, err
}

// PublishCanvas publishes a moving picture without sound, as a screen is; codec is VP8, VP9, H264, AV1, or empty for
// the browser's choice.
func (p *Page) PublishCanvas(alias, codec string) (Stream, error) {
	var s Stream
	err := p.run(0, &s, "publishCanvas", alias, codec)
	return s, err
}

// VideoCodecs are the names of the codecs that the browser can send.
func (p *Page) VideoCodecs() (names []string, err error) {
	err = p.run(0, &names, "videoCodecs")
	return names, err
}

// Unpublish ends a stream of the page's own.
func (p *Page) Unpublish(id string) error { return p.run(0, nil, "unpublish", id) }

// SetMic is the SDK's setMicEnabled.
func (p *Page) SetMic(enabled bool) error { return p.run(0, nil, "setMicEnabled", enabled) }

// SendDTMF is the SDK's sendDtmf.
func (p *Page) SendDTMF(keys string) error { return p.run(0, nil, "sendDtmf", keys) }

// Disconnect is the SDK's disconnect.
func (p *Page) Disconnect() error { return p.run(0, nil, "disconnect") }

// Streams are those that are available now.
func (p *Page) Streams() (all []Stream, err error) {
	err = p.run(0, &all, "streams")
	return all, err
}

// Events are all that the SDK reported, in order.
func (p *Page) Events() (all []Event, err error) {
	err = p.run(0, &all, "events")
	return all, err
}

// Peers are the peer connections that the page made, in order.
func (p *Page) Peers() (all []Peer, err error) {
	err = p.run(0, &all, "peers")
	return all, err
}

// Record records an available stream as it comes out of the browser's decoder, at Rate.
func (p *Page) Record(id string, d time.Duration) ([]int16, error) {
	var text string
	if err := p.run(d, &text, "record", id, d.Seconds()); err != nil {
		return nil, err
	}
	return samples(text)
}

// Loopback records the microphone after it went through a pair of peer connections inside the page.
func (p *Page) Loopback(d time.Duration) ([]int16, error) {
	var text string
	if err := p.run(d, &text, "loopback", d.Seconds()); err != nil {
		return nil, err
	}
	return samples(text)
}

// Received says what arrives of a stream; kind is audio or video.
func (p *Page) Received(id, kind string) (s Statistics, err error) {
	err = p.run(0, &s, "received", id, kind)
	return s, err
}

// Sent says what leaves of a stream of the page's own; kind is audio or video.
func (p *Page) Sent(id, kind string) (s Statistics, err error) {
	err = p.run(0, &s, "sent", id, kind)
	return s, err
}

// Until looks until f has no error any more, and fails the test with the last one and the page's console.
func (p *Page) Until(tb testing.TB, f func() error) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			require.FailNow(tb, err.Error(), "console:\n%s", p.Console())
		}
		<-tick.C
	}
}

// Wait waits until f is true for the streams that are available.
func (p *Page) Wait(tb testing.TB, what string, f func([]Stream) bool) {
	tb.Helper()
	p.Until(tb, func() error {
		all, err := p.Streams()
		if err == nil && !f(all) {
			err = fmt.Errorf("%s, only %+v", what, all)
		}
		return err
	})
}

// WaitStream waits for a stream of a participant with an alias and returns it.
func (p *Page) WaitStream(tb testing.TB, participant, alias string) Stream {
	tb.Helper()
	var found Stream
	p.Wait(tb, "no stream \""+alias+"\" of "+participant, func(all []Stream) bool {
		i := slices.IndexFunc(all, func(s Stream) bool { return s.ParticipantID == participant && s.Alias == alias })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// WaitParticipant waits for any stream of a participant and returns it.
func (p *Page) WaitParticipant(tb testing.TB, participant string) Stream {
	tb.Helper()
	var found Stream
	p.Wait(tb, "no stream of "+participant, func(all []Stream) bool {
		i := slices.IndexFunc(all, func(s Stream) bool { return s.ParticipantID == participant })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// WaitGone waits until a stream is not available any more, and the SDK has said so.
func (p *Page) WaitGone(tb testing.TB, id string) {
	tb.Helper()
	p.Wait(tb, "the stream stays", func(all []Stream) bool {
		return !slices.ContainsFunc(all, func(s Stream) bool { return s.ID == id })
	})
	events, err := p.Events()
	require.NoError(tb, err)
	require.True(tb, slices.ContainsFunc(events, func(e Event) bool { return e.Event == "unavailable" && e.ID == id }))
}

// WriteTone writes one second of a tone for a fake microphone, which plays it over and over without a seam: hz is a
// whole number.
func WriteTone(tb testing.TB, hz int, level float64) string {
	tb.Helper()
	path := tb.TempDir() + "/microphone.wav"
	require.NoError(tb, audio.WriteWAV(path, audio.Tone(float64(hz), level, Rate, time.Second), Rate))
	return path
}
