package media_test

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zaf/g711"

	"tandem/media"
)

// answers are what a line carries after the answer, spoken by a synthesizer.
func answers(t testing.TB) map[string][]int16 {
	t.Helper()
	files, err := filepath.Glob("testdata/answers/*.ulaw")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	all := map[string][]int16{}
	for _, file := range files {
		law, err := os.ReadFile(file)
		require.NoError(t, err)
		pcm := make([]int16, len(law))
		for i, b := range law {
			pcm[i] = g711.DecodeUlawFrame(b)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".ulaw")] = pcm
	}
	return all
}

func silenceOf(d time.Duration) []int16 { return make([]int16, int(d.Seconds()*8000)) }

func toneOf(hz, level float64, d time.Duration) []int16 {
	pcm := silenceOf(d)
	for i := range pcm {
		pcm[i] = int16(math.Pow(10, level/20) * 32767 * math.Sin(2*math.Pi*hz*float64(i)/8000))
	}
	return pcm
}

// noisy adds white noise of this level in dBFS and scales the rest.
func noisy(pcm []int16, gain, level float64) []int16 {
	random := rand.New(rand.NewPCG(1, 2))
	out := make([]int16, len(pcm))
	for i, s := range pcm {
		out[i] = int16(math.Pow(10, gain/20)*float64(s) + math.Pow(10, level/20)*32767*random.NormFloat64())
	}
	return out
}

func join(parts ...[]int16) (all []int16) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// verdicts gives packets of 20 ms to a reader and returns what it found, with when.
func verdicts(pcm []int16) (found []media.Answerer, at []time.Duration) {
	var r media.MachineReader
	for n := 0; n+160 <= len(pcm); n += 160 {
		if a, ok := r.Sound(pcm[n : n+160]); ok {
			found, at = append(found, a), append(at, time.Duration(n+160)*time.Second/8000)
		}
	}
	return found, at
}

func TestMachineReaderSpeech(t *testing.T) {
	for name, speech := range answers(t) {
		for _, line := range []struct {
			name        string
			gain, noise float64
		}{{"clean", 0, -96}, {"quiet", -15, -70}, {"noisy", 0, -50}} {
			t.Run(name+" "+line.name, func(t *testing.T) {
				beep := toneOf(1000, -12, 400*time.Millisecond)
				pcm := noisy(join(silenceOf(500*time.Millisecond), speech, silenceOf(600*time.Millisecond), beep, silenceOf(6*time.Second)), line.gain, line.noise)
				found, at := verdicts(pcm)
				if strings.HasPrefix(name, "human") {
					found, at = verdicts(noisy(join(silenceOf(500*time.Millisecond), speech, silenceOf(6*time.Second)), line.gain, line.noise))
					require.Equal(t, []media.Answerer{media.Human}, found, "at %v", at)
					require.Less(t, at[0], time.Duration(len(speech))*time.Second/8000+1500*time.Millisecond)
					return
				}
				require.Equal(t, []media.Answerer{media.Machine, media.Beep}, found, "at %v", at)
				require.Less(t, at[0], 4*time.Second)
				over := 500*time.Millisecond + time.Duration(len(speech))*time.Second/8000 + 600*time.Millisecond + 400*time.Millisecond
				require.InDelta(t, over.Seconds(), at[1].Seconds(), 0.05, "the beep is told when it is over")
			})
		}
	}
}

// machine has a reader hear a machine's greeting, and then something.
func machine(t *testing.T, then ...[]int16) (found []media.Answerer) {
	t.Helper()
	greeting := answers(t)["machine-hi"]
	found, _ = verdicts(noisy(join(append([][]int16{greeting, silenceOf(500 * time.Millisecond)}, then...)...), 0, -60))
	require.NotEmpty(t, found)
	require.Equal(t, media.Machine, found[0])
	return found[1:]
}

func TestMachineReaderBeep(t *testing.T) {
	end := silenceOf(time.Second)
	for _, hz := range []float64{400, 440, 850, 1000, 1400, 2000, 2200} {
		for _, level := range []float64{-6, -20, -30} {
			require.Equal(t, []media.Answerer{media.Beep}, machine(t, toneOf(hz, level, 200*time.Millisecond), end), "%v Hz %v dB", hz, level)
		}
	}
	sum := func(a, b []int16) []int16 {
		for i := range a {
			a[i] += b[i]
		}
		return a
	}
	ringing := sum(toneOf(440, -19, 2*time.Second), toneOf(480, -19, 2*time.Second))
	digit := sum(toneOf(770, -15, 200*time.Millisecond), toneOf(1336, -15, 200*time.Millisecond))
	speech := answers(t)
	for name, sound := range map[string][]int16{
		"silence": silenceOf(10 * time.Second), "ringing": ringing, "a digit": digit, "too short": toneOf(1000, -12, 90*time.Millisecond),
		"too deep": toneOf(200, -12, time.Second), "too faint": toneOf(1000, -60, time.Second),
		"speech": join(speech["machine-mailbox"], speech["machine-office"], speech["human-who"], speech["machine-hi"]),
		"sweep":  sweep(400, 2000, time.Second),
	} {
		require.Empty(t, machine(t, sound, end), name)
	}
}

// sweep glides from one frequency to another.
func sweep(from, to float64, d time.Duration) []int16 {
	pcm := silenceOf(d)
	phase := 0.0
	for i := range pcm {
		phase += 2 * math.Pi * (from + (to-from)*float64(i)/float64(len(pcm))) / 8000
		pcm[i] = int16(8000 * math.Sin(phase))
	}
	return pcm
}

func TestMachineReaderWithoutSpeech(t *testing.T) {
	found, at := verdicts(noisy(silenceOf(8*time.Second), 0, -55))
	require.Equal(t, []media.Answerer{media.AnswererUnknown}, found)
	require.Equal(t, 5*time.Second, at[0])
	click := join(silenceOf(time.Second), noisy(silenceOf(40*time.Millisecond), 0, -10), silenceOf(6*time.Second))
	found, _ = verdicts(click)
	require.Equal(t, []media.Answerer{media.AnswererUnknown}, found, "a click is no greeting")

	var r media.MachineReader
	a, ok := r.Lost(8000 * 3600)
	require.True(t, ok)
	require.Equal(t, media.AnswererUnknown, a)
	require.True(t, r.Done())
}

// TestMachineReaderAnyPacket finds the same, however the sound is cut into packets.
func TestMachineReaderAnyPacket(t *testing.T) {
	pcm := join(silenceOf(300*time.Millisecond), answers(t)["machine-office"], silenceOf(time.Second), toneOf(1000, -10, 300*time.Millisecond), silenceOf(time.Second))
	for _, size := range []int{80, 160, 240, 333, 480, len(pcm)} {
		var r media.MachineReader
		var found []media.Answerer
		for rest := pcm; len(rest) > 0; {
			n := min(size, len(rest))
			if a, ok := r.Sound(rest[:n]); ok {
				found = append(found, a)
			}
			rest = rest[n:]
		}
		require.Equal(t, media.Beep, found[len(found)-1], "packets of %d samples", size)
		require.True(t, r.Done())
	}
}

func TestMachineReaderAllocatesNothing(t *testing.T) {
	pcm := toneOf(1000, -10, 20*time.Millisecond)
	var r media.MachineReader
	require.Zero(t, testing.AllocsPerRun(1000, func() { r.Sound(pcm) }))
}
