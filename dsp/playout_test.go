package dsp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const rate8 = 8000

// after finds where pcm was heard last.
func after(t *testing.T, heard, pcm []int16) int {
	t.Helper()
	probe := pcm[:400]
	for i := len(heard) - len(probe); i >= 0; i-- {
		if slices.Equal(heard[i:i+len(probe)], probe) {
			return i
		}
	}
	t.Fatal("not heard")
	return 0
}

func TestPlayoutPlaysAGoodNetworkWhole(t *testing.T) {
	for _, rate := range []int{8000, 16000, 48000} {
		n := rate / 50
		pcm := speech(t, rate)[:9*rate]
		p := NewPlayout(rate)
		r := newReader(p, rate)
		r.send(packets(rate, pcm, 1<<40, 0, punctual)...)
		r.run(9 * time.Second)
		from := after(t, r.heard, pcm[n:])
		require.Equal(t, pcm[n:len(pcm)-2*n], r.heard[from:from+len(pcm)-3*n], "bit by bit")
		// Read at 7 ms past their coming; 1 ms of safety.
		require.Equal(t, (7+21-7)*rate/1000-7*rate/1000, from-n)
		require.Zero(t, p.Late+p.Overflow+p.Concealed+p.Inserted+p.Removed)
		require.LessOrEqual(t, r.most, 2*n)
		require.Equal(t, 21*rate/1000, p.Target())
	}
}

func TestPlayoutPutsFramesInOrder(t *testing.T) {
	p := NewPlayout(rate8)
	pcm := vowel(rate8, 1600, 120)
	for _, i := range []int{0, 3, 1, 4, 2, 4, 0, 5, 5} { // and some twice
		p.Put(int64(i*160), pcm[i*160:(i+1)*160], false, 0)
	}
	out := make([]int16, 8*160)
	p.Take(out, 0)
	from := after(t, out, pcm[160:])
	require.Equal(t, pcm[160:960], out[from:from+800])
	require.Zero(t, p.Late)
}

func TestPlayoutOwnsItsSamples(t *testing.T) {
	p := NewPlayout(rate8)
	pcm := vowel(rate8, 960, 120)
	mine := slices.Clone(pcm)
	p.Put(0, mine, false, 0)
	require.Equal(t, pcm, mine)
	clear(mine)
	out := make([]int16, 1200)
	p.Take(out, 0)
	after(t, out, pcm[160:])
}

// pattern is how a path treats the frames of 3 to 20 s. It is good before, and again afterwards.
type pattern struct {
	name  string
	delay func() func(i int) time.Duration

	lost float64 // share that is not heard, at most: late, or made up for
	most int     // ms that wait, at most
}

func patterns() []pattern {
	constant := func(d time.Duration) func() func(int) time.Duration {
		return func() func(int) time.Duration { return func(int) time.Duration { return d } }
	}
	random := func(most int) func() func(int) time.Duration {
		return func() func(int) time.Duration {
			rnd := rand.New(rand.NewPCG(2, 1))
			return func(int) time.Duration { return time.Duration(rnd.IntN(most)) * time.Millisecond }
		}
	}
	return []pattern{
		{"constant", constant(0), 0, 40},
		{"slower by 50 ms from then on", constant(50 * time.Millisecond), 0.01, 120},
		{"three at once", func() func(int) time.Duration {
			return func(i int) time.Duration { return time.Duration(2-i%3) * 20 * time.Millisecond }
		}, 0.01, 100},
		{"swapped pairs", func() func(int) time.Duration {
			return func(i int) time.Duration { return time.Duration(1-i%2) * 30 * time.Millisecond }
		}, 0.01, 100},
		{"one stall of 150 ms", func() func(int) time.Duration {
			return func(i int) time.Duration {
				if i >= 200 && i < 208 {
					return time.Duration(208-i) * 20 * time.Millisecond
				}
				return 0
			}
		}, 0.01, 220},
		{"a stall of 150 ms every 2 s", func() func(int) time.Duration {
			return func(i int) time.Duration {
				if i%100 >= 50 && i%100 < 58 {
					return time.Duration(58-i%100) * 20 * time.Millisecond
				}
				return 0
			}
		}, 0.02, 230},
		{"random up to 40 ms", random(40), 0.02, 100},
		{"random up to 100 ms", random(100), 0.03, 170},
		{"random up to 180 ms", random(180), 0.04, 250},
	}
}

