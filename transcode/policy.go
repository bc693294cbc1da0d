package transcode

import (
	"runtime"
	"syscall"
	"time"
)

// The encoders of phones' voices follow what the others lose, and what the machine has left to give.

const (
	tuneEvery = 50 // packets: a second
	mostLoss  = 30 // percent; more than that FEC can't help

	// busy is the share of all cores at which encoders are made cheaper, easy that at which they get better again once it
	// has been less for a while.
	busy     = 0.85
	easy     = 0.65
	easyFor  = 10 // seconds
	cheapest = 3  // pressure
)

// pressure says how much cheaper encoders are to be than their owner wants: 0 is not at all. It is pure.
type pressure struct {
	level int
	calm  int // seconds without need
}

// second takes the share of all cores that was used in the last second, and returns the level from now on.
func (p *pressure) second(share float64) int {
	switch {
	case share >= busy:
		p.calm = 0
		p.level = min(p.level+1, cheapest)
	case share >= easy:
		p.calm = 0
	default:
		if p.calm++; p.calm >= easyFor && p.level > 0 {
			p.calm = 0
			p.level--
		}
	}
	return p.level
}

// complexityAt is the complexity of Opus under a pressure: from what is configured down to the cheapest.
func complexityAt(configured, level int) int {
	return min(configured, [...]int{10, 3, 1, 0}[level])
}

// cpuTime is how much CPU this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watchCPU sets the engine's pressure, once a second, from what the process uses of the cores that it may use.
func (e *Engine) watchCPU(done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var p pressure
	last, at := cpuTime(), time.Now()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		used, now := cpuTime(), time.Now()
		share := float64(used-last) / float64(now.Sub(at)) / float64(runtime.GOMAXPROCS(0))
		last, at = used, now
		before := e.pressure.Load()
		if level := int32(p.second(share)); level != before {
			e.pressure.Store(level)
			e.log.Warn("encoders follow the load", "share of all cores", share, "pressure", level, "before", before)
		}
	}
}

// tune lets the encoder follow, once a second, what listeners lose and what the machine can give.
func (u *uplink) tune() {
	if u.tuned++; u.tuned%tuneEvery != 1 {
		return
	}
	complexity := complexityAt(u.cfg.complexity(u.rate), int(u.pressure.Load()))
	if complexity != u.complexity {
		_ = u.opus.SetComplexity(complexity) // fails for no number from 0 to 10
		u.complexity = complexity
	}
	if u.cfg.NoFEC {
		return
	}
	if loss := min(max(u.cfg.ExpectedLoss, u.track.Loss()), mostLoss); loss != u.loss {
		_ = u.opus.SetPacketLossPerc(loss)
		u.loss = loss
	}
}
