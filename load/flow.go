package load

import (
	"slices"
	"time"
)

const (
	maxPayload  = 400         // bytes of a packet that are kept; ours and a gateway's are shorter
	maxDelay    = time.Second // a packet later than this is lost: the cycle of the marks is 1.28 s
	unplaceable = -1          // no packet of ours
	agreeing    = 4           // two of so many packets must agree with a new mapping of timestamps
	packetTime  = 20 * time.Millisecond
)

// arrival is a received packet; its payload lies in the flow's store.
type arrival struct {
	at        time.Duration // since the run's start
	timestamp uint32
	sequence  uint16
	ssrc      uint32
	from, len int32
}

// flow is one direction of one call: what was sent and what arrived. The sending goroutine owns sent, the receiving one
// arrivals and store; both are done before it is analysed.
type flow struct {
	step  uint32  // RTP timestamp units per packet, where it is received
	score float32 // from which on a packet is believed to be what its timestamp says

	sent    []time.Duration // when packet i was sent, or would have been
	dropped []bool          // packet i was dropped on purpose

	limit    int
	arrivals []arrival
	store    []byte
}

func newFlow(step uint32, score float32, packets, payload int) *flow {
	return &flow{
		step: step, score: score,
		sent:     make([]time.Duration, 0, packets),
		dropped:  make([]bool, 0, packets),
		limit:    2 * packets,
		arrivals: make([]arrival, 0, packets),
		store:    make([]byte, 0, packets*payload),
	}
}

// next notes that a packet is being sent and returns its number.
func (f *flow) next(at time.Duration, dropped bool) int {
	f.sent, f.dropped = append(f.sent, at), append(f.dropped, dropped)
	return len(f.sent) - 1
}

// arrived keeps a packet. Beyond twice what is expected they are not kept, so a flood can't fill the memory.
func (f *flow) arrived(at time.Duration, ssrc, timestamp uint32, sequence uint16, payload []byte) {
	if len(f.arrivals) >= f.limit || len(payload) > maxPayload {
		return
	}
	f.arrivals = append(f.arrivals, arrival{at, timestamp, sequence, ssrc, int32(len(f.store)), int32(len(payload))})
	f.store = append(f.store, payload...)
}

// FlowResult is what became of the packets of one direction.
type FlowResult struct {
	Sent       int     `json:"sent"`       // packets sent during the hold, those dropped on purpose included
	Dropped    int     `json:"dropped"`    // of them, how many were dropped on purpose
	Received   int     `json:"received"`   // of them, how many arrived
	Lost       int     `json:"lost"`       // of them, how many didn't within a second
	LossPct    float64 `json:"lossPct"`    //
	Duplicated int     `json:"duplicated"` // packets that arrived once more
	Reordered  int     `json:"reordered"`  // packets that arrived after a later one
	Fill       int     `json:"fill"`       // packets in between without a mark: silence, concealment
	Mistaken   int     `json:"mistaken"`   // packets dropped on purpose that seemed to arrive: the error of this tool
	Unclear    int     `json:"unclear"`    // packets to browsers whose sound the codec spoilt: placed by timestamp alone
	Slips      int     `json:"slips"`      // how often the RTP timestamps stopped telling which packet it is
	DelayP50Ms float64 `json:"delayP50Ms"` // from sending a packet to receiving the one that carries it
	DelayP99Ms float64 `json:"delayP99Ms"` //
	DelayMaxMs float64 `json:"delayMaxMs"` //
}

// own is what was lost without being dropped on purpose.
func (r *FlowResult) own() int { return r.Lost - r.Dropped + r.Mistaken }

// add sums the counts of two flows; delays are set by whoever has them all.
func (r *FlowResult) add(o FlowResult) {
	r.Sent += o.Sent
	r.Dropped += o.Dropped
	r.Received += o.Received
	r.Lost += o.Lost
	r.Duplicated += o.Duplicated
	r.Reordered += o.Reordered
	r.Fill += o.Fill
	r.Mistaken += o.Mistaken
	r.Unclear += o.Unclear
	r.Slips += o.Slips
}

func (r *FlowResult) finish(delays []time.Duration) {
	if r.Sent > 0 {
		r.LossPct = 100 * float64(r.Lost) / float64(r.Sent)
	}
	slices.Sort(delays)
	r.DelayP50Ms, r.DelayP99Ms, r.DelayMaxMs = ms(percentile(delays, 50)), ms(percentile(delays, 99)), ms(percentile(delays, 100))
}

// percentile is the smallest value that p percent of the sorted values don't exceed; 0 of none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// decoder turns a received payload into the phone's 20 ms of sound; false: it isn't that.
type decoder func(payload []byte, frame *[frameSamples]int16) bool

// heard is an arrival and what it sounds like.
type heard struct {
	arrival
	hearing
	audible bool // it could be decoded
	mark    int  // what read says
	sure    bool // and whether it is beyond doubt
}

// placer follows one flow's arrivals and says which packet of ours each one carries.
type placer struct {
	step     uint32
	score    float32
	sent     []time.Duration
	seen     []bool
	lenient  bool
	anchored bool
	anchor   anchor
	slips    int
	unclear  int
}

