package media

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/stretchr/testify/require"
)

// TestBursts tells losses that come alone from losses that come together.
func TestBursts(t *testing.T) {
	var alone bursts
	for i := range 1000 {
		if i%50 == 49 {
			continue
		}
		lost := uint64(0)
		if i%50 == 0 && i > 0 {
			lost = 1
		}
		alone.packet(lost)
	}
	require.Zero(t, alone.burstCount)
	require.EqualValues(t, 19, alone.lost)
	require.InDelta(t, 1, alone.ratio(), 0.01)

	var together bursts
	for range 10 {
		for range 3 {
			together.packet(2) // 2 of 3, for 9 packets
		}
		for range 91 {
			together.packet(0)
		}
	}
	require.EqualValues(t, 10, together.burstCount)
	require.EqualValues(t, 60, together.burstLost)
	require.Greater(t, together.ratio(), 1.8)

	var random bursts
	rnd := rand.New(rand.NewPCG(1, 2))
	lost := uint64(0)
	for range 100_000 {
		if rnd.Float64() < 0.1 {
			lost++
			continue
		}
		random.packet(lost)
		lost = 0
	}
	require.InDelta(t, 1, random.ratio(), 0.03, "random losses are no bursts")
}

// TestQualityOfAPort counts over a change of the SSRC, and tells the far end in RTCP XR what it sent and we missed.
func TestQualityOfAPort(t *testing.T) {
	p := &Port{}
	p.media = PortMedia{Metrics: true, EventType: -1}
	p.agreed = true
	at := time.Unix(1000, 0)
	for ssrc := range uint32(2) {
		for i := range 100 {
			if i%10 == 5 {
				continue
			}
			p.quality.packet(ssrc, uint16(i), uint32(i*160), at)
			at = at.Add(20 * time.Millisecond)
		}
	}
	q := p.Quality()
	require.EqualValues(t, 180, q.In.Packets)
	require.InDelta(t, 0.1, q.In.Lost, 0.001)
	q.In.MOS, q.In.Delay = 3.4, 40*time.Millisecond
	p.SetMOS(q, 66)
	report := p.metrics()
	report.SenderSSRC = 9
	wire, err := rtcp.Marshal([]rtcp.Packet{report})
	require.NoError(t, err)
	back, err := rtcp.Unmarshal(wire)
	require.NoError(t, err)
	block, ok := back[0].(*rtcp.ExtendedReport).Reports[0].(*rtcp.VoIPMetricsReportBlock)
	require.True(t, ok)
	require.EqualValues(t, 1, block.SSRC)
	require.EqualValues(t, 25, block.LossRate)
	require.EqualValues(t, 66, block.RFactor)
	require.EqualValues(t, 34, block.MOSCQ)
	require.EqualValues(t, 60, block.EndSystemDelay)
	p.media.Metrics = false
	require.Nil(t, p.metrics(), "it goes to nobody who did not ask")
}
