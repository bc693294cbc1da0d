package media

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// event is one telephone-event packet as a test writes it.
type event struct {
	ts   uint32
	code byte
	end  bool
	dur  uint16
	at   int // ms
}

func (e event) payload() []byte {
	b := []byte{e.code, 10, 0, 0}
	if e.end {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], e.dur)
	return b
}

// tell writes keys as "5v 5^160".
func tell(keys []Key) string {
	s := ""
	for _, k := range keys {
		if s != "" {
			s += " "
		}
		if k.Ended {
			s += fmt.Sprintf("%c^%d", k.Digit, k.Duration.Milliseconds())
		} else {
			s += fmt.Sprintf("%cv", k.Digit)
		}
	}
	return s
}

func TestKeyReader(t *testing.T) {
	cases := []struct {
		name   string
		events []event
		want   string
	}{
		{"a key", []event{{1000, 5, false, 160, 0}, {1000, 5, false, 320, 20}, {1000, 5, true, 480, 40}, {1000, 5, true, 480, 60}, {1000, 5, true, 480, 80}}, "5v 5^60"},
		{"start lost", []event{{1000, 5, false, 800, 0}, {1000, 5, true, 960, 20}}, "5v 5^120"},
		{"only an end", []event{{1000, 11, true, 800, 0}, {1000, 11, true, 800, 20}}, "#v #^100"},
		{"only a start", []event{{1000, 10, false, 160, 0}}, "*v *^20"},
		{"end lost, next key", []event{{1000, 1, false, 400, 0}, {3000, 2, false, 160, 90}, {3000, 2, true, 800, 120}}, "1v 1^50 2v 2^100"},
		{"same key twice", []event{{1000, 1, true, 800, 0}, {2600, 1, true, 800, 200}}, "1v 1^100 1v 1^100"},
		{"same key twice, first end lost", []event{{1000, 1, false, 800, 0}, {2600, 1, true, 800, 200}}, "1v 1^100 1v 1^100"},
		{"reordered", []event{{1000, 3, false, 320, 0}, {1000, 3, true, 480, 20}, {1000, 3, false, 160, 21}, {1000, 3, true, 480, 40}}, "3v 3^60"},
		{"old key's packet after the next began", []event{{1000, 3, true, 480, 0}, {3000, 4, false, 160, 60}, {1000, 3, true, 480, 61}, {3000, 4, true, 320, 80}}, "3v 3^60 4v 4^40"},
		{"flash and other codes", []event{{1000, 16, true, 480, 0}, {2000, 255, false, 480, 0}, {3000, 15, true, 80, 0}}, "Dv D^10"},
		{"long key in two segments", []event{{1000, 7, false, 160, 0}, {1000, 7, false, 65535, 240}, {66535, 7, false, 160, 260}, {66535, 7, true, 8000, 400}}, "7v 7^9191"},
		{"timestamp wraps", []event{{0xffffff00, 7, true, 160, 0}, {0x500, 8, true, 160, 200}}, "7v 7^20 8v 8^20"},
		{"the clock began anew", []event{{3000000, 7, true, 160, 0}, {1000, 8, true, 160, 200}}, "7v 7^20 8v 8^20"},
		{"timed out, then its late end", []event{{1000, 9, false, 160, 0}, {1000, 9, true, 4000, 600}}, "9v 9^20"},
		{"updates keep it down", []event{{1000, 9, false, 160, 0}, {1000, 9, false, 2000, 240}, {1000, 9, true, 4000, 480}}, "9v 9^500"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var r KeyReader
			var keys []Key
			begin := time.Unix(1000, 0)
			now := begin
			for _, e := range c.events {
				for to := begin.Add(time.Duration(e.at) * time.Millisecond); now.Before(to); now = now.Add(time.Millisecond) {
					keys = r.Expire(keys, now)
				}
				keys = r.Packet(keys, e.ts, e.payload(), now)
			}
			keys = r.Expire(keys, now.Add(time.Second))
			require.Equal(t, c.want, tell(keys))
			require.Empty(t, r.Expire(nil, now.Add(time.Hour)))
		})
	}
}

// A key is as long as its clock says, however fast that runs.
func TestKeyReaderClocks(t *testing.T) {
	for _, rate := range []uint32{0, 8000, 16000, 44100, 48000} {
		r := KeyReader{Rate: rate}
		hz := max(rate, 8000)
		if rate == 0 {
			hz = 8000
		}
		step, now := hz/50, time.Unix(1000, 0)
		var keys []Key
		for n := range uint32(10) {
			keys = r.Packet(keys, 7000, event{code: 6, dur: uint16(step * (n + 1)), end: n == 9}.payload(), now)
			now = now.Add(20 * time.Millisecond)
		}
		keys = r.Packet(keys, 7000-hz, event{code: 3, dur: uint16(step), end: true}.payload(), now) // a second late
		// 3 s: more than one segment of a fast clock.
		ts, whole := 7000+hz, 3*hz
		for whole > fullSegment {
			keys = r.Packet(keys, ts, event{code: 2, dur: fullSegment}.payload(), now)
			ts, whole = ts+fullSegment, whole-fullSegment
		}
		keys = r.Packet(keys, ts, event{code: 2, dur: uint16(whole), end: true}.payload(), now)
		require.Equal(t, "6v 6^200 2v 2^3000", tell(keys), "%d Hz", rate)
	}
}

