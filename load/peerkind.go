package load

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// peerKind is how the peer connections of one kind of browser are made.
type peerKind struct {
	lose  *Network            // the browser doesn't hear, and reports as lost, what this loses; nil: nothing
	lost  func(packet []byte) // gets what was lost so, in its turn; nil: nobody
	level bool                // the loudness of each packet is offered (RFC 6464), as browsers do
	voice []webrtc.RTPCodecParameters
}

const (
	reportEvery = 5 * time.Second // how often Chromium reports sound
	lossEvery   = time.Second     // where what becomes of losses is measured: from then on the gateway knows of them
)

// opusPeers speak Opus, and know FEC if something is lost.
func opusPeers(lose *Network) peerKind {
	codec := opusCodec()
	if lose != nil {
		codec.SDPFmtpLine += ";useinbandfec=1" // as browsers say
	}
	return peerKind{lose: lose, voice: []webrtc.RTPCodecParameters{codec}}
}

// open makes what one peer connection comes from, on loopback and over a socket of its own, which the caller closes after it.
// noted is told of each packet as it comes.
func (p peerKind) open(noted func([]byte, time.Time)) (*webrtc.API, io.Closer, error) {
	var settings webrtc.SettingEngine
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	host := loopback()
	if isolated() {
		host = netip.MustParseAddr(janusAddress)
	}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	// The published client makes its answer setup:passive.
	if err := settings.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return nil, nil, fmt.Errorf("load: DTLS role: %w", err)
	}
	var codecs webrtc.MediaEngine
	for _, c := range p.voice {
		if err := codecs.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, nil, fmt.Errorf("load: codecs: %w", err)
		}
	}
	if p.level {
		err := codecs.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.AudioLevelURI}, webrtc.RTPCodecTypeAudio)
		if err != nil {
			return nil, nil, fmt.Errorf("load: audio level: %w", err)
		}
	}
	var chain interceptor.Registry
	every := reportEvery
	if p.lose != nil {
		chain.Add(&lossy{network: p.lose, lost: p.lost}) // before what counts for the reports
		every = lossEvery
	}
	err := webrtc.ConfigureRTCPReportsWithOptions(&chain, []report.ReceiverOption{report.ReceiverInterval(every)}, report.SenderInterval(every))
	if err != nil {
		return nil, nil, fmt.Errorf("load: RTCP reports: %w", err)
	}
	socket, err := newEar(host, noted)
	if err != nil {
		return nil, nil, err
	}
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: socket})
	settings.SetICEUDPMux(mux)
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(&codecs),
		webrtc.WithInterceptorRegistry(&chain)), mux, nil
}

// lossy is an interceptor that loses what comes in. It is one browser's.
type lossy struct {
	interceptor.NoOp
	network *Network
	lost    func(packet []byte) // nil: nobody wants it
}

// NewInterceptor makes it its own factory.
func (l *lossy) NewInterceptor(string) (interceptor.Interceptor, error) { return l, nil }

// BindRemoteStream is called for each track that comes; the browser hears one.
func (l *lossy) BindRemoteStream(_ *interceptor.StreamInfo, next interceptor.RTPReader) interceptor.RTPReader {
	begun := time.Now()
	return interceptor.RTPReaderFunc(func(b []byte, a interceptor.Attributes) (int, interceptor.Attributes, error) {
		for {
			n, with, err := next.Read(b, a)
			if err != nil {
				return n, with, err
			}
			if copies, _ := l.network.Packet(time.Since(begun)); copies > 0 {
				return n, with, nil
			}
			if l.lost != nil {
				l.lost(b[:n])
			}
		}
	})
}
