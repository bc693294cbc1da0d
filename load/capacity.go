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
				continue
			}
		}
		for failed := 0; failed < 2 && calls <= mostCalls; {
			run := Config{
				Gateway: append(slices.Clone(cfg.Gateway), "serve"), Calls: calls, Duration: cfg.Duration, Pinned: true,
				RampPerSecond: capacityRamp, Idle: time.Second,
			}
			r, err := hold(ctx, of, run, cfg.Gateway, sounds, nil)
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err != nil {
				line("%d\t%s\tnot held: they did not all come up", calls, name)
				failed++
				continue
			}
			line("%d\t%s\t%.0f %%\t%.3f %%, %.3f %%\t%.1f ms, %.1f ms\t%.0f %%\t%.1f ms", calls, name, r.CPUPct, r.ToBrowser.LossPct, r.ToPhone.LossPct,
				r.ToBrowser.DelayP99Ms, r.ToPhone.DelayP99Ms, r.OwnCPUPct, r.PacerLateMaxMs)
			if max(r.ToBrowser.LossPct, r.ToPhone.LossPct) >= bearable {
				failed++
				continue
			}
			held[of] = calls
			calls, failed = calls+step, 0
		}
	}
	line("held on one core\tTandem %d, rtpengine %d", held[ours], held[rival])
	if held[rival] > 0 {
		line("ratio\t%.1f\tto reach: at least 3, hoped for 4", float64(held[ours])/float64(held[rival]))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}
