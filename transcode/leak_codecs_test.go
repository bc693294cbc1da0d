package transcode

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gotranspile/g722"
	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// partyTones are of the phones of partyPhones, and of the browsers of partyBrowsers. No two of them have a product in G.711 that is
// near another one.
var (
	partyTones    = [...]float64{768.25, 1237.25, 1637.75, 1894.25, 2239.75, 2714.25, 3142.75}
	partyPhones   = []media.PortMedia{pcmu, withLaw(media.PCMA), g722Phone, opusPhone}
	partyBrowsers = []media.Speech{media.Opus, media.Opus, media.PCMA}
)

// leakNoise is what the noise of a codec may make of a tone that is not there, in a second, in dB: less than that is looked at for
// longer.
const leakNoise = -55.0

// party is a session of phones of every codec and of browsers, all of which say a tone now and then.
type party struct {
	t        *testing.T
	c        *clock
	e        *Engine
	phones   []*Bridge
	ears     []*phoneEar
	speakers []*speaker
	heard    []*ear            // by phone
	hears    [][]bool          // by phone and speaker
	mutes    [][]bool          // the same
	webs     [][]*ear          // by browser and phone
	gone     []*ear            // of browsers that are subscribed no longer
	windows  map[int][]float64 // by their length
	loudest  float64           // of what must not be heard, in dB
}

// speaker says a tone, or sends silence, or nothing.
type speaker struct {
	src    *media.Source
	talks  bool
	dtx    bool // it sends nothing between its words
	at     int
	loop   [][]byte
	silent []byte
	packet rtp.Packet
	clock  uint32 // of 20 ms
	send   func(*rtp.Packet)
}

func (s *speaker) say() {
	s.packet.Timestamp += s.clock
	if s.at = (s.at + 1) % len(s.loop); !s.talks && s.dtx {
		return
	}
	s.packet.SequenceNumber++
	if s.packet.Payload = s.silent; s.talks {
		s.packet.Payload = s.loop[s.at]
	}
	s.send(&s.packet)
}

// loops encodes a sound that begins where it ends, and silence, in packets of 20 ms.
func loops(t *testing.T, speech media.Speech, rate int, pcm []int16) (loop [][]byte, silent []byte) {
	t.Helper()
	var encode func(pcm []int16) []byte
	switch speech {
	case media.Opus:
		enc, err := opus.NewEncoder(rate, 1, opus.AppAudio)
		require.NoError(t, err)
		require.NoError(t, enc.SetBitrate(96000))
		require.NoError(t, enc.SetComplexity(5))
		encode = func(pcm []int16) []byte {
			payload := make([]byte, longestPayload)
			n, err := enc.Encode(pcm, payload)
			require.NoError(t, err)
			return payload[:n]
		}
	case media.G722:
		enc := g722.NewEncoder(g722.Rate64000, 0)
		encode = func(pcm []int16) []byte {
			payload := make([]byte, len(pcm)/2)
			enc.Encode(payload, pcm)
			return payload
		}
	default:
		encode = func(pcm []int16) []byte {
			payload := make([]byte, len(pcm))
			compress(speech, payload, pcm)
			return payload
		}
	}
	for range 10 {
		silent = encode(make([]int16, rate/50))
	}
	encode(pcm[len(pcm)-rate/50:])
	for frame := range slices.Chunk(pcm, rate/50) {
		loop = append(loop, encode(frame))
	}
	return loop, silent
}

// newParty makes a party. What each says holds the tone of the one behind it, 50 dB below its own, if leaky is set.
func newParty(t *testing.T, leaky bool) *party {
	t.Helper()
	p := &party{t: t, c: newClock(), windows: make(map[int][]float64), loudest: math.Inf(-1)}
	p.e = testEngine(p.c, Config{Bitrate: 96000})
	sound := func(i, rate int) []int16 {
		pcm := audio.Tone(partyTones[i], -20, rate, loop)
		if leaky {
			pcm = audio.Mix(pcm, audio.Tone(partyTones[(i+1)%len(partyTones)], -70, rate, loop))
		}
		return pcm
	}
	add := func(src *media.Source, speech media.Speech, pt uint8, rate int, send func(*rtp.Packet)) {
		i := len(p.speakers)
		s := &speaker{src: src, send: send, clock: uint32(speech.Clock() / 50), dtx: i%2 == 0}
		s.packet = rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SSRC: uint32(i + 1)}}
		s.loop, s.silent = loops(t, speech, rate, sound(i, rate))
		p.speakers = append(p.speakers, s)
	}
	for _, m := range partyPhones {
		b, out := testBridge(t, p.e, p.c, m, nil)
		p.phones, p.ears, p.heard = append(p.phones, b), append(p.ears, out), append(p.heard, newEar(t, m.Speech))
		add(b.Source(), m.Speech, m.Audio(), m.Speech.Rate(), func(k *rtp.Packet) { b.up.ReceiveRTP(k, p.c.now()) })
	}
	for _, speech := range partyBrowsers {
		if speech == media.Opus {
			w := newBrowser(t, "w", 1)
			add(w.src, speech, 111, 48000, w.track.WriteRTP)
		} else {
			src, track := lawBrowser(speech)
			add(src, speech, uint8(speech), narrow, track.WriteRTP)
		}
		p.webs = append(p.webs, make([]*ear, len(p.phones)))
	}
	for range p.phones {
		p.hears, p.mutes = append(p.hears, make([]bool, len(p.speakers))), append(p.mutes, make([]bool, len(p.speakers)))
	}
	return p
}

