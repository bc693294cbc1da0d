package media

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zaf/g711"
)

// press is one key as a test makes it.
type press struct {
	digit   byte
	level   float64       // dBm0 of the louder tone
	twist   float64       // dB by which the low tone is louder
	offset  float64       // of both frequencies, as a share
	length  time.Duration // of the tone
	pause   time.Duration // after it
	gap     time.Duration // of silence in the middle of the tone
	snr     float64       // dB; 0: no noise
	sidLow  float64       // offset of the low tone alone
	sidHigh float64       // and of the high one
}

func samples(d time.Duration) int { return int(d * toneRate / time.Second) }

// sound makes presses, each with its pause, after 60 ms of silence, beginning at a random place.
func sound(seed uint64, presses ...press) []int16 {
	rnd := rand.New(rand.NewPCG(seed, 24))
	out := make([]float64, samples(60*time.Millisecond)+rnd.IntN(160))
	for _, p := range presses {
		low, high, _ := KeyTones(p.digit)
		low, high = low*(1+p.offset+p.sidLow), high*(1+p.offset+p.sidHigh)
		loud := 32767 * math.Pow(10, (p.level-3.14)/20)
		a, b := loud, loud
		if p.twist > 0 {
			b = loud * math.Pow(10, -p.twist/20)
		} else {
			a = loud * math.Pow(10, p.twist/20)
		}
		noise := 0.0
		if p.snr != 0 {
			noise = math.Sqrt((a*a + b*b) / 2 * math.Pow(10, -p.snr/10))
		}
		phase, phase2 := rnd.Float64(), rnd.Float64()
		n, gap := samples(p.length), samples(p.gap)
		for i := range n {
			t := float64(i) / toneRate
			s := a*math.Sin(2*math.Pi*(low*t+phase)) + b*math.Sin(2*math.Pi*(high*t+phase2))
			if i >= (n-gap)/2 && i < (n+gap)/2 {
				s = 0
			}
			out = append(out, s+noise*rnd.NormFloat64())
		}
		for range samples(p.pause) {
			out = append(out, noise*rnd.NormFloat64())
		}
	}
	pcm := make([]int16, len(out)+samples(100*time.Millisecond))
	for i, s := range out {
		pcm[i] = int16(max(-32768, min(32767, s)))
	}
	return pcm
}

// listen brings sound in packets of 20 ms.
func listen(r *ToneReader, pcm []int16) (keys []Key, muted []bool) {
	for len(pcm) > 0 {
		n := min(160, len(pcm))
		var mute bool
		keys, mute = r.Sound(keys, pcm[:n])
		muted = append(muted, mute)
		pcm = pcm[n:]
	}
	return r.Reset(keys), muted
}

// pressed are the digits that went down.
func pressed(keys []Key) string {
	s := ""
	for _, k := range keys {
		if !k.Ended {
			s += string(k.Digit)
		}
	}
	return s
}

