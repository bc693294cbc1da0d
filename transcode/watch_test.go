package transcode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

// TestWatch lets a watcher look every 20 ms, as the clock does, at a phone that sends, stops, and is put on hold.
func TestWatch(t *testing.T) {
	const first, silence = 3 * time.Second, 10 * time.Second
	begin := time.Unix(1000, 0)
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	spoken := media.PortMedia{Send: true, Receive: true}
	type change struct {
		at float64
		do func(*watcher, *media.Heard, time.Time)
	}
	agree := func(m media.PortMedia) func(*watcher, *media.Heard, time.Time) {
		return func(w *watcher, _ *media.Heard, now time.Time) { w.update(m, now) }
	}
	rtp := func(_ *watcher, h *media.Heard, now time.Time) { h.RTP = now }
	rtcp := func(_ *watcher, h *media.Heard, now time.Time) { h.RTCP = now }
	for _, c := range []struct {
		name    string
		early   float64 // when the last RTP before the answer came; 0: none did
		watch   Watch
		changes []change
		first   []float64 // when each was told
		silence []float64
	}{
		{name: "nothing comes", watch: Watch{First: first, Silence: silence}, first: []float64{3}, silence: []float64{10}},
		{name: "nothing is watched"},
		{name: "only the first", watch: Watch{First: first}, first: []float64{3}},
		{name: "only the silence", watch: Watch{Silence: silence}, silence: []float64{10}},
		{name: "early media", early: -1, watch: Watch{First: first, Silence: silence}, silence: []float64{10}},
		{name: "early media that ended long before", early: -5, watch: Watch{First: first}, first: []float64{3}},
		{
			name: "it comes in time, and stops", watch: Watch{First: first, Silence: silence},
			changes: []change{{2.9, rtp}}, silence: []float64{12.9},
		},
		{
			name: "RTCP alone is life, but no sound", watch: Watch{First: first, Silence: silence},
			changes: []change{{2, rtcp}, {9, rtcp}, {18, rtcp}}, first: []float64{3}, silence: []float64{28},
		},
		{
			name: "a hold by the far end", watch: Watch{First: first, Silence: silence},
			changes: []change{{1, rtp}, {5, agree(media.PortMedia{Receive: true})}, {27, agree(spoken)}}, silence: []float64{37},
		},
		{
			name: "a hold by us", watch: Watch{First: first, Silence: silence},
			changes: []change{{1, rtp}, {5, agree(media.PortMedia{Send: true})}, {27, agree(spoken)}, {28, rtp}}, silence: []float64{38},
		},
		{
			name: "another address is no sign of life", watch: Watch{Silence: silence},
			changes: []change{{1, rtp}, {5, agree(spoken)}}, silence: []float64{11},
		},
		{
			name: "another phone", watch: Watch{Silence: silence},
			changes: []change{{5, func(w *watcher, h *media.Heard, now time.Time) { w.move(w.heard, now) }}}, silence: []float64{15},
		},
		{
			name: "the bridge is closed", watch: Watch{First: first, Silence: silence},
			changes: []change{{2, func(w *watcher, _ *media.Heard, _ time.Time) { w.stop() }}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w watcher
			var heard media.Heard
			if c.early != 0 {
				heard.RTP = at(c.early)
			}
			var now time.Time
			var toldFirst, toldSilence []float64
			c.watch.OnFirst = func(media.Heard) { toldFirst = append(toldFirst, now.Sub(begin).Seconds()) }
			c.watch.OnSilence = func(media.Heard) { toldSilence = append(toldSilence, now.Sub(begin).Seconds()) }
			w.begin(c.watch, func() media.Heard { return heard }, begin)
			for tick := range 60 * 50 {
				now = begin.Add(time.Duration(tick) * frameTime)
				for len(c.changes) > 0 && !now.Before(at(c.changes[0].at)) {
					c.changes[0].do(&w, &heard, now)
					c.changes = c.changes[1:]
				}
				w.look(now)
			}
			require.Equal(t, c.first, toldFirst)
			require.Equal(t, c.silence, toldSilence)
		})
	}
}