func TestPlayoutFollowsJitter(t *testing.T) {
	const from, to, end = 3 * time.Second, 20 * time.Second, 40 * time.Second
	for _, pt := range patterns() {
		for _, s := range []struct {
			name    string
			pcm     []int16
			steeper float64
		}{
			{"sine", sine(rate8, 40*rate8, 437, 8000), 1.15},
			{"voice", vowel(rate8, 40*rate8, 110), 1.03},
			{"hiss", fizz(40*rate8, 3000), 1.03},
			{"speech", long(speech(t, rate8), 40*rate8), 1.03},
		} {
			t.Run(pt.name+"/"+s.name, func(t *testing.T) {
				p := NewPlayout(rate8)
				r := newReader(p, rate8)
				bad := pt.delay()
				slower := pt.name == "slower by 50 ms from then on"
				r.send(packets(rate8, s.pcm, 77, 0, func(i int) time.Duration {
					if at := time.Duration(i) * 20 * time.Millisecond; at < from || at >= to && !slower {
						return 0
					}
					return bad(i)
				})...)
				r.run(from)
				good := p.Delay()
				r.most = 0
				r.run(to)
				lost := float64(p.Concealed+p.Late*160) / float64((to-from).Seconds()*rate8)
				t.Logf("not heard %.4f, most %d ms, target %d ms, late %d, made up %d, in %d, out %d", lost, r.milliseconds(r.most),
					r.milliseconds(p.Target()), p.Late, p.Concealed, p.Inserted, p.Removed)
				require.LessOrEqual(t, lost, pt.lost)
				require.LessOrEqual(t, r.milliseconds(r.most), pt.most)
				require.Zero(t, p.Overflow)
				r.run(to + 10*time.Second)
				require.LessOrEqual(t, r.milliseconds(p.Delay()), r.milliseconds(good)+15, "10 s later")
				require.LessOrEqual(t, r.milliseconds(p.Target()), 21)
				if pt.name == "constant" {
					require.Zero(t, p.Inserted+p.Removed)
				}
				made := p.Concealed
				r.run(end)
				require.LessOrEqual(t, p.Concealed, made, "nothing is lost any more")
				require.LessOrEqual(t, float64(steepest(r.heard)), s.steeper*float64(steepest(s.pcm)))
			})
		}
	}
}

// One stall of a path loses nothing and is forgotten within 10 s; in truth, within two.
func TestPlayoutForgetsAStall(t *testing.T) {
	p := NewPlayout(rate8)
	r := newReader(p, rate8)
	r.send(packets(rate8, long(speech(t, rate8), 10*rate8), 0, 0, patterns()[4].delay())...)
	r.run(4*time.Second + 180*time.Millisecond)
	require.Greater(t, r.milliseconds(r.most), 150)
	require.Zero(t, p.Late+p.Overflow)
	r.run(6 * time.Second)
	require.LessOrEqual(t, r.milliseconds(p.Delay()), 21)
}

func TestPlayoutMakesUpForLoss(t *testing.T) {
	for name, lost := range map[string]func(int) bool{"alone": alone(0.1), "in bursts": inBursts(0.1)} {
		pcm := long(speech(t, rate8), 20*rate8)
		p := NewPlayout(rate8)
		r := newReader(p, rate8)
		zero := slices.Clone(pcm)
		count := 0
		r.send(packets(rate8, pcm, 0, 0, func(i int) time.Duration {
			if i > 0 && i < 950 && lost(i) {
				clear(zero[i*160 : (i+1)*160])
				count++
				return -1
			}
			return 0
		})...)
		r.run(20 * time.Second)
		from := after(t, r.heard, pcm[20*rate8-800:]) - 20*rate8 + 800
		require.LessOrEqual(t, from, 160, "time is kept")
		heard := r.heard[from:]
		require.LessOrEqual(t, int(p.Concealed), count*160)
		require.Greater(t, int(p.Concealed), count*160*2/3)
		require.Zero(t, p.Late+p.Overflow+p.Inserted+p.Removed)
		original, with, without := newSpectrum(pcm, rate8), newSpectrum(heard, rate8), newSpectrum(zero, rate8)
		require.Less(t, original.distance(with), 0.9*original.distance(without), name)
		require.Greater(t, original.likeness(with), original.likeness(without), name)
		require.LessOrEqual(t, float64(steepest(heard)), 1.03*float64(steepest(pcm)), name)
	}
}

