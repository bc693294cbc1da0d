package sfu

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/media"
)

// listened is a socket that says when RTP came.
type listened struct {
	net.PacketConn
	heard func()
}

func (l listened) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := l.PacketConn.ReadFrom(b)
	if n > 0 && b[0] == 0x80 { // version 2 (RFC 3550)
		l.heard()
	}
	return n, from, err
}

// TestPeerClosesWhileItConnects: the far end sends at once, and our side is closed in the very instant in which its handshake
// ends, or begins. Pion has to know of the handshake's end before its Close begins; that it hangs otherwise takes a machine
// that stalls just then.
func TestPeerClosesWhileItConnects(t *testing.T) {
	for _, when := range []webrtc.DTLSTransportState{webrtc.DTLSTransportStateConnecting, webrtc.DTLSTransportStateConnected} {
		t.Run(when.String(), func(t *testing.T) {
			for range 10 {
				closeWhileConnecting(t, when)
			}
		})
	}
}

// waitForTransport returns when our side's close waits for the lock of the DTLS transport, which calls the handlers with it.
func waitForTransport(t *testing.T) {
	stacks := make([]byte, 1<<20)
	assert.Eventually(t, func() bool {
		for stack := range bytes.SplitSeq(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
			if bytes.Contains(stack, []byte("sfu.(*peer).close")) && bytes.Contains(stack, []byte("DTLSTransport)")) {
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond)
}

// newFar is a browser's end of a connection.
func newFar(t *testing.T) *webrtc.PeerConnection {
	t.Helper()
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	far, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	require.NoError(t, err)
	return far
}

// connect lets far offer a connection to near.
func connect(t *testing.T, far *webrtc.PeerConnection, near *peer) {
	t.Helper()
	offer, err := far.CreateOffer(nil)
	require.NoError(t, err)
	gathered := webrtc.GatheringCompletePromise(far)
	require.NoError(t, far.SetLocalDescription(offer))
	<-gathered
	require.NoError(t, near.pc.SetRemoteDescription(*far.LocalDescription()))
	answer, err := near.pc.CreateAnswer(nil)
	require.NoError(t, err)
	described, err := near.describe(t.Context(), answer)
	require.NoError(t, err)
	require.NoError(t, far.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: described}))
}

func closeWhileConnecting(t *testing.T, when webrtc.DTLSTransportState) {
	t.Helper()
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	came := make(chan struct{})
	udp := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: listened{socket, sync.OnceFunc(func() { close(came) })}})
	defer func() {
		require.NoError(t, udp.Close())
		_ = socket.Close()
	}()
	e, err := newEngine(udp, nil, netip.Addr{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)

	far := newFar(t)
	track, err := webrtc.NewTrackLocalStaticRTP(
		webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "audio", "stream")
	require.NoError(t, err)
	_, err = far.AddTrack(track)
	require.NoError(t, err)
	_, err = far.CreateDataChannel("any", nil)
	require.NoError(t, err)

	connected := make(chan struct{})
	near, err := newPeer(e.publishing, func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateConnected {
			close(connected)
		}
	})
	require.NoError(t, err)
	closed := make(chan struct{})
	closeNear := sync.OnceFunc(func() {
		go func() {
			defer close(closed)
			near.close()
		}()
	})
	near.pc.SCTP().Transport().OnStateChange(func(state webrtc.DTLSTransportState) {
		if state != when {
			return
		}
		if state == webrtc.DTLSTransportStateConnected {
			<-came
		}
		closeNear()
		waitForTransport(t)
	})

	connect(t, far, near)

	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	deadline := time.After(20 * time.Second)
	for speaking := true; speaking; {
		select {
		case <-closed:
			speaking = false
		case <-deadline:
			require.FailNow(t, "the peer connection is not closed")
		case <-pace.C:
			require.NoError(t, track.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2}, Payload: []byte{1}}))
		}
	}
	if when == webrtc.DTLSTransportStateConnected {
		select {
		case <-connected:
		default:
			require.FailNow(t, "closed before Pion knew that the handshake was over")
		}
	}
	require.NoError(t, far.GracefulClose())
}

// stuck is a socket that keeps back what Pion says with DTLS, from a time on.
type stuck struct {
	net.PacketConn
	keeps atomic.Bool
	kept  func()
	free  chan struct{}
}

