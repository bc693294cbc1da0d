package load

import (
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
	Calls    []int         // held with each, one number after the other; empty: 20, and 100
	Duration time.Duration // of each hold; 0: 6 s
	Rounds   int           // how often each is measured, in turn; 0: 5
}

const (
	mostOfFullBand = 0.8
	narrowFmtp     = "maxplaybackrate=8000" // RFC 7587 §6.1
	narrowBitrate  = 12000                  // what Chromium takes for 8 kHz, as 32000 for the full band
	narrowLimit    = 15 * time.Second       // until every browser is told
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

// narrowSounds adds what the browsers say in narrowband.
func narrowSounds(s *sounds) error {
	enc, err := browserEncoder(narrowBitrate, opus.Narrowband)
	if err != nil {
		return err
	}
	s.narrow, err = encodeMarks(enc)
	return err
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
		cfg.Rounds = 5
	}
	var err error
	if cfg.Gateway, err = programOr(cfg.Gateway); err != nil {
		return err
	}
	says, err := newSounds()
	if err != nil {
		return err
	}
	if err := narrowSounds(says); err != nil {
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
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := lines(w)
	line("held for %v each, medians of %d runs; Opus of %d kbit/s, in narrowband of %d", cfg.Duration, cfg.Rounds, browserBitrate/1000, narrowBitrate/1000)
	printHeld(line, all)
	line("what %d kbit/s spoil of the marks counts as lost towards phones", narrowBitrate/1000)
	for i, asked := range asked {
		line("%s\tthe gateway's SDP asked for: %s", all[i].name, asked)
	}
	for pair := range slices.Chunk(all, 2) {
		printRatio(line, fmt.Sprintf("CPU held to narrowband against the default, %d calls", pair[0].calls), pair[1].cpu(), pair[0].cpu(), mostOfFullBand)
	}
	printStarved(line, all)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}