// What the codec made up is played where nothing better comes, and says nothing about the path.
func TestPlayoutPrefersWhatIsNotMadeUp(t *testing.T) {
	p := NewPlayout(rate8)
	voice, made := vowel(rate8, 1600, 120), sine(rate8, 1600, 300, 500)
	p.Put(0, voice[:160], false, 0)
	p.Put(320, voice[320:480], false, 0)
	target := p.Target()
	p.Put(80, made[:320], true, time.Hour) // a hole of 160 and half of what is there
	p.Put(480, made[:160], true, 0)
	require.Equal(t, target, p.Target())
	p.Put(480, voice[480:640], false, 0)
	p.Put(640, voice[640:960], false, 0)
	out := make([]int16, 1120)
	p.Take(out, 0)
	from := after(t, out, voice[320:]) - 320
	require.Equal(t, made[80:240], out[from+160:from+320])
	require.Zero(t, p.Late+p.Concealed)
	p.Put(0, made[:160], true, 0)
	require.Zero(t, p.Late, "made up and too late: nothing is missed")
}

func TestPlayoutBoundsWhatWaits(t *testing.T) {
	p := NewPlayout(rate8)
	pcm := vowel(rate8, 20000, 120)
	for i := range 125 { // 2.5 s at once
		p.Put(int64(i*160), pcm[i*160:(i+1)*160], false, 0)
		require.LessOrEqual(t, p.Delay(), 4000)
	}
	require.EqualValues(t, 20000-4000, p.Overflow, "the oldest go")
	out := make([]int16, 4400)
	require.Equal(t, 4000, p.Rest(out))
	require.Equal(t, pcm[16000+64:], out[64:4000])
	// What was played before fades into what is left.
	pcm = sine(rate8, 20000, 437, 8000)
	p = NewPlayout(rate8)
	r := newReader(p, rate8)
	r.send(packets(rate8, pcm[:4000], 0, 0, punctual)...)
	r.run(500 * time.Millisecond)
	for i := 25; i < 125; i++ {
		p.Put(int64(i*160), pcm[i*160:(i+1)*160], false, r.now)
	}
	require.NotZero(t, p.Overflow)
	r.run(time.Second)
	require.LessOrEqual(t, float64(steepest(r.heard)), 1.1*float64(steepest(pcm)))
	// Pieces that touch no other are bounded too.
	p = NewPlayout(rate8)
	for i := range 2000 {
		p.Put(int64(i*2), pcm[:1], false, 0)
	}
	require.NotZero(t, p.Overflow)
}

// drift feeds p by a source whose clock is slow by ppm, for as long as length. It returns the steepest step that is heard,
// and the most of how much steeper a frame is than the source was about then.
func drift(
	p *Playout, rate int, pcm []int16, ppm float64, length time.Duration, check func(tick int),
) (steep int, local float64) {
	n := rate / 50
	pcm = pcm[:len(pcm)/n*n]
	frames := len(pcm) / n
	steps := make([]int, frames) // the steepest in a frame, with the step into it
	for i := range steps {
		last := (i*n + len(pcm) - 1) % len(pcm)
		steps[i] = steepest(append([]int16{pcm[last]}, pcm[i*n:(i+1)*n]...))
	}
	frame := make([]int16, n+1)
	sent := 0
	for tick := range int(length / (20 * time.Millisecond)) {
		now := time.Duration(tick)*20*time.Millisecond + 7*time.Millisecond
		for ; ; sent++ {
			at := time.Duration(float64(sent) * 20e6 * (1 + ppm/1e6))
			if at > now {
				break
			}
			from := sent % frames * n
			p.Put(int64(sent*n), pcm[from:from+n], false, at)
		}
		frame[0] = frame[n]
		p.Take(frame[1:], now)
		s := steepest(frame)
		steep = max(steep, s)
		about := 0
		for i := max(0, sent-4); i < sent; i++ {
			about = max(about, steps[i%frames])
		}
		if sent > 4 {
			local = max(local, float64(s)/float64(about+100))
		}
		check(tick)
	}
	return steep, local
}

