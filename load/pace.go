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

// farTalker is the end of a call that isn't the phone.
type farTalker interface {
	speak(payload []byte, drop bool) // sends the next packet, or only counts it when drop is set; the pacer's
	packets() int64                  // that were heard
}

// pair is one call: a phone and a browser that hear each other.
type pair struct {
	number    int
	phone     *phone
	far       farTalker // the browser, or what stands for one
	browser   *browser  // nil if far is none
	says      *sounds   // nil: what all say
	lost      [2][]bool // which packets are lost on the way to the gateway, of the phone's and of the browser's, again and again; empty: none
	loseAfter *Network  // what the browser is told to report as lost on the way from the gateway, and not to hear; nil: nothing
	toBrowser *flow     // what the phone says, as the browser hears it
	toPhone   *flow
	live      atomic.Bool // both sides are up: the pacer speaks for them
	phoneless bool        // the phone takes no part

	room         *room // the session, of one pair or several
	level        uint8 // how loud the browser says that it is (RFC 6464); 0: it doesn't say
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
			drop := p.dropped(c.lost[0], len(c.toBrowser.sent))
			i := c.toBrowser.next(time.Since(p.start), drop)
			says := c.sounds(p.sounds).phone
			c.phone.speak(says[i%len(says)], drop)
		}
	}
	for k := (n + slots/2) % slots; k < len(p.pairs); k += slots {
		if c := p.pairs[k]; c.live.Load() {
			drop := p.dropped(c.lost[1], len(c.toPhone.sent))
			i := c.toPhone.next(time.Since(p.start), drop)
			says := c.sounds(p.sounds).browser
			if c.browser != nil && c.browser.heldNarrow() {
				says = c.sounds(p.sounds).narrow
			}
			c.far.speak(says[i%len(says)], drop)
		}
	}
}

// dropped says whether packet number i is lost on its way to the gateway.
func (p *pacer) dropped(lost []bool, i int) bool {
	if len(lost) > 0 {
		return lost[i%len(lost)]
	}
	return p.drop > 0 && p.rng.Float64() < p.drop
}

// sounds is what this call says.
func (c *pair) sounds(all *sounds) *sounds {
	if c.says != nil {
		return c.says
	}
	return all
}