// TestToneReaderAccepts has what ITU-T Q.24 demands to be recognised, at each of its edges, for all sixteen digits.
func TestToneReaderAccepts(t *testing.T) {
	usual := press{level: -7, length: 50 * time.Millisecond, pause: 50 * time.Millisecond}
	cases := map[string]func(*press){
		"usual":                  func(*press) {},
		"loud":                   func(p *press) { p.level = -3 },
		"quiet":                  func(p *press) { p.level = -27 },
		"low louder by 8 dB":     func(p *press) { p.twist = 8 },
		"high louder by 4 dB":    func(p *press) { p.twist = -4 },
		"quiet, low louder":      func(p *press) { p.level, p.twist = -25, 8 },
		"quiet, high louder":     func(p *press) { p.level, p.twist = -25, -4 },
		"1.8 % too high":         func(p *press) { p.offset = 0.018 },
		"1.8 % too low":          func(p *press) { p.offset = -0.018 },
		"one too high, one low":  func(p *press) { p.sidLow, p.sidHigh = 0.018, -0.018 },
		"40 ms and 40 ms":        func(p *press) { p.length, p.pause = 40*time.Millisecond, 40*time.Millisecond },
		"long":                   func(p *press) { p.length = 2 * time.Second },
		"interrupted for 10 ms":  func(p *press) { p.length, p.gap = 110*time.Millisecond, 10*time.Millisecond },
		"15 dB of noise":         func(p *press) { p.snr = 15 },
		"noise, twist, offset":   func(p *press) { p.snr, p.twist, p.offset = 18, 6, 0.015 },
		"noise, the other twist": func(p *press) { p.snr, p.twist, p.offset = 18, -3, -0.015 },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				var presses []press
				for _, d := range []byte("1122334455667788990*#ABCDD") {
					p := usual
					p.digit = d
					change(&p)
					presses = append(presses, p)
				}
				var r ToneReader
				keys, _ := listen(&r, sound(seed, presses...))
				require.Equal(t, "1122334455667788990*#ABCDD", pressed(keys), "seed %d", seed)
				for _, k := range keys {
					require.Equal(t, InBand, k.Method)
					if k.Ended {
						require.InDelta(t, presses[0].length.Milliseconds(), k.Duration.Milliseconds(), 12)
					}
				}
			}
		})
	}
}

// TestToneReaderRefuses has what must not be taken for a key.
func TestToneReaderRefuses(t *testing.T) {
	usual := press{level: -7, length: 80 * time.Millisecond, pause: 80 * time.Millisecond}
	cases := map[string]func(*press){
		"23 ms":               func(p *press) { p.length = 23 * time.Millisecond },
		"too quiet":           func(p *press) { p.level = -45 },
		"3.5 % too high":      func(p *press) { p.offset = 0.035 },
		"3.5 % too low":       func(p *press) { p.offset = -0.035 },
		"one of them off":     func(p *press) { p.sidHigh = 0.035 },
		"the other off":       func(p *press) { p.sidLow = -0.035 },
		"low louder by 15":    func(p *press) { p.twist = 15 },
		"high louder by 10":   func(p *press) { p.twist = -10 },
		"only the high tone":  func(p *press) { p.twist = -60 },
		"only the low tone":   func(p *press) { p.twist = 60 },
		"as loud as noise is": func(p *press) { p.snr = 1 },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				var presses []press
				for _, d := range []byte("147*2580369#ABCD") {
					p := usual
					p.digit = d
					change(&p)
					presses = append(presses, p)
				}
				var r ToneReader
				keys, _ := listen(&r, sound(seed, presses...))
				require.Empty(t, pressed(keys), "seed %d", seed)
			}
		})
	}
}

// Most of a key's sound is muted: what leaks is too short to be a key again, and no sound beside it is lost but a moment.
func TestToneReaderMutes(t *testing.T) {
	for seed := range uint64(50) {
		pcm := sound(seed, press{digit: '5', level: -7, length: 100 * time.Millisecond, pause: 300 * time.Millisecond})
		var r ToneReader
		keys, muted := listen(&r, pcm)
		require.Equal(t, "5", pressed(keys))
		leaked, lost := 0, 0
		for i, m := range muted {
			for _, s := range pcm[i*160 : min(len(pcm), (i+1)*160)] {
				if s > 100 || s < -100 {
					if !m {
						leaked++
					}
				} else if m {
					lost++
				}
			}
		}
		require.Less(t, leaked, samples(24*time.Millisecond))
		require.Less(t, lost, samples(60*time.Millisecond))
		heard := append([]int16(nil), pcm...)
		for i, m := range muted {
			if m {
				clear(heard[i*160 : min(len(pcm), (i+1)*160)])
			}
		}
		var next ToneReader
		keys, _ = listen(&next, heard)
		require.Empty(t, keys, "the next in line hears a key again")
	}
}

