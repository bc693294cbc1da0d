package transcode

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// arrival is something that comes at a time after the beginning of a test.
type arrival struct {
	at   time.Duration
	come func()
}

// tickPhase is when the first tick of a test comes.
const tickPhase = 7 * time.Millisecond

// pass lets arrivals come and the clock tick, in order, until a time.
func pass(c *clock, bridges []*Bridge, arrivals []arrival, until time.Duration) {
	begun := c.t
	slices.SortStableFunc(arrivals, func(a, b arrival) int { return int(a.at - b.at) })
	for tick := tickPhase; tick < until; tick += frameTime {
		for len(arrivals) > 0 && arrivals[0].at <= tick {
			c.t = begun.Add(arrivals[0].at)
			arrivals[0].come()
			arrivals = arrivals[1:]
		}
		c.t = begun.Add(tick)
		for _, b := range bridges {
			b.tick(c.t)
		}
	}
	c.t = begun.Add(until)
}

// listening is a phone that hears another phone, whose packets take a way of the test's.
type listening struct {
	c     *clock
	b     *Bridge // of the one who hears
	ear   *phoneEar
	pcm   []int16 // what was said, as G.711 has it
	begun time.Time
}

// listen lets a phone say pcm, each packet of 20 ms later by delay; negative: it is lost.
func listen(t *testing.T, pcm []int16, delay func(i int) time.Duration) *listening {
	t.Helper()
	c := newClock()
	e := testEngine(c, Config{})
	a, _ := testBridge(t, e, c, pcmu, nil)
	b, ear := testBridge(t, e, c, pcmu, nil)
	b.Subscribe(a.Source())
	said := make([]int16, len(pcm)/160*160)
	coded := make([]byte, len(said))
	compress(media.PCMU, coded, pcm[:len(said)])
	expand(media.PCMU, said, coded)
	l := &listening{c: c, b: b, ear: ear, pcm: said, begun: c.t}
	voice := newPhoneVoice(media.PCMU)
	var arrivals []arrival
	for i := range len(said) / 160 {
		p := voice.make(said[i*160 : (i+1)*160])
		if d := delay(i); d >= 0 {
			arrivals = append(arrivals, arrival{time.Duration(i)*frameTime + d, func() { a.up.ReceiveRTP(p, c.now()) }})
		}
	}
	pass(c, []*Bridge{a, b}, arrivals, time.Duration(len(said)/160+10)*frameTime)
	return l
}

// delay is how much later than it was said the sample at is heard by a phone that began to play with its first packet,
// and went on in time.
func (l *listening) delay(t *testing.T, at int) time.Duration {
	t.Helper()
	heard := l.ear.pcm(media.PCMU)
	probe := l.pcm[at : at+400]
	for i := 0; i+len(probe) <= len(heard); i++ {
		if slices.Equal(heard[i:i+len(probe)], probe) {
			played := l.ear.got[0].at.Add(time.Duration(i) * time.Second / narrow)
			return max(played.Sub(l.begun), l.sent(i)) - time.Duration(at)*time.Second/narrow
		}
	}
	t.Fatalf("what was said at sample %d is not heard", at)
	return 0
}

// sent is when the phone got the packet that has its sample i.
func (l *listening) sent(i int) time.Duration {
	k, _ := slices.BinarySearchFunc(l.ear.got, i, func(p sentPacket, i int) int { return int(p.ts-l.ear.got[0].ts) + 159 - i })
	return l.ear.got[k].at.Sub(l.begun)
}

// steepestStep is the largest step between two samples.
func steepestStep(pcm []int16) int {
	most := 0
	for i := 1; i < len(pcm); i++ {
		d := int(pcm[i]) - int(pcm[i-1])
		most = max(most, d, -d)
	}
	return most
}

// lab is a spoken sentence of some ten seconds.
func labSpeech(t *testing.T) []int16 {
	t.Helper()
	b, err := os.ReadFile("../lab/speech.ulaw")
	require.NoError(t, err)
	pcm := make([]int16, len(b))
	expand(media.PCMU, pcm, b)
	return pcm
}

