package media

import (
	"time"

	"github.com/pion/rtcp"
)

// Quality says how the sound of one leg travels.
type Quality struct {
	In, Out   Way
	RoundTrip time.Duration // to the far end and back, by its RTCP; 0: not known
}

// Way is one direction of a leg's sound: In is what comes from the far end, Out is what it gets. Of what it gets the far
// end's RTCP reports tell.
type Way struct {
	Packets   uint64        // received, or sent
	Lost      float64       // share of the packets that did not come, 0 to 1
	Burst     float64       // mean length of the losses, over what it would be were they random; 0: not known
	Jitter    time.Duration // RFC 3550 §6.4.1
	Delay     time.Duration // that the gateway's own play-out adds now
	Concealed float64       // share of the sound that was made up, 0 to 1
	MOS       float64       // mean opinion score of a conversation, 1 to 4.5 (ITU-T G.107); 0: nothing came
}

// Quality returns what the port knows: Delay, Concealed and MOS are for others to fill in. Safe from any goroutine.
func (p *Port) Quality() Quality {
	sent := p.sent.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	q := Quality{In: p.quality.way(), RoundTrip: p.reports.roundTrip}
	q.Out = Way{Packets: sent, Jitter: p.reports.jitter}
	if sent > 0 {
		q.Out.Lost = min(1, max(0, float64(p.reports.lost)/float64(sent)))
	}
	return q
}

// burstGap is Gmin: losses with fewer packets than this between them belong to one burst (RFC 3611 §4.7.2).
const burstGap = 16

// bursts keeps apart losses that come together and losses that come alone (RFC 3611 §4.7.2). It is pure.
type bursts struct {
	runs, lost         uint64 // runs of packets that are missing, and packets in them
	good               uint64 // packets since the last that was missing
	inBurst            uint64 // packets missing in the run of losses that may be a burst
	burstLost, burstOf uint64 // packets missing in bursts, and packets of bursts
	burstCount         uint64
	pendingOf          uint64 // packets since the first loss of what may be a burst
	all                uint64
}

// packet counts one that came, behind lost others.
func (b *bursts) packet(lost uint64) {
	b.all += lost + 1
	if lost > 0 {
		b.runs++
		b.lost += lost
		if b.inBurst > 0 {
			b.pendingOf += lost
		} else {
			b.pendingOf = lost
		}
		b.inBurst += lost
		b.good = 0
	}
	if b.inBurst == 0 {
		return
	}
	b.pendingOf++
	if b.good++; b.good >= burstGap {
		if b.inBurst > 1 { // a single one is no burst
			b.burstCount++
			b.burstLost += b.inBurst
			b.burstOf += b.pendingOf - b.good
		}
		b.inBurst, b.pendingOf = 0, 0
	}
}

// ratio is G.107's BurstR: the mean length of the runs over that of random losses.
func (b *bursts) ratio() float64 {
	if b.runs == 0 || b.all == b.lost {
		return 0
	}
	share := float64(b.lost) / float64(b.all)
	return max(1, float64(b.lost)/float64(b.runs)*(1-share))
}

// way is what came, of all SSRCs.
func (r *reception) way() Way {
	if !r.began {
		return Way{}
	}
	expected, received := r.pastExpected+uint64(r.highest-r.first+1), r.pastReceived+uint64(r.received)
	w := Way{Packets: received, Burst: r.bursts.ratio(), Jitter: time.Duration(r.jitter * float64(time.Second) / float64(r.rate()))}
	if expected > received {
		w.Lost = float64(expected-received) / float64(expected)
	}
	return w
}

// SetMOS notes the scores that whoever knows the codec has found: they go out in RTCP XR where that was agreed.
func (p *Port) SetMOS(q Quality, rating float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.score, p.rating = q, rating
}

// metrics is the VoIP metrics block of what comes (RFC 3611 §4.7). p.mu is held.
func (p *Port) metrics() *rtcp.ExtendedReport {
	if !p.media.Metrics || !p.quality.began {
		return nil
	}
	b, w := &p.quality.bursts, p.quality.way()
	const unknown = 127
	block := &rtcp.VoIPMetricsReportBlock{
		SSRC: p.quality.ssrc, LossRate: fraction(w.Lost), Gmin: burstGap,
		RoundTripDelay: millis(p.reports.roundTrip), EndSystemDelay: millis(p.score.In.Delay + 20*time.Millisecond),
		SignalLevel: unknown, NoiseLevel: unknown, RERL: unknown, RFactor: unknown, ExtRFactor: unknown, MOSLQ: unknown, MOSCQ: unknown,
		RXConfig:  0b1010_0000, // enhanced concealment, an adaptive buffer (§4.7.6)
		JBNominal: millis(p.score.In.Delay), JBMaximum: millis(p.score.In.Delay), JBAbsMax: 200,
	}
	packet := time.Second / 50
	if b.burstCount > 0 {
		block.BurstDensity = fraction(float64(b.burstLost) / float64(b.burstOf))
		block.BurstDuration = millis(packet * time.Duration(b.burstOf/b.burstCount))
		block.GapDuration = millis(packet * time.Duration((b.all-b.burstOf)/b.burstCount))
	}
	if gap := b.all - b.burstOf; gap > 0 {
		block.GapDensity = fraction(float64(b.lost-b.burstLost) / float64(gap))
	}
	if p.score.In.MOS > 0 {
		block.RFactor = uint8(p.rating)
		block.MOSLQ, block.MOSCQ = uint8(p.score.In.MOS*10), uint8(p.score.In.MOS*10)
	}
	return &rtcp.ExtendedReport{Reports: []rtcp.ReportBlock{block}}
}

// fraction is a share in 1/256.
func fraction(share float64) uint8 { return uint8(min(255, share*256)) }

func millis(d time.Duration) uint16 { return uint16(min(65535, d.Milliseconds())) }
