package transcode_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"tandem/load"
	"tandem/media"
	"tandem/transcode"
)

// What is lost towards a phone is made up, whatever either end speaks, directly and in a mix: no hole is heard.
func TestLossIsMadeUpForEveryListener(t *testing.T) {
	for name, way := range map[string]transcode.Way{
		"PCMU to PCMU":     {From: media.PCMU, To: media.PCMU},
		"PCMA to PCMU":     {From: media.PCMA, To: media.PCMU},
		"PCMU to G.722":    {From: media.PCMU, To: media.G722},
		"browser to PCMU":  {From: transcode.Browser, To: media.PCMU},
		"browser to G.722": {From: transcode.Browser, To: media.G722},
	} {
		for mixed, delay := range map[bool]time.Duration{false: 10 * time.Millisecond, true: 40 * time.Millisecond} {
			how := map[bool]string{false: "directly", true: "mixed"}[mixed]
			t.Run(name+" "+how, func(t *testing.T) {
				way.Mixed = mixed
				r := transcode.Impaired(t, way, load.NewNetwork(load.Weather{Lost: 0.05, Seed: 8}), 20*time.Second)
				t.Logf("%+v", r)
				assert.Less(t, r.Gap, 20*time.Millisecond)
				assert.LessOrEqual(t, r.Delay, delay)
				assert.GreaterOrEqual(t, r.SNR, 20.0)
			})
		}
	}
}

// Packets that come behind a later one find their place, if they come within some 40 ms: after the first of them nobody is
// surprised any more.
func TestDisorderIsPutRight(t *testing.T) {
	for name, way := range map[string]transcode.Way{
		"browser to phone": {From: transcode.Browser, To: media.PCMU},
		"phone to browser": {From: media.PCMU, To: transcode.Browser},
		"phone to phone":   {From: media.PCMU, To: media.PCMA},
		"phone to G.722":   {From: media.PCMU, To: media.G722},
		"mix":              {From: transcode.Browser, To: media.PCMU, Mixed: true},
	} {
		t.Run(name, func(t *testing.T) {
			network := load.NewNetwork(load.Weather{Late: 0.1, LateBy: 45 * time.Millisecond, Seed: 3})
			r := transcode.Impaired(t, way, network, 9*time.Second)
			t.Logf("%+v, %+v", r, network.Count())
			assert.Greater(t, network.Count().Late, 40)
			assert.LessOrEqual(t, r.Disordered, uint64(1))
			assert.Less(t, r.Gap, 20*time.Millisecond)
		})
	}
}

const ms = time.Millisecond

// steadily is a path on which everything takes as long.
type steadily time.Duration

func (s steadily) Packet(time.Duration) (copies int, delay time.Duration) { return 1, time.Duration(s) }

// TestDelayOfAMix: a voice that goes on in a mix is heard 30 ms later at most, its codec in it, whenever its packets come between
// two ticks.
func TestDelayOfAMix(t *testing.T) {
	for after := time.Duration(0); after < 20*ms; after += 3 * ms {
		for name, from := range map[string]media.Speech{"browser": transcode.Browser, "phone": media.PCMU} {
			r := transcode.Impaired(t, transcode.Way{From: from, To: media.PCMU, Mixed: true}, steadily(after), 6*time.Second)
			assert.LessOrEqual(t, r.Delay, 30*ms, "a %s, %s after a tick", name, after)
			assert.Greater(t, r.Delay, 10*ms, "a %s, %s after a tick: the mix is not instant", name, after)
		}
	}
}

// bounds are how long the longest hole may be, and the delay from end to end, beyond that of the fastest packets, in ms, of
// which codecs take some 2 to 7; and how far the tone is above all else at least, in dB.
type bounds struct{ gap, delay, snr float64 }

