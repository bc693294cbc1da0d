package load

import (
	"cmp"
	"context"
	"fmt"
	"io"
)

// lines prints one line of a table each.
func lines(w io.Writer) func(format string, args ...any) {
	return func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) } // Flush tells
}

// measureRounds measures the contenders in turn, so that what else the machine does disturbs all of them.
func measureRounds(ctx context.Context, cfg RivalConfig, sounds *sounds, all []*contender) error {
	for round := range cfg.Rounds {
		for _, c := range all {
			if c.missing != "" || round > 0 && !c.again {
				continue
			}
			r, err := c.measure(ctx, cfg, sounds)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.runs = append(c.runs, r)
		}
	}
	return nil
}

// printHeld prints what the calls of each contender cost, and what the generator took meanwhile.
func printHeld(line func(string, ...any), all []*contender) {
	line("\tcalls\tCPU per call-second\tlowest, highest\tmemory per call\tphone → browser\tp50\tp99\tlost\tbrowser → phone\tp50\tp99\tlost\town CPU\tsent late")
	for _, c := range all {
		if len(c.runs) == 0 {
			line("%s\t%s", c.name, cmp.Or(c.missing, notInstalled))
			continue
		}
		low, high := spread(c.runs)
		line("%s\t%d\t%.2f ms\t%.2f, %.2f\t%.0f kB\t\t%.2f ms\t%.2f ms\t%.2f %%\t\t%.2f ms\t%.2f ms\t%.2f %%\t%.0f %%\t%.1f ms", c.name, c.calls, c.cpu(), low, high, c.memory(),
			c.median(func(r Result) float64 { return r.ToBrowser.DelayP50Ms }), c.median(func(r Result) float64 { return r.ToBrowser.DelayP99Ms }),
			c.median(func(r Result) float64 { return r.ToBrowser.LossPct }),
			c.median(func(r Result) float64 { return r.ToPhone.DelayP50Ms }), c.median(func(r Result) float64 { return r.ToPhone.DelayP99Ms }),
			c.median(func(r Result) float64 { return r.ToPhone.LossPct }), c.median(func(r Result) float64 { return r.OwnCPUPct }),
			c.median(func(r Result) float64 { return r.PacerLateMaxMs }))
	}
}

// spread is the least and the most CPU of the runs.
func spread(runs []Result) (low, high float64) {
	low, high = runs[0].CPUMsPerCallSecond, runs[0].CPUMsPerCallSecond
	for _, r := range runs {
		low, high = min(low, r.CPUMsPerCallSecond), max(high, r.CPUMsPerCallSecond)
	}
	return low, high
}

// printRatio prints a ratio of two figures beside the most that it may be; neither is there if it is zero.
func printRatio(line func(string, ...any), what string, a, b, most float64) {
	if a > 0 && b > 0 {
		line("%s\t%.3f\tto reach: at most %g%s", what, a/b, most, verdict(a/b <= most))
	}
}

// verdict follows a target.
func verdict(reached bool) string {
	if reached {
		return ""
	}
	return " (not reached)"
}

// printStarved says which rows say nothing.
func printStarved(line func(string, ...any), all []*contender) {
	for _, c := range all {
		lost := max(c.median(func(r Result) float64 { return r.ToBrowser.LossPct }), c.median(func(r Result) float64 { return r.ToPhone.LossPct }))
		if lost > starved {
			line("void: %s lost %.1f %% of the packets, so its CPU is that of less work", c.name, lost)
		}
	}
}
