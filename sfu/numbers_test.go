package sfu

import (
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
)

func TestGapless(t *testing.T) {
	type step struct {
		take bool
		seq  uint16
		want uint16
	}
	cases := map[string][]step{
		"nothing taken":        {{false, 5, 5}, {false, 6, 6}},
		"two in a row":         {{false, 5, 5}, {true, 6, 0}, {true, 7, 0}, {false, 8, 6}, {false, 9, 7}},
		"a repeated packet":    {{false, 5, 5}, {true, 6, 0}, {true, 6, 0}, {false, 7, 6}},
		"late, before":         {{true, 6, 0}, {false, 7, 6}, {false, 5, 5}, {false, 8, 7}},
		"late, between":        {{true, 6, 0}, {true, 8, 0}, {false, 9, 7}, {false, 7, 6}, {false, 5, 5}},
		"a loss stays":         {{true, 6, 0}, {false, 9, 8}},
		"taken late":           {{false, 5, 5}, {false, 7, 7}, {true, 6, 0}, {false, 8, 7}},
		"across the wrap":      {{false, 65535, 65535}, {true, 0, 0}, {false, 1, 0}, {false, 65534, 65534}},
		"a long time later":    {{true, 6, 0}, {false, 7, 6}, {false, 10000, 9999}, {false, 20000, 19999}, {false, 40000, 39999}, {false, 60000, 59999}, {false, 3, 2}},
		"the same number anew": {{true, 6, 0}, {false, 10000, 9999}, {true, 10006, 0}, {false, 10007, 10005}},
	}
	for name, steps := range cases {
		t.Run(name, func(t *testing.T) {
			var g gapless
			for _, s := range steps {
				if s.take {
					g.take(s.seq)
					continue
				}
				require.Equal(t, s.want, g.number(s.seq), "number of %d", s.seq)
			}
		})
	}
	var g gapless
	for i := range uint16(100) { // more than it remembers
		g.take(i)
	}
	require.EqualValues(t, 0, g.number(100))
}

func packet(ssrc uint32, seq uint16, ts uint32) *rtp.Packet {
	return &rtp.Packet{Header: rtp.Header{Version: 2, SSRC: ssrc, SequenceNumber: seq, Timestamp: ts}}
}

func TestRenumber(t *testing.T) {
	var r renumber
	now := time.Unix(1000, 0)
	next := func(p *rtp.Packet, cut bool) (uint16, uint32, bool) { return r.next(p, cut, 48000, now) }

	seq, ts, ok := next(packet(1, 65534, 100), true)
	require.True(t, ok)
	require.EqualValues(t, 65534, seq)
	require.EqualValues(t, 100, ts)
	seq, _, _ = next(packet(1, 1, 1060), false)
	require.EqualValues(t, 1, seq, "a gap stays a gap")
	seq, _, ok = next(packet(1, 0, 580), false)
	require.True(t, ok, "a late packet is late there too")
	require.EqualValues(t, 0, seq)

	now = now.Add(time.Second)
	seq, ts, ok = next(packet(2, 500, 9), false)
	require.True(t, ok)
	require.EqualValues(t, 2, seq)
	require.EqualValues(t, 1060+48000, ts, "the clock went on while nobody sent")
	_, _, ok = next(packet(2, 499, 5), false)
	require.False(t, ok, "it would fall onto the source before")
	seq, ts, _ = next(packet(2, 501, 969), false)
	require.EqualValues(t, 3, seq)
	require.EqualValues(t, 1060+48000+960, ts)

	seq, ts2, _ := next(packet(2, 7, 7), true)
	require.EqualValues(t, 4, seq, "another source with the same SSRC")
	require.Greater(t, ts2, ts)
}

