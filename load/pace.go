package load

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	slots    = 10 // a frame's 20 ms are cut into these, so that not all packets go out at once
	slotTime = packetTime / slots
)

// pair is one call: a phone and a browser that hear each other.
type pair struct {
	phone     *phone
	browser   *browser
	toBrowser *flow // what the phone says, as the browser hears it
	toPhone   *flow
	live      atomic.Bool // both sides are up: the pacer speaks for them

	session      string
	participants []string
}

// pacer speaks for all phones and browsers: one goroutine with absolute deadlines, so that the load it makes itself
// stays small. It alone writes what the flows have sent.
type pacer struct {
	pairs  []*pair
	sounds *sounds
	drop   float64 // of 1
	start  time.Time
	late   time.Duration // how far it was behind at worst since resetLate; read after it has ended

	lateSince atomic.Int64 // ns since start, from when on late counts
	rng       *rand.Rand
}

// run speaks until ctx ends.
func (p *pacer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if late := time.Since(due); late > p.late && time.Since(p.start) >= time.Duration(p.lateSince.Load()) {
			p.late = late
		}
		p.slot(n % slots)
		due = due.Add(slotTime)
		timer.Reset(time.Until(due))
	}
}

// slot sends the packets of one slot. A pair's two packets lie half a frame apart.
func (p *pacer) slot(n int) {
	for k := n; k < len(p.pairs); k += slots {
		if c := p.pairs[k]; c.live.Load() {
			drop := p.dropped()
			i := c.toBrowser.next(time.Since(p.start), drop)
			c.phone.speak(p.sounds.phone[i%phoneLoop], drop)
		}
	}
	for k := (n + slots/2) % slots; k < len(p.pairs); k += slots {
		if c := p.pairs[k]; c.live.Load() {
			drop := p.dropped()
			i := c.toPhone.next(time.Since(p.start), drop)
			c.browser.speak(p.sounds.browser[i%browserLoop], drop)
		}
	}
}

func (p *pacer) dropped() bool { return p.drop > 0 && p.rng.Float64() < p.drop }