func (p *party) run(ticks int) {
	for range ticks {
		for _, s := range p.speakers {
			s.say()
		}
		step(p.c, p.phones)
	}
	for i, out := range p.ears {
		for _, k := range out.got {
			if k.pt == partyPhones[i].Audio() {
				p.heard[i].hear(k.payload)
			}
		}
		out.got = nil
	}
}

// change lets a phone or a browser hear somebody else, or no longer.
func (p *party) change(rnd *rand.Rand) {
	listener, s := rnd.IntN(len(p.phones)+len(p.webs)), rnd.IntN(len(p.speakers))
	switch {
	case listener >= len(p.phones):
		ears, phone := p.webs[listener-len(p.phones)], s%len(p.phones)
		if track := p.phones[phone].Source().Audio(); ears[phone] == nil {
			ears[phone] = newEar(p.t, media.Opus)
			track.Add(ears[phone])
		} else {
			track.Remove(ears[phone])
			ears[phone].pcm = nil
			p.gone, ears[phone] = append(p.gone, ears[phone]), nil
		}
	case listener == s:
	case p.hears[listener][s] && rnd.IntN(2) == 0:
		muted := &p.mutes[listener][s]
		*muted = !*muted
		p.phones[listener].Mute(p.speakers[s].src, *muted)
	case p.hears[listener][s]:
		p.hears[listener][s], p.mutes[listener][s] = false, false
		p.phones[listener].Unsubscribe(p.speakers[s].src)
	default:
		p.hears[listener][s] = true
		p.phones[listener].Subscribe(p.speakers[s].src)
	}
}

// settle lets a second pass in which no voice is stretched.
func (p *party) settle() {
	for before := stretched(p.e) + 1; stretched(p.e) != before; {
		before = stretched(p.e)
		p.forget()
		p.run(50)
	}
}

// forget begins a new piece of what everybody hears.
func (p *party) forget() {
	for _, e := range p.heard {
		e.pcm = nil
	}
	for _, ears := range p.webs {
		for _, e := range ears {
			if e != nil {
				e.pcm = nil
			}
		}
	}
}

// judge says what is wrong with the last piece: who hears whom he must not, by more than limit, or does not hear whom he must, if
// that has settled.
func (p *party) judge(limit float64, settled bool) (wrong []string) {
	listen := func(who string, e *ear, may func(s int) bool) {
		levels := p.levels(e)
		for s, tone := range partyTones {
			switch level := levels[s]; {
			case may(s) && !settled:
			case may(s) && p.speakers[s].talks:
				if level < -3 || level > 3 {
					wrong = append(wrong, fmt.Sprintf("%s hears %v Hz at %.1f dB", who, tone, level))
				}
			case level > limit:
				wrong = append(wrong, fmt.Sprintf("%s must not hear %v Hz: %.1f dB", who, tone, level))
			case settled && limit == leakLimit:
				p.loudest = max(p.loudest, level)
			}
		}
	}
	for i, e := range p.heard {
		listen(partyPhones[i].Speech.String(), e, func(s int) bool { return p.hears[i][s] && !p.mutes[i][s] })
	}
	for w, ears := range p.webs {
		for phone, e := range ears {
			if e != nil {
				listen(fmt.Sprintf("browser %d, of %v,", w, partyPhones[phone].Speech), e, func(s int) bool { return s == phone })
			}
		}
	}
	for _, e := range p.gone {
		if len(e.pcm) > 0 {
			wrong = append(wrong, "a browser that is subscribed no longer gets packets")
		}
	}
	return wrong
}

// levels are those of all tones in what an ear has heard, in dB against what was said: audio.Goertzel for all of them at once.
func (p *party) levels(e *ear) (levels [len(partyTones)]float64) {
	if len(e.pcm) == 0 {
		for i := range levels {
			levels[i] = math.Inf(-1)
		}
		return levels
	}
	var turn, one, two [len(partyTones)]float64
	for i, tone := range partyTones {
		turn[i] = 2 * math.Cos(2*math.Pi*tone/float64(e.speech.Rate()))
	}
	window := p.windows[len(e.pcm)]
	if window == nil {
		window = make([]float64, len(e.pcm))
		for i := range window {
			window[i] = 1 - math.Cos(2*math.Pi*(float64(i)+0.5)/float64(len(window)))
		}
		p.windows[len(e.pcm)] = window
	}
	for n, s := range e.pcm {
		v := float64(s) * window[n]
		for i := range turn {
			one[i], two[i] = v+turn[i]*one[i]-two[i], one[i]
		}
	}
	full := 0.1 * math.MaxInt16 * float64(len(window)) / 2 // that of -20 dBFS
	for i := range levels {
		power := one[i]*one[i] + two[i]*two[i] - turn[i]*one[i]*two[i]
		levels[i] = 10 * math.Log10(power/(full*full))
	}
	return levels
}

