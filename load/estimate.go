package load

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// estimate is a mean, and its standard error.
type estimate struct {
	mean, err float64
	count     int
}

// estimated is that of values; those that are not a number don't count. The standard error of fewer than two is infinite.
func estimated(values []float64) estimate {
	e := estimate{err: math.Inf(1)}
	var sum, squares float64
	for _, v := range values {
		if !math.IsNaN(v) {
			sum += v
			e.count++
		}
	}
	if e.count == 0 {
		return e
	}
	e.mean = sum / float64(e.count)
	for _, v := range values {
		if !math.IsNaN(v) {
			squares += (v - e.mean) * (v - e.mean)
		}
	}
	if e.count > 1 {
		e.err = math.Sqrt(squares / float64(e.count-1) / float64(e.count))
	}
	return e
}

const (
	// sureErrors is how many standard errors a difference must be to be more than chance: of 42 cells that are all alike, none is
	// beyond them in 19 of 20 runs.
	sureErrors = 3
	// noticed is the deficit that must not stay hidden in chance.
	noticed = 0.02
)

// comparison is one cell of ours beside that of a rival.
type comparison struct {
	mine, theirs estimate
	more         estimate // by how much ours is more, piece by piece
}

// compared compares what was understood of the same pieces of speech of which the same packets were lost.
func compared(mine, theirs []float64) comparison {
	var more []float64
	for i := range min(len(mine), len(theirs)) {
		more = append(more, mine[i]-theirs[i])
	}
	return comparison{estimated(mine), estimated(theirs), estimated(more)}
}

// chance is by how much it may be more or less without meaning.
func (c comparison) chance() float64 { return sureErrors * c.more.err }

// less says that ours is understood less, by more than chance.
func (c comparison) less() bool { return c.more.mean < 0 && -c.more.mean > c.chance() }

// hides says that it may be understood less by what would be noticed, and that chance doesn't let it be seen.
func (c comparison) hides() bool { return !c.less() && c.more.mean-c.chance() < -noticed }

// printSpeech prints what was understood over ours and over a rival; theirs is nil if there is none.
func printSpeech(out io.Writer, width band, mine, theirs *heardSpeech) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) } // Flush tells
	header := []string{width.name}
	for _, b := range badnesses() {
		header = append(header, b.name)
	}
	line(header...)
	var less, unsure, hidden []string
	for place := range places {
		line(placeName(place))
		rows := [3][]string{{"  Tandem"}, {"  rtpengine"}, {"  difference"}}
		for _, b := range badnesses() {
			if theirs == nil {
				rows[0] = append(rows[0], estimated(mine.by[place][b.name]).String())
				continue
			}
			c := compared(mine.by[place][b.name], theirs.by[place][b.name])
			rows[0], rows[1] = append(rows[0], c.mine.String()), append(rows[1], c.theirs.String())
			rows[2] = append(rows[2], fmt.Sprintf("%+.4f ±%.4f", c.more.mean, c.chance()))
			what := fmt.Sprintf("%s, %s: %.4f against %.4f, %.4f less; chance is up to %.4f", placeName(place), b.name, c.mine.mean, c.theirs.mean, -c.more.mean, c.chance())
			switch {
			case c.less():
				less = append(less, what)
			case c.more.mean < 0:
				unsure = append(unsure, what)
			}
			if c.hides() {
				hidden = append(hidden, fmt.Sprintf("%s, %s: %+.4f, and chance is up to %.4f", placeName(place), b.name, c.more.mean, c.chance()))
			}
		}
		if theirs == nil {
			line(rows[0]...)
			continue
		}
		for _, row := range rows {
			line(row...)
		}
	}
	for i, h := range []*heardSpeech{mine, theirs} {
		if h == nil {
			continue
		}
		all, void := h.counted()
		line(fmt.Sprintf("%s took %.0f %% of its core; we sent at worst %.0f ms late; left out are %d pieces of %d, of which we sent packets more than %d ms late",
			[2]string{"Tandem", "rtpengine"}[i], h.held.CPUPct, h.held.PacerLateMaxMs, void, all, (playout / 2).Milliseconds()))
		if 5*void > all {
			line("void: the machine was too busy for speech")
		}
	}
	line(fmt.Sprintf("in brackets the standard error, over %d, %d and %d pieces of speech with loss; ± is %d standard errors of the difference, piece by piece",
		len(mine.by[beforeFromBrowser][header[1]]), len(mine.by[beforeFromPhone][header[1]]), len(mine.by[afterToBrowser][header[2]]), sureErrors))
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	if theirs == nil {
		_, err := fmt.Fprintln(out, "rtpengine is not installed (scripts/install bench)")
		return err
	}
	for _, found := range []struct {
		what  string
		cells []string
	}{
		{"cells in which Tandem is understood less, by more than chance: %d (to reach: 0)", less},
		{"cells in which it is less, but by no more than chance: %d", unsure},
		{fmt.Sprintf("cells in which chance could hide that it is less by %g: %%d (to reach: 0)", noticed), hidden},
	} {
		if _, err := fmt.Fprintf(out, found.what+"\n", len(found.cells)); err != nil {
			return err
		}
		for _, cell := range found.cells {
			if _, err := fmt.Fprintln(out, "  "+cell); err != nil {
				return err
			}
		}
	}
	return nil
}

// counted is of how many pieces something was to be understood, and how many of them say nothing.
func (h *heardSpeech) counted() (all, void int) {
	for _, cells := range h.by {
		for _, pieces := range cells {
			for _, stoi := range pieces {
				if all++; math.IsNaN(stoi) {
					void++
				}
			}
		}
	}
	return all, void
}

// String is the mean, and the standard error in brackets.
func (e estimate) String() string { return fmt.Sprintf("%.3f (%.3f)", e.mean, e.err) }
