package sfu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"
)

const (
	heartbeatLabel   = "__heartbeat__"
	diagnosticsLabel = "__diagnostics__"
	gatherLimit      = 5 * time.Second
	usualMessage     = 64      // bytes of what comes on a data channel: PONG
	longestMessage   = 1 << 18 // what is longer closes the channel
)

var errGather = errors.New("our candidates could not be gathered in time")

// peer is one of a device's two connections, with the two data channels that the client expects on each.
type peer struct {
	pc        *webrtc.PeerConnection
	heartbeat *webrtc.DataChannel
	settled   chan struct{} // closed when the first handshake has succeeded or failed, and Pion acted on it

	mu      sync.Mutex // of closed, and of adding to reading
	closed  bool
	reading sync.WaitGroup // of data channels
}

// newPeer makes a connection; changed is called from Pion's goroutines and must not block.
func newPeer(api *webrtc.API, changed func(webrtc.PeerConnectionState)) (*peer, error) {
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, fmt.Errorf("new peer connection: %w", err)
	}
	p := &peer{pc: pc, settled: make(chan struct{})}
	settle := sync.OnceFunc(func() { close(p.settled) })
	for i, label := range []string{heartbeatLabel, diagnosticsLabel} {
		negotiated, protocol := true, "udp"
		id := uint16(i)
		channel, err := pc.CreateDataChannel(label, &webrtc.DataChannelInit{ID: &id, Negotiated: &negotiated, Protocol: &protocol})
		if err != nil {
			_ = pc.Close()
			return nil, fmt.Errorf("data channel %s: %w", label, err)
		}
		channel.OnOpen(func() { p.listen(channel) })
		if i == 0 {
			p.heartbeat = channel
		}
	}
	pc.OnDataChannel(func(c *webrtc.DataChannel) { _ = c.Close() }) // nothing else is agreed
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		changed(state)
		switch state {
		case webrtc.PeerConnectionStateConnected, webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			settle()
		default:
		}
	})
	return p, nil
}

// describe makes sd our description and returns it with all our candidates: the protocol has no trickle.
func (p *peer) describe(ctx context.Context, sd webrtc.SessionDescription) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, gatherLimit, errGather)
	defer cancel()
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(sd); err != nil {
		return "", fmt.Errorf("set local description: %w", err)
	}
	select {
	case <-gathered:
		return p.pc.LocalDescription().SDP, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// beat asks the browser for a PONG. A channel whose last PING is still unsent is left alone.
func (p *peer) beat() {
	if p != nil && p.heartbeat.ReadyState() == webrtc.DataChannelStateOpen && p.heartbeat.BufferedAmount() == 0 {
		_ = p.heartbeat.SendText("PING")
	}
}

// listen reads what a browser says on a data channel, until that is over, and makes nothing of it: that a PONG came is
// known to SCTP. Pion's own reader would keep 64 KiB for each channel.
func (p *peer) listen(channel *webrtc.DataChannel) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.reading.Add(1)
	p.mu.Unlock()
	defer p.reading.Done()
	raw, err := channel.Detach()
	if err != nil {
		return // it is closed again
	}
	discardMessages(raw)
}

// discardMessages reads to the end, or to a message that no browser sends.
func discardMessages(raw io.ReadCloser) {
	buf := make([]byte, usualMessage)
	for {
		_, err := raw.Read(buf)
		switch {
		case err == nil && len(buf) > usualMessage:
			buf = make([]byte, usualMessage)
		case errors.Is(err, io.ErrShortBuffer) && len(buf) < longestMessage:
			buf = make([]byte, 2*len(buf)) // it is still there
		case err != nil:
			_ = raw.Close()
			return
		}
	}
}

// close ends the connection and waits until its goroutines are gone.
func (p *peer) close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.endHandshake()
	_ = p.pc.GracefulClose()
	p.stopTracks()
	p.reading.Wait()
}

// stopTracks ends what Pion's Close has missed, once that is over. When the browser ends a connection, Pion closes ours by itself, also while
// we negotiate. It misses a sender or a receiver that takes the place of another just then, or comes with a new line: whoever reads it
// would never end, nor would the device.
func (p *peer) stopTracks() {
	for _, t := range p.pc.GetTransceivers() {
		if s := t.Sender(); s != nil {
			_ = s.Stop()
		}
		if r := t.Receiver(); r != nil {
			_ = r.Stop()
		}
	}
}

// endHandshake ends a handshake that goes on, and waits until Pion has taken note of how it ended. Between the end of the
// handshake and the start of what takes new streams in, Pion's Close waits for ever once a packet came: the reader of
// packets waits for the taker of streams, whose start waits for a lock that Close holds while it waits for the reader.
func (p *peer) endHandshake() {
	select {
	case <-p.settled:
		return
	default:
	}
	dtls := p.pc.SCTP().Transport()
	if dtls.State() != webrtc.DTLSTransportStateConnected {
		_ = dtls.ICETransport().Stop() // a handshake that goes on fails, and one that has not begun won't succeed
	}
	if state := dtls.State(); state == webrtc.DTLSTransportStateConnecting || state == webrtc.DTLSTransportStateConnected {
		<-p.settled
	}
}
