package load

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// Result is what a run found. CPU and memory are the gateway process's, from /proc.
type Result struct {
	Calls       int     `json:"calls"`
	Seconds     float64 `json:"seconds"`     // of the hold
	DropPercent float64 `json:"dropPercent"` // of our packets, dropped on purpose

	StartMs    float64 `json:"startMs"`    // from exec to the first 200 of /readyz
	IdleRSSMB  float64 `json:"idleRssMB"`  // resident, before the first call
	IdleCPUPct float64 `json:"idleCpuPct"` // of one core

	SetupP50Ms float64 `json:"setupP50Ms"` // from POST dialog to the ACK at the phone
	SetupP99Ms float64 `json:"setupP99Ms"`

	CPUMsPerCallSecond float64 `json:"cpuMsPerCallSecond"` // CPU time of one call in one second, over the hold
	CPUPct             float64 `json:"cpuPct"`             // of one core, all calls
	HoldRSSMB          float64 `json:"holdRssMB"`          // resident at the end of the hold
	RSSPerCallKB       float64 `json:"rssPerCallKB"`       // resident, of each call after the first: what the first needs once is left out

	PhonesHeard   int64   `json:"phonesHeard"`   // packets, by all phones, during the hold
	BrowsersHeard int64   `json:"browsersHeard"` // of all streams
	Decoders      float64 `json:"decoders"`      // of browsers' streams, how many were decoded

	ToBrowser FlowResult `json:"toBrowser"` // phone → browser
	ToPhone   FlowResult `json:"toPhone"`   // browser → phone

	OwnCPUPct      float64 `json:"ownCpuPct"`      // this process, of one core, over the hold
	PacerLateMaxMs float64 `json:"pacerLateMaxMs"` // how late we sent at worst: above 20 the machine was too small for both
}

// perSecond is how many of packets, which came during the hold, each of so many ends got in a second.
func (r *Result) perSecond(packets int64, ends int) float64 {
	return float64(packets) / r.Seconds / float64(ends)
}

// print writes the result as a table, or as JSON.
func (r *Result) print(out io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("load: print: %w", err)
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, name+"\t"+format+"\n", args...) // Flush tells
	}
	line("\ncalls held", "%d for %.0f s, %g %% dropped on purpose", r.Calls, r.Seconds, r.DropPercent)
	line("start to ready", "%.0f ms", r.StartMs)
	line("idle", "%.1f MB resident, %.1f %% of a core", r.IdleRSSMB, r.IdleCPUPct)
	line("call set-up p50, p99", "%.1f ms, %.1f ms", r.SetupP50Ms, r.SetupP99Ms)
	line("gateway CPU", "%.2f ms per call-second (%.0f %% of a core)", r.CPUMsPerCallSecond, r.CPUPct)
	line("gateway memory", "%.0f kB per call (%.1f MB resident)", r.RSSPerCallKB, r.HoldRSSMB)
	line("own CPU", "%.0f %% of a core, sent at worst %.1f ms late", r.OwnCPUPct, r.PacerLateMaxMs)
	line("", "\tsent\tdropped\tlost\tloss\ttwice\treordered\tfill\tunclear\tslips\tdelay p50\tp99\tmax")
	for _, d := range []struct {
		name string
		f    FlowResult
	}{{"phone → browser", r.ToBrowser}, {"browser → phone", r.ToPhone}} {
		line(d.name, "\t%d\t%d\t%d\t%.3f %%\t%d\t%d\t%d\t%d\t%d\t%.2f ms\t%.2f ms\t%.2f ms", d.f.Sent, d.f.Dropped, d.f.Lost, d.f.LossPct,
			d.f.Duplicated, d.f.Reordered, d.f.Fill, d.f.Unclear, d.f.Slips, d.f.DelayP50Ms, d.f.DelayP99Ms, d.f.DelayMaxMs)
	}
	if r.DropPercent > 0 {
		line("lost beyond that", "%d to browsers, %d to phones", r.ToBrowser.own(), r.ToPhone.own())
	}
	if r.PacerLateMaxMs > ms(packetTime) {
		line("note", "we were late ourselves: the machine is too busy, what is lost here may not be the gateway's")
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}
