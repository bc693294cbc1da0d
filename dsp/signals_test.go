package dsp

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// sine is n samples of freq Hz.
func sine(rate, n int, freq, amplitude float64) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(math.Round(amplitude * math.Sin(2*math.Pi*freq*float64(i)/float64(rate))))
	}
	return out
}

// vowel is n samples of an a: pulses whose pitch wanders around pitch Hz, through four resonances.
func vowel(rate, n int, pitch float64) []int16 {
	out := make([]float64, n)
	phase := 0.0
	for i := range out {
		t := float64(i) / float64(rate)
		phase += pitch * (1 + 0.06*math.Sin(2*math.Pi*1.3*t)) / float64(rate)
		if phase >= 1 {
			phase--
			out[i] = 1
		}
	}
	for _, f := range [][2]float64{{700, 90}, {1220, 100}, {2600, 140}, {3300, 200}} {
		r := math.Exp(-math.Pi * f[1] / float64(rate))
		a, b := 2*r*math.Cos(2*math.Pi*f[0]/float64(rate)), -r*r
		y1, y2 := 0.0, 0.0
		for i, x := range out {
			y := (1-a-b)*x + a*y1 + b*y2
			out[i], y1, y2 = y, y, y1
		}
	}
	peak := 0.0
	for _, v := range out {
		peak = max(peak, math.Abs(v))
	}
	pcm := make([]int16, n)
	for i, v := range out {
		pcm[i] = int16(v / peak * 12000)
	}
	return pcm
}

// fizz is n samples of white noise.
func fizz(n int, amplitude float64) []int16 {
	rnd := rand.New(rand.NewPCG(7, 7))
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(amplitude * rnd.NormFloat64())
	}
	return out
}

// speech is a spoken sentence of some ten seconds (the lab's).
func speech(tb testing.TB, rate int) []int16 {
	b, err := os.ReadFile("../lab/speech.ulaw")
	require.NoError(tb, err)
	out := make([]int16, len(b))
	for i, v := range b {
		v = ^v
		s := int((int32(v&15)<<3+132)<<(v>>4&7) - 132)
		if v&0x80 != 0 {
			s = -s
		}
		out[i] = int16(s)
	}
	return audio.Resample(out, 8000, rate)
}

// long repeats pcm until it has n samples.
func long(pcm []int16, n int) []int16 {
	out := make([]int16, 0, n)
	for len(out) < n {
		out = append(out, pcm[:min(len(pcm), n-len(out))]...)
	}
	return out
}

// steepest is the largest step between two samples.
func steepest(pcm []int16) int {
	most := 0
	for i := 1; i < len(pcm); i++ {
		d := int(pcm[i]) - int(pcm[i-1])
		most = max(most, d, -d)
	}
	return most
}

// spectrum is the power in bands of about 200 Hz up to 4 kHz, every 10 ms.
type spectrum [][]float64

func newSpectrum(pcm []int16, rate int) spectrum {
	frame := rate / 50
	var bands [][2][]float64
	for f := 200.0; f < 3900; f += 200 {
		re, im := make([]float64, frame), make([]float64, frame)
		for i := range frame {
			w := 0.5 - 0.5*math.Cos(2*math.Pi*(float64(i)+0.5)/float64(frame))
			s, c := math.Sincos(2 * math.Pi * f / float64(rate) * float64(i))
			re[i], im[i] = w*c, w*s
		}
		bands = append(bands, [2][]float64{re, im})
	}
	var out spectrum
	for from := 0; from+frame <= len(pcm); from += frame / 2 {
		power := make([]float64, len(bands))
		for k, b := range bands {
			re, im := 0.0, 0.0
			for i, v := range pcm[from : from+frame] {
				re += float64(v) * b[0][i]
				im += float64(v) * b[1][i]
			}
			power[k] = (re*re + im*im) / float64(frame)
		}
		out = append(out, power)
	}
	return out
}

// distance is the root mean square distance from the spectrum of another sound in dB. What is 40 dB below the loudest band
// is left out, and so is silence.
func (a spectrum) distance(b spectrum) float64 {
	sum, n := 0.0, 0
	for i := range min(len(a), len(b)) {
		floor := slices.Max(a[i]) / 1e4
		if floor < 100 {
			continue
		}
		for k := range a[i] {
			d := 10 * math.Log10(max(a[i][k], floor)/max(b[i][k], floor))
			sum += d * d
			n++
		}
	}
	return math.Sqrt(sum / float64(n))
}

// likeness is how alike the loudness of two sounds moves in each band, over 300 ms at a time: 1 is alike. It is what STOI
// measures, in other bands.
func (a spectrum) likeness(b spectrum) float64 {
	const span = 30
	sum, n := 0.0, 0
	for from := 0; from+span <= min(len(a), len(b)); from += span / 2 {
		for k := range a[0] {
			var x, y, xx, xy, yy float64
			for i := from; i < from+span; i++ {
				u, v := math.Sqrt(a[i][k]), math.Sqrt(b[i][k])
				x, y, xx, xy, yy = x+u, y+v, xx+u*u, xy+u*v, yy+v*v
			}
			if xx < 100*span {
				continue
			}
			sum += (xy - x*y/span) / math.Sqrt((xx-x*x/span)*(yy-y*y/span)+1)
			n++
		}
	}
	return sum / float64(n)
}

// packet is a frame under way.
type packet struct {
	at        time.Duration
	pos       int64
	pcm       []int16
	concealed bool
}

// reader takes 20 ms out of p at every tick and brings it the packets that came before.
type reader struct {
	p     *Playout
	rate  int
	now   time.Duration // the next tick
	queue []packet
	heard []int16
	most  int // the largest Delay before a tick
	ticks int
}

func newReader(p *Playout, rate int) *reader {
	return &reader{p: p, rate: rate, now: 7 * time.Millisecond}
}

// send lets packets come in order of their time.
func (r *reader) send(packets ...packet) {
	r.queue = append(r.queue, packets...)
	slices.SortStableFunc(r.queue, func(a, b packet) int { return int(a.at - b.at) })
}

// run reads until end.
func (r *reader) run(end time.Duration) {
	frame := make([]int16, r.rate/50)
	for ; r.now < end; r.now += 20 * time.Millisecond {
		n := 0
		for n < len(r.queue) && r.queue[n].at <= r.now {
			q := r.queue[n]
			r.p.Put(q.pos, q.pcm, q.concealed, q.at)
			n++
		}
		r.queue = r.queue[n:]
		r.most = max(r.most, r.p.Delay())
		r.p.Take(frame, r.now)
		r.heard = append(r.heard, frame...)
		r.ticks++
	}
}

// milliseconds of n samples.
func (r *reader) milliseconds(n int) int { return n * 1000 / r.rate }

// packets cuts pcm into frames of 20 ms that are sent in time from start on, and come after delay; negative: never.
func packets(rate int, pcm []int16, first int64, start time.Duration, delay func(i int) time.Duration) []packet {
	n := rate / 50
	var out []packet
	for i := 0; (i+1)*n <= len(pcm); i++ {
		if d := delay(i); d >= 0 {
			at := start + time.Duration(i)*20*time.Millisecond + d
			out = append(out, packet{at: at, pos: first + int64(i*n), pcm: pcm[i*n : (i+1)*n]})
		}
	}
	return out
}

func punctual(int) time.Duration { return 0 }
