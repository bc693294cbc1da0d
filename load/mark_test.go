package load

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hraban/opus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMarksAreDistinctAndChangeWholly(t *testing.T) {
	for i := range markCycle {
		assert.Equal(t, i, number(digits(i)))
		now, next := digits(i), digits((i+1)%markCycle)
		for g := range markGroups {
			assert.NotEqual(t, now[g], next[g], "group %d of %d", g, i)
		}
	}
}

// Through every codec on the way, at the rates that a gateway may choose, each mark is its own and nobody else's.
func TestMarksSurviveTheCodecs(t *testing.T) {
	m := newMarks()
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func() float64 { return 0.01 * rng.NormFloat64() }
	for _, tc := range []struct {
		rate, bitrate, complexity int
		noise                     func() float64
	}{
		{8000, 20000, 5, nil},
		{8000, 24000, 1, nil},
		{8000, 24000, 5, nil},
		{8000, 32000, 10, nil},
		{48000, 24000, 5, noise},
		{48000, 32000, 10, noise},
	} {
		t.Run(fmt.Sprintf("%d Hz %d bit/s", tc.rate, tc.bitrate), func(t *testing.T) {
			enc, err := opus.NewEncoder(tc.rate, 1, opus.AppVoIP)
			require.NoError(t, err)
			require.NoError(t, enc.SetBitrate(tc.bitrate))
			require.NoError(t, enc.SetComplexity(tc.complexity))
			dec, err := opus.NewDecoder(phoneRate, 1)
			require.NoError(t, err)
			pcm := make([]int16, tc.rate/50)
			packet := make([]byte, 1500)
			var out [frameSamples]int16
			const n = 4 * markCycle
			known, read, wrong := 0, 0, 0
			for i := range n {
				writeMark(pcm, i, tc.rate, tc.noise)
				size, err := enc.Encode(pcm, packet)
				require.NoError(t, err)
				got, err := dec.Decode(packet[:size], out[:])
				require.NoError(t, err)
				require.Equal(t, frameSamples, got)
				h := m.listen(&out)
				if h.score(i) >= phoneScore {
					known++
				}
				if mark, ok := h.read(); ok {
					if mark == i%markCycle {
						read++
					} else {
						wrong++
					}
				}
				assert.False(t, i > 0 && h.score(i-1) >= browserScore, "%d taken for the one before", i)
			}
			t.Logf("known %d read %d wrong %d of %d", known, read, wrong, n)
			assert.GreaterOrEqual(t, known, n-1, "but for the first")
			assert.Greater(t, read, n*9/10)
			assert.Zero(t, wrong)
		})
	}
}
