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
		for how, mixed := range map[string]bool{"directly": false, "mixed": true} {
			t.Run(name+" "+how, func(t *testing.T) {
				way.Mixed = mixed
				r := transcode.Impaired(t, way, load.NewNetwork(load.Weather{Lost: 0.05, Seed: 8}), 20*time.Second)
				t.Logf("%+v", r)
				assert.Less(t, r.Gap, 20*time.Millisecond)
				assert.LessOrEqual(t, r.Delay, 25*time.Millisecond)
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
			r := transcode.Impaired(t, way, network, 10*time.Second)
			t.Logf("%+v, %+v", r, network.Count())
			assert.Greater(t, network.Count().Late, 40)
			assert.LessOrEqual(t, r.Disordered, uint64(1))
			assert.Less(t, r.Gap, 20*time.Millisecond)
		})
	}
}

// bounds are how long the longest hole may be, and the delay that the gateway adds in the end, in ms; and how far the tone is
// above all else at least, in dB.
type bounds struct{ gap, delay, snr float64 }

// What every weather does to every way, in virtual time: a row for each weather, and a column for each way.
func TestWeatherOfEveryWay(t *testing.T) {
	const (
		ms     = time.Millisecond
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
	}
	for _, w := range []struct {
		name string
		load.Weather
		length time.Duration
		want   [len(ways)]bounds
	}{
		{"fine", load.Weather{}, usual, [...]bounds{{0, 0, 34}, {0, 0, 21}, {0, 0, 34}, {0, 21, 34}}},
		{
			"1 % lost",
			load.Weather{Lost: 0.01, Seed: 1},
			usual,
			[...]bounds{{5, 0, 34}, {10, 0, 21}, {2, 0, 34}, {5, 25, 33}},
		},
		{
			"10 % lost",
			load.Weather{Lost: 0.1, Seed: 2},
			usual,
			[...]bounds{{10, 0, 12}, {15, 0, 7}, {2, 0, 30}, {10, 30, 10}},
		},
		{ // of a hole of 160 ms half is made up
			"5 % lost in bursts of 3",
			load.Weather{Lost: 0.05, Burst: 3, Seed: 3},
			usual,
			[...]bounds{{90, 0, 34}, {40, 0, 19}, {90, 0, 34}, {90, 30, 33}},
		},
		{
			"jitter of 40 ms",
			load.Weather{Jitter: 40 * ms, Seed: 4},
			usual,
			[...]bounds{{0, 20, 34}, {0, 0, 21}, {0, 20, 34}, {0, 60, 33}},
		},
		{
			"jitter of 100 ms",
			load.Weather{Jitter: 100 * ms, Seed: 5},
			usual,
			[...]bounds{{0, 120, 34}, {0, 0, 20}, {0, 120, 34}, {0, 120, 33}},
		},
		{
			"5 % late by up to 40 ms",
			load.Weather{Late: 0.05, LateBy: 40 * ms, Seed: 6},
			usual,
			[...]bounds{{5, 0, 34}, {5, 0, 20}, {2, 0, 34}, {5, 60, 33}},
		},
		{
			"5 % late by up to 100 ms",
			load.Weather{Late: 0.05, LateBy: 100 * ms, Seed: 6},
			usual,
			[...]bounds{{5, 0, 34}, {10, 0, 19}, {2, 0, 34}, {5, 80, 33}},
		},
		{
			"5 % doubled",
			load.Weather{Doubled: 0.05, Seed: 7},
			usual,
			[...]bounds{{0, 0, 34}, {0, 0, 21}, {0, 0, 34}, {0, 21, 34}},
		},
		{
			"200 ppm slow",
			load.Weather{DriftPPM: 200},
			drifts,
			[...]bounds{{0, 0, 34}, {0, 0, 20}, {0, 0, 34}, {0, 21, 34}},
		},
		{
			"200 ppm fast",
			load.Weather{DriftPPM: -200},
			drifts,
			[...]bounds{{0, 0, 34}, {0, 0, 21}, {0, 0, 34}, {0, 25, 34}},
		},
		{
			"all of it",
			load.Weather{Lost: 0.03, Burst: 2, Doubled: 0.02, Late: 0.02, Jitter: 40 * ms, DriftPPM: 100, Seed: 9},
			usual,
			[...]bounds{{5, 90, 34}, {10, 0, 20}, {5, 90, 34}, {5, 100, 33}},
		},
	} {
		for i, way := range ways {
			t.Run(w.name+"/"+way.name, func(t *testing.T) {
				r := transcode.Impaired(t, way.Way, load.NewNetwork(w.Weather), w.length)
				t.Logf("%+v", r)
				assert.LessOrEqual(t, r.Gap.Seconds()*1000, w.want[i].gap)
				assert.LessOrEqual(t, r.Delay.Seconds()*1000, w.want[i].delay)
				assert.GreaterOrEqual(t, r.SNR, w.want[i].snr)
			})
		}
	}
}
