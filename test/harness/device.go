package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"
)

const (
	frameTime  = 20 * time.Millisecond
	opusRate   = 48000
	opusFrame  = 960  // samples of 20 ms at 48 kHz
	maxPayload = 1275 // RFC 6716 §3.4

	deviceEvents = 110 // the payload type of a device's keys, as in Chromium
	// Rate is the rate at which devices record what they hear unless HearAt says another, in Hz.
	Rate = 8000
	// WideRate is that of wideband sound, in Hz.
	WideRate = 16000
)

// Device is a browser without a browser: it speaks the device protocol as the published SDK does, with Pion, and
// hears and says real Opus.
type Device struct {
	Participant string
	ID          string // its uniqueId

	tb      testing.TB
	work    sync.WaitGroup
	answers sync.WaitGroup // to offers, in the making
	keys    chan byte      // events to be sent
	rate    int            // of what it records

	mu         sync.Mutex
	socket     *websocket.Conn
	cancel     context.CancelFunc // ends what is read from the socket
	calls      map[int]chan json.RawMessage
	lastCall   int
	publisher  *webrtc.PeerConnection
	subscriber *webrtc.PeerConnection
	published  string                // endpointId of the stream that it publishes
	streams    map[string]streamInfo // msid → who, as the last offer said
	sources    map[int][]string      // what each line of the offers said last of what it sends; of the goroutine that answers
	heard      map[string]*recording // by participant
	notices    []Notice
	revision   int
	dropped    bool
	closed     chan struct{} // closed when the socket is over
	code       websocket.StatusCode
}

// Notice is a notification that is no offer.
type Notice struct {
	Method string
	Params Object
}

type streamInfo struct {
	Endpoint    string   `json:"endpointId"`
	Participant string   `json:"participantId"`
	Alias       string   `json:"alias"`
	MediaTypes  []string `json:"mediaTypes"`
}

// Connect opens a device connection for a participant.
func Connect(tb testing.TB, g *Gateway, participant, token string) *Device {
	tb.Helper()
	d := &Device{
		Participant: participant, ID: uuid.NewString(), tb: tb, rate: Rate,
		keys: make(chan byte, 64), calls: map[int]chan json.RawMessage{}, streams: map[string]streamInfo{}, sources: map[int][]string{}, heard: map[string]*recording{},
	}
	d.dial(g, token)
	tb.Cleanup(d.Close)
	d.call("setMediaPreferences", Object{"protocol": "WEBRTC"})
	return d
}

// dial opens a socket and reads it.
func (d *Device) dial(g *Gateway, token string) {
	d.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	client := &http.Client{Transport: &http.Transport{}}
	socket, resp, err := websocket.Dial(ctx, g.DeviceURL(token, d.ID), &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		cancel()
	}
	require.NoError(d.tb, err)
	if resp.Body != nil {
		_ = resp.Body.Close()
	}
	socket.SetReadLimit(1 << 20)
	closed := make(chan struct{})
	d.mu.Lock()
	d.socket, d.cancel, d.closed = socket, cancel, closed
	d.mu.Unlock()
	d.work.Go(func() { d.read(ctx, socket, closed) })
}

// LoseSocket breaks the WebSocket and leaves the peer connections as they are.
func (d *Device) LoseSocket(tb testing.TB) {
	tb.Helper()
	d.mu.Lock()
	socket := d.socket
	d.mu.Unlock()
	_ = socket.CloseNow()
	d.WaitClosed(tb)
}

// ComeBack opens another socket under the same uniqueId. As the SDK does, it repeats no call.
func (d *Device) ComeBack(g *Gateway, token string) {
	d.tb.Helper()
	d.dial(g, token)
}

// Close leaves as the SDK's disconnect does.
func (d *Device) Close() {
	_ = d.send(Object{"jsonrpc": "2.0", "method": "leave"})
	d.mu.Lock()
	socket := d.socket
	d.mu.Unlock()
	_ = socket.Close(websocket.StatusNormalClosure, "")
	d.end()
}

// Drop tears everything down without a word, as a lost network does.
func (d *Device) Drop() {
	for _, pc := range d.peers() {
		// Without its transport a peer connection can't say goodbye (DTLS close_notify) when it is closed.
		_ = pc.SCTP().Transport().ICETransport().Stop()
	}
	d.end()
}

