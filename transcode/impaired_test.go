package transcode

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/gotranspile/g722"
	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// Path says how many copies of a packet that was sent at a time arrive, and how much later.
type Path interface {
	Packet(at time.Duration) (copies int, delay time.Duration)
}

// Way is who speaks and who listens.
type Way struct {
	From, To media.Speech // of a phone; Browser: it is none
	Mixed    bool         // somebody else is heard too, who has no network between
}

// Browser in a Way.
const Browser = media.Speech(255)

// The tones of those who speak: of the one with the bad network, and of the other one, which Impaired takes out.
const (
	Pitch      = 437
	otherPitch = 1000 // half a period is a whole number of samples
)

// Result is what came of a tone.
type Result struct {
	Gap time.Duration // the longest hole
	SNR float64       // the median, of the last 8 s
	// Delay is from when the mark is said until it is heard, beyond what the path takes at least: codecs, the gateway, and
	// what a phone waits itself for the jitter of packets that come to it as they are. A browser's buffer is not in it.
	Delay time.Duration
	Told  time.Duration // what the gateway says that it adds to a phone's, in the end
	// Disordered is how many packets were left out because they came behind a later one.
	Disordered uint64
}

// markLength is how long the mark is that follows the tone, of which the delay is told.
const markLength = time.Second

// mark is like itself at no other time: it rises from 300 to 3000 Hz.
func mark(rate int) []int16 {
	out := make([]int16, int(markLength.Seconds()*float64(rate)))
	for i := range out {
		at := float64(i) / float64(rate)
		out[i] = int16(8000 * math.Sin(2*math.Pi*(300*at+2700/markLength.Seconds()*at*at/2)))
	}
	return out
}

// mouth lets who speaks in a Way make the next 20 ms, which come when the packet does.
func (w Way) mouth(t *testing.T, c *clock, bridge func(media.PortMedia) (*Bridge, *phoneEar)) (
	src *media.Source, rate int, say func(pcm []int16) func(),
) {
	t.Helper()
	rate = wide * 3
	web := newBrowser(t, "web", 1)
	enc, err := opus.NewEncoder(rate, 1, opus.AppVoIP)
	require.NoError(t, err)
	require.NoError(t, enc.SetBitrate(32000))
	require.NoError(t, enc.SetInBandFEC(true))
	require.NoError(t, enc.SetPacketLossPerc(20))
	web.enc = enc
	if w.From == Browser {
		return web.src, rate, func(pcm []int16) func() {
			p := web.make(pcm)
			return func() { web.track.WriteRTP(p.Clone()) }
		}
	}
	m := withLaw(w.From)
	voice := newPhoneVoice(w.From)
	next := voice.make
	switch w.From {
	case media.Opus:
		m, next = opusPhone, func(pcm []int16) *rtp.Packet {
			p := web.make(pcm)
			p.PayloadType = opusPhone.PayloadType
			return p
		}
	case media.G722:
		coder := g722.NewEncoder(g722.Rate64000, 0)
		rate, next = wide, func(pcm []int16) *rtp.Packet {
			p := voice.make(pcm[:len(pcm)/2]) // its clock is half its rate
			p.Payload = p.Payload[:coder.Encode(p.Payload, pcm)]
			return p
		}
	default:
		rate = narrow
	}
	b, _ := bridge(m)
	return b.Source(), rate, func(pcm []int16) func() {
		p := next(pcm)
		return func() { b.up.ReceiveRTP(p.Clone(), c.now()) }
	}
}

// Impaired lets a tone be heard over a path for a time, in virtual time, and the mark after it. What is heard in the first
// second does not count.
func Impaired(t *testing.T, w Way, path Path, length time.Duration) Result {
	t.Helper()
	c := newClock()
	begun := c.now()
	e := testEngine(c, Config{})
	var bridges []*Bridge
	bridge := func(m media.PortMedia) (*Bridge, *phoneEar) {
		b, ear := testBridge(t, e, c, m, nil)
		bridges = append(bridges, b)
		return b, ear
	}
	src, rate, say := w.mouth(t, c, bridge)

	// Who listens.
	web := timedEar{c: c}
	var ear *phoneEar
	var b *Bridge
	if w.To == Browser {
		src.Audio().Add(&web)
	} else {
		b, ear = bridge(withLaw(w.To))
		b.Subscribe(src)
	}

	tone, rises := audio.Tone(Pitch, -15, rate, loop), mark(rate)
	size := rate / 50
	var arrivals []arrival
	fastest := time.Duration(math.MaxInt64) // on the path, of the mark's packets
	for at, i := time.Duration(0), 0; at < length+markLength; at, i = at+frameTime, i+1 {
		pcm := tone[i*size%len(tone):]
		if at >= length {
			pcm = rises[int((at-length)/frameTime)*size:]
		}
		come := say(pcm[:size])
		copies, delay := path.Packet(at)
		for range copies {
			arrivals = append(arrivals, arrival{at + delay, come})
		}
		if copies > 0 && at >= length {
			fastest = min(fastest, delay)
		}
	}
	if w.Mixed {
		other := newBrowser(t, "other", 1)
		b.Subscribe(other.src)
		speak := other.speaker(otherPitch, -20)
		for at := time.Duration(0); at < length+markLength; at += frameTime {
			arrivals = append(arrivals, arrival{at, speak})
		}
	}
	pass(c, bridges, arrivals, length+markLength)

	r := Result{Disordered: e.Dropped().Disordered}
	var h heard
	if w.To == Browser {
		h = web.heard(t)
	} else {
		h = ear.heard(w.To)
		r.Told = b.Quality().Out.Delay
	}
	rate = h.rate
	marked := h.find(mark(rate), length)
	r.Delay = h.when(marked, begun, length) - length - fastest

	pcm := h.pcm[rate : marked-rate/2]
	if w.Mixed {
		require.True(t, b.down.mixing)
		require.Greater(t, audio.Goertzel(pcm, rate, otherPitch), -22.0)
		pcm = without(pcm, rate/otherPitch/2)
	}
	r.Gap = audio.LongestGap(pcm, rate)
	r.SNR = audio.MedianSNR(pcm[max(0, len(pcm)-8*rate):], rate, Pitch)
	return r
}

