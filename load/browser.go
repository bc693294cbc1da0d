package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

const (
	opusStep        = 960 // RTP timestamp units of 20 ms
	opusPayloadType = 111
	sdkVersion      = "0.22.1"
	maxOffers       = 32 // offers of the gateway that may wait
)

// opusCodec is what a browser offers; without in-band FEC, which would bring back what was dropped on purpose.
func opusCodec() webrtc.RTPCodecParameters {
	return webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10"},
		PayloadType:        opusPayloadType,
	}
}

// sdpOffer is the gateway's notification.
type sdpOffer struct {
	SDP      string `json:"sdpOffer"`
	Revision int    `json:"sdpRevision"`
}

// browser is one device: it publishes one microphone and takes what it is offered, as the published client does.
type browser struct {
	kind    peerKind
	log     *slog.Logger
	start   time.Time
	flow    *flow // what it hears; filled by the goroutine of the first track
	follows bool  // it offers when the gateway wants that, and sends the band that the answer says
	every   bool  // all tracks count as heard, and flow is left empty
	codec   webrtc.RTPCodecParameters
	step    uint32 // RTP timestamp units of 20 ms of it
	came    arrivalTimes
	heard   atomic.Int64

	rpc      *rpc
	publish  *webrtc.PeerConnection
	track    *webrtc.TrackLocalStaticRTP
	line     *webrtc.RTPTransceiver // of track
	offers   chan sdpOffer
	wanted   chan struct{}          // has a value while the gateway wants an offer
	stream   string                 // of track
	asked    atomic.Pointer[string] // the parameters of Opus in the gateway's last answer
	claimed  atomic.Bool            // a track fills flow
	leaving  atomic.Bool            // close was called
	sending  chan struct{}
	sendOnce sync.Once
	cancel   context.CancelFunc
	signals  sync.WaitGroup // the two goroutines of the device connection
	tracks   sync.WaitGroup // the one that fills flow

	packet rtp.Packet // owned by the pacer

	mu        sync.Mutex // guards all below
	subscribe *webrtc.PeerConnection
	sockets   []io.Closer // of the peer connections, closed after them
	closed    bool
}

// arrivalTimes keeps when the kernel took the last packets of RTP in: a track does not tell.
type arrivalTimes struct {
	mu   sync.Mutex
	last [1 << 10]arrivalTime // by the low bits of their sequence numbers
}

type arrivalTime struct {
	ssrc     uint32
	sequence uint16
	at       time.Time
}

// note takes a packet as it comes: SRTP leaves the header readable (RFC 3711 §3.1).
func (a *arrivalTimes) note(packet []byte, at time.Time) {
	var header rtp.Header
	if len(packet) < 12 || packet[0]>>6 != 2 || packet[1]&0x7f >= 64 && packet[1]&0x7f < 96 { // RTCP (RFC 5761 §4)
		return
	}
	if _, err := header.Unmarshal(packet); err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last[int(header.SequenceNumber)%len(a.last)] = arrivalTime{header.SSRC, header.SequenceNumber, at}
}

// of is when a packet came; now if that is not known.
func (a *arrivalTimes) of(ssrc uint32, sequence uint16) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.last[int(sequence)%len(a.last)]; t.ssrc == ssrc && t.sequence == sequence && !t.at.IsZero() {
		return t.at
	}
	return time.Now()
}

// read gives each packet of sound of a track to took, with when it came, until the track ends. The packet is took's until it returns.
func (a *arrivalTimes) read(t *webrtc.TrackRemote, took func(at time.Time, p *rtp.Packet)) {
	var buf [1500]byte
	var packet rtp.Packet
	for {
		n, _, err := t.Read(buf[:])
		if err != nil {
			return
		}
		if packet.Unmarshal(buf[:n]) == nil && len(packet.Payload) > 0 {
			took(a.of(packet.SSRC, packet.SequenceNumber), &packet)
		}
	}
}

func newBrowser(p peerKind, log *slog.Logger, start time.Time, f *flow) *browser {
	b := &browser{
		kind: p, log: log, start: start, flow: f, codec: opusCodec(), step: opusStep,
		offers:  make(chan sdpOffer, maxOffers),
		wanted:  make(chan struct{}, 1),
		sending: make(chan struct{}),
		packet: rtp.Packet{Header: rtp.Header{
			Version: 2, PayloadType: opusPayloadType, SSRC: rand.Uint32(), SequenceNumber: uint16(rand.Uint32()), Timestamp: rand.Uint32(),
		}},
	}
	b.kind.lost = b.missed
	return b
}

