package transcode

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/dsp"
	"tandem/media"
)

// speech is one second at rate of something that is coded like speech: a voice of 30 harmonics whose pitch and
// loudness move, pauses, and breath up to the end of the band.
func speech(rate int) []int16 {
	rnd := rand.New(rand.NewPCG(1, 2))
	out := make([]int16, rate)
	phase, low := 0.0, 0.0
	for i := range out {
		t := float64(i) / float64(rate)
		phase += (120 + 40*triangle(t*3)) / float64(rate)
		loud := max(0, triangle(t*4)) * 6000
		voice := 0.0
		for h := 1; h <= 30; h++ {
			voice += triangle(phase*float64(h)) / float64(h)
		}
		low += (rnd.NormFloat64() - low) * 0.6
		out[i] = int16(max(-32000, min(32000, loud*voice+low*600)))
	}
	return out
}

func triangle(x float64) float64 {
	x -= float64(int(x))
	return 4*max(x-0.5, 0.5-x) - 1
}

// discard is a phone and a browser that take everything.
type discard struct{ packets int }

func (d *discard) Send(uint8, bool, uint32, []byte) bool { d.packets++; return true }

func (d *discard) SendKey(uint8, bool, uint32, media.KeyTime, []byte) bool { d.packets++; return true }

func (d *discard) Lose(int) {}

func (d *discard) WriteRTP(*rtp.Packet) { d.packets++ }

// benchPair is one 20 ms pair after the other: a packet of each side.
type benchPair struct {
	web   []*rtp.Packet // one second of the browser's Opus
	tel   []*rtp.Packet // one second of the phone's G.711
	voice [][]int16     // the same, expanded
}

func newBenchPair(b testing.TB) benchPair {
	b.Helper()
	var p benchPair
	enc, err := opus.NewEncoder(48000, 1, opus.AppVoIP)
	require.NoError(b, err)
	require.NoError(b, enc.SetBitrate(32000)) // what Chromium sends
	require.NoError(b, enc.SetMaxBandwidth(opus.Fullband))
	pcm := speech(48000)
	for at := 0; at < len(pcm); at += 960 {
		buf := make([]byte, 1500)
		n, err := enc.Encode(pcm[at:at+960], buf)
		require.NoError(b, err)
		p.web = append(p.web, &rtp.Packet{
			Header:  rtp.Header{Version: 2, PayloadType: 111, SSRC: 1, SequenceNumber: uint16(at / 960), Timestamp: uint32(at)},
			Payload: buf[:n],
		})
	}
	pcm = speech(8000)
	for at := 0; at < len(pcm); at += 160 {
		payload := make([]byte, 160)
		compress(media.PCMU, payload, pcm[at:at+160])
		voice := make([]int16, 160)
		expand(media.PCMU, voice, payload)
		p.voice = append(p.voice, voice)
		p.tel = append(p.tel, &rtp.Packet{
			Header:  rtp.Header{Version: 2, PayloadType: 0, SSRC: 2, SequenceNumber: uint16(at / 160), Timestamp: uint32(at)},
			Payload: payload,
		})
	}
	return p
}

// next moves a packet on by one second, to its next use.
func next(p *rtp.Packet, samples uint32) {
	p.SequenceNumber += 50
	p.Timestamp += samples
}

// bridgePair returns what a call does for 20 ms: a packet of the browser to the phone, one of the phone to the browser.
func bridgePair(b *testing.B) func() {
	b.Helper()
	c := newClock()
	e := testEngine(c, Config{})
	var tel, web discard
	bridge, err := e.newBridge(BridgeConfig{Media: pcmu}, &tel)
	require.NoError(b, err)
	bridge.Source().Audio().Add(&web)
	track := media.NewTrack("audio", media.Audio, media.BrowserOpus(), nil)
	bridge.Subscribe(&media.Source{Tracks: []*media.Track{track}})
	p := newBenchPair(b)
	i := 0
	b.Cleanup(func() {
		bridge.Close(nil)
		require.Equal(b, i, web.packets)
		require.InDelta(b, i, tel.packets, 1)
		require.LessOrEqual(b, bridge.Stats().Fillers, uint64(1))
	})
	return func() {
		down, up := p.web[i%50], p.tel[i%50]
		track.WriteRTP(down)
		bridge.up.ReceiveRTP(up, c.t)
		bridge.tick(c.t)
		next(down, 48000)
		next(up, 8000)
		c.add(20 * time.Millisecond)
		i++
	}
}

