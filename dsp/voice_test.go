package dsp

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// heard lets a detector hear pcm in frames of so many samples and returns what it said of each.
func heard(v *Voice, pcm []int16, frame int) []bool {
	out := make([]bool, 0, len(pcm)/frame)
	for ; len(pcm) >= frame; pcm = pcm[frame:] {
		out = append(out, v.Frame(pcm[:frame]))
	}
	return out
}

// activeShare is the share of frames that were called voice.
func activeShare(said []bool) float64 {
	n := 0
	for _, s := range said {
		if s {
			n++
		}
	}
	return float64(n) / float64(len(said))
}

// words marks the frames of clean speech that belong to words: those not quieter than least dBFS, and gaps of up to
// 150 ms between them, which words have.
func words(pcm []int16, rate, frame int, least float64) []bool {
	out := make([]bool, len(pcm)/frame)
	last := -1
	for i := range out {
		if audio.Level(pcm[i*frame:(i+1)*frame]) < least {
			continue
		}
		out[i] = true
		if gap := (i - last - 1) * frame; last >= 0 && gap <= rate*15/100 {
			for k := last + 1; k < i; k++ {
				out[k] = true
			}
		}
		last = i
	}
	return out
}

// TestVoiceKeepsWords speaks at several levels over noise of several, in frames of every length. Speech is what is at
// most 25 dB below the sentences' level, 6 dB above the noise, and no quieter than −58 dBFS. What may be missed is at
// the beginning of a word alone: a detector that opens there stays open until the word has ended.
func TestVoiceKeepsWords(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		pause := make([]int16, 3*rate)
		speech := joined(pause, spoken(t, rate, -16), pause)
		for _, level := range []float64{-40, -26, -16, -6} {
			clean := louder(speech, level+16)
			for _, snr := range []float64{math.Inf(1), 30, 20, 15, 10} {
				for _, colour := range []float64{0, 0.8} {
					signal := clean
					if !math.IsInf(snr, 1) {
						signal = audio.Mix(clean, backdrop(1, len(clean), level-snr, colour))
					}
					for _, ptime := range []int{10, 20, 30, 40, 60} {
						frame := rate * ptime / 1000
						said := words(clean, rate, frame, max(-58, level-25, level-snr+6))
						v := NewVoice(rate)
						got := heard(&v, signal, frame)
						what := fmt.Sprintf("%d Hz, %d ms, %.0f dBFS, %.0f dB above noise of colour %.1f", rate, ptime, level, snr, colour)
						kept, all, begun := 0, 0, 0
						for i, speech := range said {
							if !speech {
								begun = i + 1
								continue
							}
							all++
							if got[i] {
								kept++
								continue
							}
							require.Less(t, (i-begun)*ptime, 20, "%s: a hole in the word of frame %d", what, begun)
						}
						require.Greater(t, all*ptime, 5000, what)
						require.GreaterOrEqual(t, float64(kept)/float64(all), 0.99, what)
						if level-snr < -31 {
							require.Zero(t, activeShare(got[2400/ptime:2900/ptime]), "%s: the pause before", what)
							require.Zero(t, activeShare(got[len(got)-400/ptime:]), "%s: the pause after", what)
						}
					}
				}
			}
		}
	}
}

// TestVoiceLearnsBackground lets noise of every kind begin at once, or after a second of quiet, and gives the detector
// 2.5 s.
func TestVoiceLearnsBackground(t *testing.T) {
	const length = 20 * time.Second
	type sound struct {
		name string
		make func(level float64, rate int) []int16
	}
	var sounds []sound
	for _, colour := range []float64{0, 0.7, 0.9, 0.95, 0.98} {
		sounds = append(sounds, sound{fmt.Sprintf("noise of colour %.2f", colour), func(level float64, rate int) []int16 {
			return backdrop(3, 20*rate, level, colour)
		}})
	}
	for _, mains := range []float64{50, 60} {
		sounds = append(sounds, sound{fmt.Sprintf("%.0f Hz hum", mains), func(level float64, rate int) []int16 {
			return audio.Mix(backdrop(5, 20*rate, level-25, 0),
				audio.Tone(mains, level, rate, length), audio.Tone(3*mains, level-10, rate, length),
				audio.Tone(5*mains, level-18, rate, length), audio.Tone(7*mains, level-25, rate, length))
		}})
	}
	for _, sound := range sounds {
		for _, rate := range []int{8000, 16000} {
			for _, level := range []float64{-60, -50, -40, -35} {
				noise := sound.make(level, rate)
				for _, before := range []int{0, rate} {
					for _, ptime := range []int{10, 20, 60} {
						frame := rate * ptime / 1000
						v := NewVoice(rate)
						heard(&v, backdrop(4, before, -70, 0), frame)
						heard(&v, noise[:rate*5/2], frame)
						got := activeShare(heard(&v, noise[rate*5/2:], frame))
						require.LessOrEqual(t, got, 0.05, "%s of %.0f dBFS, %d Hz, %d ms", sound.name, level, rate, ptime)
					}
				}
			}
		}
	}
}

