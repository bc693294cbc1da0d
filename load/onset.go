package load

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/hraban/opus"
)

// DelayConfig is a measurement of how late sound is heard. The zero value is usable.
type DelayConfig struct {
	Gateway  []string      // how this program is called; empty: as it was
	Calls    int           // 0: 10
	Duration time.Duration // 0: 10 s
}

const (
	onsetEvery  = 25   // packets from one onset to the next
	onsetQuiet  = 20   // of them, how many are almost silent
	onsetLoop   = 8    // onsets after which the sound is repeated
	onsetTone   = 1000 // Hz
	onsetLevel  = 0.3  // of full scale
	onsetNoise  = 0.001
	onsetMost   = 12                    // ms: what is to be reached
	onsetHeard  = onsetLevel / 4        // what counts as an onset
	onsetWithin = 90 * time.Millisecond // less than a tone lasts: its end, left over by the codec, is no onset
)

// onsetSounds is silence out of which a tone begins with the first sample of a packet, again and again.
func onsetSounds() (*sounds, error) {
	s := &sounds{}
	enc, err := opus.NewEncoder(browserRate, 1, opus.AppVoIP)
	if err != nil {
		return nil, fmt.Errorf("load: Opus encoder: %w", err)
	}
	if err := enc.SetBitrate(browserBitrate); err != nil {
		return nil, fmt.Errorf("load: Opus bit rate: %w", err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	write := func(pcm []int16, i, rate int) {
		for n := range pcm {
			v := onsetNoise * rng.NormFloat64()
			if at := i%onsetEvery - onsetQuiet; at >= 0 {
				v += onsetLevel * math.Sin(2*math.Pi*onsetTone*float64(at*rate/50+n)/float64(rate))
			}
			pcm[n] = int16(math.MaxInt16 * v)
		}
	}
	return s, s.encode(enc, onsetEvery*onsetLoop, write)
}

// onsets is how late each onset was heard that was sent from one time to another: from its packet, whose first sample it is, on its
// way to it in what was decoded as it came. missed were not heard at all.
func (f *flow) onsets(decode decoder, from, to time.Duration) (late []time.Duration, missed int) {
	var heard []time.Duration // when something loud began
	var frame [frameSamples]int16
	quiet := onsetEvery // packets since something loud
	for _, a := range f.arrivals {
		if !decode(f.store[a.from:a.from+a.len], &frame) {
			continue
		}
		first := slices.IndexFunc(frame[:], func(v int16) bool { return math.Abs(float64(v)) > math.MaxInt16*onsetHeard })
		if first < 0 {
			quiet++
			continue
		}
		if quiet > onsetQuiet/2 {
			heard = append(heard, a.at+time.Duration(first)*time.Second/phoneRate)
		}
		quiet = 0
	}
	for i, sent := range f.sent {
		if i%onsetEvery != onsetQuiet || sent < from || sent > to {
			continue
		}
		at, _ := slices.BinarySearch(heard, sent)
		if at == len(heard) || heard[at]-sent > onsetWithin {
			missed++
			continue
		}
		late = append(late, heard[at]-sent)
	}
	return late, missed
}

// RunDelay measures how late sound is heard, by ear: over our gateway and over rtpengine, in turn on one core.
func RunDelay(ctx context.Context, cfg DelayConfig, out io.Writer) error {
	if cfg.Calls == 0 {
		cfg.Calls = 10
	}
	if cfg.Duration == 0 {
		cfg.Duration = 10 * time.Second
	}
	var err error
	if cfg.Gateway, err = programOr(cfg.Gateway); err != nil {
		return err
	}
	says, err := onsetSounds()
	if err != nil {
		return err
	}
	if err := pinSelf(ctx, os.Getpid()); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) } // Flush tells
	line("delay of sound, one voice\tphone → browser p50, p90\tmissed\tbrowser → phone p50, p90\tmissed\town CPU\tsent late")
	var own [2]float64
	for of, name := range []string{"Tandem", "rtpengine"} {
		if kind(of) == rival && !hasRTPEngine() {
			continue
		}
		run := Config{
			Gateway: append(slices.Clone(cfg.Gateway), "serve"), Calls: cfg.Calls, Duration: cfg.Duration, Pinned: true, Idle: time.Second,
		}
		var b *bench
		held, err := hold(ctx, kind(of), run, cfg.Gateway, says, func(made *bench) {
			b = made
			b.prepare = func(int, *pair) error { return nil }
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var late [2][]time.Duration
		var missed [2]int
		for _, c := range b.pairs {
			decode, err := newBrowserDecoder()
			if err != nil {
				return err
			}
			for way, one := range []struct {
				*flow
				decoder
			}{{c.toBrowser, decode}, {c.toPhone, decodePhone}} {
				delays, none := one.onsets(one.decoder, b.from, b.to)
				late[way] = append(late[way], delays...)
				missed[way] += none
			}
		}
		for way := range late {
			slices.Sort(late[way])
			if kind(of) == ours {
				own[way] = ms(percentile(late[way], 50))
			}
		}
		line("%s\t%.1f ms, %.1f ms\t%d of %d\t%.1f ms, %.1f ms\t%d of %d\t%.0f %%\t%.1f ms", name,
			ms(percentile(late[0], 50)), ms(percentile(late[0], 90)), missed[0], missed[0]+len(late[0]),
			ms(percentile(late[1], 50)), ms(percentile(late[1], 90)), missed[1], missed[1]+len(late[1]), held.OwnCPUPct, held.PacerLateMaxMs)
	}
	line("to reach, one voice\tat most %d ms, of which the codec 6.8%s\t\tthe same%s", onsetMost, verdict(own[0] <= onsetMost), verdict(own[1] <= onsetMost))
	printLiveKitDelay(line, own[0], own[1])
	late, missed, held, err := mixedDelay(ctx, cfg, says)
	if err != nil {
		return fmt.Errorf("mixing: %w", err)
	}
	line("Tandem, while another voice is mixed in\t\t\t%.1f ms, %.1f ms\t%d of %d\t%.0f %%\t%.1f ms", ms(percentile(late, 50)), ms(percentile(late, 90)),
		missed, missed+len(late), held.OwnCPUPct, held.PacerLateMaxMs)
	line("to reach\t\t\tat most %d ms%s", mixedMost, verdict(len(late) > 0 && ms(percentile(late, 50)) <= mixedMost))
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}