// libopusPair returns libopus alone on the same packets: the floor.
func libopusPair(b *testing.B) func() {
	b.Helper()
	p := newBenchPair(b)
	dec, err := opus.NewDecoder(8000, 1)
	require.NoError(b, err)
	enc, err := Config{}.encoder(narrow, opus.AppRestrictedLowdelay)
	require.NoError(b, err)
	pcm, data := make([]int16, maxFrame), make([]byte, 1500)
	var complexities [50]int // as the bridge chooses them, whose work that is
	onsets := dsp.NewOnsets(narrow)
	for i := range 2 * len(complexities) { // the first second has an onset that the others do not
		complexities[i%50] = 0
		if onsets.Frame(p.voice[i%50]) {
			complexities[i%50] = Config{}.complexity(narrow)
		}
	}
	i, complexity := 0, -1
	return func() {
		if _, err := dec.Decode(p.web[i%50].Payload, pcm); err != nil {
			b.Fatal(err)
		}
		if to := complexities[i%50]; to != complexity {
			complexity = to
			if err := enc.SetComplexity(to); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := enc.Encode(p.voice[i%50], data); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkBridgePair(b *testing.B) {
	pair := bridgePair(b)
	b.ReportAllocs()
	for b.Loop() {
		pair()
	}
}

func BenchmarkLibopusPair(b *testing.B) {
	pair := libopusPair(b)
	b.ReportAllocs()
	for b.Loop() {
		pair()
	}
}

// BenchmarkPairRatio runs both in turn, a second of audio each, so that a busy machine slows both alike, and reports
// the medians and their ratio.
func BenchmarkPairRatio(b *testing.B) {
	pairs := [2]func(){bridgePair(b), libopusPair(b)}
	var took [2][]time.Duration
	for b.Loop() {
		for k, pair := range pairs {
			start := time.Now()
			for range 50 {
				pair()
			}
			took[k] = append(took[k], time.Since(start)/50)
		}
	}
	var median [2]float64
	for k := range took {
		slices.Sort(took[k])
		median[k] = float64(took[k][len(took[k])/2])
	}
	b.ReportMetric(0, "ns/op") // of no meaning here
	b.ReportMetric(median[0], "bridge-ns/pair")
	b.ReportMetric(median[1], "libopus-ns/pair")
	b.ReportMetric(median[0]/median[1], "ratio")
}

// BenchmarkLibopusDecode is the decoding half of the floor.
func BenchmarkLibopusDecode(b *testing.B) {
	p := newBenchPair(b)
	dec, err := opus.NewDecoder(8000, 1)
	require.NoError(b, err)
	pcm := make([]int16, maxFrame)
	for i := 0; b.Loop(); i++ {
		if _, err := dec.Decode(p.web[i%50].Payload, pcm); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMix is 20 ms of a phone that hears four sources.
func BenchmarkMix(b *testing.B) {
	c := newClock()
	e := testEngine(c, Config{})
	var tel discard
	bridge, err := e.newBridge(BridgeConfig{Media: pcmu}, &tel)
	require.NoError(b, err)
	defer bridge.Close(nil)
	for range 4 {
		bridge.Subscribe(&media.Source{Tracks: []*media.Track{media.NewTrack("audio", media.Audio, media.BrowserOpus(), nil)}})
	}
	pcm := speech(8000)[:160]
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for _, in := range bridge.down.inputs {
			bridge.down.hear(in, frame{pos: int64(i) * 160, pcm: pcm}, c.t)
		}
		bridge.tick(c.t)
		c.add(20 * time.Millisecond)
	}
	require.Positive(b, tel.packets)
}
