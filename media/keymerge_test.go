package media

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKeyMerge(t *testing.T) {
	// A step is a key at a time in ms: down, or up when held is not 0. INFO tells both at once.
	type step struct {
		at    int
		by    KeyMethod
		digit byte
		held  int
	}
	cases := []struct {
		name  string
		steps []step
		want  string
	}{
		{"one method", []step{{0, RFC4733, '1', 0}, {100, RFC4733, '1', 100}, {200, RFC4733, '1', 0}, {300, RFC4733, '1', 100}}, "1v 1^100 1v 1^100"},
		{"events and tones", []step{{0, RFC4733, '1', 0}, {40, InBand, '1', 0}, {100, RFC4733, '1', 100}, {140, InBand, '1', 110}}, "1v 1^100"},
		{"tones first", []step{{40, InBand, '1', 0}, {60, RFC4733, '1', 0}, {100, RFC4733, '1', 100}, {140, InBand, '1', 110}}, "1v 1^110"},
		{"the tail of a tone behind its event", []step{{0, RFC4733, '1', 0}, {100, RFC4733, '1', 100}, {180, InBand, '1', 0}, {220, InBand, '1', 40}}, "1v 1^100"},
		{"two quick presses by two methods", []step{
			{0, RFC4733, '1', 0},
			{40, InBand, '1', 0},
			{50, RFC4733, '1', 50},
			{90, InBand, '1', 50},
			{100, RFC4733, '1', 0},
			{140, InBand, '1', 0},
			{150, RFC4733, '1', 50},
			{190, InBand, '1', 50},
		}, "1v 1^50 1v 1^50"},
		{"two quick presses, the second method late", []step{
			{0, RFC4733, '1', 0},
			{50, RFC4733, '1', 50},
			{100, RFC4733, '1', 0},
			{150, RFC4733, '1', 50},
			{500, Info, '1', 50},
			{600, Info, '1', 50},
		}, "1v 1^50 1v 1^50"},
		{"all three", []step{
			{0, RFC4733, '#', 0},
			{10, Info, '#', 250},
			{45, InBand, '#', 0},
			{100, RFC4733, '#', 100},
			{140, InBand, '#', 100},
			{300, Info, '#', 250},
			{310, RFC4733, '#', 0},
			{345, InBand, '#', 0},
			{400, RFC4733, '#', 100},
			{440, InBand, '#', 100},
		}, "#v #^100 #v #^250"},
		{"a long key, INFO at its end", []step{{0, RFC4733, '5', 0}, {4000, RFC4733, '5', 4000}, {4400, Info, '5', 4000}}, "5v 5^4000"},
		{"other digits", []step{{0, RFC4733, '1', 0}, {50, RFC4733, '1', 50}, {60, InBand, '2', 0}, {120, InBand, '2', 60}}, "1v 1^50 2v 2^60"},
		{"much later, by another method", []step{{0, RFC4733, '1', 0}, {50, RFC4733, '1', 50}, {1200, InBand, '1', 0}, {1300, InBand, '1', 100}}, "1v 1^50 1v 1^100"},
		{"the end is late", []step{{0, RFC4733, '1', 0}, {80, InBand, '2', 0}, {130, InBand, '2', 50}, {330, RFC4733, '1', 20}}, "1v 1^80 2v 2^50"},
		{"an end of nothing", []step{{0, InBand, '2', 50}}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var m KeyMerge
			var keys []Key
			for _, s := range c.steps {
				now := time.Unix(1000, 0).Add(time.Duration(s.at) * time.Millisecond)
				if s.held == 0 || s.by == Info {
					keys = m.Key(keys, Key{Digit: s.digit, Method: s.by}, now)
				}
				if s.held != 0 {
					keys = m.Key(keys, Key{Digit: s.digit, Method: s.by, Ended: true, Duration: time.Duration(s.held) * time.Millisecond}, now)
				}
			}
			require.Equal(t, c.want, tell(keys))
		})
	}
}

func TestKeyMergeManyPresses(t *testing.T) {
	var m KeyMerge
	var keys []Key
	now := time.Unix(0, 0)
	for range 1000 {
		keys = m.Key(keys, Key{Digit: '7'}, now)
		keys = m.Key(keys, Key{Digit: '7', Ended: true}, now)
		keys = m.Key(keys, Key{Digit: '7', Method: InBand}, now)
		keys = m.Key(keys, Key{Digit: '7', Method: InBand, Ended: true}, now)
		now = now.Add(80 * time.Millisecond)
	}
	require.Len(t, keys, 2000)
	require.Empty(t, m.Key(nil, Key{Digit: '7', Method: keyMethods}, now))
}