// What every weather does to every way, in virtual time: a row for each weather, and a column for each way.
func TestWeatherOfEveryWay(t *testing.T) {
	const (
		usual  = 10 * time.Second
		drifts = 206 * time.Second // 40 ms at 200 ppm, and what becomes of them
	)
	ways := [...]struct {
		name string
		transcode.Way
	}{
		{"browser to phone", transcode.Way{From: transcode.Browser, To: media.PCMU}},
		{"phone to browser", transcode.Way{From: media.PCMU, To: transcode.Browser}},
		{"phone to phone", transcode.Way{From: media.PCMU, To: media.PCMA}},
		{"mix", transcode.Way{From: transcode.Browser, To: media.PCMU, Mixed: true}},
		{"G.722 to browser", transcode.Way{From: media.G722, To: transcode.Browser}},
		{"G.722 to phone", transcode.Way{From: media.G722, To: media.PCMU}},
		{"Opus phone to browser", transcode.Way{From: media.Opus, To: transcode.Browser}},
		{"Opus phone to phone", transcode.Way{From: media.Opus, To: media.PCMU}},
	}
	for _, w := range []struct {
		name string
		load.Weather
		length time.Duration
		want   [len(ways)]bounds
	}{
		{
			"fine",
			load.Weather{},
			usual,
			[len(ways)]bounds{
				{0, 10, 34},
				{0, 5, 21},
				{0, 5, 34},
				{0, 30, 34},
				{0, 10, 40},
				{0, 5, 34},
				{0, 10, 39},
				{0, 10, 33},
			},
		},
		{
			"1 % lost",
			load.Weather{Lost: 0.01, Seed: 1},
			usual,
			[len(ways)]bounds{
				{5, 10, 34},
				{10, 5, 21},
				{2, 5, 34},
				{5, 40, 33},
				{2, 10, 40},
				{2, 5, 34},
				{5, 10, 39},
				{2, 10, 33},
			},
		},
		{
			"10 % lost",
			load.Weather{Lost: 0.1, Seed: 2},
			usual,
			[len(ways)]bounds{
				{10, 10, 12},
				{15, 5, 7},
				{2, 5, 30},
				{10, 40, 10},
				{5, 10, 14},
				{2, 5, 31},
				{10, 10, 12},
				{10, 10, 12},
			},
		},
		{ // of a hole of 160 ms half is made up
			"5 % lost in bursts of 3",
			load.Weather{Lost: 0.05, Burst: 3, Seed: 3},
			usual,
			[len(ways)]bounds{
				{90, 10, 34},
				{40, 5, 19},
				{90, 5, 34},
				{90, 40, 33},
				{5, 10, 40},
				{100, 5, 34},
				{50, 10, 39},
				{100, 10, 33},
			},
		},
		{
			"jitter of 40 ms",
			load.Weather{Jitter: 40 * ms, Seed: 4},
			usual,
			[len(ways)]bounds{
				{0, 40, 34},
				{0, 5, 21},
				{0, 35, 34},
				{0, 70, 33},
				{0, 10, 40},
				{0, 35, 34},
				{0, 10, 39},
				{0, 40, 33},
			},
		},
		{
			"jitter of 100 ms",
			load.Weather{Jitter: 100 * ms, Seed: 5},
			usual,
			[len(ways)]bounds{
				{0, 120, 34},
				{0, 5, 20},
				{0, 115, 34},
				{0, 120, 33},
				{0, 10, 40},
				{0, 120, 34},
				{0, 10, 39},
				{0, 120, 33},
			},
		},
		{
			"5 % late by up to 40 ms",
			load.Weather{Late: 0.05, LateBy: 40 * ms, Seed: 6},
			usual,
			[len(ways)]bounds{
				{5, 10, 34},
				{5, 5, 20},
				{2, 5, 34},
				{5, 60, 33},
				{2, 10, 40},
				{2, 5, 34},
				{5, 10, 39},
				{2, 10, 33},
			},
		},
		{
			"5 % late by up to 100 ms",
			load.Weather{Late: 0.05, LateBy: 100 * ms, Seed: 6},
			usual,
			[len(ways)]bounds{
				{5, 10, 34},
				{10, 5, 19},
				{2, 5, 34},
				{5, 90, 33},
				{2, 10, 40},
				{2, 5, 34},
				{10, 10, 39},
				{10, 10, 33},
			},
		},
		{
			"5 % doubled",
			load.Weather{Doubled: 0.05, Seed: 7},
			usual,
			[len(ways)]bounds{
				{0, 10, 34},
				{0, 5, 21},
				{0, 5, 34},
				{0, 30, 34},
				{0, 10, 40},
				{0, 5, 34},
				{0, 10, 39},
				{0, 10, 33},
			},
		},
		{
			"200 ppm slow",
			load.Weather{DriftPPM: 200},
			drifts,
			[len(ways)]bounds{
				{0, 10, 34},
				{0, 5, 20},
				{0, 5, 34},
				{0, 35, 34},
				{0, 10, 40},
				{0, 10, 34},
				{0, 10, 39},
				{0, 10, 33},
			},
		},
		{
			"200 ppm fast",
			load.Weather{DriftPPM: -200},
			drifts,
			[len(ways)]bounds{
				{0, 10, 34},
				{0, 5, 21},
				{0, 5, 34},
				{0, 35, 34},
				{0, 10, 40},
				{0, 10, 34},
				{0, 10, 39},
				{0, 10, 33},
			},
		},
		{
			"all of it",
			load.Weather{Lost: 0.03, Burst: 2, Doubled: 0.02, Late: 0.02, Jitter: 40 * ms, DriftPPM: 100, Seed: 9},
			usual,
			[len(ways)]bounds{
				{5, 115, 34},
				{10, 5, 20},
				{5, 100, 34},
				{5, 115, 33},
				{5, 10, 40},
				{2, 105, 34},
				{10, 10, 39},
				{5, 115, 33},
			},
		},
	} {
		for i, way := range ways {
			t.Run(w.name+"/"+way.name, func(t *testing.T) {
				t.Parallel()
				r := transcode.Impaired(t, way.Way, load.NewNetwork(w.Weather), w.length)
				t.Logf("%+v", r)
				assert.LessOrEqual(t, r.Gap.Seconds()*1000, w.want[i].gap)
				assert.LessOrEqual(t, r.Delay.Seconds()*1000, w.want[i].delay)
				assert.GreaterOrEqual(t, r.Delay, r.Told-20*ms)
				assert.GreaterOrEqual(t, r.SNR, w.want[i].snr)
			})
		}
	}
}
