package load

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hraban/opus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

func TestOpusParameters(t *testing.T) {
	const head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 110\r\n"
	for text, want := range map[string]string{
		head + "a=rtpmap:111 OPUS/48000/2\r\na=fmtp:110 0-16\r\na=fmtp:111 minptime=10; maxplaybackrate=8000\r\n": "minptime=10; maxplaybackrate=8000",
		head + "a=rtpmap:110 telephone-event/8000\r\na=fmtp:110 0-16\r\n":                                         "",
		head + "a=rtpmap:111 opus/48000/2\r\n":                                                                    "",
		"nothing":                                                                                                 "",
	} {
		assert.Equal(t, want, opusParameters(text), text)
	}
	for asked, narrow := range map[string]bool{
		"minptime=10; maxplaybackrate=8000": true, "minptime=10;maxplaybackrate=16000": false, "maxplaybackrate=80000": false, "": false,
	} {
		var b browser
		assert.False(t, b.heldNarrow(), "nothing was asked")
		b.asked.Store(&asked)
		assert.Equal(t, narrow, b.heldNarrow(), asked)
	}
}

// TestBrowsersFollow: a browser is told that 8 kHz are enough, obeys, and is heard; others are not told and are heard too.
func TestBrowsersFollow(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and holds calls")
	}
	says, err := allSounds()
	require.NoError(t, err)
	program := builtProgram(t)
	for _, follows := range []bool{true, false} {
		says := *says
		enc, err := browserEncoder(narrowBitrate, opus.Narrowband)
		require.NoError(t, err)
		says.narrow, err = encodeMarks(enc)
		require.NoError(t, err)
		cfg := Config{
			Gateway: []string{program, "serve"}, Calls: 2, Duration: 2 * time.Second, Idle: time.Millisecond, Follows: follows,
			Log: slog.New(slog.DiscardHandler),
		}
		var asked string
		r, err := hold(t.Context(), ours, cfg, nil, &says, func(b *bench) {
			b.check = func(b *bench) error {
				asked = *b.pairs[0].browser.asked.Load()
				return nil
			}
		})
		require.NoError(t, err)
		t.Log(asked)
		assert.Equal(t, follows, hasParameter(asked, narrowFmtp))
		assert.Positive(t, r.ToPhone.Received)
	}
}

// TestBandRows: what was not decoded or not heard voids a row, and a ratio says whether it is reached.
func TestBandRows(t *testing.T) {
	run := func(cpu, decoders float64, heard int64) Result {
		return Result{Calls: 20, Seconds: 2, CPUMsPerCallSecond: cpu, Decoders: decoders, PhonesHeard: heard}
	}
	all := []*contender{{name: "full", calls: 20, runs: []Result{run(6, 20, 2000)}}, {name: "narrow", calls: 20, runs: []Result{run(4.5, 19.92, 1990)}}}
	rows := func() string {
		var out strings.Builder
		require.NoError(t, printBand(&out, BandConfig{}, all, [2]string{"minptime=10", narrowFmtp}))
		return strings.Join(strings.Fields(out.String()), " ")
	}
	out := rows()
	assert.Contains(t, out, "narrow 20 4.50 ms 4.50, 4.50 49.8 49.8")
	assert.Contains(t, out, "narrow the gateway's SDP asked for: "+narrowFmtp)
	assert.Contains(t, out, "20 calls 0.750 to reach: at most 0.8")
	assert.NotContains(t, out, "not reached")
	assert.NotContains(t, out, "void")
	all[1].runs = []Result{run(5, 20, 1970)}
	out = rows()
	assert.Contains(t, out, `void: of each browser of "narrow" only 49.2 packets`)
	assert.Contains(t, out, "(not reached)")
	all[1].runs = []Result{run(5, 19, 2000)}
	assert.Contains(t, rows(), `void: of each browser of "narrow" only 47.5 packets`)
	assert.NotContains(t, out, "one more call")

	all = append(all, &contender{name: "full", calls: 100, runs: []Result{run(4, 20, 2000)}}, &contender{name: "narrow", calls: 100, runs: []Result{run(3.2, 20, 2000)}})
	all[1].runs = []Result{run(4.5, 20, 2000)}
	out = rows()
	assert.Contains(t, out, "100 calls 0.800 to reach")
	assert.Contains(t, out, "CPU of one more call, from 20 to 100 3.50 ms 2.88 ms")
	assert.Contains(t, out, "its ratio 0.821")
	all[2].calls, all[3].calls = 20, 20
	assert.NotContains(t, rows(), "one more call", "asked for the same number twice")
}

// Calls that are apart say the same, each from another place on.
func TestCallsAreApart(t *testing.T) {
	s := &sounds{phone: [][]byte{{0}, {1}, {2}}, browser: [][]byte{{3}, {4}, {5}}, narrow: [][]byte{{6}, {7}, {8}}}
	assert.Equal(t, s, s.from(0))
	assert.Equal(t, &sounds{phone: [][]byte{{1}, {2}, {0}}, browser: [][]byte{{4}, {5}, {3}}, narrow: [][]byte{{7}, {8}, {6}}}, s.from(4))
}

// What browsers say in narrowband is in narrowband, and as well understood at a telephone as what they say else.
func TestSpeechOfBothBands(t *testing.T) {
	voice := testVoice(t)
	s, err := bandSounds(voice)
	require.NoError(t, err)
	said := audio.Resample(voice[1], voiceRate, phoneRate)
	var got [2]float64
	for i, all := range [][][]byte{s.browser, s.narrow} {
		require.Len(t, all, speechFrames)
		for _, packet := range all {
			const widestNarrow = 3 // RFC 6716 §3.1
			assert.Equal(t, i == 1, packet[0]>>3 <= widestNarrow)
		}
		heard, err := heardFlow(all, opusStep, NewNetwork(Weather{})).playBrowser(0, phoneRate)
		require.NoError(t, err)
		got[i] = understood(said[:8*phoneRate], heard, phoneRate)
	}
	assert.Greater(t, got[0], 0.97)
	assert.Greater(t, got[1], got[0]-0.1)
	t.Log(got)
}

// TestBandWithoutAFile says what is missing.
func TestBandWithoutAFile(t *testing.T) {
	var out strings.Builder
	require.NoError(t, RunBand(t.Context(), BandConfig{Gateway: []string{"none"}, Voice: "/nowhere/voice.g722"}, &out))
	assert.Contains(t, out.String(), "no speech: /nowhere/voice.g722 is not here")
}