// end frees everything.
func (d *Device) end() {
	d.mu.Lock()
	d.dropped = true
	socket, cancel := d.socket, d.cancel
	d.mu.Unlock()
	cancel()
	_ = socket.CloseNow()
	d.answers.Wait()
	d.closePeers()
	d.work.Wait()
}

// closePeers closes the connections. No answer may be in the making: Pion's Close misses a receiver that the answer puts in the place of
// another just then, and its reader would never end. It also begins by itself when the gateway ends a connection, so what it missed is
// stopped after it.
func (d *Device) closePeers() {
	for _, pc := range d.peers() {
		endHandshake(pc)
		_ = pc.GracefulClose() // what Pion had to do for the last answer is done
		for _, t := range pc.GetTransceivers() {
			if r := t.Receiver(); r != nil {
				_ = r.Stop()
			}
		}
	}
}

// endHandshake returns when no DTLS handshake goes on: Pion's Close may hang when it comes in the instant in which one ends.
func endHandshake(pc *webrtc.PeerConnection) {
	dtls := pc.SCTP().Transport()
	if dtls.State() != webrtc.DTLSTransportStateConnected {
		_ = dtls.ICETransport().Stop()
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for pc.ConnectionState() == webrtc.PeerConnectionStateConnecting {
		switch dtls.State() {
		case webrtc.DTLSTransportStateConnecting, webrtc.DTLSTransportStateConnected: // and Pion has not seen it yet
			<-tick.C
		default:
			return
		}
	}
}

// peers are the peer connections that there are.
func (d *Device) peers() []*webrtc.PeerConnection {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc([]*webrtc.PeerConnection{d.publisher, d.subscriber}, func(pc *webrtc.PeerConnection) bool {
		return pc == nil
	})
}

// WaitClosed waits until the socket is over and returns the code that the gateway closed it with; −1: it just broke.
func (d *Device) WaitClosed(tb testing.TB) websocket.StatusCode {
	tb.Helper()
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	select {
	case <-closed:
	case <-time.After(Patience):
		require.FailNow(tb, "the device's socket stays open")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.code
}

// start runs f as one of those unless the device is closing.
func (d *Device) start(those *sync.WaitGroup, f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dropped {
		those.Go(f)
	}
}

func (d *Device) read(ctx context.Context, socket *websocket.Conn, closed chan<- struct{}) {
	for {
		_, text, err := socket.Read(ctx)
		if err != nil {
			d.mu.Lock()
			for _, waiting := range d.calls {
				close(waiting)
			}
			d.calls = map[int]chan json.RawMessage{}
			d.code = websocket.CloseStatus(err)
			d.mu.Unlock()
			close(closed)
			return
		}
		var m struct {
			ID     *int            `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if json.Unmarshal(text, &m) != nil {
			continue
		}
		switch {
		case m.Method == "sdpOffer":
			offer := m.Params
			d.start(&d.answers, func() { d.answer(offer) })
		case m.Method != "":
			var params Object
			_ = json.Unmarshal(m.Params, &params)
			d.mu.Lock()
			d.notices = append(d.notices, Notice{m.Method, params})
			d.mu.Unlock()
		case m.ID != nil:
			d.mu.Lock()
			waiting := d.calls[*m.ID]
			delete(d.calls, *m.ID)
			d.mu.Unlock()
			if waiting != nil {
				if m.Error != nil {
					waiting <- json.RawMessage(fmt.Sprintf(`{"error":%s}`, m.Error))
				} else {
					waiting <- m.Result
				}
			}
		}
	}
}

func (d *Device) send(o Object) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	d.mu.Lock()
	socket := d.socket
	d.mu.Unlock()
	return socket.Write(ctx, websocket.MessageText, text)
}

// call makes a JSON-RPC call and returns its result; nil when the connection is gone.
func (d *Device) call(method string, params Object) Object {
	waiting := make(chan json.RawMessage, 1)
	d.mu.Lock()
	d.lastCall++
	id := d.lastCall
	d.calls[id] = waiting
	d.mu.Unlock()
	if d.send(Object{"jsonrpc": "2.0", "id": id, "method": method, "params": params}) != nil {
		return nil
	}
	select {
	case result := <-waiting:
		var o Object
		_ = json.Unmarshal(result, &o)
		return o
	case <-time.After(Patience):
		return nil
	}
}

// Streams lists whose streams the last offer had, sorted, and which offer that was.
func (d *Device) Streams() (participants []string, revision int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.streams {
		participants = append(participants, s.Participant)
	}
	slices.Sort(participants)
	return participants, d.revision
}

// Endpoint is the endpointId of a participant's one stream, as the last offer said.
func (d *Device) Endpoint(tb testing.TB, participant string) string {
	tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, s := range d.streams {
		if s.Participant == participant {
			all = append(all, s.Endpoint)
		}
	}
	require.Len(tb, all, 1)
	return all[0]
}

// Published is the endpointId of the stream that the device published last.
func (d *Device) Published() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.published
}

// Notices returns the notifications that came, other than offers.
func (d *Device) Notices() []Notice {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.notices)
}

// newPeer makes a peer connection with the two data channels of the protocol. It is the DTLS server when it answers:
// the SDK makes Chromium so by changing its answer to setup:passive.
func newPeer() (*webrtc.PeerConnection, error) {
	settings := webrtc.SettingEngine{}
	if err := settings.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return nil, err
	}
	var codecs webrtc.MediaEngine
	if err := codecs.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	if err := codecs.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/telephone-event", ClockRate: opusRate}, PayloadType: deviceEvents,
	}, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, err
	}
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(&codecs)).NewPeerConnection(
		webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		return nil, err
	}
	for id, label := range []string{"__heartbeat__", "__diagnostics__"} {
		number, negotiated := uint16(id), true
		channel, err := pc.CreateDataChannel(label, &webrtc.DataChannelInit{ID: &number, Negotiated: &negotiated})
		if err != nil {
			return nil, err
		}
		if label == "__heartbeat__" {
			channel.OnMessage(func(m webrtc.DataChannelMessage) {
				if string(m.Data) == "PING" {
					_ = channel.SendText("PONG")
				}
			})
		}
	}
	return pc, nil
}

// answer does what the SDK does with an offer of the gateway.
func (d *Device) answer(params json.RawMessage) {
	var offer struct {
		SDP      string                `json:"sdpOffer"`
		Revision int                   `json:"sdpRevision"`
		Streams  map[string]streamInfo `json:"streamMetadata"`
	}
	if json.Unmarshal(params, &offer) != nil {
		return
	}
	d.mu.Lock()
	if offer.Revision <= d.revision {
		d.mu.Unlock()
		return
	}
	d.revision = offer.Revision
	d.streams = offer.Streams
	pc := d.subscriber
	d.mu.Unlock()
	if pc == nil {
		var err error
		if pc, err = newPeer(); err != nil {
			return
		}
		pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { d.start(&d.work, func() { d.listen(track) }) })
		d.mu.Lock()
		d.subscriber = pc
		d.mu.Unlock()
	}
	kept, idle := d.keepIdle(offer.SDP)
	if pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: kept}) != nil {
		return
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if pc.SetLocalDescription(answer) != nil {
		return
	}
	<-gathered
	sections := strings.Split(pc.LocalDescription().SDP, nextSection)
	for i := range idle {
		sections[i] = strings.ReplaceAll(sections[i], "a=recvonly", "a=inactive")
	}
	d.call("answerSdp", Object{"sdpAnswer": strings.Join(sections, nextSection)})
}

// nextSection is where the next m-line of an SDP begins.
const nextSection = "\r\nm="

// keepIdle lets Pion believe that an inactive line of an offer goes on as it was, and says which lines are inactive. A
// browser goes on after two such offers; Pion does not (pion/webrtc#2226), and it races with itself over a packet that comes
// late when the line is taken up again.
func (d *Device) keepIdle(offer string) (kept string, idle map[int]bool) {
	idle = map[int]bool{}
	sections := strings.Split(offer, nextSection)
	for i, section := range sections[1:] {
		const inactive = "a=inactive"
		if !strings.Contains(section, inactive) {
			var source []string // empty: the line sends nothing
			for line := range strings.SplitSeq(section, "\r\n") {
				if strings.HasPrefix(line, "a=ssrc") || strings.HasPrefix(line, "a=msid:") {
					source = append(source, line)
				}
			}
			d.sources[i] = source
			continue
		}
		idle[i+1] = true
		direction := "a=recvonly"
		if len(d.sources[i]) > 0 {
			direction = strings.Join(append([]string{"a=sendonly"}, d.sources[i]...), "\r\n")
		}
		sections[i+1] = strings.Replace(section, inactive, direction, 1)
	}
	return strings.Join(sections, nextSection), idle
}
