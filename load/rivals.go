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

// RivalConfig is a comparison of our gateway with rtpengine and with the floor. The zero value is usable.
type RivalConfig struct {
	Gateway  []string      // how this program is called; empty: as it was
	Calls    int           // held by each; 0: 20, four fifths of what fills a core in rtpengine
	Half     int           // held by ours for its own delay at half load; 0: 45
	Duration time.Duration // of each hold; 0: 8 s
	Rounds   int           // how often each is measured at its defaults, in turn; 0: 3
}

// notInstalled says what would install it.
const notInstalled = "not installed (scripts/install bench)"

// starved is the loss in percent from which on a row says nothing: the gateway didn't get the CPU that it wanted.
const starved = 1

// halfRival is half of the calls that fill a core in rtpengine.
const halfRival = 12

// contender is one row of the comparison.
type contender struct {
	name    string
	kind    kind
	opus    Opus
	calls   int
	again   bool         // measured in each round
	follows bool         // its browsers send the band that they are told
	plain   bool         // without codecs
	with    func(*bench) // what is special about its runs; nil: nothing
	missing string       // why it can't be measured; empty: it can
	runs    []Result
}

type kind int

const (
	ours kind = iota
	rival
	least     // over connections of Pion
	leastSRTP // over SRTP alone
	viaNosip  // Janus, calls between phones and browsers that both speak PCMU
	viaBridge // Janus, phones and browsers in one room
	leastRoom // the floor of that
)

