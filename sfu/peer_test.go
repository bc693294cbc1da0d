package sfu

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	far, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	require.NoError(t, err)
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
