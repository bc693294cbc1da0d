package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOnsets measures a delay that is known, through both codecs, and finds the onset that never came.
func TestOnsets(t *testing.T) {
	const way, packets, lost = 7 * time.Millisecond, 200, 3*onsetEvery + onsetQuiet
	says, err := onsetSounds()
	require.NoError(t, err)
	browser, err := newBrowserDecoder()
	require.NoError(t, err)
	for name, one := range map[string]struct {
		payloads [][]byte
		decode   decoder
		codec    time.Duration // what libopus looks ahead
	}{
		"to phones":   {says.phone, decodePhone, 0},
		"to browsers": {says.browser, browser, 6500 * time.Microsecond},
	} {
		f := newFlow(frameSamples, 0, packets, maxPayload)
		for i := range packets {
			at := time.Second + time.Duration(i)*packetTime
			f.next(at, false)
			if i < lost || i >= lost+onsetEvery-onsetQuiet {
				f.arrived(at+way, 1, uint32(i), uint16(i), one.payloads[i%len(one.payloads)])
			}
		}
		late, missed := f.onsets(one.decode, 0, time.Hour)
		require.Equal(t, 1, missed, name)
		require.Len(t, late, packets/onsetEvery-1, name)
		for _, d := range late {
			require.InDelta(t, ms(way+one.codec), ms(d), 0.8, name)
		}
	}
}
