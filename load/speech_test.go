package load

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gotranspile/g722"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/audio"
)

// testVoice is as long as readVoice wants, from the lab's sentence.
func testVoice(t *testing.T) [2][]int16 {
	t.Helper()
	wide := audio.Resample(lab.Speech(), phoneRate, voiceRate)
	for len(wide) < 2*speechFrames*voiceRate/50 {
		wide = append(wide, wide...)
	}
	raw := make([]byte, len(wide)/2)
	raw = raw[:g722.NewEncoder(g722.Rate64000, 0).Encode(raw, wide)]
	path := filepath.Join(t.TempDir(), "voice.g722")
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	voice, err := readVoice(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw[:1000], 0o600))
	_, err = readVoice(path)
	require.Error(t, err, "too short")
	return voice
}

// heardFlow is what arrives of packets that a network carries, each 20 ms after the other and 7 ms late.
func heardFlow(payloads [][]byte, step uint32, n *Network) *flow {
	f := newFlow(step, 0, 2*len(payloads), 200)
	for i := range len(payloads) + 60 {
		at := time.Duration(i) * packetTime
		f.next(at, false)
		if copies, delay := n.Packet(at); copies > 0 {
			f.arrived(at+delay+testDelay, 1, uint32(i)*step, uint16(65000+i), payloads[i%len(payloads)])
		}
	}
	slices.SortStableFunc(f.arrivals, func(a, b arrival) int { return int(a.at - b.at) })
	return f
}

// The receivers alone, with no gateway between: clean is clean, and the more is lost, the less is understood.
func TestReceivers(t *testing.T) {
	voice := testVoice(t)
	for _, codec := range []string{pcmu, g722Name} {
		rate := phoneRate
		if codec == g722Name {
			rate = voiceRate
		}
		said := [2][]int16{audio.Resample(voice[0], voiceRate, rate), audio.Resample(voice[1], voiceRate, rate)}
		last := [2]float64{1, 1}
		for _, lost := range []float64{0, 0.1, 0.3} {
			if lost > 0 && codec != pcmu {
				break // the same receiver
			}
			s, err := speechSounds(voice, codec, lost)
			require.NoError(t, err)
			w := Weather{Lost: lost, Jitter: 40 * time.Millisecond, Late: 0.05, LateBy: 30 * time.Millisecond, Seed: 1}
			phone, browser := heardFlow(s.phone, frameSamples, NewNetwork(w)), heardFlow(s.browser, opusStep, NewNetwork(w))
			toBrowser, err := browser.playBrowser(0, rate)
			require.NoError(t, err)
			got := [2]float64{
				understood(phone.looped(said[0], 0)[:8*rate], phone.playPhone(0, codec), rate),
				understood(browser.looped(said[1], 0)[:8*rate], toBrowser, rate),
			}
			t.Logf("%s, %g lost: phone %.3f, browser %.3f", codec, lost, got[0], got[1])
			for i := range got {
				if lost == 0 {
					assert.Greater(t, got[i], 0.97)
				}
				assert.Less(t, got[i], last[i])
				last[i] = got[i]
			}
			assert.GreaterOrEqual(t, got[1], got[0]-0.03, "FEC and concealment do better than holes")
		}
	}
}

// A gateway that leaves packets out without a gap in its numbers shifts what follows; it is still heard.
func TestPlayOutFollowsAShift(t *testing.T) {
	payloads := make([][]byte, 100)
	for i := range payloads {
		payloads[i] = []byte{byte(i)}
	}
	f := newFlow(opusStep, 0, 200, 1)
	sequence := uint16(65530)
	for i, p := range payloads {
		at := time.Duration(i) * packetTime
		if i%10 == 9 {
			continue // nothing comes, and nothing tells
		}
		f.arrived(at, 1, uint32(sequence)*opusStep, sequence, p)
		sequence++
	}
	var heard []byte
	waits := 0
	for _, p := range f.playOut(0)[:104] {
		heard = append(heard, p.payload...)
		assert.Nil(t, p.next)
		if p.payload == nil {
			waits++
		}
	}
	assert.Len(t, heard, 90, "all that came")
	assert.True(t, slices.IsSorted(heard))
	assert.Equal(t, 14, waits)
	for _, p := range (&flow{}).playOut(0) {
		assert.Nil(t, p.payload)
	}
}

func TestPlayOutTellsLostFromWaiting(t *testing.T) {
	f := newFlow(opusStep, 0, 20, 1)
	for _, i := range []int{0, 1, 3, 2, 4, 6, 6, 9} { // 3 overtook 2; 5, 7 and 8 are lost, 6 came twice
		f.arrived(time.Duration(i)*packetTime, 1, 0, uint16(i), []byte{byte(i)})
	}
	f.arrived(time.Duration(10)*packetTime, 2, 0, 10, []byte{99}) // of another
	f.arrived(time.Duration(10)*packetTime, 1, 0, 8, []byte{8})   // late, but not too late
	slices.SortStableFunc(f.arrivals, func(a, b arrival) int { return int(a.at - b.at) })
	var got []int
	for _, p := range f.playOut(0)[:11] {
		switch {
		case p.payload != nil:
			got = append(got, int(p.payload[0]))
		case p.next != nil:
			got = append(got, -int(p.next[0]))
		default:
			got = append(got, -100)
		}
	}
	assert.Equal(t, []int{0, 1, 2, 3, 4, -6, 6, -8, 8, 9, -100}, got)
}

// TestPlayOutKeepsPauses: what follows a pause in which nothing was sent is heard as long after it as what was before.
func TestPlayOutKeepsPauses(t *testing.T) {
	f := newFlow(opusStep, 0, 60, 1)
	number := uint16(0)
	for i := range 40 {
		if i >= 5 && i != 20 && i < 30 { // silence, in which one packet comes
			continue
		}
		f.arrived(time.Duration(i)*packetTime, 1, uint32(i)*opusStep, number, []byte{byte(i)})
		number++
	}
	for i, p := range f.playOut(0)[:40] {
		if i < 5 || i == 20 || i >= 30 {
			require.Len(t, p.payload, 1, i)
			assert.Equal(t, i, int(p.payload[0]))
		} else {
			assert.Nil(t, p.payload, i)
		}
	}
}

func TestSpeechWithoutAFile(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, RunSpeech(t.Context(), SpeechConfig{Gateway: []string{"none"}, Voice: "/nowhere/voice.g722", Keep: t.TempDir()}, &out))
	assert.Contains(t, out.String(), "no speech: /nowhere/voice.g722 is not here")
}

func TestPrintSpeech(t *testing.T) {
	made := func(v float64) *heardSpeech {
		var h heardSpeech
		for place := range h.by {
			h.by[place] = map[string]float64{}
			for _, b := range badnesses() {
				h.by[place][b.name] = v
			}
		}
		return &h
	}
	mine, theirs := made(0.9), made(0.8)
	theirs.by[0]["0 %"] = 0.95
	var out bytes.Buffer
	require.NoError(t, printSpeech(&out, bands()[0], mine, theirs))
	assert.Regexp(t, `rtpengine +0\.950 +0\.800`, out.String())
	assert.Contains(t, out.String(), "understood less: 1 ")
	assert.NotContains(t, out.String(), "void")
	mine.held.PacerLateMaxMs = 50
	out.Reset()
	require.NoError(t, printSpeech(&out, bands()[0], mine, nil))
	assert.Contains(t, out.String(), "not installed")
	assert.Contains(t, out.String(), "void: the machine was too busy")
}