func (s *stuck) WriteTo(b []byte, to net.Addr) (int, error) {
	if s.keeps.Load() && b[0] >= 20 && b[0] < 64 { // RFC 7983 §7
		s.kept()
		<-s.free
	}
	return s.PacketConn.WriteTo(b, to)
}

// lateTrack is one that is asked for its kind while it is added.
type lateTrack struct {
	*webrtc.TrackLocalStaticRTP
	asked func()
}

func (l lateTrack) Kind() webrtc.RTPCodecType {
	l.asked()
	return l.TrackLocalStaticRTP.Kind()
}

// connected is a peer whose far end sends nothing.
func connected(t *testing.T, socket net.PacketConn) (*engine, *peer) {
	t.Helper()
	udp := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: socket})
	e, err := newEngine(udp, nil, netip.Addr{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	far := newFar(t)
	near, err := newPeer(e.publishing, func(webrtc.PeerConnectionState) {})
	require.NoError(t, err)
	t.Cleanup(func() {
		near.close()
		require.NoError(t, far.GracefulClose())
		require.NoError(t, udp.Close())
		_ = socket.Close()
	})
	_, err = far.CreateDataChannel("any", nil)
	require.NoError(t, err)
	connect(t, far, near)
	require.Eventually(t, func() bool { return near.heartbeat.ReadyState() == webrtc.DataChannelStateOpen }, 10*time.Second, time.Millisecond)
	return e, near
}

// requireEnd wants all to end soon.
func requireEnd(t *testing.T, all *sync.WaitGroup) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		all.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "somebody reads for ever")
	}
}

// oneStream is what a receiver is told of the only stream of a line.
func oneStream(ssrc webrtc.SSRC) webrtc.RTPReceiveParameters {
	return webrtc.RTPReceiveParameters{Encodings: []webrtc.RTPDecodingParameters{{RTPCodingParameters: webrtc.RTPCodingParameters{SSRC: ssrc}}}}
}

// TestALineThatComesWhilePionCloses: Pion closes by itself, as when the browser has ended the connection, and has stopped the
// lines that there are when another one comes. Whoever reads that ends with the peer.
func TestALineThatComesWhilePionCloses(t *testing.T) {
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	closing := make(chan struct{})
	conn := &stuck{PacketConn: socket, kept: sync.OnceFunc(func() { close(closing) }), free: make(chan struct{})}
	_, near := connected(t, conn)
	static, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "audio", "late")
	require.NoError(t, err)
	var working sync.WaitGroup
	line, err := near.pc.AddTransceiverFromTrack(lateTrack{static, sync.OnceFunc(func() {
		conn.keeps.Store(true)
		working.Go(func() { _ = near.pc.Close() })
		<-closing // SCTP says that it is over: the lines come before it
	})})
	require.NoError(t, err)
	require.NoError(t, line.Receiver().Receive(oneStream(7)))
	for _, read := range []func([]byte) (int, interceptor.Attributes, error){line.Sender().Read, line.Receiver().Read, line.Receiver().Track().Read} {
		working.Go(func() {
			_, _, err := read(make([]byte, packetSize))
			assert.Error(t, err)
		})
	}
	close(conn.free)
	near.close()
	requireEnd(t, &working)
}

// TestAReceiverThatIsStoppedTooSoon: Pion stops it, and then it begins.
func TestAReceiverThatIsStoppedTooSoon(t *testing.T) {
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	e, near := connected(t, socket)
	var working sync.WaitGroup
	for ssrc := range webrtc.SSRC(20) { // what reads RTCP sees that by chance
		receiver, err := e.publishing.NewRTPReceiver(webrtc.RTPCodecTypeAudio, near.pc.SCTP().Transport())
		require.NoError(t, err)
		require.NoError(t, receiver.Stop())
		require.NoError(t, receiver.Receive(oneStream(ssrc+1)))
		r := &trackReader{lane: newInbound("0", media.Audio), remote: receiver.Track(), receiver: receiver, pc: near.pc, done: make(chan struct{})}
		if ssrc%2 == 0 {
			r.inlet = newInlets().open(netip.AddrPort{}, uint32(ssrc+1))
		}
		working.Go(r.run)
		working.Go(r.listen)
	}
	requireEnd(t, &working)
}
