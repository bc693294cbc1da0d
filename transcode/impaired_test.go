package transcode

import (
	"testing"
	"time"

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
	Gap   time.Duration // the longest hole
	SNR   float64       // the median, of the last 8 s
	Delay time.Duration // that the gateway adds, in the end
	// Disordered is how many packets were left out because they came behind a later one.
	Disordered uint64
}

// Impaired lets a tone be heard over a path for a time, in virtual time. What is heard in the first second does not count.
func Impaired(t *testing.T, w Way, path Path, length time.Duration) Result {
	t.Helper()
	c := newClock()
	e := testEngine(c, Config{})
	var bridges []*Bridge
	bridge := func(m media.PortMedia) (*Bridge, *phoneEar) {
		b, ear := testBridge(t, e, c, m, nil)
		bridges = append(bridges, b)
		return b, ear
	}

	// Who speaks.
	var src *media.Source
	var say func(pcm []int16) func()
	rate := wide * 3
	if w.From == Browser {
		web := newBrowser(t, "web", 1)
		enc, err := opus.NewEncoder(rate, 1, opus.AppVoIP)
		require.NoError(t, err)
		require.NoError(t, enc.SetBitrate(32000))
		require.NoError(t, enc.SetInBandFEC(true))
		require.NoError(t, enc.SetPacketLossPerc(20))
		web.enc, src = enc, web.src
		say = func(pcm []int16) func() {
			p := web.make(pcm)
			return func() { web.track.WriteRTP(p.Clone()) }
		}
	} else {
		b, _ := bridge(withLaw(w.From))
		rate, src = narrow, b.Source()
		voice := newPhoneVoice(w.From)
		say = func(pcm []int16) func() {
			p := voice.make(pcm)
			return func() { b.up.ReceiveRTP(p.Clone(), c.now()) }
		}
	}

	// Who listens.
	var web opusEar
	var ear *phoneEar
	var b *Bridge
	if w.To == Browser {
		src.Audio().Add(&web)
	} else {
		b, ear = bridge(withLaw(w.To))
		b.Subscribe(src)
	}

	tone := audio.Tone(Pitch, -15, rate, loop)
	size := rate / 50
	var arrivals []arrival
	for at, i := time.Duration(0), 0; at < length; at, i = at+frameTime, i+1 {
		from := i * size % len(tone)
		come := say(tone[from : from+size])
		copies, delay := path.Packet(at)
		for range copies {
			arrivals = append(arrivals, arrival{at + delay, come})
		}
	}
	if w.Mixed {
		other := newBrowser(t, "other", 1)
		b.Subscribe(other.src)
		speak := other.speaker(otherPitch, -20)
		for at := time.Duration(0); at < length; at += frameTime {
			arrivals = append(arrivals, arrival{at, speak})
		}
	}
	pass(c, bridges, arrivals, length)

	r := Result{Disordered: e.Dropped().Disordered}
	var pcm []int16
	switch w.To {
	case Browser:
		pcm, rate = web.concealed(t), 48000
	case media.G722:
		pcm, rate = wideSound(t, ear, w.To), wide
		r.Delay = b.Quality().Out.Delay
	default:
		pcm, rate = ear.pcm(w.To), narrow
		r.Delay = b.Quality().Out.Delay
	}
	pcm = pcm[rate : len(pcm)-rate/2]
	if w.Mixed {
		require.True(t, b.down.mixing)
		require.Greater(t, audio.Goertzel(pcm, rate, otherPitch), -22.0)
		pcm = without(pcm, rate/otherPitch/2)
	}
	r.Gap = audio.LongestGap(pcm, rate)
	r.SNR = audio.MedianSNR(pcm[max(0, len(pcm)-8*rate):], rate, Pitch)
	return r
}

// without takes a tone out whose half period is n samples.
func without(pcm []int16, n int) []int16 {
	out := make([]int16, len(pcm)-n)
	for i := range out {
		out[i] = int16((int(pcm[i]) + int(pcm[i+n])) / 2)
	}
	return out
}

// concealed decodes what a browser gets as a browser does that waits for long: in order, and what is missing from the copy in
// the next packet or from the codec's memory.
func (o *opusEar) concealed(t *testing.T) []int16 {
	t.Helper()
	dec, err := opus.NewDecoder(48000, 1)
	require.NoError(t, err)
	var out []int16
	buf := make([]int16, 5760)
	var last *rtp.Packet
	for _, p := range o.got {
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
				out = append(out, made...)
			}
		}
		last = p
		n, err := dec.Decode(p.Payload, buf)
		require.NoError(t, err)
		out = append(out, buf[:n]...)
	}
	return out
}
