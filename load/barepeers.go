package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

// barePeers are the browsers of a floor, at connections of Pion without interceptors.
type barePeers struct {
	api *webrtc.API
	mu  sync.Mutex // guards all
	all []*webrtc.PeerConnection
}

func newBarePeers() (*barePeers, error) {
	api, err := bareAPI()
	if err != nil {
		return nil, err
	}
	return &barePeers{api: api}, nil
}

// bareAPI makes peer connections without interceptors.
func bareAPI() (*webrtc.API, error) {
	var settings webrtc.SettingEngine
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	var codecs webrtc.MediaEngine
	if err := codecs.RegisterCodec(opusCodec(), webrtc.RTPCodecTypeAudio); err != nil {
		return nil, fmt.Errorf("load: codecs: %w", err)
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(&codecs),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{})), nil
}

func (p *barePeers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pc := range p.all {
		_ = pc.Close()
	}
}

// offer takes a browser in: admit gets its connection, which knows its offer and has yet to answer.
func (p *barePeers) offer(admit func(number int, pc *webrtc.PeerConnection) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := p.accept(r, admit)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(answer) // one that is gone waits for nothing
	}
}

func (p *barePeers) accept(r *http.Request, admit func(int, *webrtc.PeerConnection) error) (*webrtc.SessionDescription, error) {
	var offer webrtc.SessionDescription
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&offer); err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	number, err := strconv.Atoi(r.URL.Query().Get("browser"))
	if err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	pc, err := p.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	p.mu.Lock()
	p.all = append(p.all, pc)
	p.mu.Unlock()
	if err := pc.SetRemoteDescription(offer); err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	if err := admit(number, pc); err != nil {
		return nil, err
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		return nil, fmt.Errorf("load: floor: %w", err)
	}
	<-gathered
	return pc.LocalDescription(), nil
}

// joinBare offers to a floor, and returns once packets may be sent.
func (e *peerEnd) joinBare(ctx context.Context, base string, number int) error {
	offer, err := e.offer(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(offer)
	if err != nil {
		return fmt.Errorf("load: offer: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/offer?browser="+strconv.Itoa(number), bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("load: offer: %w", err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("load: offer: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer webrtc.SessionDescription
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&answer); err != nil {
		return fmt.Errorf("load: answer of the floor: %w", err)
	}
	return e.accept(ctx, answer.SDP)
}
