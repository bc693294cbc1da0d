package sfu

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/sdp/v3"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
)

const (
	mimeTelephoneEvent = "audio/telephone-event"
	clockVideo         = 90000
	dtlsRetransmit     = 100 * time.Millisecond
	acceptanceWait     = 50 * time.Millisecond // UDP shall win over TCP
)

// engine makes peer connections that share one UDP port and one TCP port. Publishing and subscribing ones differ in
// what they measure: feedback for the sender's congestion control is made where we receive.
type engine struct {
	publishing, subscribing *webrtc.API
}

func newEngine(udp ice.UDPMux, tcp ice.TCPMux, publicIP netip.Addr, log *slog.Logger) (*engine, error) {
	var settings webrtc.SettingEngine
	settings.LoggerFactory = pionLogs{log}
	settings.SetICEUDPMux(udp)
	networks := []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6}
	if tcp != nil {
		settings.SetICETCPMux(tcp)
		networks = append(networks, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6)
	}
	settings.SetNetworkTypes(networks)
	settings.DisableActiveTCP(true)
	// A track is read from the start: Pion's look at the first packet fails for good when that came over RTX, and then
	// the track would stay silent for ever.
	settings.SetFireOnTrackBeforeFirstRTP(true)
	settings.SetIncludeLoopbackCandidate(true)
	// Otherwise each connection reads the interfaces of the machine for itself and keeps them: 7 kB, and system calls at its
	// beginning. The UDP port knows only those of the start too.
	interfaces, err := stdnet.NewNet()
	if err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	settings.SetNet(interfaces)
	settings.DetachDataChannels() // see peer.listen
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	if publicIP.IsValid() {
		err = settings.SetICEAddressRewriteRules(webrtc.ICEAddressRewriteRule{
			External: []string{publicIP.String()}, AsCandidateType: webrtc.ICECandidateTypeHost,
		})
		if err != nil {
			return nil, fmt.Errorf("public address %s: %w", publicIP, err)
		}
	}
	// Without trickle every browser's candidate is a peer-reflexive one, which Pion would not choose for a whole second.
	settings.SetPrflxAcceptanceMinWait(acceptanceWait)
	// Our first flight often comes before the browser has the answer; a second for the next would be a second of silence.
	settings.SetDTLSRetransmissionInterval(dtlsRetransmit)
	// The client makes its answer setup:passive and expects setup:active in ours.
	if err = settings.SetAnsweringDTLSRole(webrtc.DTLSRoleClient); err != nil {
		return nil, fmt.Errorf("DTLS role: %w", err)
	}
	publishing, err := newAPI(settings, true)
	if err != nil {
		return nil, err
	}
	subscribing, err := newAPI(settings, false)
	if err != nil {
		return nil, err
	}
	return &engine{publishing: publishing, subscribing: subscribing}, nil
}

func newAPI(settings webrtc.SettingEngine, publishing bool) (*webrtc.API, error) {
	var codecs webrtc.MediaEngine
	if err := registerCodecs(&codecs, publishing); err != nil {
		return nil, err
	}
	if publishing { // it tells who speaks without a look into the sound
		err := codecs.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.AudioLevelURI}, webrtc.RTPCodecTypeAudio)
		if err != nil {
			return nil, fmt.Errorf("audio level: %w", err)
		}
	}
	var chain interceptor.Registry
	chain.Add(naming{})
	for _, f := range []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}} {
		codecs.RegisterFeedback(f, webrtc.RTPCodecTypeVideo)
	}
	ways := sending
	if publishing {
		ways = receiving
		if err := feedBack(&codecs, &chain); err != nil {
			return nil, fmt.Errorf("congestion control feedback: %w", err)
		}
	}
	if err := ways(&chain); err != nil {
		return nil, err
	}
	return webrtc.NewAPI(
		webrtc.WithMediaEngine(&codecs), webrtc.WithInterceptorRegistry(&chain), webrtc.WithSettingEngine(settings),
	), nil
}

