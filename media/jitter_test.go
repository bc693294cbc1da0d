package media

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// ramp is n samples whose values tell their position; never 0.
func ramp(pos int64, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16((pos+int64(i))%30000) + 1
	}
	return out
}

// network drives a Jitter: one frame of 20 ms is sent and one taken in each step of 20 ms; delay says how many ms a
// frame takes on its way. It returns what was heard.
func network(j *Jitter, steps int, first int64, delay func(i int) int) []int16 {
	type onTheWay struct {
		at  int // ms
		pos int64
	}
	var way []onTheWay
	var heard []int16
	frame := make([]int16, 160)
	for i := range steps {
		way = append(way, onTheWay{20*i + delay(i), first + int64(i)*160})
		slices.SortStableFunc(way, func(a, b onTheWay) int { return a.at - b.at })
		for len(way) > 0 && way[0].at <= 20*i {
			j.Put(way[0].pos, ramp(way[0].pos, 160))
			way = way[1:]
		}
		j.Take(frame)
		heard = append(heard, frame...)
	}
	return heard
}

// holes counts silent samples after the first sound.
func holes(pcm []int16) int {
	n := 0
	begun := false
	for _, s := range pcm {
		begun = begun || s != 0
		if begun && s == 0 {
			n++
		}
	}
	return n
}

func TestJitterPlaysAGoodNetworkWhole(t *testing.T) {
	var j Jitter
	heard := network(&j, 500, 1<<40, func(int) int { return 0 })
	require.Zero(t, holes(heard))
	require.Zero(t, j.Late)
	require.Zero(t, j.Overflow)
	require.LessOrEqual(t, j.Depth(), 320)
	begin := slices.IndexFunc(heard, func(s int16) bool { return s != 0 })
	require.Equal(t, ramp(1<<40, 160), heard[begin:begin+160])
}

func TestJitterPutsFramesInOrder(t *testing.T) {
	var j Jitter
	for _, i := range []int64{0, 2, 1, 4, 3} {
		j.Put(i*160, ramp(i*160, 160))
	}
	out := make([]int16, jitterStart+800)
	j.Take(out)
	require.Equal(t, ramp(0, 800), out[jitterStart:])
}

func TestJitterOwnsItsSamples(t *testing.T) {
	var j Jitter
	pcm := ramp(0, 160)
	j.Put(0, pcm)
	clear(pcm)
	out := make([]int16, jitterStart+160)
	j.Take(out)
	require.Equal(t, ramp(0, 160), out[jitterStart:])
}

// After a spell of bad network the delay falls back.
func TestJitterRecovers(t *testing.T) {
	var j Jitter
	rnd := rand.New(rand.NewPCG(1, 1))
	network(&j, 100, 0, func(int) int { return 0 })
	good := j.Depth()
	network(&j, 500, 100*160, func(int) int { return rnd.IntN(180) })
	bad := j.Depth()
	require.Greater(t, bad, 2*good)
	require.LessOrEqual(t, bad, jitterSize)
	// The bad spell ended with frames on the way; as many are new to the network below.
	heard := network(&j, 1500, 600*160, func(int) int { return 0 })
	require.LessOrEqual(t, j.Depth(), good)
	require.Zero(t, holes(heard[1000*160:]))
}

// On a network whose jitter stays, the delay grows until nearly everything is heard.
func TestJitterGrows(t *testing.T) {
	var j Jitter
	rnd := rand.New(rand.NewPCG(2, 1))
	heard := network(&j, 3000, 0, func(int) int { return rnd.IntN(100) })
	lost := holes(heard[500*160:])
	require.Less(t, lost, 2500*160*6/100, "of %d samples", 2500*160)
	require.Less(t, j.Depth(), 2000)
}

func TestJitterBoundsABurst(t *testing.T) {
	var j Jitter
	for i := range int64(100) { // two seconds at once
		j.Put(i*160, ramp(i*160, 160))
	}
	require.LessOrEqual(t, j.Depth(), jitterSize)
	require.NotZero(t, j.Overflow)
}

// A source that stands still without its clock going on is heard again at once.
func TestJitterFollowsASlowerPath(t *testing.T) {
	var j Jitter
	network(&j, 100, 0, func(int) int { return 0 })
	frame := make([]int16, 160)
	for range 50 { // one second of nothing
		require.False(t, j.Take(frame) && j.Depth() > 0)
	}
	heard := network(&j, 100, 100*160, func(int) int { return 0 })
	require.Less(t, holes(heard), 20*160)
	require.Greater(t, j.Depth(), 0)
}

func TestJitterRefusesNonsense(t *testing.T) {
	var j Jitter
	j.Put(0, nil)
	j.Put(0, make([]int16, jitterFrame+1))
	require.False(t, j.Take(make([]int16, 160)))
	j.Put(-1<<60, ramp(0, 960))
	j.Put(1<<60, ramp(0, 960))
	j.Put(0, ramp(0, 960))
	j.Reset()
	require.False(t, j.Take(make([]int16, 160)))
}

func TestJitterAllocatesNothing(t *testing.T) {
	var j Jitter
	pcm, out := ramp(0, 160), make([]int16, 160)
	pos := int64(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		j.Put(pos, pcm)
		j.Take(out)
		pos += 160
	}))
}