// talk lets some speak, the first of them for certain, and the others as long as nobody hears more than two of them: more loud tones
// at once are noise to G.722 and Opus.
func (p *party) talk(some ...int) {
	for _, s := range p.speakers {
		s.talks = false
	}
	for _, s := range some {
		p.speakers[s].talks = true
		for i := range p.phones {
			if p.audible(i) > 2 {
				p.speakers[s].talks = false
			}
		}
	}
}

// audible is how many of those who speak a phone is to hear.
func (p *party) audible(phone int) (n int) {
	for s, speaker := range p.speakers {
		if speaker.talks && p.hears[phone][s] && !p.mutes[phone][s] {
			n++
		}
	}
	return n
}

// TestNobodyHearsWhomHeMustNotInAnyCodec changes at random, 200 times, who of phones of all codecs and of browsers hears whom, is
// muted, and speaks; packets are mixed, encoded anew and forwarded as they are.
func TestNobodyHearsWhomHeMustNotInAnyCodec(t *testing.T) {
	p := newParty(t, false)
	rnd := rand.New(rand.NewPCG(11, 5))
	heard, kept, muted, mixed, forwarded, doubts := 0, 0, 0, 0, 0, 0
	var said []int
	for change := range 200 {
		for range 1 + rnd.IntN(3) {
			p.change(rnd)
		}
		if rnd.IntN(2) == 0 {
			said = []int{rnd.IntN(len(p.phones)), rnd.IntN(len(p.speakers)), rnd.IntN(len(p.speakers))}
		}
		p.talk(said...)
		p.run(int(settle/frameTime) + rnd.IntN(3))
		p.forget()
		p.run(25)
		require.Empty(t, p.judge(leakSoon, false), "soon after change %d", change)
		p.settle()
		wrong := p.judge(leakLimit, true)
		if len(wrong) > 0 {
			require.Empty(t, p.judge(leakNoise, true), "change %d", change)
			doubts++
			p.run(3 * 50) // in four seconds a codec's noise is spread more thinly, and a leak is as loud as in one
			wrong = p.judge(leakLimit, true)
		}
		require.Empty(t, wrong, "change %d", change)
		for i, b := range p.phones {
			switch picked := b.down.picked; {
			case b.down.mixing:
				mixed++
			case picked != nil && picked.codec == b.speech && picked.feed.active.Load():
				forwarded++
			}
			for s := range p.speakers {
				switch {
				case !p.speakers[s].talks || s == i:
				case p.hears[i][s] && p.mutes[i][s]:
					muted++
				case p.hears[i][s]:
					heard++
				default:
					kept++
				}
			}
		}
	}
	require.Greater(t, heard, 100)
	require.Greater(t, kept, 100)
	require.Greater(t, muted, 50)
	require.Greater(t, mixed, 50)
	require.Greater(t, forwarded, 20)
	t.Logf("heard %d, kept %d, muted %d, mixed %d, forwarded %d, in doubt %d; what must not be heard has %.1f dB at most",
		heard, kept, muted, mixed, forwarded, doubts, p.loudest)
}

// TestLeakIsFoundInAnyCodec is the negative control: what is heard at -50 dB of a voice that must not be heard is found by the same
// judge in what each phone and browser gets, of one voice and in a mix.
func TestLeakIsFoundInAnyCodec(t *testing.T) {
	p := newParty(t, true)
	for i, b := range p.phones {
		for _, s := range []int{4, 6} { // a browser with Opus, and one with G.711
			p.hears[i][s] = true
			b.Subscribe(p.speakers[s].src)
		}
		p.webs[0][i] = newEar(t, media.Opus)
		b.Source().Audio().Add(p.webs[0][i])
	}
	find := func(talk int, who, tone string) {
		t.Helper()
		wrong := p.judge(leakNoise, true)
		require.True(t, slices.ContainsFunc(wrong, func(w string) bool {
			return strings.HasPrefix(w, who) && slices.Contains(strings.Fields(w), tone)
		}), "%s hears %v Hz while %d talks; found: %q", who, tone, talk, wrong)
	}
	for _, talk := range [][]int{{4}, {6}, {4, 6}} {
		for s := range p.speakers {
			p.speakers[s].talks = slices.Contains(talk, s)
		}
		p.run(50)
		p.settle()
		for _, m := range partyPhones {
			for _, s := range talk {
				find(s, m.Speech.String(), fmt.Sprint(partyTones[(s+1)%len(partyTones)]))
			}
		}
	}
	for i, m := range partyPhones {
		for s := range p.speakers {
			p.speakers[s].talks = s == i
		}
		p.run(50)
		p.forget()
		p.run(50)
		find(i, fmt.Sprintf("browser 0, of %v,", m.Speech), fmt.Sprint(partyTones[i+1]))
	}
}