// A packet that is lost in the middle of a tone neither ends it nor makes two of it.
func TestToneReaderLoss(t *testing.T) {
	for lost := range 5 {
		pcm := sound(uint64(lost), press{digit: '7', level: -10, length: 160 * time.Millisecond, pause: 60 * time.Millisecond},
			press{digit: '7', level: -10, length: 160 * time.Millisecond, pause: 60 * time.Millisecond})
		var r ToneReader
		var keys []Key
		for i := 0; i*160 < len(pcm); i++ {
			if i == 4+lost {
				keys = r.Lost(keys, 160)
				continue
			}
			keys, _ = r.Sound(keys, pcm[i*160:min(len(pcm), (i+1)*160)])
		}
		require.Equal(t, "77", pressed(r.Reset(keys)))
	}
	var r ToneReader
	keys, _ := r.Sound(nil, sound(1, press{digit: '7', level: -10, length: 100 * time.Millisecond})[:1400])
	require.Equal(t, "7", pressed(keys))
	require.True(t, r.Down())
	keys = r.Lost(nil, 8000)
	require.Len(t, keys, 1)
	require.True(t, keys[0].Ended)
	require.False(t, r.Down())
}

// Music has chords and steady tones, but no two that a keypad has and nothing else.
func TestToneReaderIgnoresMusic(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var r ToneReader
	var keys []Key
	minutes := 5
	for range minutes * 60 * 4 { // chords of 250 ms
		root := 110 * math.Pow(2, float64(rnd.IntN(36))/12)
		chord := [][]int{{0, 4, 7}, {0, 3, 7}, {0, 4, 7, 10}, {0, 5}, {0, 7}, {0, 12}, {0}, {0, 9, 16}}[rnd.IntN(8)]
		harmonics := 1 + rnd.IntN(5)
		pcm := make([]int16, samples(250*time.Millisecond))
		for i := range pcm {
			at, s := float64(i)/toneRate, 0.0
			for _, step := range chord {
				for h := 1; h <= harmonics; h++ {
					if hz := root * math.Pow(2, float64(step)/12) * float64(h); hz < 3600 {
						s += math.Sin(2*math.Pi*hz*at) / float64(h)
					}
				}
			}
			pcm[i] = int16(6000 * s / float64(len(chord)) * math.Exp(-2*at))
		}
		keys, _ = r.Sound(keys, pcm)
	}
	require.Empty(t, pressed(r.Reset(keys)))
}

// voice is speech as a vocal tract makes it: a pitch that glides and trembles, through three resonances that wander,
// with hisses and pauses between.
func voice(seed uint64, d time.Duration) []int16 {
	rnd := rand.New(rand.NewPCG(seed, 77))
	n := samples(d)
	out := make([]int16, 0, n)
	phase := 0.0
	for len(out) < n {
		length := samples(time.Duration(60+rnd.IntN(250)) * time.Millisecond)
		kind := rnd.IntN(8)
		pitch, glide := 80+rnd.Float64()*220, (rnd.Float64()-0.5)*0.4
		formants := [3]float64{250 + rnd.Float64()*650, 800 + rnd.Float64()*1500, 2300 + rnd.Float64()*900}
		drift := [3]float64{rnd.NormFloat64() * 80, rnd.NormFloat64() * 200, rnd.NormFloat64() * 100}
		loud := 1000 + rnd.Float64()*9000
		var y1, y2 [3]float64
		for i := range length {
			at := float64(i) / float64(length)
			source := 0.0
			switch kind {
			case 0: // a pause
			case 1: // a hiss
				source = rnd.NormFloat64() * 0.2
			default:
				phase += pitch * (1 + glide*at + 0.01*rnd.NormFloat64()) / toneRate
				if phase >= 1 {
					phase--
					source = 1
				}
				source += rnd.NormFloat64() * 0.01
			}
			s := 0.0
			for f, hz := range formants {
				hz += drift[f] * at
				radius := math.Exp(-math.Pi * (60 + 30*float64(f)) / toneRate)
				y := source + 2*radius*math.Cos(2*math.Pi*hz/toneRate)*y1[f] - radius*radius*y2[f]
				y1[f], y2[f] = y, y1[f]
				s += y / float64(1+f)
			}
			out = append(out, int16(max(-32768, min(32767, loud*s*math.Sin(math.Pi*at)))))
		}
	}
	return out[:n]
}