// anchor says which packet an RTP timestamp belongs to.
type anchor struct {
	ssrc      uint32
	timestamp uint32
	index     int
}

// place finds the packet that all[k] carries. The RTP timestamp tells which one it should be and the sound whether it
// is. Where they disagree, a mark beyond doubt wins, if it is of a packet that was sent within the last second and
// hasn't arrived yet (what repeats an old sound is concealment), and if what comes next agrees.
func (p *placer) place(all []heard, k int) int {
	a := &all[k]
	if !a.audible {
		return unplaceable
	}
	if p.anchored {
		if i := p.expected(p.anchor, a); i != unplaceable {
			p.anchor.timestamp, p.anchor.index = a.timestamp, i
			return i
		}
	}
	if i := p.remap(all, k); i != unplaceable {
		return i
	}
	if p.lenient && p.anchored {
		// A repeat of the packet before has nothing of this one's tones; a spoilt one may have both.
		if i := p.told(p.anchor, a); i > 0 && a.loud() && (a.score(i-1) < p.score || a.score(i) >= spoiltScore) {
			p.unclear++
			return i
		}
	}
	return unplaceable
}

// remap finds the packet by its mark alone, and believes from then on what that makes of the timestamps.
func (p *placer) remap(all []heard, k int) int {
	a := &all[k]
	if !a.sure {
		return unplaceable
	}
	i := p.latest(a.at)
	i -= ((i-a.mark)%markCycle + markCycle) % markCycle
	if i < 0 || a.at-p.sent[i] > maxDelay || p.seen[i] {
		return unplaceable
	}
	found := anchor{a.ssrc, a.timestamp, i}
	agree := 0
	for next := k + 1; next < min(k+1+agreeing, len(all)); next++ {
		if all[next].audible && all[next].timestamp != a.timestamp && p.expected(found, &all[next]) != unplaceable {
			agree++
		}
		if agree == 2 {
			if p.anchored {
				p.slips++
			}
			p.anchored, p.anchor = true, found
			return i
		}
	}
	return unplaceable
}

// told is the packet that the timestamp of a tells, if it can be that one.
func (p *placer) told(from anchor, a *heard) int {
	distance := int32(a.timestamp - from.timestamp)
	if a.ssrc != from.ssrc || distance%int32(p.step) != 0 {
		return unplaceable
	}
	i := from.index + int(distance/int32(p.step))
	if i < 0 || i >= len(p.sent) || p.sent[i] > a.at || a.at-p.sent[i] > maxDelay {
		return unplaceable
	}
	return i
}

// expected is told, if that is what is heard. Marks four packets apart may share two of their three tones, so a mark
// beyond doubt must not say otherwise.
func (p *placer) expected(from anchor, a *heard) int {
	i := p.told(from, a)
	if i == unplaceable || a.score(i) < p.score || a.sure && a.mark != i%markCycle {
		return unplaceable
	}
	return i
}

// latest is the last packet that was sent before at.
func (p *placer) latest(at time.Duration) int {
	i, _ := slices.BinarySearch(p.sent, at+1)
	return i - 1
}

// analyse counts what became of the packets that were sent from from until to, and appends their delays.
func (f *flow) analyse(m *marks, decode decoder, from, to time.Duration, delays []time.Duration) (FlowResult, []time.Duration) {
	first, _ := slices.BinarySearch(f.sent, from)
	last, _ := slices.BinarySearch(f.sent, to)
	r := FlowResult{Sent: last - first}
	for _, dropped := range f.dropped[first:last] {
		if dropped {
			r.Dropped++
		}
	}
	all := f.listen(m, decode)
	p := &placer{step: f.step, score: f.score, lenient: f.score == browserScore, sent: f.sent, seen: make([]bool, len(f.sent))}
	newest := -1
	for k, a := range all {
		i := p.place(all, k)
		if i == unplaceable {
			if a.at >= from && a.at < to {
				r.Fill++
			}
			continue
		}
		counts := i >= first && i < last
		switch {
		case p.seen[i]:
			if counts {
				r.Duplicated++
			}
			continue
		case counts:
			r.Received++
			if f.dropped[i] {
				r.Mistaken++
			}
			delays = append(delays, a.at-f.sent[i])
			if i < newest {
				r.Reordered++
			}
		}
		p.seen[i] = true
		newest = max(newest, i)
	}
	r.Lost, r.Slips, r.Unclear = r.Sent-r.Received, p.slips, p.unclear
	return r, delays
}

// listen decodes what arrived, in that order.
func (f *flow) listen(m *marks, decode decoder) []heard {
	all := make([]heard, len(f.arrivals))
	var frame [frameSamples]int16
	for k, a := range f.arrivals {
		all[k].arrival = a
		if all[k].audible = decode(f.store[a.from:a.from+a.len], &frame); all[k].audible {
			all[k].hearing = m.listen(&frame)
			all[k].mark, all[k].sure = all[k].read()
		}
	}
	return all
}