// heard is the sound of a listener, with what came when.
type heard struct {
	rate    int
	pcm     []int16
	packets []heardPacket
	patient bool // it waits for long, and for what it has no time of its own
}

// heardPacket is one that came at a time, and whose sound begins at a sample.
type heardPacket struct {
	at     time.Time
	sample int
}

// find returns the sample at which something is that was said at a time.
func (h *heard) find(said []int16, at time.Duration) int {
	from := max(0, int(at.Seconds()*float64(h.rate))-h.rate/2)
	_, late := audio.Align(said, h.pcm[from:], h.rate, time.Second)
	return from + int(late.Seconds()*float64(h.rate)+0.5)
}

// when is how long after the beginning a listener hears a sample, who waits for three of four of the packets that come after a
// time; one who is patient, as soon as the fastest of those allows.
func (h *heard) when(sample int, begun time.Time, after time.Duration) time.Duration {
	var lags []time.Duration
	for _, p := range h.packets {
		if at := p.at.Sub(begun); at >= after {
			lags = append(lags, at-time.Duration(p.sample)*time.Second/time.Duration(h.rate))
		}
	}
	slices.Sort(lags)
	waited := 0
	if !h.patient {
		waited = len(lags) * 3 / 4
	}
	return time.Duration(sample)*time.Second/time.Duration(h.rate) + lags[waited]
}

// heard is what a phone of G.711 or G.722 hears, silence in the gaps.
func (p *phoneEar) heard(speech media.Speech) heard {
	h := heard{rate: speech.Rate()}
	wider := h.rate / narrow // than its clock
	g := g722.NewDecoder(g722.Rate64000, 0)
	for _, k := range p.got {
		at := int(k.ts-p.got[0].ts) * wider
		h.packets = append(h.packets, heardPacket{k.at, at})
		h.pcm = append(h.pcm, make([]int16, max(0, at-len(h.pcm)))...)
		frame := make([]int16, len(k.payload)*wider)
		if speech == media.G722 {
			g.Decode(frame, k.payload)
		} else {
			expand(speech, frame, k.payload)
		}
		h.pcm = append(h.pcm, frame...)
	}
	return h
}

// without takes a tone out whose half period is n samples.
func without(pcm []int16, n int) []int16 {
	out := make([]int16, len(pcm)-n)
	for i := range out {
		out[i] = int16((int(pcm[i]) + int(pcm[i+n])) / 2)
	}
	return out
}

// timedEar is a browser of which it is known when what came.
type timedEar struct {
	opusEar
	c  *clock
	at []time.Time
}

func (o *timedEar) WriteRTP(p *rtp.Packet) {
	o.opusEar.WriteRTP(p)
	o.at = append(o.at, o.c.now())
}

// heard decodes what a browser gets as a browser does that waits for long: in order, and what is missing from the copy in
// the next packet or from the codec's memory.
func (o *timedEar) heard(t *testing.T) heard {
	t.Helper()
	dec, err := opus.NewDecoder(48000, 1)
	require.NoError(t, err)
	h := heard{rate: 48000, patient: true}
	buf := make([]int16, 5760)
	var last *rtp.Packet
	for i, p := range o.got {
		if last != nil {
			if int16(p.SequenceNumber-last.SequenceNumber) <= 0 {
				continue
			}
			for lost := int(p.SequenceNumber-last.SequenceNumber) - 1; lost > 0; lost-- {
				made := buf[:960]
				if lost == 1 {
					err = dec.DecodeFEC(p.Payload, made)
				} else {
					err = dec.DecodePLC(made)
				}
				require.NoError(t, err)
				h.pcm = append(h.pcm, made...)
			}
		}
		last = p
		h.packets = append(h.packets, heardPacket{o.at[i], len(h.pcm)})
		n, err := dec.Decode(p.Payload, buf)
		require.NoError(t, err)
		h.pcm = append(h.pcm, buf[:n]...)
	}
	return h
}
