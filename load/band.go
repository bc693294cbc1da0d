package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/sdp/v3"
)

// BandConfig is a comparison of browsers that are told that 8 kHz are enough with others. The zero value is usable.
type BandConfig struct {
	Gateway  []string      // how this program is called; empty: as it was
	Voice    string        // a file of speech as SpeechConfig.Voice; empty: that
	Calls    []int         // held with each, one number after the other; empty: 20, and 100
	Duration time.Duration // of each hold; 0: 6 s
	Rounds   int           // how often each is measured, in turn; 0: 9
}

const (
	mostOfFullBand = 0.8
	narrowFmtp     = "maxplaybackrate=8000" // RFC 7587 §6.1
	narrowBitrate  = 12000                  // what Chromium takes for 8 kHz, as 32000 for the full band
	narrowLimit    = 15 * time.Second       // until every browser is told
	packetsApart   = 37                     // of what two calls say at the same time, so that they don't pause together
)

// opusParameters are those of Opus in an SDP, as they are there; empty: none.
func opusParameters(text string) string {
	var d sdp.SessionDescription
	if d.UnmarshalString(text) != nil {
		return ""
	}
	for _, m := range d.MediaDescriptions {
		var format string
		for _, a := range m.Attributes {
			if number, codec, ok := strings.Cut(a.Value, " "); ok && a.Key == "rtpmap" && strings.HasPrefix(strings.ToLower(codec), "opus/") {
				format = number
			}
		}
		for _, a := range m.Attributes {
			if number, parameters, _ := strings.Cut(a.Value, " "); a.Key == "fmtp" && number == format {
				return parameters
			}
		}
	}
	return ""
}

// heldNarrow says whether the gateway's last answer said that 8 kHz are enough.
func (b *browser) heldNarrow() bool {
	asked := b.asked.Load()
	return asked != nil && hasParameter(*asked, narrowFmtp)
}

// hasParameter says whether one is among those of a codec.
func hasParameter(all, one string) bool {
	for parameter := range strings.SplitSeq(all, ";") {
		if strings.TrimSpace(parameter) == one {
			return true
		}
	}
	return false
}

var errNotTold = errors.New("load: not every browser was told that 8 kHz are enough")

// waitNarrow returns once all browsers that follow are told.
func (b *bench) waitNarrow(ctx context.Context) error {
	deadline := time.Now().Add(narrowLimit)
	for b.cfg.Follows {
		told := 0
		for _, c := range b.pairs {
			if c.browser.heldNarrow() {
				told++
			}
		}
		if told == len(b.pairs) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d: %w", told, len(b.pairs), errNotTold)
		}
		if err := sleep(ctx, heardPoll); err != nil {
			return err
		}
	}
	return nil
}

// bandSounds is speech, as it is said in calls: a decoder has more to do for it than for tones. Browsers say the same in both bands.
func bandSounds(voice [2][]int16) (*sounds, error) {
	s, err := speechSounds(voice, pcmu, 0)
	if err != nil {
		return nil, err
	}
	s.narrow, err = browserSpeech(voice[1], narrowBitrate, opus.Narrowband, 0)
	return s, err
}

// from is what a call says that is ahead of others by so many packets.
func (s *sounds) from(packet int) *sounds {
	ahead := func(all [][]byte) [][]byte {
		return slices.Concat(all[packet%len(all):], all[:packet%len(all)])
	}
	return &sounds{phone: ahead(s.phone), browser: ahead(s.browser), narrow: ahead(s.narrow)}
}