func TestPlayoutAbsorbsDrift(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		for name, pcm := range map[string][]int16{
			"sine": sine(rate, rate, 437, 8000), "voice": vowel(rate, 50*rate, 110), "speech": speech(t, rate),
		} {
			for _, ppm := range []float64{200, -200, 1000, -1000} {
				length := time.Hour
				if rate > 8000 || math.Abs(ppm) > 200 || name == "voice" {
					length = 10 * time.Minute
				}
				t.Run(fmt.Sprintf("%d/%s/%v", rate, name, ppm), func(t *testing.T) {
					t.Parallel()
					p := NewPlayout(rate)
					most := 0
					steep, local := drift(p, rate, pcm, ppm, length, func(int) { most = max(most, p.Delay()) })
					t.Logf("steepest %.3f, about then %.3f, most %d ms, made up %d, in %d, out %d",
						float64(steep)/float64(steepest(pcm)), local, most*1000/rate, p.Concealed, p.Inserted, p.Removed)
					require.LessOrEqual(t, float64(steep), 1.03*float64(steepest(append(pcm, pcm[0]))))
					require.LessOrEqual(t, local, 1.03)
					require.Zero(t, p.Concealed+p.Late+p.Overflow)
					require.LessOrEqual(t, most*1000/rate, 40, "ms wait after a frame was taken")
					total := ppm / 1e6 * length.Seconds() * float64(rate)
					require.InDelta(t, total, float64(p.Inserted)-float64(p.Removed), 0.015*float64(rate))
					require.LessOrEqual(t, float64(p.Inserted+p.Removed), 2*math.Abs(total)+0.03*float64(rate), "and no more")
				})
			}
		}
	}
}

// A source that begins anew, at any position and whether or not that is told, is heard again at once and without a click.
func TestPlayoutMeetsARestart(t *testing.T) {
	for name, step := range map[string]int64{
		"far ahead": 1 << 31, "far behind": -1 << 31, "a second ahead": 8000, "a second behind": -8000,
		"100 ms behind": -800, "400 ms behind": -3200, "to the end": math.MaxInt64 - 40*160 - 99*160,
	} {
		for _, told := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, told %v", name, told), func(t *testing.T) {
				pcm := sine(rate8, 6*rate8, 437, 8000)
				p := NewPlayout(rate8)
				r := newReader(p, rate8)
				r.send(packets(rate8, pcm[:2*rate8], 0, 0, punctual)...)
				r.run(2 * time.Second)
				if told {
					p.Reset()
				}
				r.send(packets(rate8, pcm[2*rate8+77:], 2*rate8+step, 2*time.Second, punctual)...)
				r.run(2500 * time.Millisecond)
				silent := 0
				for _, v := range r.heard[2*rate8:] {
					if v == 0 {
						silent++
					}
				}
				require.Less(t, silent, 70*8, "samples of silence")
				r.run(5 * time.Second)
				require.LessOrEqual(t, r.milliseconds(p.Delay()), 40)
				require.LessOrEqual(t, float64(steepest(r.heard)), 1.1*float64(steepest(pcm)))
				require.LessOrEqual(t, p.Concealed, uint64(1200))
			})
		}
	}
}

// The same where the clock stood still for longer than the delay is.
func TestPlayoutMeetsARestartLate(t *testing.T) {
	pcm := sine(rate8, 3*rate8, 437, 8000)
	p := NewPlayout(rate8)
	r := newReader(p, rate8)
	r.send(packets(rate8, pcm[:rate8], 0, 0, punctual)...)
	r.run(time.Second)
	r.send(packets(rate8, pcm[rate8+77:], 1<<40, time.Second, punctual)...)
	p.Put(1<<40, pcm[rate8+77:][:160], false, time.Second)
	r.now += 60 * time.Millisecond
	r.run(2 * time.Second)
	require.LessOrEqual(t, float64(steepest(r.heard)), 1.1*float64(steepest(pcm)))
}