// Speech is not taken for keys (talk-off), and is hardly ever muted for a moment.
func TestToneReaderIgnoresVoices(t *testing.T) {
	packets, muted := 0, 0
	for seed := range uint64(10) {
		var r ToneReader
		keys, mutes := listen(&r, voice(seed, time.Minute))
		require.Empty(t, pressed(keys), "seed %d", seed)
		for _, m := range mutes {
			packets++
			if m {
				muted++
			}
		}
	}
	require.Less(t, muted, packets/1000)
}

// The same for a sentence that was spoken, slower and faster, as higher and lower voices are.
func TestToneReaderIgnoresSpeech(t *testing.T) {
	coded, err := os.ReadFile("../lab/speech.ulaw")
	require.NoError(t, err)
	spoken := g711.DecodeUlaw(coded)
	for percent := 60; percent <= 170; percent++ {
		for _, gain := range []float64{0.5, 1, 3} {
			pcm := make([]int16, len(spoken)/2*100/percent)
			for i := range pcm {
				at := i * percent / 100 * 2
				s := gain * float64(int16(uint16(spoken[at])|uint16(spoken[at+1])<<8))
				pcm[i] = int16(max(-32768, min(32767, s)))
			}
			var r ToneReader
			keys, _ := listen(&r, pcm)
			require.Empty(t, pressed(keys), "%d %%", percent)
		}
	}
}

// What a ToneWriter makes, a ToneReader finds.
func TestToneWriter(t *testing.T) {
	var w ToneWriter
	require.False(t, w.Press('x'))
	silent := make([]int16, 160)
	w.Sound(silent)
	require.Equal(t, make([]int16, 160), silent)
	var pcm []int16
	for _, d := range []byte(digits) {
		require.True(t, w.Press(d))
		tone := make([]int16, 800)
		w.Sound(tone)
		pcm = append(append(pcm, tone...), make([]int16, 800)...)
	}
	var r ToneReader
	keys, _ := listen(&r, pcm)
	require.Equal(t, digits, pressed(keys))
}

func TestToneReaderAllocatesNothing(t *testing.T) {
	var r ToneReader
	pcm := sound(1, press{digit: '7', level: -10, length: 50 * time.Millisecond, pause: 50 * time.Millisecond})
	keys := make([]Key, 0, 16)
	require.Zero(t, testing.AllocsPerRun(10, func() { keys, _ = r.Sound(keys[:0], pcm) }))
}

// Whatever comes, keys go down and up in turn.
func FuzzToneReader(f *testing.F) {
	f.Add([]byte("5\xff\x05"), uint16(100))
	f.Fuzz(func(t *testing.T, what []byte, lost uint16) {
		var r ToneReader
		var keys []Key
		for i, b := range what {
			if i == 64 {
				break
			}
			d := digits[b&15]
			pcm := sound(uint64(i), press{digit: d, level: -float64(b>>4) * 3, length: time.Duration(b>>2) * time.Millisecond})
			keys, _ = r.Sound(keys, pcm[:len(pcm)-int(b)])
			keys = r.Lost(keys, int64(lost>>(b&7)))
		}
		keys = r.Reset(keys)
		down := byte(0)
		for _, k := range keys {
			if k.Ended == (down == 0) || k.Ended && k.Digit != down || !strings.ContainsRune(digits, rune(k.Digit)) {
				t.Fatalf("keys do not alternate: %s", fmt.Sprint(keys))
			}
			down = k.Digit
			if k.Ended {
				down = 0
			}
		}
	})
}

// BenchmarkToneReader is 20 ms of speech.
func BenchmarkToneReader(b *testing.B) {
	b.ReportAllocs()
	pcm := voice(1, 10*time.Second)
	var r ToneReader
	keys := make([]Key, 0, 8)
	at := 0
	for b.Loop() {
		keys, _ = r.Sound(keys[:0], pcm[at:at+160])
		at = (at + 160) % (len(pcm) - 160)
	}
}
