package dsp

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkPlayout is the cost of one frame of 20 ms, put and taken.
func BenchmarkPlayout(b *testing.B) {
	for _, rate := range []int{8000, 16000} {
		for _, way := range []string{"in time", "every tenth lost", "every second lost", "shorter and longer"} {
			b.Run(fmt.Sprintf("%d/%s", rate, way), func(b *testing.B) {
				n := rate / 50
				pcm := speech(b, rate)
				frames := len(pcm) / n
				p := NewPlayout(rate)
				out := make([]int16, n)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					now := time.Duration(i) * 20 * time.Millisecond
					at := now
					lost := false
					switch way {
					case "every tenth lost":
						lost = i%10 == 9
					case "every second lost":
						lost = i%2 == 1
					case "shorter and longer": // the path is slower by 60 ms for every other 10 s
						if i/500%2 == 1 {
							at += 60 * time.Millisecond
						}
					}
					if !lost {
						from := i % frames * n
						p.Put(int64(i*n), pcm[from:from+n], false, at)
					}
					p.Take(out, now)
				}
			})
		}
	}
}

// BenchmarkConceal is the cost of one loss of 20 ms, with the search for the pitch and the way back.
func BenchmarkConceal(b *testing.B) {
	for _, rate := range []int{8000, 16000} {
		for name, pcm := range map[string][]int16{"voice": vowel(rate, rate, 120), "hiss": fizz(rate, 3000)} {
			b.Run(fmt.Sprintf("%d/%s", rate, name), func(b *testing.B) {
				c := NewConcealer(rate)
				n := rate / 50
				c.Good(pcm[:10*n])
				good, made := make([]int16, n), make([]int16, n)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					copy(good, pcm[i%50*n:])
					c.Good(good)
					c.Lost(made)
				}
			})
		}
	}
}

// BenchmarkStretch is the cost of taking one period out of 40 ms and putting it in again.
func BenchmarkStretch(b *testing.B) {
	for _, rate := range []int{8000, 16000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			s := NewStretcher(rate)
			pcm := vowel(rate, rate, 120)
			buf := make([]int16, rate/25, rate/10)
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, pcm)
				k := s.Shorten(buf, rate, false)
				s.Lengthen(buf[:len(buf)-k], rate, false)
			}
		})
	}
}