// Frames that come twice say nothing about the path.
func TestPlayoutPassesOverRepetitions(t *testing.T) {
	pcm := speech(t, rate8)
	p := NewPlayout(rate8)
	r := newReader(p, rate8)
	r.send(packets(rate8, pcm, 0, 0, punctual)...)
	r.send(packets(rate8, pcm, 0, 0, func(int) time.Duration { return 90 * time.Millisecond })...)
	r.run(9 * time.Second)
	require.Zero(t, p.Late+p.Overflow+p.Concealed+p.Inserted+p.Removed)
	require.Equal(t, 168, p.Target())
}

func TestPlayoutResetIsSilentAtOnce(t *testing.T) {
	pcm := sine(rate8, 4000, 437, 8000)
	p := NewPlayout(rate8)
	r := newReader(p, rate8)
	r.send(packets(rate8, pcm, 0, 0, punctual)...)
	r.run(400 * time.Millisecond)
	p.Reset()
	require.Zero(t, p.Delay())
	out := make([]int16, 160)
	require.True(t, p.Take(out, 0))
	require.Zero(t, steepest(out[40:]))
	require.LessOrEqual(t, steepest(slices.Concat(r.heard, out)), steepest(pcm)*11/10)
	require.False(t, p.Take(out, 0))
	require.Zero(t, steepest(out))
}

// A pause of the source is silence after 80 ms, and what comes behind it begins with the delay that is wanted.
func TestPlayoutKeepsTimeOverAPause(t *testing.T) {
	pcm := sine(rate8, 20*rate8, 437, 8000)
	p := NewPlayout(rate8)
	r := newReader(p, rate8)
	r.send(packets(rate8, pcm, 0, 0, func(i int) time.Duration {
		if i >= 100 && i < 600 {
			return -1
		}
		return 0
	})...)
	r.run(2500 * time.Millisecond)
	frame := make([]int16, 160)
	require.False(t, p.Take(frame, r.now))
	require.Zero(t, steepest(r.heard[len(r.heard)-rate8/4:]))
	r.now += 20 * time.Millisecond
	r.run(13 * time.Second)
	require.LessOrEqual(t, r.milliseconds(p.Delay()), 21)
	require.LessOrEqual(t, p.Concealed, uint64(800), "the pause is no loss")
	require.Zero(t, p.Late+p.Overflow+p.Inserted+p.Removed)
	require.LessOrEqual(t, float64(steepest(r.heard)), 1.05*float64(steepest(pcm)))
}

// A stream that was heard directly goes over into the buffer and back without a gap and without a click.
func TestPlayoutTakesOverAndGivesBack(t *testing.T) {
	for name, pcm := range map[string][]int16{
		"sine": sine(rate8, 10*rate8, 437, 8000), "voice": vowel(rate8, 10*rate8, 110),
		"hiss": fizz(10*rate8, 3000), "speech": speech(t, rate8),
	} {
		t.Run(name, func(t *testing.T) {
			const direct, mixed, drained = 100, 250, 400 // frames
			p := NewPlayout(rate8)
			out := slices.Clone(pcm[:direct*160])
			p.Begin(1<<33+direct*160, pcm[:direct*160])
			require.Zero(t, p.Delay())
			frame := make([]int16, 160)
			taken := 0
			for i := direct; i < drained; i++ {
				if i == mixed {
					require.GreaterOrEqual(t, p.Delay(), 50, "the delay grew")
					require.Zero(t, p.Concealed, "and no hole made it")
					require.NotZero(t, p.Inserted)
					p.Drain(true)
				}
				now := time.Duration(i)*20*time.Millisecond + 5*time.Millisecond
				p.Put(1<<33+int64(i*160), pcm[i*160:(i+1)*160], false, now-time.Duration(i%4)*5*time.Millisecond)
				require.True(t, p.Take(frame, now))
				out = append(out, frame...)
				taken++
			}
			require.Less(t, p.Delay(), 25, "next to nothing waits")
			rest := make([]int16, 400)
			n := p.Rest(rest)
			require.Zero(t, p.Delay())
			require.Zero(t, p.Rest(rest))
			out = append(out, rest[:n]...)
			out = append(out, pcm[drained*160:]...)
			require.EqualValues(t, (drained-direct)*160, taken*160+n-int(p.Inserted)+int(p.Removed),
				"every sample is accounted for")
			require.Zero(t, p.Concealed+p.Late+p.Overflow)
			require.LessOrEqual(t, float64(steepest(out)), 1.03*float64(steepest(pcm)))
		})
	}
}

