package load

import (
	"math/rand/v2"
	"time"
)

// Weather is what a bad network does to the packets of one direction. Shares are between 0 and 1. The zero value does
// nothing.
type Weather struct {
	Lost     float64
	Burst    float64       // how many packets are lost in a row, on average; up to 1: each for itself
	Doubled  float64       // of those that arrive
	Late     float64       // of those that arrive: held back by up to LateBy, so that others overtake them
	LateBy   time.Duration // 0: 100 ms
	Jitter   time.Duration // each one comes later by up to this, but in its order
	DriftPPM float64       // how much slower the sender's clock runs: its packets come ever later, or ever earlier if negative
	Seed     uint64
}

// Count is what became of packets.
type Count struct{ Sent, Lost, Doubled, Late int }

// Network draws what becomes of one packet after the other. The same Weather does the same again. It is one
// goroutine's.
type Network struct {
	weather Weather
	random  *rand.Rand
	bad     bool // in a burst
	last    time.Duration
	count   Count
}

// driftRoom is by how much a drift that makes packets come early is held back at first: an hour at 100 ppm.
const driftRoom = 360 * time.Millisecond

// NewNetwork begins with good weather.
func NewNetwork(w Weather) *Network {
	if w.LateBy == 0 {
		w.LateBy = 100 * time.Millisecond
	}
	return &Network{weather: w, random: rand.New(rand.NewPCG(w.Seed, 1))}
}

// Packet says how many copies of a packet that was sent at a time since the beginning arrive, 0 to 2, and how much later.
func (n *Network) Packet(at time.Duration) (copies int, delay time.Duration) {
	w := &n.weather
	n.count.Sent++
	if n.lost() {
		n.count.Lost++
		return 0, 0
	}
	copies = 1
	if w.Doubled > 0 && n.random.Float64() < w.Doubled {
		n.count.Doubled++
		copies = 2
	}
	delay = time.Duration(w.DriftPPM * float64(at) / 1e6)
	if w.DriftPPM < 0 {
		delay = max(0, delay+driftRoom)
	}
	if w.Jitter > 0 {
		delay += time.Duration(n.random.Int64N(int64(w.Jitter)))
	}
	delay = max(delay, n.last-at)
	n.last = at + delay
	if w.Late > 0 && n.random.Float64() < w.Late {
		n.count.Late++
		delay += time.Duration(n.random.Int64N(int64(w.LateBy)))
	}
	return copies, delay
}

// lost draws from two states, a good one in which all arrives and a bad one in which nothing does: the simple case of
// Gilbert's and Elliott's model. A burst begins so often that its share is Lost, so up to Burst/(Burst+1) can be had.
func (n *Network) lost() bool {
	w := &n.weather
	switch {
	case w.Lost <= 0:
		return false
	case w.Burst <= 1:
		return n.random.Float64() < w.Lost
	case w.Lost >= 1:
		n.bad = true
	case n.bad:
		n.bad = n.random.Float64() >= 1/w.Burst
	default:
		n.bad = n.random.Float64() < w.Lost/(w.Burst*(1-w.Lost))
	}
	return n.bad
}

// Count is what became of the packets so far.
func (n *Network) Count() Count { return n.count }
