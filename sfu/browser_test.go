package sfu_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/sfu"
)

const (
	patience = 15 * time.Second
	answerID = 1_000_000 // ids of answerSdp begin here: what they return is not waited for
)

// gateway is a running server with a room.
type gateway struct {
	*sfu.Server
	room *room
	url  string
	stop func()
}

func serve(t testing.TB, r *room, cfg sfu.Config) *gateway {
	t.Helper()
	cfg.UDP = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.TCP = netip.MustParseAddrPort("127.0.0.1:0")
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("SFU_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := sfu.Listen(cfg, r, log)
	require.NoError(t, err)
	web := httptest.NewServer(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Serving():
	case err := <-ended:
		require.FailNow(t, "it ended by itself", "%v", err)
	}
	g := &gateway{Server: s, room: r, url: "ws" + strings.TrimPrefix(web.URL, "http")}
	g.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
		web.Close()
	})
	t.Cleanup(g.stop)
	return g
}

type wireMessage struct {
	ID     *int            `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

type offer struct {
	SDPOffer       string              `json:"sdpOffer"`
	SDPRevision    int                 `json:"sdpRevision"`
	EndpointID     string              `json:"endpointId"`
	StreamMetadata map[string]metadata `json:"streamMetadata"`
}

type metadata struct {
	EndpointID    string   `json:"endpointId"`
	MediaTypes    []string `json:"mediaTypes"`
	Alias         string   `json:"alias"`
	ParticipantID string   `json:"participantId"`
}

// browser is a device that does what the published client does.
type browser struct {
	t    *testing.T
	g    *gateway
	id   string
	conn *websocket.Conn
	api  *webrtc.API

	pub, sub    *webrtc.PeerConnection
	diagnostics *webrtc.DataChannel // of pub
	answers     chan wireMessage
	offers      chan offer // every one that came
	notes       chan wireMessage
	closed      chan websocket.StatusCode
	mute        atomic.Bool // offers are not answered
	// preferences are the params of setMediaPreferences.
	preferences map[string]any
	lacks       []string // codecs of sound
	reading     sync.WaitGroup
	stranger    atomic.Bool // its answers may be refused

	mu       sync.Mutex
	lastID   int
	streams  map[string]metadata
	received map[string]*heard // by "stream/track"
	beats    int
	problem  string // the last error notification
}

// heard counts the packets of one received track by the mark in their payloads.
type heard struct {
	mu    sync.Mutex
	marks map[string]int
	seqs  []uint16
	stamp []uint32
	types []uint8 // of payload
	track *webrtc.TrackRemote

	reports []rtcp.Packet
}

func (h *heard) count(mark string) int {
	if h == nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.marks[mark]
}

type browserOption func(*browser, *webrtc.SettingEngine)

func onlyTCP(_ *browser, s *webrtc.SettingEngine) {
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
}

func silent(b *browser, _ *webrtc.SettingEngine) { b.mute.Store(true) }

// follows is a client that offers when it is wanted.
func follows(b *browser, _ *webrtc.SettingEngine) { b.preferences["offersWhenWanted"] = true }

func (g *gateway) browser(t *testing.T, participant, uniqueID string, options ...browserOption) *browser {
	t.Helper()
	b := newBrowser(t, g, options...)
	b.dial(participant, uniqueID)
	require.JSONEq(t, `{}`, string(b.call("setMediaPreferences", b.preferences)))
	return b
}

func newBrowser(t *testing.T, g *gateway, options ...browserOption) *browser {
	t.Helper()
	b := &browser{
		t: t, g: g, preferences: map[string]any{"protocol": "WEBRTC"}, streams: make(map[string]metadata), received: make(map[string]*heard),
		offers: make(chan offer, 1000), notes: make(chan wireMessage, 1000),
	}
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	require.NoError(t, s.SetAnsweringDTLSRole(webrtc.DTLSRoleServer)) // setup:passive, as the client munges it
	for _, o := range options {
		o(b, &s)
	}
	var m webrtc.MediaEngine
	register := m.RegisterDefaultCodecs
	if len(b.lacks) > 0 {
		register = func() error { return registerOpusAnd(&m, b.lacks) }
	}
	require.NoError(t, register())
	for pt, clock := range map[webrtc.PayloadType]uint32{110: 48000, 126: 8000} {
		require.NoError(t, m.RegisterCodec(webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: clock},
			PayloadType:        pt,
		}, webrtc.RTPCodecTypeAudio))
	}
	b.api = webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithMediaEngine(&m))
	t.Cleanup(b.close)
	return b
}

// registerOpusAnd makes Opus known, and of G.711 what is not lacking.
func registerOpusAnd(m *webrtc.MediaEngine, lacks []string) error {
	for pt, c := range map[webrtc.PayloadType]webrtc.RTPCodecCapability{
		111: {MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2},
		0:   {MimeType: webrtc.MimeTypePCMU, ClockRate: 8000},
		8:   {MimeType: webrtc.MimeTypePCMA, ClockRate: 8000},
	} {
		if slices.Contains(lacks, c.MimeType) {
			continue
		}
		if err := m.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: c, PayloadType: pt}, webrtc.RTPCodecTypeAudio); err != nil {
			return err
		}
	}
	return nil
}

// dial opens the socket and reads it.
func (b *browser) dial(participant, uniqueID string) {
	b.t.Helper()
	b.id = participant
	url := b.g.url + "/v3/?token=token-" + participant + "&client=browser&sdkVersion=0.0.0&uniqueId=" + uniqueID
	conn, _, err := websocket.Dial(context.Background(), url, nil) //nolint:bodyclose // the WebSocket has it
	require.NoError(b.t, err)
	conn.SetReadLimit(8 << 20)
	closed, answers := make(chan websocket.StatusCode, 1), make(chan wireMessage, 1)
	b.conn, b.closed, b.answers = conn, closed, answers
	b.reading.Go(func() { b.read(conn, closed, answers) })
}

func (b *browser) read(conn *websocket.Conn, closed chan<- websocket.StatusCode, answers chan<- wireMessage) {
	for {
		_, data, err := conn.Read(context.Background())
		if err != nil {
			closed <- websocket.CloseStatus(err)
			return
		}
		var m wireMessage
		if json.Unmarshal(data, &m) != nil {
			panic("not JSON: " + string(data))
		}
		switch {
		case m.ID != nil && *m.ID >= answerID:
			if m.Error != nil && !b.stranger.Load() {
				b.fail(errors.New("answerSdp refused: " + m.Error.Message))
			}
		case m.ID != nil:
			answers <- m
		case m.Method == "sdpOffer":
			var o offer
			if json.Unmarshal(m.Params, &o) != nil {
				panic("not an offer: " + string(data))
			}
			b.offers <- o
			if !b.mute.Load() {
				b.answer(conn, o)
			}
		case m.Method == "":
			b.mu.Lock()
			b.problem = m.Error.Message
			b.mu.Unlock()
		default:
			b.notes <- m
		}
	}
}

// answer does what handleSubscribeSdpOffer does. The answer's own answer is not waited for.
func (b *browser) answer(conn *websocket.Conn, o offer) {
	b.mu.Lock()
	b.streams = o.StreamMetadata
	sub := b.sub
	b.mu.Unlock()
	if sub == nil {
		sub = b.connection(true)
		b.mu.Lock()
		b.sub = sub
		b.mu.Unlock()
	}
	if err := sub.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: o.SDPOffer}); err != nil {
		b.fail(err)
		return
	}
	answer, err := sub.CreateAnswer(nil)
	if err == nil {
		err = sub.SetLocalDescription(answer)
	}
	if err != nil {
		b.fail(err)
		return
	}
	b.write(conn, "answerSdp", answerID+o.SDPRevision, map[string]string{"sdpAnswer": answer.SDP})
}

func (b *browser) fail(err error) {
	if !errors.Is(err, webrtc.ErrConnectionClosed) {
		b.t.Errorf("%s: %v", b.id, err)
	}
}

// connection makes a peer connection with the client's two data channels.
func (b *browser) connection(receives bool) *webrtc.PeerConnection {
	pc, err := b.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		panic(err)
	}
	negotiated := true
	for i, label := range []string{"__heartbeat__", "__diagnostics__"} {
		id := uint16(i)
		channel, err := pc.CreateDataChannel(label, &webrtc.DataChannelInit{ID: &id, Negotiated: &negotiated})
		if err != nil {
			panic(err)
		}
		if i == 1 && !receives {
			b.diagnostics = channel
		}
		if i == 0 {
			channel.OnMessage(func(m webrtc.DataChannelMessage) {
				if string(m.Data) == "PING" && m.IsString {
					_ = channel.SendText("PONG")
					b.mu.Lock()
					b.beats++
					b.mu.Unlock()
				}
			})
		}
	}
	if receives {
		pc.OnTrack(b.listen)
	}
	return pc
}

func (b *browser) listen(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	h := &heard{marks: make(map[string]int), track: track}
	b.mu.Lock()
	b.received[track.StreamID()+"/"+track.ID()] = h
	b.mu.Unlock()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, _, err := receiver.Read(buf)
			if err != nil {
				return
			}
			if packets, err := rtcp.Unmarshal(buf[:n]); err == nil {
				h.mu.Lock()
				h.reports = append(h.reports, packets...)
				h.mu.Unlock()
			}
		}
	}()
	for {
		p, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.marks[string(p.Payload)]++
		h.types = append(h.types, p.PayloadType)
		h.seqs = append(h.seqs, p.SequenceNumber)
		h.stamp = append(h.stamp, p.Timestamp)
		h.mu.Unlock()
	}
}

func (b *browser) hears(stream, track string) *heard {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.received[stream+"/"+track]
}

func (b *browser) subscribed() map[string]metadata {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.streams
}

func (b *browser) write(conn *websocket.Conn, method string, id int, params any) {
	m := map[string]any{"jsonrpc": "2.0", "method": method}
	if id > 0 {
		m["id"] = id
	}
	if params != nil {
		m["params"] = params
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	_ = conn.Write(context.Background(), websocket.MessageText, data)
}

// request makes a call and returns the whole answer.
func (b *browser) request(method string, params any) wireMessage {
	b.t.Helper()
	b.lastID++
	b.write(b.conn, method, b.lastID, params)
	deadline := time.After(patience)
	for {
		select {
		case m := <-b.answers:
			if *m.ID == b.lastID {
				return m
			}
		case <-deadline:
			b.t.Fatalf("%s: no answer to %s", b.id, method)
		}
	}
}

func (b *browser) call(method string, params any) json.RawMessage {
	b.t.Helper()
	m := b.request(method, params)
	if m.Error != nil {
		b.t.Fatalf("%s: %s refused: %s", b.id, method, m.Error.Message)
	}
	return m.Result
}

type published struct {
	SDPAnswer      string              `json:"sdpAnswer"`
	EndpointID     string              `json:"endpointId"`
	StreamMetadata map[string]metadata `json:"streamMetadata"`
}

// offerPublish does what offerPublishSdp does: the offer goes out before it is the local description, without candidates.
func (b *browser) offerPublish(aliases map[string]string, options *webrtc.OfferOptions) published {
	b.t.Helper()
	if b.pub == nil {
		b.pub = b.connection(false)
	}
	o, err := b.pub.CreateOffer(options)
	require.NoError(b.t, err)
	streams := make(map[string]any)
	for msid, alias := range aliases {
		streams[msid] = map[string]string{"alias": alias}
	}
	var result published
	require.NoError(b.t, json.Unmarshal(b.call("offerSdp", map[string]any{
		"sdpOffer": o.SDP,
		"mediaMetadata": map[string]any{
			"mediaStreams": streams,
			"dataChannels": map[string]any{"__heartbeat__": map[string]any{"label": "__heartbeat__", "streamId": 0}},
		},
	}), &result))
	require.NoError(b.t, b.pub.SetLocalDescription(o))
	require.NoError(b.t, b.pub.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: result.SDPAnswer}))
	return result
}

// voice is a track that a browser sends, packet by packet, as the test says.
type voice struct {
	*webrtc.TrackLocalStaticRTP
	raw    atomic.Pointer[webrtc.TrackLocalContext]
	sender *webrtc.RTPSender
	tr     *webrtc.RTPTransceiver
	seq    uint16
	ts     uint32
}

func (b *browser) track(mime, stream, id string) *voice {
	b.t.Helper()
	if b.pub == nil {
		b.pub = b.connection(false)
	}
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, id, stream)
	require.NoError(b.t, err)
	v := &voice{TrackLocalStaticRTP: track, seq: 1000, ts: 5000}
	v.tr, err = b.pub.AddTransceiverFromTrack(v, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	require.NoError(b.t, err)
	v.sender = v.tr.Sender()
	return v
}

// Bind keeps what is needed to send packets of another payload type.
func (v *voice) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	v.raw.Store(&ctx)
	return v.TrackLocalStaticRTP.Bind(ctx)
}

// say sends one packet with mark as its payload.
func (v *voice) say(mark string) {
	v.seq++
	v.ts += 960
	_ = v.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: v.seq, Timestamp: v.ts}, Payload: []byte(mark)})
}

// event sends a packet as telephone-event on the clock of Opus.
func (v *voice) event(p *rtp.Packet) { v.send(110, p) }

// send sends a packet with any payload type.
func (v *voice) send(payloadType uint8, p *rtp.Packet) {
	p.SSRC, p.PayloadType = uint32(v.sender.GetParameters().Encodings[0].SSRC), payloadType
	raw, err := p.Marshal()
	if err != nil {
		panic(err)
	}
	_, _ = (*v.raw.Load()).WriteStream().Write(raw)
}

// until says mark every 5 ms until done.
func (v *voice) until(t *testing.T, mark string, done func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		v.say(mark)
		return done()
	}, patience, 5*time.Millisecond)
}

func (b *browser) waitClosed() websocket.StatusCode {
	b.t.Helper()
	select {
	case code := <-b.closed:
		return code
	case <-time.After(patience):
		b.t.Fatalf("%s: the socket was not closed", b.id)
		return 0
	}
}

func (b *browser) told() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.problem
}

// nextOffer returns the next offer that came.
func (b *browser) nextOffer() offer {
	b.t.Helper()
	select {
	case o := <-b.offers:
		return o
	case <-time.After(patience):
		b.t.Fatalf("%s: no offer came", b.id)
		return offer{}
	}
}

// nextNote returns the next other notification.
func (b *browser) nextNote() wireMessage {
	b.t.Helper()
	select {
	case m := <-b.notes:
		return m
	case <-time.After(patience):
		b.t.Fatalf("%s: no notification came", b.id)
		return wireMessage{}
	}
}

func (b *browser) close() {
	if b.conn != nil {
		_ = b.conn.CloseNow()
	}
	b.reading.Wait() // it may be about to make a connection
	b.mu.Lock()
	sub := b.sub
	b.mu.Unlock()
	for _, pc := range []*webrtc.PeerConnection{b.pub, sub} {
		if pc != nil {
			if err := pc.GracefulClose(); err != nil && !errors.Is(err, io.EOF) {
				b.t.Logf("close: %v", err)
			}
		}
	}
}
