package load

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zaf/g711"

	"tandem/test/audio"
)

func TestReadMetric(t *testing.T) {
	const text = "# HELP x_total Things.\n# TYPE x_total counter\nx_total_of_others 9\nx_total 1.5e+02\n"
	n, err := readMetric(strings.NewReader(text), "x_total")
	require.NoError(t, err)
	assert.InDelta(t, 150, n, 0)
	_, err = readMetric(strings.NewReader(text), "y_total")
	require.Error(t, err)
	_, err = readMetric(strings.NewReader("x_total many\n"), "x_total")
	require.Error(t, err)
	_, err = readMetric(strings.NewReader(strings.Repeat("x", 1<<20)), "x_total")
	require.Error(t, err)
}

// coded is sound as a phone is sent it.
func coded(f *flow, pcm []int16) {
	for i := 0; (i+1)*frameSamples <= len(pcm); i++ {
		payload := make([]byte, frameSamples)
		for n, v := range pcm[i*frameSamples : (i+1)*frameSamples] {
			payload[n] = g711.EncodeUlawFrame(v)
		}
		f.arrived(time.Duration(i)*packetTime, 1, uint32(i*frameSamples), uint16(i), payload)
	}
}

// TestPartyIsChecked finds a phone that misses a voice, and one that hears itself.
func TestPartyIsChecked(t *testing.T) {
	tones := talkTones()
	tone := func(hz float64) []int16 { return audio.Tone(hz, talkLevel, phoneRate, 2*time.Second) }
	others := audio.Mix(tone(tones[1]), tone(tones[2]))
	all := audio.Mix(others, tone(tones[0]))
	for name, c := range map[string]struct {
		speaker, listener []int16
		wrong             string
	}{
		"all is well":             {others, all, ""},
		"one hears itself":        {all, all, "phone 0"},
		"one misses a voice":      {others, others, "phone 1"},
		"nothing is heard at all": {make([]int16, len(all)), all, "phone 0"},
	} {
		b := &bench{to: 2 * time.Second}
		for _, pcm := range [][]int16{c.speaker, c.listener} {
			p := &pair{toPhone: newFlow(frameSamples, phoneScore, 100, frameSamples)}
			coded(p.toPhone, pcm)
			b.pairs = append(b.pairs, p)
		}
		err := checkParty(b)
		if c.wrong == "" {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorContains(t, err, c.wrong, name)
		}
	}
}

func TestPartyIsPrinted(t *testing.T) {
	run := Result{CPUMsPerCallSecond: 10, Seconds: 2, PhonesHeard: 1000, BrowsersHeard: 19000, Decoders: 2, OwnCPUPct: 33, PacerLateMaxMs: 1.5}
	all := []*contender{
		{name: "Tandem", kind: ours, calls: 10, runs: []Result{run}},
		{name: "the floor", kind: leastRoom, calls: 10, runs: []Result{{CPUMsPerCallSecond: 8, Seconds: 2}}},
		{name: "Janus, audiobridge", kind: viaBridge, calls: 20, runs: []Result{{CPUMsPerCallSecond: 20, Seconds: 2}}},
		{name: "Janus, phones", kind: viaBridge, calls: 10, missing: "gone"},
	}
	var out bytes.Buffer
	require.NoError(t, printParty(&out, PartyConfig{}, all))
	assert.Contains(t, out.String(), "10 phones, of whom 1 speaks, and 10 browsers, of whom 2 speak")
	assert.Regexp(t, `Tandem +100\.0 ms +100\.0, 100\.0 +0 kB +50\.0, 950\.0 +2\.00 of 2 who speak .* 33 % +1\.5 ms`, out.String())
	assert.Regexp(t, `against the floor +1\.250 +to reach: at most 1\.25\n`, out.String())
	assert.Regexp(t, `with 20 browsers +0\.250 +to reach: at most 0\.3\n`, out.String())
	assert.Regexp(t, `phones +gone`, out.String())
	assert.NotContains(t, out.String(), "against Janus audiobridge with 10 phones")
}

// partyRun is a short run of a party.
func partyRun(t *testing.T, calls int, phones bool) (Config, func(*bench)) {
	t.Helper()
	with, err := gather(phones)
	require.NoError(t, err)
	return Config{
		Gateway: []string{"none"}, Calls: calls, Duration: 2 * time.Second, Idle: time.Millisecond, RampPerSecond: 20, Log: slog.New(slog.DiscardHandler),
	}, with
}

// TestAudiobridge: phones and browsers in a room of Janus hear all who speak but themselves.
func TestAudiobridge(t *testing.T) {
	if !inside(t) {
		return
	}
	cfg, with := partyRun(t, 3, true)
	r, err := hold(t.Context(), viaBridge, cfg, nil, nil, with)
	require.NoError(t, err)
	t.Logf("%+v", r)
	assert.Positive(t, r.PhonesHeard)
	assert.Positive(t, r.BrowsersHeard)
}

// TestAudiobridgeOfBrowsers: so do browsers among themselves.
func TestAudiobridgeOfBrowsers(t *testing.T) {
	if !inside(t) {
		return
	}
	cfg, with := partyRun(t, 5, false)
	r, err := hold(t.Context(), viaBridge, cfg, nil, nil, with)
	require.NoError(t, err)
	t.Logf("%+v", r)
	assert.Zero(t, r.PhonesHeard)
	assert.Positive(t, r.BrowsersHeard)
}

// TestPartyFloor: the least code does the work: phones hear all who speak but themselves, browsers have the streams of all
// who speak but their own.
func TestPartyFloor(t *testing.T) {
	port, err := freePort(t.Context())
	require.NoError(t, err)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	const first, calls = floorFirstPort + 1500, 3
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { assert.NoError(t, ServePartyFloor(ctx, PartyFloorConfig{HTTP: addr, FirstPort: first})) })
	defer serving.Wait()
	defer stop()
	ready := &child{exited: make(chan struct{})}
	require.NoError(t, ready.waitReady(t.Context(), "http://"+addr))

	cfg, with := partyRun(t, calls, true)
	b := &bench{cfg: cfg, start: time.Now(), connect: joinPartyFloor("http://"+addr, first)}
	with(b)
	require.NoError(t, b.makePairs())
	defer b.closePhones()
	for _, c := range b.pairs {
		require.NoError(t, b.setUpPeer(t.Context(), c))
	}
	p := &pacer{pairs: b.pairs, start: b.start}
	pacing, end := context.WithCancel(t.Context())
	var pacers sync.WaitGroup
	pacers.Go(func() { p.run(pacing) })
	defer pacers.Wait()
	defer end()
	require.Eventually(t, func() bool {
		for _, c := range b.pairs {
			streams := int64(3)
			if c.number < partyBrowsers {
				streams = 2
			}
			if c.phone.heard.Load() < 100 || c.far.packets() < streams*50 {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
	end()
	pacers.Wait()
	b.to = time.Since(b.start)
	b.closePhones()
	require.NoError(t, b.check(b))
}