// RunBand holds calls whose browsers send the full band, and such whose gateway has told them that 8 kHz are enough, and
// prints what each costs.
func RunBand(ctx context.Context, cfg BandConfig, out io.Writer) error {
	if len(cfg.Calls) == 0 {
		cfg.Calls = []int{20, 100}
	}
	if cfg.Duration == 0 {
		cfg.Duration = 6 * time.Second
	}
	if cfg.Rounds == 0 {
		cfg.Rounds = 9
	}
	var err error
	if cfg.Gateway, err = programOr(cfg.Gateway); err != nil {
		return err
	}
	voice, err := readVoice(cmp.Or(cfg.Voice, speechVoice))
	if errors.Is(err, os.ErrNotExist) {
		return noSpeech(out, cmp.Or(cfg.Voice, speechVoice))
	}
	if err != nil {
		return err
	}
	says, err := bandSounds(voice)
	if err != nil {
		return err
	}
	if err := pinSelf(ctx, os.Getpid()); err != nil {
		return err
	}
	var asked [2]string // of the default, and of narrowband
	keep := func(of *string) func(*bench) {
		return func(b *bench) {
			b.check = func(b *bench) error {
				*of = *b.pairs[0].browser.asked.Load()
				return nil
			}
			b.prepare = func(k int, c *pair) error {
				c.says = says.from(k * packetsApart)
				return nil
			}
		}
	}
	var all []*contender // pairs of the default and narrowband
	for _, calls := range cfg.Calls {
		all = append(all,
			&contender{name: "full band, the default", kind: ours, calls: calls, again: true, with: keep(&asked[0])},
			&contender{name: "held to narrowband", kind: ours, calls: calls, again: true, with: keep(&asked[1]), follows: true})
	}
	run := RivalConfig{Gateway: cfg.Gateway, Duration: cfg.Duration, Rounds: cfg.Rounds}
	if err := measureRounds(ctx, run, says, all); err != nil {
		return err
	}
	return printBand(out, cfg, all, asked)
}

// printBand prints what each contender costs, and the ratio of each pair.
func printBand(out io.Writer, cfg BandConfig, all []*contender, asked [2]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := lines(w)
	line("both ends speak; held for %v each, medians of %d runs; Opus of %d kbit/s, in narrowband of %d", cfg.Duration, cfg.Rounds, browserBitrate/1000, narrowBitrate/1000)
	line("\tcalls\tCPU per call-second\tlowest, highest\tpackets of a second to each phone\tdecoded of each browser\town CPU\tsent late")
	for _, c := range all {
		low, high := spread(c.runs)
		line("%s\t%d\t%.2f ms\t%.2f, %.2f\t%.1f\t%.1f\t%.0f %%\t%.1f ms", c.name, c.calls, c.cpu(), low, high, c.median(phoneHears), c.median(decodedOfBrowser),
			c.median(func(r Result) float64 { return r.OwnCPUPct }), c.median(func(r Result) float64 { return r.PacerLateMaxMs }))
		const whole = float64(time.Second/packetTime) * (1 - starved/100.0)
		if least := min(c.median(phoneHears), c.median(decodedOfBrowser)); least < whole {
			line("void: of each browser of %q only %.1f packets of a second were decoded and heard, so its CPU is that of less work", c.name, least)
		}
	}
	for i, asked := range asked {
		line("%s\tthe gateway's SDP asked for: %s", all[i].name, asked)
	}
	for pair := range slices.Chunk(all, 2) {
		printRatio(line, fmt.Sprintf("CPU held to narrowband against the default, %d calls", pair[0].calls), pair[1].cpu(), pair[0].cpu(), mostOfFullBand)
	}
	if most := len(all) - 2; all[most].calls != all[0].calls {
		full, narrow := oneMore(all[0], all[most]), oneMore(all[1], all[most+1])
		line("CPU of one more call, from %d to %d\t%.2f ms\t%.2f ms\tits ratio %.3f", all[0].calls, all[most].calls, full, narrow, narrow/full)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}

// oneMore is what a call costs beside others, in ms of CPU a second: without what waking up costs, however few calls there are.
func oneMore(few, many *contender) float64 {
	return (many.cpu()*float64(many.calls) - few.cpu()*float64(few.calls)) / float64(many.calls-few.calls)
}

// phoneHears is how many packets of a second each phone heard.
func phoneHears(r Result) float64 { return r.perSecond(r.PhonesHeard, r.Calls) }

// decodedOfBrowser is how many packets of a second the gateway decoded of each browser.
func decodedOfBrowser(r Result) float64 {
	return r.Decoders / packetTime.Seconds() / float64(r.Calls)
}