// Some senders let the timestamp go on during a key.
func TestKeyReaderMovingTimestamp(t *testing.T) {
	var r KeyReader
	var keys []Key
	now := time.Unix(1000, 0)
	for press := range uint32(2) {
		ts := 1000 + press*1600
		for n := range uint32(5) {
			keys = r.Packet(keys, ts+160*n, event{code: 4, dur: uint16(160 * (n + 1))}.payload(), now)
		}
		for n := range uint32(3) {
			keys = r.Packet(keys, ts+640+160*n, event{code: 4, dur: 800, end: true}.payload(), now)
		}
		now = now.Add(200 * time.Millisecond)
	}
	require.Equal(t, "4v 4^100 4v 4^100", tell(keys))
}

func TestKeyReaderReset(t *testing.T) {
	var r KeyReader
	keys := r.Packet(nil, 1000, event{code: 1, dur: 160}.payload(), time.Unix(0, 0))
	keys = r.Reset(keys)
	keys = r.Packet(keys, 999, event{code: 2, dur: 160, end: true}.payload(), time.Unix(0, 0))
	require.Equal(t, "1v 1^20 2v 2^20", tell(keys))
}

// Whatever a sender's packets suffer on the way, each key of which one packet arrives is told once down, once up.
func TestKeysSurviveLoss(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var w KeyWriter
		var r KeyReader
		var keys []Key
		want := ""
		now, clock := time.Unix(1000, 0), rnd.Uint32()
		for _, digit := range []byte("4711*#AD0011") {
			require.True(t, w.Press(digit))
			arrived, ts, hold := false, uint32(0), rnd.IntN(20)
			for step := 0; w.Active(); step++ {
				if step == hold {
					w.Release()
				}
				p, ok := w.Step()
				require.True(t, ok)
				if p.First {
					ts = clock
				}
				if rnd.IntN(2) == 0 {
					arrived = true
					keys = r.Packet(keys, ts, p.Payload, now)
				}
				keys = r.Expire(keys, now)
				clock += 160
				now = now.Add(20 * time.Millisecond)
			}
			if arrived {
				want += string(digit)
			}
		}
		keys = r.Expire(keys, now.Add(time.Second))
		got, down := "", byte(0)
		for _, k := range keys {
			if !k.Ended {
				require.Zero(t, down, "a key went down while another was")
				down = k.Digit
				got += string(k.Digit)
				continue
			}
			require.Equal(t, down, k.Digit)
			down = 0
		}
		require.Zero(t, down)
		require.Equal(t, want, got, "seed %d", seed)
	}
}

func TestKeyWriter(t *testing.T) {
	var w KeyWriter
	require.False(t, w.Press('x'))
	_, ok := w.Step()
	require.False(t, ok)
	require.True(t, w.Press('#'))
	require.False(t, w.Press('1'), "one at a time")

	// Released at once, a key is still 80 ms long, and its end is told three times.
	w.Release()
	var durations []uint16
	var ends int
	for w.Active() {
		p, ok := w.Step()
		require.True(t, ok)
		require.Equal(t, byte(11), p.Payload[0])
		require.Equal(t, len(durations) == 0, p.First)
		durations = append(durations, binary.BigEndian.Uint16(p.Payload[2:]))
		if p.Payload[1]&0x80 != 0 {
			ends++
		}
	}
	require.Equal(t, []uint16{160, 320, 480, 640, 640, 640}, durations)
	require.Equal(t, 3, ends)

	// Never released, it ends by itself.
	require.True(t, w.Press('1'))
	steps := 0
	for w.Active() {
		_, ok := w.Step()
		require.True(t, ok)
		steps++
	}
	require.Equal(t, maxKeySteps+keyEnds-1, steps)
}

