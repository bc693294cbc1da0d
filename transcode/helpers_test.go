package transcode

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/gotranspile/g722"
	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tandem/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is the time of a test: it moves when the test says so.
type clock struct{ t time.Time }

func newClock() *clock { return &clock{time.Unix(1_000_000, 0)} }

func (c *clock) now() time.Time { return c.t }

func (c *clock) add(d time.Duration) { c.t = c.t.Add(d) }

func testEngine(c *clock, cfg Config) *Engine {
	e := NewEngine(cfg, slog.New(slog.DiscardHandler))
	e.now = c.now
	return e
}

// sentPacket is one that a phone got.
type sentPacket struct {
	pt      uint8
	marker  bool
	ts      uint32
	payload []byte
	at      time.Time
	key     media.KeyTime // of events
}

// phoneEar records what is sent to a phone, and fails the test when its time goes back.
type phoneEar struct {
	t    *testing.T
	c    *clock // nil: the real one
	mu   sync.Mutex
	got  []sentPacket
	lost int // packets that were said to be lost on the way
}

func (p *phoneEar) Send(pt uint8, marker bool, ts uint32, payload []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.got); n > 0 && int32(ts-p.got[n-1].ts) < 0 {
		p.t.Errorf("timestamp went back from %d to %d", p.got[n-1].ts, ts)
	}
	now := time.Now
	if p.c != nil {
		now = p.c.now
	}
	p.got = append(p.got, sentPacket{pt, marker, ts, append([]byte(nil), payload...), now(), media.KeyTime{}})
	return true
}

func (p *phoneEar) SendKey(pt uint8, first bool, ts uint32, at media.KeyTime, payload []byte) bool {
	ok := p.Send(pt, first, ts, payload)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got[len(p.got)-1].key = at
	return ok
}

// pcm is all audio that the phone got from its first packet on, silence in the gaps.
func (p *phoneEar) pcm(law media.Speech) []int16 {
	var out []int16
	for _, k := range p.got {
		if k.pt != uint8(law) {
			continue
		}
		at := int(k.ts - p.got[0].ts)
		for len(out) < at {
			out = append(out, 0)
		}
		frame := make([]int16, len(k.payload))
		expand(law, frame, k.payload)
		out = append(out, frame...)
	}
	return out
}

func (p *phoneEar) events() []sentPacket {
	var out []sentPacket
	for _, k := range p.got {
		if k.pt == 101 {
			out = append(out, k)
		}
	}
	return out
}

var pcmu = media.PortMedia{Speech: media.PCMU, EventType: 101, Send: true, Receive: true}

// testBridge makes a bridge that a test steps.
func testBridge(t *testing.T, e *Engine, c *clock, m media.PortMedia, onKey func(media.Key)) (*Bridge, *phoneEar) {
	t.Helper()
	ear := &phoneEar{t: t, c: c}
	b, err := e.newBridge(BridgeConfig{Participant: "p", Stream: "s", Media: m, OnKey: onKey}, ear)
	require.NoError(t, err)
	t.Cleanup(func() { b.Close(nil) })
	return b, ear
}

// browser publishes Opus on a track.
type browser struct {
	t      *testing.T
	enc    *opus.Encoder
	src    *media.Source
	track  *media.Track
	packet rtp.Packet
	buf    [4000]byte
	rate   int
	ch     int
}

func newBrowser(t *testing.T, name string, channels int) *browser {
	t.Helper()
	enc, err := opus.NewEncoder(48000, channels, opus.AppAudio)
	require.NoError(t, err)
	require.NoError(t, enc.SetBitrate(64000))
	track := media.NewTrack("audio", media.Audio, media.BrowserOpus(), nil)
	return &browser{
		t: t, enc: enc, track: track, rate: 48000, ch: channels,
		src:    &media.Source{Participant: name, Stream: name, Tracks: []*media.Track{track}},
		packet: rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: 65530, Timestamp: 0xffff_f000, SSRC: 7}},
	}
}

// make encodes mono samples at 48 kHz as the next packet, without sending it.
func (b *browser) make(pcm []int16) *rtp.Packet {
	in := pcm
	if b.ch == 2 {
		in = make([]int16, 0, 2*len(pcm))
		for _, s := range pcm {
			in = append(in, s, s)
		}
	}
	n, err := b.enc.Encode(in, b.buf[:])
	require.NoError(b.t, err)
	p := b.packet.Clone()
	p.Payload = append([]byte(nil), b.buf[:n]...)
	b.packet.SequenceNumber++
	b.packet.Timestamp += uint32(len(pcm))
	return p
}

func (b *browser) say(pcm []int16) { b.track.WriteRTP(b.make(pcm)) }

// phoneVoice is the RTP of a phone.
type phoneVoice struct {
	law    media.Speech
	packet rtp.Packet
}

func newPhoneVoice(law media.Speech) *phoneVoice {
	return &phoneVoice{law: law, packet: rtp.Packet{Header: rtp.Header{
		Version: 2, PayloadType: uint8(law), SequenceNumber: 65000, Timestamp: 0xffff_ff00, SSRC: 99,
	}}}
}

// make returns the next packet.
func (v *phoneVoice) make(pcm []int16) *rtp.Packet {
	p := v.packet.Clone()
	p.Payload = make([]byte, len(pcm))
	compress(v.law, p.Payload, pcm)
	v.packet.SequenceNumber++
	v.packet.Timestamp += uint32(len(pcm))
	return p
}

// opusEar records the Opus that a browser gets.
type opusEar struct {
	got []*rtp.Packet
}

func (o *opusEar) WriteRTP(p *rtp.Packet) {
	k := p.Clone()
	o.got = append(o.got, k)
}

// pcm decodes everything at 48 kHz; lost packets and pauses are silence.
func (o *opusEar) pcm(t *testing.T) []int16 {
	t.Helper()
	dec, err := opus.NewDecoder(48000, 1)
	require.NoError(t, err)
	var out []int16
	buf := make([]int16, 5760)
	for _, p := range o.got {
		at := int(p.Timestamp - o.got[0].Timestamp)
		for len(out) < at {
			out = append(out, 0)
		}
		n, err := dec.Decode(p.Payload, buf)
		require.NoError(t, err)
		out = append(out, buf[:n]...)
	}
	return out
}

const (
	frameSamples = narrow / 50 // 20 ms of G.711
	maxFrame     = 960         // 120 ms of it
)

func (p *phoneEar) Lose(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost += n
}

// loop is how long a speaker's tone goes on until it is said again: a whole number of periods of a multiple of 0.25 Hz.
const loop = 4 * time.Second

// ear decodes what one listener gets of a stream.
type ear struct {
	speech media.Speech
	g722   *g722.Decoder
	opus   *opus.Decoder
	pcm    []int16
}

func newEar(t *testing.T, speech media.Speech) *ear {
	t.Helper()
	dec, err := opus.NewDecoder(wide, 1)
	require.NoError(t, err)
	return &ear{speech: speech, g722: g722.NewDecoder(g722.Rate64000, 0), opus: dec}
}

func (e *ear) hear(payload []byte) {
	var buf [soundMost]int16
	n := len(payload)
	switch e.speech {
	case media.Opus:
		n, _ = e.opus.Decode(payload, buf[:])
	case media.G722:
		n = e.g722.Decode(buf[:], payload)
	case media.PCMU, media.PCMA:
		expand(e.speech, buf[:n], payload)
	}
	e.pcm = append(e.pcm, buf[:n]...)
}

// WriteRTP implements media.Sink.
func (e *ear) WriteRTP(p *rtp.Packet) { e.hear(p.Payload) }