// connect opens the device connection and publishes the microphone. close ends what it began, also after an error.
func (b *browser) connect(ctx context.Context, base, token string) error {
	address := fmt.Sprintf("%s/v3/?token=%s&client=browser&sdkVersion=%s&uniqueId=%016x",
		base, url.QueryEscape(token), sdkVersion, rand.Uint64())
	var err error
	if b.rpc, err = dialRPC(ctx, address, b.onNotify); err != nil {
		return err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.cancel = cancel
	b.signals.Go(func() {
		if err := b.rpc.read(life); err != nil && life.Err() == nil && !b.leaving.Load() {
			b.log.Warn("load: browser", "err", err)
		}
	})
	b.signals.Go(func() { b.answerOffers(life) })
	if err := b.rpc.call(ctx, "setMediaPreferences", map[string]any{"protocol": "WEBRTC", "offersWhenWanted": b.follows}, nil); err != nil {
		return err
	}
	if b.publish, err = b.peer(); err != nil {
		return err
	}
	b.publish.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			b.sendOnce.Do(func() { close(b.sending) })
		}
	})
	// The published client offers its data channels first and its streams then.
	if err := b.offer(ctx, nil); err != nil {
		return err
	}
	b.stream = fmt.Sprintf("bench-%08x", rand.Uint32())
	if b.track, err = webrtc.NewTrackLocalStaticRTP(b.codec.RTPCodecCapability, b.stream+"-audio", b.stream); err != nil {
		return fmt.Errorf("load: track: %w", err)
	}
	b.line, err = b.publish.AddTransceiverFromTrack(b.track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err == nil {
		err = b.line.SetCodecPreferences([]webrtc.RTPCodecParameters{b.codec})
	}
	if err != nil {
		return fmt.Errorf("load: transceiver: %w", err)
	}
	return b.offer(ctx, map[string]any{b.stream: struct{}{}})
}

// peer makes a peer connection with the two channels that every one has.
func (b *browser) peer() (*webrtc.PeerConnection, error) {
	api, socket, err := b.kind.open(b.came.note)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.sockets = append(b.sockets, socket)
	b.mu.Unlock()
	pc, err := api.NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		return nil, fmt.Errorf("load: peer connection: %w", err)
	}
	negotiated, protocol := true, "udp"
	for id, label := range []string{"__heartbeat__", "__diagnostics__"} {
		number := uint16(id)
		channel, err := pc.CreateDataChannel(label, &webrtc.DataChannelInit{ID: &number, Negotiated: &negotiated, Protocol: &protocol})
		if err != nil {
			_ = pc.Close()
			return nil, fmt.Errorf("load: data channel: %w", err)
		}
		if id == 0 {
			channel.OnMessage(func(m webrtc.DataChannelMessage) {
				if string(m.Data) == "PING" {
					_ = channel.SendText("PONG") // a connection that is gone shows elsewhere
				}
			})
		}
	}
	return pc, nil
}

// offer negotiates the publishing side. The offer goes out before it is set, as in the published client, so it carries
// no candidates.
func (b *browser) offer(ctx context.Context, streams map[string]any) error {
	offer, err := b.publish.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("load: offer: %w", err)
	}
	if streams == nil {
		streams = map[string]any{}
	}
	params := map[string]any{"sdpOffer": offer.SDP, "mediaMetadata": map[string]any{
		"mediaStreams": streams,
		"dataChannels": map[string]any{
			"__heartbeat__":   map[string]any{"label": "__heartbeat__", "streamId": 0},
			"__diagnostics__": map[string]any{"label": "__diagnostics__", "streamId": 1},
		},
	}}
	var answer struct {
		SDP string `json:"sdpAnswer"`
	}
	if err := b.rpc.call(ctx, "offerSdp", params, &answer); err != nil {
		return err
	}
	if err := b.publish.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("load: offer: %w", err)
	}
	asked := opusParameters(answer.SDP)
	b.asked.Store(&asked)
	err = b.publish.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer.SDP})
	if err != nil {
		return fmt.Errorf("load: answer of the gateway: %w", err)
	}
	return nil
}

