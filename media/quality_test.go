package media

import (
	"math/rand/v2"
	"net/netip"
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
			p.quality.Packet(ssrc, uint16(i), uint32(i*160), at)
			at = at.Add(20 * time.Millisecond)
		}
	}
	q := p.Quality()
	require.EqualValues(t, 180, q.In.Packets)
	require.InDelta(t, 0.1, q.In.Lost, 0.001)
	block := heardAs(t, p)
	require.EqualValues(t, []uint8{127, 127, 127}, []uint8{block.RFactor, block.MOSLQ, block.MOSCQ}, "not known yet (RFC 3611 §4.7.5)")
	p.SetScores(Scores{Rating: 66.4, Listening: 3.57, Conversed: 3.39})
	block = heardAs(t, p)
	require.EqualValues(t, 1, block.SSRC)
	require.EqualValues(t, 25, block.LossRate)
	require.EqualValues(t, []uint8{66, 36, 34}, []uint8{block.RFactor, block.MOSLQ, block.MOSCQ})
	require.Zero(t, block.EndSystemDelay, "browsers play it out: we do not know when")
	require.Zero(t, block.RXConfig, "nor what they do about losses")
	require.Zero(t, block.JBNominal+block.JBMaximum+block.JBAbsMax)
	p.media.Metrics = false
	require.Nil(t, p.metrics(), "it goes to nobody who did not ask")
}

// heardAs is the block of VoIP metrics as the far end reads it.
func heardAs(t *testing.T, p *Port) *rtcp.VoIPMetricsReportBlock {
	t.Helper()
	report := p.metrics()
	report.SenderSSRC = 9
	wire, err := rtcp.Marshal([]rtcp.Packet{report})
	require.NoError(t, err)
	back, err := rtcp.Unmarshal(wire)
	require.NoError(t, err)
	block, ok := back[0].(*rtcp.ExtendedReport).Reports[0].(*rtcp.VoIPMetricsReportBlock)
	require.True(t, ok)
	return block
}

// TestQualityOverall tells the jitter and the round trip of the moment from those of the whole call, and what was lost on the
// way to the far end from what was lost before it came to us.
func TestQualityOverall(t *testing.T) {
	p := &Port{}
	p.agreed = true
	at := time.Unix(1000, 0)
	for i := range 400 {
		late := time.Duration(0)
		if i < 200 && i%2 == 1 {
			late = 40 * time.Millisecond // half of the call every other packet
		}
		p.quality.Packet(1, uint16(i), uint32(i*160), at.Add(late))
		at = at.Add(20 * time.Millisecond)
	}
	require.Less(t, p.Quality().In.Jitter, time.Millisecond, "it has ended")
	require.InDelta(t, 20, p.Overall().In.Jitter.Seconds()*1000, 0.5)

	p.sent.Store(2000) // of them 1000 since the report
	report := func(lost uint32, jitter time.Duration, ago time.Duration) {
		p.reports.blocks([]rtcp.ReceptionReport{{
			SSRC: 7, TotalLost: lost, Jitter: uint32(jitter / (time.Second / 8000)), LastSenderReport: uint32(NTP(at.Add(-ago)) >> 16),
		}}, sent{ssrc: 7, packets: 1000, left: 50}, at, 8000)
	}
	report(80, 10*time.Millisecond, 100*time.Millisecond)
	report(150, 30*time.Millisecond, 300*time.Millisecond)
	now, all := p.Quality(), p.Overall()
	require.InDelta(t, 0.1, now.Out.Lost, 1e-9, "150, of which 50 never came to us, of 1000")
	require.Equal(t, now.Out.Lost, all.Out.Lost)
	require.InDelta(t, 30, now.Out.Jitter.Seconds()*1000, 0.2)
	require.InDelta(t, 20, all.Out.Jitter.Seconds()*1000, 0.2)
	require.InDelta(t, 300, now.RoundTrip.Seconds()*1000, 1)
	require.InDelta(t, 200, all.RoundTrip.Seconds()*1000, 1)
}

// TestQualityAfter joins two ports of a leg.
func TestQualityAfter(t *testing.T) {
	past := Quality{
		In:        Way{Packets: 90, Lost: 0.1, Burst: 2, Jitter: 10 * time.Millisecond},
		Out:       Way{Packets: 100, Lost: 0.2, Jitter: 40 * time.Millisecond},
		RoundTrip: 100 * time.Millisecond,
	}
	now := Quality{
		In:        Way{Packets: 300, Burst: 1, Jitter: 2 * time.Millisecond},
		Out:       Way{Packets: 300, Jitter: 20 * time.Millisecond},
		RoundTrip: 20 * time.Millisecond,
	}
	require.Equal(t, Quality{
		In:        Way{Packets: 390, Lost: 0.025, Burst: 1.25, Jitter: 4 * time.Millisecond},
		Out:       Way{Packets: 400, Lost: 0.05, Jitter: 25 * time.Millisecond},
		RoundTrip: 40 * time.Millisecond,
	}, now.After(past))
	require.Equal(t, now, now.After(Quality{}))
	require.Equal(t, past, Quality{}.After(past))
	now.RoundTrip = 0
	require.Equal(t, past.RoundTrip, now.After(past).RoundTrip, "this phone has not told yet")
}

// TestPortSendsMetrics where the far end wants them: in the same packet as the report and the name.
func TestPortSendsMetrics(t *testing.T) {
	p := openPort(t)
	far := newEndpoint(t, p.Local())
	farRTCP := newEndpoint(t, netip.AddrPortFrom(loopback, p.Local().Port()+1))
	m := agreed(far.addr())
	m.RemoteRTCP, m.Metrics = farRTCP.addr(), true
	p.Update(m)
	got := make(inbox, 100)
	p.Start(got)
	for _, seq := range []uint16{1, 2, 4, 5} {
		far.send(8, 77, seq)
		got.next(t)
	}
	p.SetScores(Scores{Rating: 80, Listening: 4.1, Conversed: 4})
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		list, err := rtcp.Unmarshal(farRTCP.read())
		require.NoError(t, err)
		if len(list) != 3 {
			continue // before the first packet
		}
		require.IsType(t, &rtcp.ReceiverReport{}, list[0])
		require.IsType(t, &rtcp.SourceDescription{}, list[1])
		report, ok := list[2].(*rtcp.ExtendedReport)
		require.True(t, ok)
		require.Equal(t, p.out.ssrc, report.SenderSSRC)
		block, ok := report.Reports[0].(*rtcp.VoIPMetricsReportBlock)
		require.True(t, ok)
		if block.RFactor == 80 && block.LossRate == 51 { // all have come
			require.EqualValues(t, 77, block.SSRC)
			require.EqualValues(t, []uint8{41, 40}, []uint8{block.MOSLQ, block.MOSCQ})
			return
		}
	}
	t.Fatal("no metrics came")
}