func TestVoiceIsNotThere(t *testing.T) {
	const rate, frame = 8000, 160
	noise := backdrop(6, 10*rate, -45, 0.5)

	t.Run("digital silence", func(t *testing.T) {
		v := NewVoice(rate)
		require.Zero(t, activeShare(heard(&v, make([]int16, 10*rate), frame)))
	})
	t.Run("an offset", func(t *testing.T) {
		v := NewVoice(rate)
		pcm := make([]int16, 10*rate)
		for i := range pcm {
			pcm[i] = 3000
		}
		require.Zero(t, activeShare(heard(&v, pcm, frame)))
	})
	t.Run("a click", func(t *testing.T) {
		v := NewVoice(rate)
		heard(&v, noise[:5*rate], frame)
		pcm := append([]int16(nil), noise[5*rate:]...)
		for i := range 8 {
			pcm[rate+10+i] = 20000 * int16(1-i%2*2)
		}
		got := heard(&v, pcm, frame)
		require.True(t, got[50], "it is heard itself")
		require.Zero(t, activeShare(got[:50]))
		require.Zero(t, activeShare(got[55:]), "and lasts 80 ms")
	})
	t.Run("gaps in a background", func(t *testing.T) {
		v := NewVoice(rate)
		heard(&v, noise[:5*rate], frame)
		for i := range 40 {
			heard(&v, make([]int16, (i%7+1)*frame*5), frame)
			require.Zero(t, activeShare(heard(&v, noise[i*800:i*800+frame*(i%5+1)], frame)), "gap %d", i)
		}
	})
	t.Run("350 ms after speech", func(t *testing.T) {
		v := NewVoice(rate)
		heard(&v, noise[:5*rate], frame)
		heard(&v, backdrop(7, rate/2, -20, 0.8), frame)
		got := heard(&v, noise[5*rate:6*rate], frame)
		require.InDelta(t, 0.38, activeShare(got), 0.04)
		require.True(t, got[14], "300 ms are kept")
		require.False(t, got[21], "420 ms are not")
	})
}

// TestVoiceIsHeardAtOnce begins a sound 10 dB above the background: its first 10 ms are active.
func TestVoiceIsHeardAtOnce(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		for _, level := range []float64{-60, -50, -40} {
			v := NewVoice(rate)
			heard(&v, backdrop(11, 5*rate, level, 0.5), rate/100)
			for seed := range uint64(50) {
				require.Zero(t, activeShare(heard(&v, backdrop(100+seed, rate/10, level, 0.5), rate/100)))
				before := v
				require.True(t, v.Frame(backdrop(200+seed, rate/100, level+10, 0.5)), "%.0f dBFS, %d", level, seed)
				v = before
			}
		}
	}
}

// TestVoiceBesideHum learns a loud hum: it stays background when it swells a little, and hiss far below it is heard.
func TestVoiceBesideHum(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		hum := func(level float64) []int16 {
			return audio.Mix(audio.Tone(50, level, rate, 5*time.Second), backdrop(12, 5*rate, -64, 0))
		}
		for _, level := range []float64{-40, -22} {
			v := NewVoice(rate)
			heard(&v, hum(level), rate/50)
			require.Zero(t, activeShare(heard(&v, hum(level)[:2*rate], rate/50)), "%.0f dBFS", level)
			require.Zero(t, activeShare(heard(&v, hum(level + 2)[:rate], rate/50)), "%.0f dBFS swells", level)
			said := audio.Mix(hum(level)[:rate/10], backdrop(13, rate/10, -48, 0))
			require.Equal(t, 1.0, activeShare(heard(&v, said, rate/50)), "hiss over %.0f dBFS", level)
		}
	}
}