func TestKeysOnTheClockOfOpus(t *testing.T) {
	now := time.Unix(0, 0)
	event := func(code byte, end bool, duration int) []byte {
		flags := byte(10)
		if end {
			flags |= 0x80
		}
		return []byte{code, flags, byte(duration >> 8), byte(duration)}
	}
	t.Run("a key longer than a segment", func(t *testing.T) {
		var r keyReader
		var all []media.Key
		take := func(ts uint32, p []byte) { all = append(all, r.packet(ts, 48000, p, now)...) }
		ts := uint32(1000)
		for range 3 {
			take(ts, event(1, false, 960))
			take(ts, event(1, false, 65535))
			take(ts-65535, event(1, false, 4000)) // a late one
			ts += 65535
		}
		take(ts, event(1, true, 960))
		take(ts, event(1, true, 960))
		samples := 3*65535 + 960
		require.Equal(t, []media.Key{
			{Digit: '1'}, {Digit: '1', Ended: true, Duration: time.Duration(samples) * time.Second / 48000},
		}, all)
	})
	t.Run("8 kHz", func(t *testing.T) {
		var r keyReader
		require.Equal(t, []media.Key{{Digit: '9'}}, r.packet(80, 8000, event(9, false, 160), now))
		require.Equal(t, []media.Key{{Digit: '9', Ended: true, Duration: 40 * time.Millisecond}}, r.packet(80, 8000, event(9, true, 320), now))
		require.Empty(t, r.reset())
	})
	t.Run("its end is lost", func(t *testing.T) {
		var r keyReader
		r.packet(80, 48000, event(9, false, 960), now)
		require.Empty(t, r.expire(now.Add(100*time.Millisecond)))
		require.Len(t, r.expire(now.Add(time.Second)), 1)
		r.packet(80000, 48000, event(9, false, 960), now)
		require.Len(t, r.reset(), 1, "and when the stream ends")
	})
	t.Run("no key", func(t *testing.T) {
		var r keyReader
		require.Empty(t, r.packet(80, 48000, []byte{1}, now))
		require.Empty(t, r.packet(80, 48000, event(16, false, 960), now))
	})
}

func TestKeyframeRequestsArePaced(t *testing.T) {
	k := newKeyframes()
	done, asked := make(chan struct{}), make(chan struct{}, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.run(done, time.Hour, func() { asked <- struct{}{} })
	}()
	for range 5 {
		k.request()
	}
	<-asked
	for range 5 {
		k.request()
	}
	require.Empty(t, asked)
	require.Len(t, k.want, 1, "the last request is kept")
	close(done)
	<-ended
}

// nowhere is a bound writer that takes packets.
type nowhere struct{ n int }

func (w *nowhere) WriteRTP(*rtp.Header, []byte) (int, error) { w.n++; return 0, nil }
func (w *nowhere) Write([]byte) (int, error)                 { w.n++; return 0, nil }

// untold is where reports go that nobody reads.
func untold([]rtcp.Packet) error { return nil }

// forwarding is a packet's whole way through our code: from what Pion read to what it writes, for some subscribers.
func forwarding(subscribers int) (step func(), written func() int) {
	d := &Device{}
	lane := newInbound("0", media.Audio)
	lane.agree([]agreed{{111, media.BrowserOpus()}, {110, media.Codec{MimeType: mimeTelephoneEvent, ClockRate: 48000}}})
	src := &media.Source{}
	track := lane.aim(src, func(*media.Track, bool) {})
	var writers []*nowhere
	for range subscribers {
		w := &nowhere{}
		writers = append(writers, w)
		out := &outbound{kind: media.Audio, codec: media.BrowserOpus(), writer: w, open: true, tell: untold}
		out.attach(track)
	}
	r := &trackReader{d: d, lane: lane}
	raw, err := packet(9, 0, 0).Marshal()
	if err != nil {
		panic(err)
	}
	raw = append(raw, make([]byte, 80)...)
	raw[1] = 111
	var seq uint16
	step = func() {
		seq++
		raw[2], raw[3] = byte(seq>>8), byte(seq)
		if r.packet.Unmarshal(raw) == nil {
			r.take(&r.packet, time.Now())
		}
	}
	return step, func() int {
		n := 0
		for _, w := range writers {
			n += w.n
		}
		return n
	}
}

func TestForwardingAllocatesNothing(t *testing.T) {
	step, written := forwarding(3)
	require.Zero(t, testing.AllocsPerRun(1000, step))
	require.Positive(t, written())
	require.Zero(t, written()%3)
}

func BenchmarkForwarding(b *testing.B) {
	step, _ := forwarding(10)
	b.ReportAllocs()
	for b.Loop() {
		step()
	}
}