func (b *browser) onNotify(method string, params json.RawMessage) {
	switch method {
	case "offerWanted":
		select {
		case b.wanted <- struct{}{}:
		default: // the offer that is to come will do
		}
		return
	case "sdpOffer":
	default:
		return
	}
	var o sdpOffer
	if err := json.Unmarshal(params, &o); err != nil {
		b.log.Warn("load: sdpOffer", "err", err)
		return
	}
	select {
	case b.offers <- o:
	default:
		b.log.Warn("load: too many offers of the gateway are waiting")
	}
}

// answerOffers is the subscribing side, and offers again on the other when that is wanted: long after connect.
func (b *browser) answerOffers(ctx context.Context) {
	revision := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wanted:
			if err := b.offer(ctx, map[string]any{b.stream: struct{}{}}); err != nil && ctx.Err() == nil {
				b.log.Warn("load: offer that the gateway wants", "err", err)
			}
		case o := <-b.offers:
			if o.Revision <= revision {
				continue
			}
			if err := b.answer(ctx, o); err != nil {
				if ctx.Err() == nil {
					b.log.Warn("load: answer to the gateway", "err", err)
				}
				continue
			}
			revision = o.Revision
		}
	}
}

func (b *browser) answer(ctx context.Context, o sdpOffer) error {
	b.mu.Lock()
	pc := b.subscribe
	b.mu.Unlock()
	if pc == nil {
		var err error
		if pc, err = b.peer(); err != nil {
			return err
		}
		pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { b.listen(t) })
		b.mu.Lock()
		b.subscribe = pc
		b.mu.Unlock()
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.SDP}); err != nil {
		return fmt.Errorf("load: offer of the gateway: %w", err)
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("load: answer: %w", err)
	}
	if err := pc.SetLocalDescription(answer); err != nil {
		return fmt.Errorf("load: answer: %w", err)
	}
	return b.rpc.call(ctx, "answerSdp", map[string]string{"sdpAnswer": answer.SDP}, nil)
}

// listen keeps what the first track brings, on the track's own goroutine, until the peer connection is closed.
func (b *browser) listen(t *webrtc.TrackRemote) {
	if b.claimed.Swap(true) && !b.every {
		return
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.tracks.Add(1)
	b.mu.Unlock()
	defer b.tracks.Done()
	b.came.read(t, func(at time.Time, p *rtp.Packet) {
		if b.heard.Add(1); !b.every {
			b.flow.arrived(at.Sub(b.start), p.SSRC, p.Timestamp, p.SequenceNumber, p.Payload)
		}
	})
}

// missed keeps a packet that the browser reports as lost: which ones are, who analyses what arrived may choose anew. Its goroutine is the
// one that fills flow.
func (b *browser) missed(raw []byte) {
	var p rtp.Packet
	if p.Unmarshal(raw) == nil && len(p.Payload) > 0 {
		b.flow.arrived(b.came.of(p.SSRC, p.SequenceNumber).Sub(b.start), p.SSRC, p.Timestamp, p.SequenceNumber, p.Payload)
	}
}

// packets is how many were heard.
func (b *browser) packets() int64 { return b.heard.Load() }

// speak sends the next packet, or only counts it when drop is set. Only the pacer calls it.
func (b *browser) speak(payload []byte, drop bool) {
	if !drop {
		b.packet.Payload = payload
		_ = b.track.WriteRTP(&b.packet) // a connection that is gone shows as loss
	}
	b.packet.SequenceNumber++
	b.packet.Timestamp += b.step
}

// close leaves and waits for every goroutine of the browser.
func (b *browser) close(ctx context.Context) {
	if b.rpc == nil {
		return
	}
	b.leaving.Store(true)
	_ = b.rpc.write(ctx, message{Version: "2.0", Method: "leave"}, struct{}{}) // it may be gone already
	_ = b.rpc.conn.Close(websocket.StatusNormalClosure, "")
	b.cancel()
	b.signals.Wait()
	b.mu.Lock()
	b.closed = true
	subscribe := b.subscribe
	b.mu.Unlock()
	for _, pc := range []*webrtc.PeerConnection{b.publish, subscribe} {
		if pc == nil {
			continue
		}
		if err := pc.GracefulClose(); err != nil {
			b.log.Debug("load: close", "err", err)
		}
	}
	b.tracks.Wait()
	for _, socket := range b.sockets {
		_ = socket.Close()
	}
}