// TestVoiceForgetsWhatWasQuietAmongWords speaks without a pause for some time, and is silent: what was quietest in the
// words is no background that the next one must be louder than.
func TestVoiceForgetsWhatWasQuietAmongWords(t *testing.T) {
	const rate, frame = 8000, 160
	v := NewVoice(rate)
	heard(&v, make([]int16, rate), frame)
	for seed := range uint64(10) {
		heard(&v, backdrop(seed, rate/5, -20, 0.8), frame)
		heard(&v, backdrop(seed, rate/5, -45, 0.8), frame)
	}
	heard(&v, make([]int16, rate), frame)
	require.True(t, v.Frame(backdrop(20, frame, -44, 0.8)))
}

// TestVoiceHearsSpeechAfterGaps speaks in a stream that is silent in between, as one with DTX is.
func TestVoiceHearsSpeechAfterGaps(t *testing.T) {
	const rate, frame = 8000, 160
	v := NewVoice(rate)
	speech := spoken(t, rate, -30)
	for range 5 {
		heard(&v, make([]int16, 2*rate), frame)
		said := words(speech, rate, frame, -55)
		kept, all := 0, 0
		for i, active := range heard(&v, speech, frame) {
			if said[i] {
				all++
				if active {
					kept++
				}
			}
		}
		require.GreaterOrEqual(t, float64(kept)/float64(all), 0.99)
	}
}

// TestVoiceHearsTones plays what must be heard however long it lasts, over a little noise, and in either law.
func TestVoiceHearsTones(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		length := 20 * time.Second
		tone := func(level float64, hz ...float64) []int16 {
			out := backdrop(8, 20*rate, level-30, 0)
			for _, f := range hz {
				out = audio.Mix(out, audio.Tone(f, level, rate, length))
			}
			return out
		}
		var music []int16 // chords of three notes that fade, two a second
		for i := range 40 {
			chord := audio.Mix(audio.Tone(262*math.Pow(2, float64(i*7%12)/12), -24, rate, length/40),
				audio.Tone(330*math.Pow(2, float64(i*5%12)/12), -24, rate, length/40),
				audio.Tone(392*math.Pow(2, float64(i*3%12)/12), -24, rate, length/40))
			for k := range chord {
				chord[k] = int16(float64(chord[k]) * math.Exp(-4*float64(k)/float64(len(chord))))
			}
			music = append(music, chord...)
		}
		sounds := map[string][]int16{
			"440 and 480 Hz": tone(-16, 440, 480), "the same, quiet": tone(-40, 440, 480), "425 Hz": tone(-13, 425),
			"dial tone": tone(-13, 350, 440), "busy tone": tone(-24, 480, 620), "1 kHz": tone(-45, 1000),
			"300 Hz": tone(-45, 300), "3 kHz": tone(-45, 3000), "music": music,
		}
		for name, pcm := range sounds {
			v := NewVoice(rate)
			require.Equal(t, 1.0, activeShare(heard(&v, pcm, rate/50)), "%s at %d Hz", name, rate)
		}
	}
}

func TestVoiceTakesAnyFrame(t *testing.T) {
	v := NewVoice(8000)
	pcm := backdrop(9, 2000, -20, 0)
	for n := range 2000 {
		v.Frame(pcm[:n])
	}
	require.True(t, v.Frame(pcm))
}

func TestVoiceAllocatesNothing(t *testing.T) {
	v, pcm := NewVoice(8000), backdrop(10, 160, -40, 0)
	require.Zero(t, testing.AllocsPerRun(1000, func() { v.Frame(pcm) }))
}

func BenchmarkVoice(b *testing.B) {
	for _, rate := range []int{8000, 16000} {
		b.Run(fmt.Sprintf("%d Hz, 20 ms", rate), func(b *testing.B) {
			v, pcm := NewVoice(rate), backdrop(10, rate*10, -40, 0.8)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				at := i % 500 * rate / 50
				v.Frame(pcm[at : at+rate/50])
			}
		})
	}
}