// noisy lays noise of about -45 dBFS under pcm: no frame of it is quiet.
func noisy(pcm []int16) []int16 {
	rnd := rand.New(rand.NewPCG(9, 9))
	out := slices.Clone(pcm)
	for i := range out {
		out[i] = int16(max(-32000, min(32000, int(out[i])+rnd.IntN(640)-320)))
	}
	return out
}

func repeated(pcm []int16, n int) []int16 {
	out := make([]int16, 0, n)
	for len(out) < n {
		out = append(out, pcm[:min(len(pcm), n-len(out))]...)
	}
	return out
}

// One voice is heard as it comes while it comes evenly. When it does not, it waits as long as its jitter wants, so that
// nothing is lost for long; and 10 s after a bad spell it is heard as soon as before.
func TestOneVoiceIsHeardThroughJitter(t *testing.T) {
	const from, to, end = 3 * 50, 15 * 50, 28 * 50
	pcm := noisy(repeated(labSpeech(t), end*160))
	random := func(most int) func(int) time.Duration {
		rnd := rand.New(rand.NewPCG(2, 1))
		last := time.Duration(0)
		return func(i int) time.Duration { // in order
			at := time.Duration(i)*frameTime + time.Duration(rnd.IntN(most))*time.Millisecond
			last = max(last, at)
			return last - time.Duration(i)*frameTime
		}
	}
	for _, way := range []struct {
		name  string
		delay func(int) time.Duration
		heard int           // of 600 packets, exactly as they were said: what is stretched is not
		gap   time.Duration // 80 ms are made up, and the first time nothing is prepared
	}{
		{"even", func(int) time.Duration { return 0 }, 600, 20 * time.Millisecond},
		{"jitter of 40 ms", random(40), 600, 20 * time.Millisecond},
		{"jitter of 100 ms", random(100), 585, 20 * time.Millisecond},
		{"jitter of 150 ms", random(150), 575, 30 * time.Millisecond},
		{"a stall of 150 ms every 2 s", func(i int) time.Duration {
			if i%100 >= 50 && i%100 < 58 {
				return time.Duration(58-i%100) * frameTime
			}
			return 0
		}, 570, 40 * time.Millisecond},
		{"a stall of 300 ms every second", func(i int) time.Duration {
			return time.Duration(max(0, 15-i%50)) * frameTime
		}, 460, 180 * time.Millisecond},
		{"five at once", func(i int) time.Duration { return time.Duration(4-i%5) * frameTime }, 590, 20 * time.Millisecond},
	} {
		t.Run(way.name, func(t *testing.T) {
			l := listen(t, pcm, func(i int) time.Duration {
				if i < from || i >= to {
					return 0
				}
				return way.delay(i)
			})
			before := l.delay(t, (from-25)*160)
			heard, last := 0, 0
			got := l.ear.pcm(media.PCMU)
			for i := from; i < to; i++ { // how many packets are there, wherever
				piece := l.pcm[i*160+40 : i*160+70]
				for at := last; at+len(piece) <= min(len(got), (i+40)*160); at++ {
					if slices.Equal(got[at:at+len(piece)], piece) {
						heard, last = heard+1, at
						break
					}
				}
			}
			stats := l.b.Stats()
			after := l.delay(t, (to+10*50)*160)
			t.Logf("before %v, after %v, heard %d of %d, %+v", before, after, heard, to-from, stats)
			require.LessOrEqual(t, before, 20*time.Millisecond)
			require.LessOrEqual(t, after, before+5*time.Millisecond, "10 s after the bad spell")
			require.GreaterOrEqual(t, heard, way.heard)
			require.Zero(t, stats.LateToPhone)
			require.LessOrEqual(t, audio.LongestGap(got[8000:len(got)-4000], narrow), way.gap)
		})
	}
}

