package transcode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

// TestEncodersFollowTheLoad: cheaper at once, better again only when the load has been low for a while.
func TestEncodersFollowTheLoad(t *testing.T) {
	var p pressure
	require.Zero(t, p.second(0.5))
	require.Equal(t, 1, p.second(0.9))
	require.Equal(t, 2, p.second(0.9))
	require.Equal(t, 3, p.second(0.9))
	require.Equal(t, 3, p.second(1.0), "there is nothing cheaper")
	for range easyFor - 1 {
		require.Equal(t, 3, p.second(0.3))
	}
	require.Equal(t, 3, p.second(0.7), "not low")
	for range easyFor - 1 {
		require.Equal(t, 3, p.second(0.3))
	}
	for want := 2; want >= 0; want-- {
		require.Equal(t, want, p.second(0.3))
		for range easyFor - 1 {
			require.Equal(t, want, p.second(0.3))
		}
	}
	require.Equal(t, []int{5, 3, 1, 0}, []int{complexityAt(5, 0), complexityAt(5, 1), complexityAt(5, 2), complexityAt(5, 3)})
	require.Equal(t, 1, complexityAt(1, 1), "never dearer than configured")
}

// TestEncoderIsTuned: within a second of sound an encoder has the complexity that the load leaves, and FEC for the loss that
// listeners report.
func TestEncoderIsTuned(t *testing.T) {
	c := newClock()
	e := testEngine(c, Config{OpusComplexity: 5})
	b, _ := testBridge(t, e, c, pcmu, nil)
	b.Source().Audio().Add(&opusEar{})
	voice := newPhoneVoice(media.PCMU)
	second := func() (complexity, loss int) {
		for range tuneEvery {
			b.up.ReceiveRTP(voice.make(make([]int16, frameSamples)), c.now())
			c.add(frameTime)
		}
		complexity, err := b.up.opus.Complexity()
		require.NoError(t, err)
		loss, err = b.up.opus.PacketLossPerc()
		require.NoError(t, err)
		return complexity, loss
	}
	complexity, loss := second()
	require.Equal(t, []int{5, 0}, []int{complexity, loss})
	e.pressure.Store(2)
	b.Source().Audio().ReportLoss(0.12)
	complexity, loss = second()
	require.Equal(t, []int{1, 12}, []int{complexity, loss})
	e.pressure.Store(0)
	b.Source().Audio().ReportLoss(0.9)
	complexity, loss = second()
	require.Equal(t, []int{5, mostLoss}, []int{complexity, loss})
	for range 60 {
		b.Source().Audio().ReportLoss(0)
	}
	_, loss = second()
	require.Zero(t, loss, "it is forgotten")
}