// RunRivals holds the same calls over each contender in turn and prints what each costs, and the ratios.
func RunRivals(ctx context.Context, cfg RivalConfig, out io.Writer) error {
	if cfg.Calls == 0 {
		cfg.Calls = 20
	}
	if cfg.Half == 0 {
		cfg.Half = 45
	}
	if cfg.Duration == 0 {
		cfg.Duration = 8 * time.Second
	}
	if cfg.Rounds == 0 {
		cfg.Rounds = 3
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
	p, err := measureParts(sounds)
	if err != nil {
		return err
	}
	all := contenders(cfg)
	if !hasRTPEngine() {
		for _, c := range all {
			if c.kind == rival {
				c.missing = notInstalled
			}
		}
	}
	if err := measureRounds(ctx, cfg, sounds, all); err != nil {
		return err
	}
	return printRivals(out, cfg, all, p)
}

func contenders(cfg RivalConfig) []*contender {
	equal := Opus{Complexity: 10, Bitrate: 24000, NoFEC: true, Mono: true}
	return []*contender{
		{name: "Tandem", kind: ours, calls: cfg.Calls, again: true},
		{name: "rtpengine", kind: rival, calls: cfg.Calls, again: true},
		{name: "the floor", kind: least, calls: cfg.Calls, again: true},
		{name: "Tandem, complexity 10", kind: ours, opus: Opus{Complexity: 10}, calls: cfg.Calls},
		{name: "rtpengine, mono, 24 kbit/s", kind: rival, opus: equal, calls: cfg.Calls},
		{name: "Tandem, complexity 10, 24 kbit/s, no FEC", kind: ours, opus: equal, calls: cfg.Calls},
		{name: "Tandem, half load", kind: ours, calls: cfg.Half},
		{name: "rtpengine, half load", kind: rival, calls: halfRival},
		{name: "the floor, SRTP without WebRTC", kind: leastSRTP, calls: cfg.Calls},
	}
}

func (c *contender) measure(ctx context.Context, cfg RivalConfig, sounds *sounds) (Result, error) {
	run := Config{
		Gateway: append(slices.Clone(cfg.Gateway), "serve"), Calls: c.calls, Duration: cfg.Duration, Pinned: true, Opus: c.opus, Idle: time.Second,
		Passthrough: c.plain, Follows: c.follows,
	}
	return hold(ctx, c.kind, run, cfg.Gateway, sounds, c.with)
}

// hold runs one gateway under a load. prepare is the bench's, and gets it.
func hold(ctx context.Context, of kind, cfg Config, program []string, sounds *sounds, with func(*bench)) (Result, error) {
	if err := cfg.defaults(); err != nil {
		return Result{}, err
	}
	dir, err := os.MkdirTemp("", "tandem-bench-")
	if err != nil {
		return Result{}, fmt.Errorf("load: temporary directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{cfg: cfg, start: time.Now()}
	if with != nil {
		with(b)
	}
	switch of {
	case rival:
		err = b.startRTPEngine(ctx, dir)
	case least, leastSRTP:
		err = b.startFloor(ctx, dir, program, of == least)
	case viaBridge:
		err = b.startBridge(ctx, dir)
	case leastRoom:
		err = b.startPartyFloor(ctx, dir, program)
	case viaNosip:
		err = b.startNosip(ctx, dir)
	case ours:
		return b.run(ctx, sounds, dir)
	}
	if err != nil {
		return Result{}, err
	}
	return b.runPlain(ctx, sounds)
}

// held is how many calls it held, and the memory that it took for them.
func (c *contender) held() load {
	return load{calls: c.calls, rss: c.median(func(r Result) float64 { return r.HoldRSSMB })}
}

// load is a number of calls and the resident memory in MB that they took with all else.
type load struct {
	calls int
	rss   float64
}

// marginal is what each call beyond those of a takes, in kB.
func marginal(a, b load) float64 {
	if a.calls == b.calls {
		return 0
	}
	return 1024 * (b.rss - a.rss) / float64(b.calls-a.calls)
}

// What is to be reached: of memory in kB, of packets' delay at half load in ms.
const (
	memoryMost  = 700
	halfP50Most = 1
	halfP99Most = 5
)

// printHalf prints the delay at half load, of the worse way.
func printHalf(line func(string, ...any), r Result) {
	p50, p99 := max(r.ToBrowser.DelayP50Ms, r.ToPhone.DelayP50Ms), max(r.ToBrowser.DelayP99Ms, r.ToPhone.DelayP99Ms)
	line("packet delay at half load, the worse way\tp50 %.2f ms\tto reach: under %d ms%s", p50, halfP50Most, verdict(p50 < halfP50Most))
	line("\tp99 %.2f ms\tto reach: under %d ms%s", p99, halfP99Most, verdict(p99 < halfP99Most))
}

// median of one figure over the runs.
func (c *contender) median(of func(Result) float64) float64 {
	if len(c.runs) == 0 {
		return 0
	}
	values := make([]float64, 0, len(c.runs))
	for _, r := range c.runs {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func (c *contender) cpu() float64 {
	return c.median(func(r Result) float64 { return r.CPUMsPerCallSecond })
}

func (c *contender) memory() float64 {
	return c.median(func(r Result) float64 { return r.RSSPerCallKB })
}

func printRivals(out io.Writer, cfg RivalConfig, all []*contender, p parts) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := lines(w)
	if !canPin() {
		line("not pinned: there is no taskset, or one core only")
	}
	line("held for %v each, medians of %d runs of the first three, one run of the others", cfg.Duration, cfg.Rounds)
	printHeld(line, all)
	ratio := func(what string, a, b *contender, reach string) {
		if len(a.runs) > 0 && len(b.runs) > 0 {
			line("%s\t%.3f\tto reach: %s", what, a.cpu()/b.cpu(), reach)
		}
	}
	ratio("CPU against rtpengine, each at its defaults", all[0], all[1], "at most 0.3, hoped for 0.22")
	ratio("CPU at complexity 10 against rtpengine's default", all[3], all[1], "at most 0.4")
	ratio("CPU at equal settings", all[5], all[4], "no bound")
	ratio("CPU against the floor", all[0], all[2], "at most 1.25")
	ratio("CPU against the floor without WebRTC", all[0], all[8], "no bound")
	if held, half := all[0], all[6]; len(held.runs) > 0 && len(half.runs) > 0 {
		memory := marginal(held.held(), half.held())
		line("memory of one more call, from %d to %d\t%.0f kB\tto reach: under %d%s", held.calls, half.calls, memory, memoryMost, verdict(memory < memoryMost))
		printHalf(line, half.runs[0])
		printLiveKit(line, held.cpu(), memory)
	}
	reference := partsReference()
	line("the parts of the floor, each in a warm loop\tdecode %v, encode %v, a datagram %v, SRTP %v: %.2f ms (reference %v, %v, %v, %v: %.2f ms)",
		p.decode, p.encode, p.datagram, p.srtp, p.total(), reference.decode, reference.encode, reference.datagram, reference.srtp, reference.total())
	if p.total() > 1.2*reference.total() {
		line("void: the parts of the floor took more than 20 %% longer than their reference; run again on a quieter machine")
	}
	printStarved(line, all)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}
