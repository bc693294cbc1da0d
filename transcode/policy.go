package transcode

import (
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hraban/opus"
)

// The encoders of Opus follow what those lose who hear them, and what the machine has left to give.

const (
	tuneEvery = 50 // packets: a second
	mostLoss  = 30 // percent; more than that FEC can't help

	// busy is the share of all cores at which encoders are made cheaper, easy that at which they get better again once it
	// has been less for a while.
	busy    = 0.85
	easy    = 0.65
	easyFor = 10 // seconds

	// slip is how late a tick of the clock is that shows a want of cores, whoever has them; slipped is the share of such at
	// which encoders are made cheaper, keeps that at which the clock is as it should be.
	slip    = frameTime / 2
	slipped = 0.1
	keeps   = 0.02

	cheapest = 3 // pressure
)

// pressure says how much cheaper encoders are to be than their owner wants: 0 is not at all. It is pure.
type pressure struct {
	level int
	calm  int // seconds without need
}

// second takes the share of all cores that was used in the last second, and the share of the clock's ticks that came late, and
// returns the level from now on.
func (p *pressure) second(share, late float64) int {
	switch {
	case share >= busy || late >= slipped:
		p.calm = 0
		p.level = min(p.level+1, cheapest)
	case share >= easy || late >= keeps:
		p.calm = 0
	default:
		if p.calm++; p.calm >= easyFor && p.level > 0 {
			p.calm = 0
			p.level--
		}
	}
	return p.level
}

// complexityAt is the complexity of Opus under a pressure: from what is configured down to the cheapest, which narrowband
// speech at its default of 1 reaches with the first step.
func complexityAt(configured, level int) int {
	for _, cheaper := range [...]int{3, 1, 0} {
		if level > 0 && cheaper < configured {
			configured = cheaper
			level--
		}
	}
	return configured
}

// tuning is what an encoder of Opus was last set to.
type tuning struct{ complexity, loss int }

// tuned is that of a new encoder.
func (c Config) tuned(rate int) tuning { return tuning{c.complexity(rate), c.ExpectedLoss} }

// wants is what an encoder is to be set to for what is lost of its packets, in percent, and for the pressure. At the cheapest
// it makes no FEC, which costs as much as half a frame.
func (c Config) wants(rate, lost, pressure int) tuning {
	t := tuning{complexityAt(c.complexity(rate), pressure), min(max(c.ExpectedLoss, lost), mostLoss)}
	if pressure >= cheapest {
		t.loss = 0
	}
	return t
}

// set brings an encoder from what it was set to to what is wanted.
func (t *tuning) set(enc *opus.Encoder, to tuning, noFEC bool) {
	if to.complexity != t.complexity {
		_ = enc.SetComplexity(to.complexity) // fails for no number from 0 to 10
	}
	if to.loss != t.loss && !noFEC {
		_ = enc.SetPacketLossPerc(to.loss)
	}
	*t = to
}

// wakes counts how often the engine's clock woke up in this second, and how often late.
type wakes struct{ all, late atomic.Int32 }

// woke counts one.
func (t *wakes) woke(late time.Duration) {
	t.all.Add(1)
	if late >= slip {
		t.late.Add(1)
	}
}

// share is that of the late ones since it was asked last.
func (t *wakes) share() float64 {
	all, late := t.all.Swap(0), t.late.Swap(0)
	if all == 0 {
		return 0
	}
	return float64(late) / float64(all)
}

// cpuTime is how much CPU this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watchCPU sets the engine's pressure, once a second, from what the process uses of the cores that it may use, and from how
// late its clock is: others may have them.
func (e *Engine) watchCPU(done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var p pressure
	last, at := e.used(), time.Now()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		used, now := e.used(), time.Now()
		share := float64(used-last) / float64(now.Sub(at)) / float64(e.cores)
		last, at = used, now
		late := e.wakes.share()
		before := e.pressure.Load()
		if level := int32(p.second(share, late)); level != before {
			e.pressure.Store(level)
			e.log.Warn("encoders follow the load", "share of all cores", share, "late ticks", late, "pressure", level, "before", before)
		}
	}
}

// tune lets the encoder follow, once a second, what listeners lose and what the machine can give.
func (u *uplink) tune() {
	if u.tuned++; u.tuned%tuneEvery == 1 {
		if err := u.opus.tune(u.cfg.wants(u.rate, u.track.Loss(), int(u.pressure.Load()))); err != nil {
			u.fuse.trip("no encoder for a phone", "error", err)
		}
	}
}

// tune does so for the encoder of what a phone hears. lost is what its reports say, in percent.
func (d *downlink) tune(lost int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = lost
	d.coder.tune(d.cfg, lost, int(d.pressure.Load()))
}

// tune is for a phone that speaks Opus.
func (c *coder) tune(cfg Config, lost, pressure int) {
	if c.opus != nil {
		c.tuning.set(c.opus, cfg.wants(c.speech.Rate(), lost, pressure), cfg.NoFEC)
	}
}

// shared is an encoder of what several phones hear, which follows the one of them that loses most. It belongs to their codes.
type shared struct {
	coder
	lost   int // percent, the worst since it was tuned
	frames int
}

// tune is called for each packet that it makes.
func (s *shared) tune(cfg Config, pressure int) {
	if s.frames++; s.frames%tuneEvery == 0 {
		s.coder.tune(cfg, s.lost, pressure)
		s.lost = 0
	}
}