// A buffer that continues another one is heard as that one would have been, and neither knows of the other afterwards.
func TestPlayoutContinuesAnotherOne(t *testing.T) {
	const begun, over, end = 50, 150, 250 // frames
	pcm := speech(t, rate8)
	one, other, untouched := NewPlayout(rate8), NewPlayout(rate8), NewPlayout(rate8)
	heard := make([][160]int16, 3)
	other.Put(77, pcm[:160], false, 0) // it has heard something else
	other.Take(heard[0][:], 0)
	for i := range end {
		if i == over {
			other.Continue(one)
			require.Equal(t, one.Delay(), other.Delay())
			require.Equal(t, one.Target(), other.Target())
			require.Greater(t, one.Target(), 60*rate8/1000, "the path is uneven")
			require.Zero(t, other.Late+other.Overflow+other.Inserted+other.Removed, "what was counted before is not its own")
		}
		now := time.Duration(i) * 20 * time.Millisecond
		for k, p := range []*Playout{one, other, untouched} {
			if i < over && k == 1 || i >= over && k == 0 && i%3 > 0 { // one goes on with less
				continue
			}
			if i >= begun && i%10 == 9 {
				for n := i - 3; n <= i; n++ { // four at once
					p.Put(1<<33+int64(n*160), pcm[n*160:(n+1)*160], false, now)
				}
			} else if i < begun || i%10 < 6 {
				p.Put(1<<33+int64(i*160), pcm[i*160:(i+1)*160], false, now)
			}
			p.Take(heard[k][:], now)
		}
		if i >= over {
			require.Equal(t, heard[2], heard[1], "frame %d", i)
		}
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { other.Continue(one) }))
}

// Where the clock ticks before the next frame came, the buffer goes on from what was heard directly.
func TestPlayoutTakesOverBeforeAFrameComes(t *testing.T) {
	pcm := vowel(rate8, rate8, 120)
	p := NewPlayout(rate8)
	p.Begin(1600, pcm[:1600])
	out := slices.Clone(pcm[:1600])
	frame := make([]int16, 160)
	for i := 10; i < 40; i++ {
		require.True(t, p.Take(frame, time.Duration(i)*20*time.Millisecond))
		out = append(out, frame...)
		p.Put(int64(i*160), pcm[i*160:(i+1)*160], false, time.Duration(i)*20*time.Millisecond+time.Millisecond)
	}
	require.EqualValues(t, 160, p.Concealed)
	require.LessOrEqual(t, float64(steepest(out)), 1.03*float64(steepest(pcm)))
	require.Zero(t, p.Late)
}

func TestPlayoutRefusesNonsense(t *testing.T) {
	p := NewPlayout(rate8)
	frame := make([]int16, 160)
	p.Put(0, nil, false, 0)
	p.Put(0, make([]int16, 961), false, 0)
	require.False(t, p.Take(frame, 0))
	require.Zero(t, p.Rest(frame))
	require.True(t, p.Take(nil, 0) == false && p.Delay() == 0 && p.Target() == 160)
	for _, at := range []time.Duration{0, math.MaxInt64, math.MinInt64, -1} {
		for _, pos := range []int64{-1 << 60, 1 << 60, math.MaxInt64, math.MinInt64, 0} {
			p.Put(pos, fizz(960, 3000), false, at)
			p.Take(frame, -at)
			require.LessOrEqual(t, p.Delay(), 4000)
			require.LessOrEqual(t, p.Target(), 1600)
		}
	}
}

func TestPlayoutAllocatesNothing(t *testing.T) {
	p := NewPlayout(16000)
	pcm, out := vowel(16000, 320, 120), make([]int16, 320)
	i := 0
	require.Zero(t, testing.AllocsPerRun(3000, func() {
		now := time.Duration(i) * 20 * time.Millisecond
		if i%7 != 0 {
			p.Put(int64(i*320), pcm, false, now-time.Duration(i%400)*time.Millisecond/2)
		}
		p.Take(out, now)
		p.Drain(i%500 < 50)
		if i%1000 == 0 {
			p.Begin(int64(i*320), pcm)
		}
		i++
	}))
	require.NotZero(t, p.Concealed)
	require.NotZero(t, p.Inserted)
	require.NotZero(t, p.Removed)
}