// steps measures what a phone hears, sample by sample.
type steps struct {
	phone
	t     *testing.T
	begun time.Time
	c     *clock
	first uint32
	n     int // packets
	last  int16
	most  int
	ahead time.Duration // by which its packets came before their time, at most; the first one was in time
	late  time.Duration
	pcm   []int16 // of the last packets
}

func (s *steps) Send(_ uint8, marker bool, ts uint32, payload []byte) bool {
	if s.n++; s.n == 1 {
		s.first, s.begun = ts, s.c.t
	}
	require.Equal(s.t, s.n == 1, marker)
	require.Equal(s.t, s.first+uint32(s.n-1)*frameSamples, ts, "no hole")
	lead := time.Duration(s.n-1)*frameTime - s.c.t.Sub(s.begun)
	s.ahead, s.late = max(s.ahead, lead), max(s.late, -lead)
	if len(s.pcm) == 60*narrow {
		s.pcm = s.pcm[:0]
	}
	from := len(s.pcm)
	s.pcm = s.pcm[:from+len(payload)]
	expand(media.PCMU, s.pcm[from:], payload)
	for _, v := range s.pcm[from:] {
		s.most = max(s.most, int(v)-int(s.last), int(s.last)-int(v))
		s.last = v
	}
	return true
}

// A source whose clock runs faster or slower than ours is heard for an hour without a click, a hole or a growing delay:
// the phone has as much sound as time has passed.
func TestOneVoiceIsHeardThroughDrift(t *testing.T) {
	for _, ppm := range []int64{-200, 200} {
		t.Run(fmt.Sprint(ppm), func(t *testing.T) {
			t.Parallel()
			c := newClock()
			e := testEngine(c, Config{})
			a, _ := testBridge(t, e, c, pcmu, nil)
			ear := &steps{t: t, c: c, pcm: make([]int16, 0, 60*narrow)}
			b, err := e.newBridge(BridgeConfig{Media: pcmu}, ear)
			require.NoError(t, err)
			t.Cleanup(func() { b.Close(nil) })
			b.Subscribe(a.Source())
			tone := audio.Tone(437, -12, narrow, loop)
			coded := make([]byte, len(tone))
			compress(media.PCMU, coded, tone)
			expand(media.PCMU, tone, coded)
			steepest := steepestStep(append(tone, tone...))
			packet := newPhoneVoice(media.PCMU).make(make([]int16, frameSamples))
			said, begun := int64(0), c.t
			say := func() {
				at := said % int64(len(tone)/frameSamples) * frameSamples
				copy(packet.Payload, coded[at:at+frameSamples])
				a.up.ReceiveRTP(packet, c.t)
				packet.SequenceNumber++
				packet.Timestamp += frameSamples
				said++
			}
			for tick := tickPhase; tick < time.Hour; tick += frameTime {
				for {
					at := time.Duration(said) * (frameTime - frameTime*time.Duration(ppm)/1_000_000)
					if at > tick {
						break
					}
					c.t = begun.Add(at)
					say()
				}
				c.t = begun.Add(tick)
				b.tick(c.t)
			}
			made := uint64(0)
			if p := b.down.buffer.playout; p != nil {
				made = p.Concealed + p.Late + p.Overflow
				t.Logf("in %d, out %d", p.Inserted, p.Removed)
			}
			t.Logf("steepest %.3f of the tone, %v ahead, %v late, %+v", float64(ear.most)/float64(steepest), ear.ahead, ear.late, b.Stats())
			require.LessOrEqual(t, float64(ear.most), 1.1*float64(steepest))
			require.Zero(t, made)
			require.Zero(t, b.Stats().LateToPhone+b.Stats().Skipped)
			require.LessOrEqual(t, b.Stats().Fillers, uint64(4))
			require.LessOrEqual(t, ear.ahead, 80*time.Millisecond)
			require.LessOrEqual(t, ear.late, 80*time.Millisecond)
			require.GreaterOrEqual(t, audio.MedianSNR(ear.pcm[len(ear.pcm)-narrow:], narrow, 437), 30.0)
		})
	}
}
