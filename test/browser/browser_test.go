package browser_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tandem/test/audio"
	"tandem/test/browser"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestHarness checks the measuring itself: a microphone of 1 kHz, through a pair of peer connections in the page.
func TestHarness(t *testing.T) {
	page := browser.Start(t, browser.WriteTone(t, 1000, -12)).Page(t)
	samples, err := page.Loopback(3 * time.Second)
	require.NoError(t, err)
	heard := samples[browser.Rate:] // the first second fills the jitter buffer
	assert.InDelta(t, 1000, audio.Frequency(heard, browser.Rate), 5)
	assert.GreaterOrEqual(t, audio.MedianSNR(heard, browser.Rate, 1000), 20.0)
	assert.InDelta(t, -12, audio.Level(heard), 3)
	assert.Less(t, audio.MedianSNR(heard, browser.Rate, 700), 0.0)
	t.Logf("%.1f Hz, SNR %.1f dB, %.1f dBFS", audio.Frequency(heard, browser.Rate),
		audio.MedianSNR(heard, browser.Rate, 1000), audio.Level(heard))

	// What goes wrong in the page is an error with its words.
	require.ErrorContains(t, page.Disconnect(), "Cannot read properties")
	_, err = page.Record("nobody", time.Second)
	require.ErrorContains(t, err, "no stream nobody")
}
