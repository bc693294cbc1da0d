package harness

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
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
	static, err := webrtc.NewTrackLocalStaticRTP(
		webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: opusRate, Channels: 2}, "audio", uuid.NewString())
	require.NoError(d.tb, err)
	track := &microphone{TrackLocalStaticRTP: static}
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
	d.start(&d.work, func() { track.speak(pc, next, d.keys) })
}

// PressKeys presses keys on the published stream, 100 ms each and 100 ms apart, as RTCDTMFSender does: events take the place
// of sound (RFC 4733). It returns at once.
func (d *Device) PressKeys(digits string) {
	d.tb.Helper()
	for _, digit := range digits {
		code := strings.IndexRune("0123456789*#ABCD", digit)
		require.GreaterOrEqual(d.tb, code, 0, "%q is no key", digit)
		d.keys <- byte(code)
	}
}

// microphone is a track that sends sound and keys.
type microphone struct {
	*webrtc.TrackLocalStaticRTP
	raw    atomic.Pointer[webrtc.TrackLocalContext]
	header rtp.Header // of the next packet
}

// Bind keeps what is needed to send packets of another payload type.
func (m *microphone) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	m.raw.Store(&c)
	return m.TrackLocalStaticRTP.Bind(c)
}

// speak sends what next gives, and the keys that are pressed, until the peer connection is closed.
func (m *microphone) speak(pc *webrtc.PeerConnection, next func(frame []int16), keys <-chan byte) {
	const steps = 5 // of a key, and of the pause after it
	encoder, err := opus.NewEncoder(opusRate, 1, opus.AppVoIP)
	if err != nil {
		return
	}
	due := time.Now() // absolute: a late frame does not delay the next
	pcm, payload := make([]int16, opusFrame), make([]byte, maxPayload)
	m.header = rtp.Header{Version: 2, SequenceNumber: uint16(rand.Uint32()), Timestamp: rand.Uint32()}
	code, step, began := byte(0), 2*steps, uint32(0)
	for pc.ConnectionState() != webrtc.PeerConnectionStateClosed {
		next(pcm)
		if step >= 2*steps {
			select {
			case code = <-keys:
				step, began = 0, m.header.Timestamp
			default:
			}
		}
		if step++; step <= steps {
			err = m.event(code, began, step, step == steps)
		} else {
			var size int
			if size, err = encoder.Encode(pcm, payload); err == nil {
				err = m.WriteRTP(&rtp.Packet{Header: m.header, Payload: slices.Clone(payload[:size])})
			}
			m.header.SequenceNumber++
		}
		if err != nil {
			return
		}
		m.header.Timestamp += opusFrame
		due = due.Add(frameTime)
		<-time.After(time.Until(due))
	}
}

// event sends a step of a key, the last one three times.
func (m *microphone) event(code byte, began uint32, step int, end bool) error {
	to := *m.raw.Load()
	header := m.header
	header.PayloadType, header.SSRC, header.Timestamp, header.Marker = deviceEvents, uint32(to.SSRC()), began, step == 1
	payload, repeats := []byte{code, 10, 0, 0}, 1
	binary.BigEndian.PutUint16(payload[2:], uint16(step*opusFrame))
	if end {
		payload[1] |= 0x80
		repeats = 3
	}
	for range repeats {
		header.SequenceNumber = m.header.SequenceNumber
		m.header.SequenceNumber++
		if _, err := to.WriteStream().WriteRTP(&header, payload); err != nil {
			return err
		}
	}
	return nil
}

// HearAt makes the rate at which it records another than Rate. It comes before anything can be heard.
func (d *Device) HearAt(rate int) { d.rate = rate }

// recording is what was heard of one participant.
type recording struct {
	samples []int16
	from    time.Time
}

// listen decodes a track into the recording of whoever sends it. What is heard of a packet without a frame goes on until the next
// one (RFC 7587 §3.1.3).
func (d *Device) listen(track *webrtc.TrackRemote) {
	if track.Kind() != webrtc.RTPCodecTypeAudio {
		return
	}
	decoder, err := opus.NewDecoder(d.rate, 1)
	if err != nil {
		return
	}
	pcm, packet := make([]int16, d.rate*120/1000), rtp.Packet{}
	buffer := make([]byte, 1500)
	var pause []int16 // after a packet without a frame
	var last uint32   // its timestamp
	for {
		n, _, err := track.Read(buffer)
		if err != nil || packet.Unmarshal(buffer[:n]) != nil {
			return
		}
		if len(pause) > 0 {
			missing := min(int(packet.Timestamp-last)*d.rate/opusRate-len(pause), d.rate/2)
			pause = slices.Repeat(pause, max(missing, 0)/len(pause))
		}
		count, err := decoder.Decode(packet.Payload, pcm)
		if err != nil {
			continue
		}
		d.mu.Lock()
		who := d.streams[track.StreamID()].Participant
		r := d.heard[who]
		if r == nil {
			r, pause = &recording{from: time.Now()}, nil
			d.heard[who] = r
		}
		r.samples = append(append(r.samples, pause...), pcm[:count]...)
		d.mu.Unlock()
		if pause = nil; len(packet.Payload) == 1 {
			pause, last = slices.Clone(pcm[:count]), packet.Timestamp
		}
	}
}

// Heard returns what was heard of a participant since the last Forget, at the device's rate, packets end to end, and the pauses that
// they announce.
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
	want := int(length.Seconds() * float64(d.rate))
	require.Eventually(tb, func() bool { return len(d.Heard(participant)) >= want }, Patience, 20*time.Millisecond,
		"nothing was heard of %s", participant)
	return d.Heard(participant)
}