// feedBack lets browsers measure the way to us by their video. Sound alone is no load that would have to follow it, and a browser would
// be told of each of its packets, ten times a second.
func feedBack(codecs *webrtc.MediaEngine, chain *interceptor.Registry) error {
	codecs.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBTransportCC}, webrtc.RTPCodecTypeVideo)
	err := codecs.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: sdp.TransportCCURI}, webrtc.RTPCodecTypeVideo)
	if err != nil {
		return err
	}
	feedback, err := twcc.NewSenderInterceptor()
	if err != nil {
		return err
	}
	chain.Add(feedback)
	return nil
}

// receiving is what a connection needs on which nothing is sent: each interceptor that is left out saves a goroutine.
func receiving(chain *interceptor.Registry) error {
	missing, err := newMissing()
	if err != nil {
		return err
	}
	chain.Add(missing)
	return nil
}

// sending is what one needs on which nothing is received.
func sending(chain *interceptor.Registry) error {
	again, err := nack.NewResponderInterceptor()
	if err != nil {
		return fmt.Errorf("NACK: %w", err)
	}
	chain.Add(again)
	return nil
}

// registerCodecs names what may pass. Payload types are ours on the subscribing side, the browser's on the other.
func registerCodecs(m *webrtc.MediaEngine, publishing bool) error {
	audio := []webrtc.RTPCodecParameters{{
		RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
		},
		PayloadType: 111,
	}}
	if publishing { // the client's sendDtmf throws unless these are in the answer
		for i, clock := range []uint32{48000, 8000} {
			audio = append(audio, webrtc.RTPCodecParameters{
				RTPCodecCapability: webrtc.RTPCodecCapability{
					MimeType: mimeTelephoneEvent, ClockRate: clock, SDPFmtpLine: "0-16",
				},
				PayloadType: webrtc.PayloadType(110 - i),
			})
		}
	}
	audio = append(audio, plainLaws()...) // what phones speak: it is sent and taken only where a session wants no codecs
	for _, c := range audio {
		if err := m.RegisterCodec(c, webrtc.RTPCodecTypeAudio); err != nil {
			return fmt.Errorf("codec %s: %w", c.MimeType, err)
		}
	}
	feedback := []webrtc.RTCPFeedback{{Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}}
	for i, c := range videoCodecs() {
		pt := webrtc.PayloadType(35 + 2*i)
		if i >= 8 {
			pt = webrtc.PayloadType(96 + 2*(i-8))
		}
		c.ClockRate, c.RTCPFeedback = clockVideo, feedback
		rtx := webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeRTX, ClockRate: clockVideo, SDPFmtpLine: fmt.Sprintf("apt=%d", pt),
		}
		for _, p := range []webrtc.RTPCodecParameters{
			{RTPCodecCapability: c, PayloadType: pt}, {RTPCodecCapability: rtx, PayloadType: pt + 1},
		} {
			if err := m.RegisterCodec(p, webrtc.RTPCodecTypeVideo); err != nil {
				return fmt.Errorf("codec %s: %w", p.MimeType, err)
			}
		}
	}
	return nil
}

// videoCodecs lists what is forwarded, with the H.264 and VP9 profiles that browsers send.
func videoCodecs() []webrtc.RTPCodecCapability {
	list := []webrtc.RTPCodecCapability{
		{MimeType: webrtc.MimeTypeVP8},
		{MimeType: webrtc.MimeTypeVP9, SDPFmtpLine: "profile-id=0"},
		{MimeType: webrtc.MimeTypeVP9, SDPFmtpLine: "profile-id=2"},
		{MimeType: webrtc.MimeTypeAV1, SDPFmtpLine: "level-idx=5;profile=0;tier=0"},
	}
	for _, profile := range []string{"42001f", "42e01f", "4d001f", "64001f"} {
		for _, mode := range []string{"1", "0"} {
			list = append(list, webrtc.RTPCodecCapability{
				MimeType:    webrtc.MimeTypeH264,
				SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=" + mode + ";profile-level-id=" + profile,
			})
		}
	}
	return list
}
