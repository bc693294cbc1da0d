package media

import (
	"math"
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
	Lost      float64       // share of the packets that did not come, 0 to 1; Out: of those that were sent
	Burst     float64       // mean length of the losses, over what it would be were they random; 0: not known
	Jitter    time.Duration // RFC 3550 §6.4.1
	Delay     time.Duration // that the gateway's own play-out adds; only Out has one
	Concealed float64       // share of the sound that did not come in time, for which something is made up, 0 to 1
	MOS       float64       // mean opinion score of a conversation, 1 to 4.5 (ITU-T G.107); 0: nothing came
}

// Quality returns what the port knows, with the jitter and the round trip of the moment: Delay, Concealed and MOS are for
// others to fill in. Safe from any goroutine.
func (p *Port) Quality() Quality {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Quality{
		In:        p.quality.way(),
		Out:       Way{Packets: p.sent.Load(), Lost: p.reports.share, Jitter: p.reports.jitter},
		RoundTrip: p.reports.roundTrip,
	}
}

// Overall is Quality with the means of the jitter and of the round trip since the port was opened.
func (p *Port) Overall() Quality {
	q := p.Quality()
	p.mu.Lock()
	defer p.mu.Unlock()
	q.In.Jitter, q.Out.Jitter = p.quality.jitters.duration(), p.reports.jitters.duration()
	q.RoundTrip = p.reports.roundTrips.duration()
	return q
}

// After joins what is known of a port with what is known of those that the leg had before: the counts are those of all of
// them, the shares and times are their means, weighed by packets.
func (q Quality) After(past Quality) Quality {
	now, before := float64(q.Out.Packets), float64(past.Out.Packets)
	switch {
	case q.RoundTrip == 0:
		q.RoundTrip = past.RoundTrip
	case past.RoundTrip != 0:
		q.RoundTrip = time.Duration(weighed(float64(q.RoundTrip), now, float64(past.RoundTrip), before))
	}
	q.In = q.In.after(past.In, q.In.expected(), past.In.expected())
	q.Out = q.Out.after(past.Out, now, before)
	return q
}

// expected is how many packets should have come.
func (w Way) expected() float64 {
	if w.Lost >= 1 {
		return float64(w.Packets)
	}
	return float64(w.Packets) / (1 - w.Lost)
}

func (w Way) after(past Way, now, before float64) Way {
	w.Packets += past.Packets
	w.Lost = weighed(w.Lost, now, past.Lost, before)
	w.Burst = weighed(w.Burst, now, past.Burst, before)
	w.Jitter = time.Duration(weighed(float64(w.Jitter), now, float64(past.Jitter), before))
	return w
}

// weighed is the mean of two values with weights.
func weighed(a, weightA, b, weightB float64) float64 {
	if weightA+weightB == 0 {
		return a
	}
	return (a*weightA + b*weightB) / (weightA + weightB)
}

// mean is that of the values that were added.
type mean struct {
	sum float64
	n   uint64
}

func (m *mean) add(v float64) {
	m.sum += v
	m.n++
}

// duration is the mean of seconds; 0: there are none.
func (m *mean) duration() time.Duration {
	if m.n == 0 {
		return 0
	}
	return time.Duration(m.sum / float64(m.n) * float64(time.Second))
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
func (r *Reception) way() Way {
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

// Scores are what the E-model (ITU-T G.107) says of what comes over a port. The zero value: nothing is known.
type Scores struct {
	Rating    float64 // R, 0 to 100
	Listening float64 // mean opinion score of what is heard, without the delay
	Conversed float64 // of the conversation, with it
}

// SetScores notes what whoever knows the codec has found: it goes out in RTCP XR where that was agreed.
func (p *Port) SetScores(s Scores) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scores = s
}

// metrics is the VoIP metrics block of what comes (RFC 3611 §4.7). p.mu is held. What comes is played out by those who
// hear it: of their delays and buffers nothing is known here, and it says so.
func (p *Port) metrics() *rtcp.ExtendedReport {
	if !p.media.Metrics || !p.quality.began {
		return nil
	}
	b, w := &p.quality.bursts, p.quality.way()
	const unknown = 127
	block := &rtcp.VoIPMetricsReportBlock{
		SSRC: p.quality.ssrc, LossRate: fraction(w.Lost), Gmin: burstGap, RoundTripDelay: millis(p.reports.roundTrip),
		SignalLevel: unknown, NoiseLevel: unknown, RERL: unknown, RFactor: unknown, ExtRFactor: unknown, MOSLQ: unknown, MOSCQ: unknown,
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
	if p.scores != (Scores{}) {
		block.RFactor = uint8(math.Round(p.scores.Rating))
		block.MOSLQ, block.MOSCQ = tenths(p.scores.Listening), tenths(p.scores.Conversed)
	}
	return &rtcp.ExtendedReport{Reports: []rtcp.ReportBlock{block}}
}

// tenths is a score as RFC 3611 has it.
func tenths(score float64) uint8 { return uint8(math.Round(score * 10)) }

// fraction is a share in 1/256.
func fraction(share float64) uint8 { return uint8(min(255, share*256)) }

func millis(d time.Duration) uint16 { return uint16(min(65535, d.Milliseconds())) }

// recentLoss is what somebody lost lately, in 1/256 percent.
type recentLoss uint32

// report takes what was lost since the last report, from 0 to 1. More counts at once, less slowly.
func (l *recentLoss) report(share float64) {
	left := *l - (*l+7)/8
	if left < 256/4 {
		left = 0
	}
	*l = max(recentLoss(min(max(share, 0), 1)*100*256), left)
}

// percent rounds up.
func (l recentLoss) percent() int { return int((l + 255) / 256) }

// Loss is what the far end lost lately of what it was sent, by its reports, in percent. Safe from any goroutine.
func (p *Port) Loss() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reports.recent.percent()
}
