package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// peerEnd is a browser at one peer connection, which hears what comes and says what it is told: that of gateways which
// are not ours.
type peerEnd struct {
	pc        *webrtc.PeerConnection
	socket    io.Closer // of pc, closed after it
	track     *webrtc.TrackLocalStaticRTP
	line      *webrtc.RTPTransceiver
	start     time.Time
	flow      *flow // what it hears; filled by the goroutines of its tracks, in turn
	step      uint32
	heard     atomic.Int64
	came      arrivalTimes
	connected chan struct{}
	once      sync.Once

	mu     sync.Mutex // guards flow, closed, and that tracks isn't waited for before it counts
	closed bool
	tracks sync.WaitGroup

	packet rtp.Packet // owned by the pacer
}

// plainCodec is G.711 as browsers have it (RFC 7874 §3).
func plainCodec() webrtc.RTPCodecParameters {
	return webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: phoneRate}}
}

func newPeerEnd(kind peerKind, codec webrtc.RTPCodecParameters, start time.Time, f *flow) (*peerEnd, error) {
	e := &peerEnd{
		start: start, flow: f, step: codec.ClockRate / 50, connected: make(chan struct{}),
		packet: rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(rand.Uint32()), Timestamp: rand.Uint32()}},
	}
	api, socket, err := kind.open(e.came.note)
	if err != nil {
		return nil, err
	}
	e.socket = socket
	if e.pc, err = api.NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle}); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("load: peer connection: %w", err)
	}
	e.pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { e.listen(t) })
	e.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			e.once.Do(func() { close(e.connected) })
		}
	})
	if e.track, err = webrtc.NewTrackLocalStaticRTP(codec.RTPCodecCapability, "audio", "bench"); err == nil {
		e.line, err = e.pc.AddTransceiverFromTrack(e.track)
	}
	if err == nil {
		err = e.line.SetCodecPreferences([]webrtc.RTPCodecParameters{codec})
	}
	if err != nil {
		_ = e.pc.Close()
		_ = socket.Close()
		return nil, fmt.Errorf("load: track: %w", err)
	}
	return e, nil
}

// offer makes an offer with all candidates.
func (e *peerEnd) offer(ctx context.Context) (*webrtc.SessionDescription, error) {
	offer, err := e.pc.CreateOffer(nil)
	if err != nil {
		return nil, fmt.Errorf("load: offer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(e.pc)
	if err := e.pc.SetLocalDescription(offer); err != nil {
		return nil, fmt.Errorf("load: offer: %w", err)
	}
	if err := wait(ctx, gathered, "candidates"); err != nil {
		return nil, err
	}
	return e.pc.LocalDescription(), nil
}

// accept takes the answer and returns once packets may be sent.
func (e *peerEnd) accept(ctx context.Context, answer string) error {
	if err := e.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return fmt.Errorf("load: answer of the gateway: %w", err)
	}
	return wait(ctx, e.connected, "the browser's connection")
}

// listen keeps what a track brings until the connection is closed.
func (e *peerEnd) listen(t *webrtc.TrackRemote) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.tracks.Add(1)
	e.mu.Unlock()
	defer e.tracks.Done()
	e.came.read(t, func(at time.Time, p *rtp.Packet) {
		e.heard.Add(1)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.flow.arrived(at.Sub(e.start), p.SSRC, p.Timestamp, p.SequenceNumber, p.Payload)
	})
}

// packets is how many were heard.
func (e *peerEnd) packets() int64 { return e.heard.Load() }

// speak sends the next packet, or only counts it when drop is set. Only the pacer calls it.
func (e *peerEnd) speak(payload []byte, drop bool) {
	if !drop {
		e.packet.Payload = payload
		_ = e.track.WriteRTP(&e.packet) // a connection that is gone shows as loss
	}
	e.packet.SequenceNumber++
	e.packet.Timestamp += e.step
}

// close waits for every goroutine of the end.
func (e *peerEnd) close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	err := e.pc.GracefulClose()
	e.tracks.Wait()
	return errors.Join(err, e.socket.Close())
}
