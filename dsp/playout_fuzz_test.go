package dsp

import (
	"encoding/binary"
	"testing"
	"time"
)

// FuzzPlayout reads what it does from the input, 12 bytes a step: puts at any position, of any length, at any time, and
// everything else a Playout can do. It takes 50 steps at most, so that many inputs are tried. Nothing grows beyond its
// bound, and every sample that was taken out is one that came or was made.
func FuzzPlayout(f *testing.F) {
	step := func(op byte, pos int16, n uint16, ms int16) []byte {
		b := make([]byte, 12)
		b[0] = op
		binary.LittleEndian.PutUint16(b[2:], uint16(pos))
		binary.LittleEndian.PutUint16(b[4:], n)
		binary.LittleEndian.PutUint16(b[6:], uint16(ms))
		return b
	}
	var good, mad []byte
	for i := range 50 {
		good = append(good, step(0, int16(i*160), 160, int16(20*i))...)
		good = append(good, step(3, 0, 160, int16(20*i))...)
		mad = append(mad, step(byte(i), int16(i*997), uint16(i*131), int16(i*-3001))...)
	}
	f.Add(good, uint8(0))
	f.Add(mad, uint8(1))
	sound := vowel(16000, 4096, 120)
	f.Fuzz(func(t *testing.T, script []byte, kind uint8) {
		rate := []int{8000, 16000, 48000}[kind%3]
		p := NewPlayout(rate)
		buf := make([]int16, 4096)
		for step := 0; step < 50 && len(script) >= 12; step++ {
			op, scale := script[0], script[1]
			pos := int64(int16(binary.LittleEndian.Uint16(script[2:])))
			n := int(binary.LittleEndian.Uint16(script[4:])) % len(buf)
			at := time.Duration(int16(binary.LittleEndian.Uint16(script[6:]))) * time.Millisecond
			if scale > 250 { // far away
				pos, at = pos<<48, at<<30
			}
			script = script[12:]
			switch op % 13 {
			case 0, 1:
				p.Put(pos, sound[:n], op&16 != 0, at)
			case 2, 3, 4, 5, 6:
				heard := p.Take(buf[:n], at)
				for _, v := range buf[:n] {
					if v != 0 && !heard {
						t.Fatal("sound that is not told")
					}
				}
			case 7:
				p.Begin(pos, sound[:n])
			case 8:
				p.Drain(op&16 != 0)
			case 9:
				if k := p.Rest(buf[:n]); k > n {
					t.Fatalf("%d samples in the room of %d", k, n)
				}
			case 10:
				p.Reset()
			case 12: // another one goes on
				next := NewPlayout(rate)
				next.Put(0, sound[:n%rate/50], false, 0)
				next.Continue(p)
				p = next
			case 11:
				for i := range 20 { // in time, so that the deeper ways are gone
					p.Put(pos+int64(i*rate/50), sound[:rate/50], i%5 == 4, at+time.Duration(i)*20*time.Millisecond)
					p.Take(buf[:rate/50], at+time.Duration(i)*20*time.Millisecond)
				}
			}
			if most := rate / 2; p.Delay() > most || p.Delay() < 0 {
				t.Fatalf("%d samples wait, at most %d may", p.Delay(), most)
			}
			if target := p.Target(); target < 0 || target > rate/5 {
				t.Fatalf("a target of %d", target)
			}
			if p.Concealed > 1<<40 || p.Inserted > 1<<40 || p.Removed > 1<<40 || p.Overflow > 1<<40 || p.Late > 1<<40 {
				t.Fatal("a counter went below 0")
			}
		}
	})
}

// FuzzConcealer plays and loses pieces of any length of any sound.
func FuzzConcealer(f *testing.F) {
	f.Add([]byte{200, 1, 160, 0, 3, 255, 90, 90, 1, 40}, int16(300))
	f.Fuzz(func(t *testing.T, script []byte, amplitude int16) {
		c := NewConcealer(8000)
		s := NewStretcher(8000)
		buf := make([]int16, 512)
		for i, b := range script {
			pcm := buf[:int(b)]
			switch i % 5 {
			case 0, 2:
				for j := range pcm {
					pcm[j] = amplitude * int16(script[(i+j)%len(script)])
				}
				c.Good(pcm)
			case 1:
				if !c.Lost(pcm) && !isQuiet(pcm) {
					t.Fatal("sound that is not told")
				}
			case 3:
				if n := s.Shorten(pcm, int(b)/2, b&1 != 0); n < 0 || n > len(pcm) {
					t.Fatalf("%d of %d samples taken", n, len(pcm))
				}
				if n := s.Lengthen(pcm, int(b), b&1 != 0); n < 0 || n > cap(pcm)-len(pcm) {
					t.Fatalf("%d samples into the room of %d", n, cap(pcm)-len(pcm))
				}
			case 4:
				c.Stop()
			}
		}
	})
}
