package dsp

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAPlayoutTakesLittleMemory while next to nothing waits.
func TestAPlayoutTakesLittleMemory(t *testing.T) { // what others allocate would count
	made := make([]*Playout, 50)
	pcm := make([]int16, 160)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range made {
		made[i] = NewPlayout(rate8)
		for n := range 50 {
			at := time.Duration(n) * 20 * time.Millisecond
			made[i].Put(int64(n*160), pcm, false, at)
			made[i].Take(pcm, at)
		}
	}
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/uint64(len(made)), uint64(12<<10))
}

// TestPlayoutGrows: what waits stays what it was when there is more of it than ever, and nothing is allocated for as much again.
func TestPlayoutGrows(t *testing.T) {
	const most = playoutCapacity * rate8 / 1000
	p := NewPlayout(rate8)
	sound := make([]int16, most)
	for i := range sound {
		sound[i] = int16(1000 + i)
	}
	for i := 0; i < most; i += 160 {
		p.Put(int64(i), sound[i:i+160], false, 0)
	}
	heard := make([]int16, most)
	require.Equal(t, most, p.Rest(heard))
	require.Equal(t, sound[100:], heard[100:], "but for the beginning, which is faded in")
	from := most
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for i := 0; i < most; i += 160 {
			p.Put(int64(from+i), sound[i:i+160], false, 0)
		}
		from += most
		p.Rest(heard)
	}))
}
