package load

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// CapacityConfig is a search for how many bridged calls one core holds. The zero value is usable.
type CapacityConfig struct {
	Gateway  []string      // how this program is called; empty: as it was
	Duration time.Duration // of each hold; 0: 8 s
}

const (
	bearable     = 0.1 // percent of the packets; a gateway that loses more does not hold the calls
	capacityRamp = 25  // calls per second
	oursFirst    = 40
	oursStep     = 20
	rivalFirst   = 15
	rivalStep    = 5
	mostCalls    = 200
)

// RunCapacity holds more and more calls over our gateway and over rtpengine, each alone on one core, until packets are lost
// on a number of calls twice, and prints what was held.
func RunCapacity(ctx context.Context, cfg CapacityConfig, out io.Writer) error {
	if cfg.Duration == 0 {
		cfg.Duration = 8 * time.Second
	}
	var err error
	if cfg.Gateway, err = programOr(cfg.Gateway); err != nil {
		return err
	}
	sounds, err := newSounds()
	if err != nil {
		return err
	}
	if err := pinSelf(ctx, os.Getpid()); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) } // Flush tells
	line("calls\tover\tCPU of the core\tlost to browsers, to phones\tp99 to browsers, to phones\town CPU\tsent late")
	var held [2]int
	for _, of := range []kind{ours, rival} {
		name, calls, step := "Tandem", oursFirst, oursStep
		if of == rival {
			name, calls, step = "rtpengine", rivalFirst, rivalStep
			if !hasRTPEngine() {
				line("\trtpengine\t%s", notInstalled)
				continue
			}
		}
		var broken error
		held[of] = searchHeld(calls, step, mostCalls, func(calls int) bool {
			run := Config{
				Gateway: append(slices.Clone(cfg.Gateway), "serve"), Calls: calls, Duration: cfg.Duration, Pinned: true,
				RampPerSecond: capacityRamp, Idle: time.Second,
			}
			r, err := hold(ctx, of, run, cfg.Gateway, sounds, nil)
			if ctx.Err() != nil {
				broken = fmt.Errorf("%s: %w", name, err)
				return false
			}
			if err != nil {
				line("%d\t%s\tnot held: they did not all come up", calls, name)
				return false
			}
			line("%d\t%s\t%.0f %%\t%.3f %%, %.3f %%\t%.1f ms, %.1f ms\t%.0f %%\t%.1f ms", calls, name, r.CPUPct, r.ToBrowser.LossPct, r.ToPhone.LossPct,
				r.ToBrowser.DelayP99Ms, r.ToPhone.DelayP99Ms, r.OwnCPUPct, r.PacerLateMaxMs)
			return max(r.ToBrowser.LossPct, r.ToPhone.LossPct) < bearable
		})
		if broken != nil {
			return broken
		}
	}
	printCapacity(line, held)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}

// searchHeld is the most calls that hold, from a number on in steps, until two tries of one number have failed; 0: not even the first.
func searchHeld(first, step, most int, hold func(calls int) bool) (held int) {
	for calls, failed := first, 0; failed < 2 && calls <= most; {
		if !hold(calls) {
			failed++
			continue
		}
		held, calls, failed = calls, calls+step, 0
	}
	return held
}

// leastCapacity is what is to be reached of what rtpengine holds.
const leastCapacity = 3

// printCapacity compares what was held.
func printCapacity(line func(string, ...any), held [2]int) {
	line("held on one core\tTandem %d, rtpengine %d", held[ours], held[rival])
	if held[rival] > 0 {
		ratio := float64(held[ours]) / float64(held[rival])
		line("ratio\t%.1f\tto reach: at least %d, hoped for 4%s", ratio, leastCapacity, verdict(ratio >= leastCapacity))
	}
}