// A key that lasts longer than a duration can tell is told in segments (RFC 4733 §2.5.1.3): each but the last is told
// whole three times, without the end bit; the next begins where it ended, without the marker. It is one key, of its whole
// length, on every clock, also where packets are lost.
func TestKeyWriterSegments(t *testing.T) {
	for _, rate := range []uint32{0, 8000, 16000, 48000} {
		hz := rate
		if rate == 0 {
			hz = 8000
		}
		// Longer than three segments, and over while the end of one is told.
		over := int((fullSegment*2+hz/25)/(hz/50)) + 1
		for _, steps := range []int{int(fullSegment / (hz / 50)), int(3*fullSegment/(hz/50)) + 40, over, maxKeySteps} {
			if steps > maxKeySteps {
				continue // 8 kHz: past the longest key
			}
			var w KeyWriter
			w.Rate = rate
			whole, gappy := KeyReader{Rate: rate}, KeyReader{Rate: rate}
			var all, some []Key
			var past, held uint32
			fulls, n, now := 0, 0, time.Unix(1, 0)
			require.True(t, w.Hold('9', steps))
			for w.Active() {
				p, ok := w.Step()
				require.True(t, ok)
				require.Equal(t, n == 0, p.First, "the marker is that of the key")
				dur, end := uint32(binary.BigEndian.Uint16(p.Payload[2:])), p.Payload[1]&0x80 != 0
				if p.Past != past {
					require.Equal(t, past+fullSegment, p.Past)
					require.EqualValues(t, fullSegment, held, "a segment ends whole")
					require.True(t, fulls == keyEnds || end)
					past, fulls, held = p.Past, 0, 0
				}
				require.GreaterOrEqual(t, dur, held)
				if held = dur; dur == fullSegment && !end {
					fulls++
				}
				all = whole.Packet(all, 0xfffff000+p.Past, p.Payload, now)
				if n%7 != 3 && dur != fullSegment { // no end of a segment arrives
					some = gappy.Packet(some, 0xfffff000+p.Past, p.Payload, now)
				}
				now = now.Add(20 * time.Millisecond)
				n++
			}
			want := fmt.Sprintf("9v 9^%d", steps*20)
			require.Equal(t, want, tell(all), "%d Hz, %d steps", hz, steps)
			require.Equal(t, want, tell(some), "%d Hz, %d steps, with loss", hz, steps)
			require.Equal(t, uint32(steps)*(hz/50), past+held)
		}
	}
}

// What comes late of a long key that was given up is no other key, whole segments later.
func TestKeyReaderGivenUpInSegments(t *testing.T) {
	for _, rate := range []uint32{16000, 48000} {
		r, now := KeyReader{Rate: rate}, time.Unix(1000, 0)
		keys := r.Packet(nil, 5, event{code: 5, dur: 4000}.payload(), now)
		keys = r.Expire(keys, now.Add(keyTimeout))
		keys = r.Packet(keys, 5+2*fullSegment, event{code: 5, dur: 320}.payload(), now.Add(3*time.Second))
		keys = r.Packet(keys, 5+3*fullSegment, event{code: 5, dur: 640, end: true}.payload(), now.Add(5*time.Second))
		keys = r.Packet(keys, 5+4*fullSegment, event{code: 5, dur: 640, end: true}.payload(), now.Add(7*time.Second))
		held := time.Duration(4000) * time.Second / time.Duration(rate)
		next := 640 * time.Second / time.Duration(rate)
		require.Equal(t, fmt.Sprintf("5v 5^%d 5v 5^%d", held.Milliseconds(), next.Milliseconds()), tell(keys), "the end ends it")
	}
}

// A key of a chosen length is that long on every clock, and its end is not a second beginning.
func TestKeyWriterHold(t *testing.T) {
	for _, rate := range []uint32{0, 8000, 16000, 48000} {
		for _, steps := range []int{1, 2, 10} {
			w, r := KeyWriter{Rate: rate}, KeyReader{Rate: rate}
			var keys []Key
			require.True(t, w.Hold('9', steps))
			firsts, ends := 0, 0
			for w.Active() {
				p, ok := w.Step()
				require.True(t, ok)
				if p.First {
					firsts++
				}
				if p.End {
					ends++
				}
				keys = r.Packet(keys, 77, p.Payload, time.Unix(1, 0))
			}
			require.Equal(t, 1, firsts)
			require.Equal(t, keyEnds-1, ends)
			require.Equal(t, fmt.Sprintf("9v 9^%d", steps*20), tell(keys), "%d Hz", rate)
		}
	}
}

func FuzzKeyReader(f *testing.F) {
	f.Add([]byte{5, 10, 0, 160, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r KeyReader
		var keys []Key
		now := time.Unix(0, 0)
		for len(b) >= 8 {
			keys = r.Packet(keys, binary.BigEndian.Uint32(b[4:]), b[:4], now)
			b = b[8:]
			now = now.Add(50 * time.Millisecond)
			keys = r.Expire(keys, now)
		}
		keys = r.Packet(keys, 0, b, now)
		keys = r.Reset(keys)
		down := false
		for _, k := range keys {
			if k.Ended != down {
				t.Fatalf("keys do not alternate: %v", keys)
			}
			down = !k.Ended
		}
		if down {
			t.Fatal("a key stayed down")
		}
	})
}
