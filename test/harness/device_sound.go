package harness

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/stretchr/testify/require"
)

// PublishTone publishes one audio stream with a sine of this frequency (Hz) and level (dBFS) until the device closes.
func (d *Device) PublishTone(hz, level float64, alias string) {
	d.tb.Helper()
	amplitude := math.Pow(10, level/20) * math.MaxInt16
	n := 0
	d.publish(alias, func(frame []int16) {
		for i := range frame {
			frame[i] = int16(amplitude * math.Sin(2*math.Pi*hz*float64(n)/opusRate))
			n++
		}
	})
}

// PublishSamples publishes one audio stream that is silent until say is called: then it says the samples (mono, 48 kHz)
// once. say returns when their first frame goes out.
func (d *Device) PublishSamples(samples []int16, alias string) (say func() time.Time) {
	d.tb.Helper()
	begun := make(chan time.Time)
	wanted := make(chan struct{}, 1)
	var rest []int16
	d.publish(alias, func(frame []int16) {
		select {
		case <-wanted:
			rest = samples
			begun <- time.Now()
		default:
		}
		clear(frame)
		rest = rest[copy(frame, rest):]
	})
	return func() time.Time {
		wanted <- struct{}{}
		return <-begun
	}
}

// publish publishes one audio stream; next fills each frame of 20 ms at 48 kHz, on the goroutine that sends them.
func (d *Device) publish(alias string, next func(frame []int16)) {
	d.tb.Helper()
	pc, err := newPeer()
	require.NoError(d.tb, err)
	track, err := webrtc.NewTrackLocalStaticSample(
		webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: opusRate, Channels: 2}, "audio", uuid.NewString())
	require.NoError(d.tb, err)
	_, err = pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	require.NoError(d.tb, err)
	d.mu.Lock()
	d.publisher = pc
	d.mu.Unlock()
	connected := make(chan struct{})
	var once sync.Once
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			once.Do(func() { close(connected) })
		}
	})
	offer, err := pc.CreateOffer(nil)
	require.NoError(d.tb, err)
	gathered := webrtc.GatheringCompletePromise(pc)
	require.NoError(d.tb, pc.SetLocalDescription(offer))
	<-gathered
	metadata := Object{}
	if alias != "" {
		metadata["alias"] = alias
	}
	result := d.call("offerSdp", Object{
		"sdpOffer":      pc.LocalDescription().SDP,
		"mediaMetadata": Object{"mediaStreams": Object{track.StreamID(): metadata}, "dataChannels": Object{}},
	})
	require.NotEmpty(d.tb, result.Text("sdpAnswer"), "%v", result)
	d.mu.Lock()
	d.published = result.Text("streamMetadata", track.StreamID(), "endpointId")
	d.mu.Unlock()
	require.NoError(d.tb, pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: result.Text("sdpAnswer")}))
	select {
	case <-connected:
	case <-time.After(Patience):
		require.FailNow(d.tb, "the publishing connection was not made")
	}
	d.start(func() { speak(pc, track, next) })
}

// speak sends what next gives until the peer connection is closed.
func speak(pc *webrtc.PeerConnection, track *webrtc.TrackLocalStaticSample, next func(frame []int16)) {
	encoder, err := opus.NewEncoder(opusRate, 1, opus.AppVoIP)
	if err != nil {
		return
	}
	due := time.Now() // absolute: a late frame does not delay the next
	pcm, payload := make([]int16, opusFrame), make([]byte, maxPayload)
	for pc.ConnectionState() != webrtc.PeerConnectionStateClosed {
		next(pcm)
		size, err := encoder.Encode(pcm, payload)
		if err != nil || track.WriteSample(media.Sample{Data: slices.Clone(payload[:size]), Duration: frameTime}) != nil {
			return
		}
		due = due.Add(frameTime)
		<-time.After(time.Until(due))
	}
}

// recording is what was heard of one participant, at Rate.
type recording struct {
	samples []int16
	from    time.Time
}

// listen decodes a track into the recording of whoever sends it.
func (d *Device) listen(track *webrtc.TrackRemote) {
	if track.Kind() != webrtc.RTPCodecTypeAudio {
		return
	}
	decoder, err := opus.NewDecoder(Rate, 1)
	if err != nil {
		return
	}
	pcm, packet := make([]int16, Rate*120/1000), rtp.Packet{}
	buffer := make([]byte, 1500)
	for {
		n, _, err := track.Read(buffer)
		if err != nil || packet.Unmarshal(buffer[:n]) != nil {
			return
		}
		count, err := decoder.Decode(packet.Payload, pcm)
		if err != nil {
			continue
		}
		d.mu.Lock()
		who := d.streams[track.StreamID()].Participant
		r := d.heard[who]
		if r == nil {
			r = &recording{from: time.Now()}
			d.heard[who] = r
		}
		r.samples = append(r.samples, pcm[:count]...)
		d.mu.Unlock()
	}
}

// Heard returns what was heard of a participant since the last Forget, at Rate, packets end to end.
func (d *Device) Heard(participant string) []int16 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.heard[participant]; r != nil {
		return slices.Clone(r.samples)
	}
	return nil
}

// HeardFrom is Heard and when its first packet came.
func (d *Device) HeardFrom(participant string) ([]int16, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.heard[participant]; r != nil {
		return slices.Clone(r.samples), r.from
	}
	return nil, time.Time{}
}

// Forget throws away what was heard so far.
func (d *Device) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.heard)
}

// WaitHeard waits until this long a piece of a participant was heard, and returns it.
func (d *Device) WaitHeard(tb testing.TB, participant string, length time.Duration) []int16 {
	tb.Helper()
	want := int(length.Seconds() * Rate)
	require.Eventually(tb, func() bool { return len(d.Heard(participant)) >= want }, Patience, 20*time.Millisecond,
		"nothing was heard of %s", participant)
	return d.Heard(participant)
}
