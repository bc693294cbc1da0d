package load

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tandem/test/audio"
)

const (
	speechPiece = pieceFrames * packetTime
	speechReach = 1500 * time.Millisecond // by which what is heard may be late or early
	stoiRate    = 10000                   // of what is compared
)

// heardSpeech is what was understood over one gateway: by place and badness the STOI of each piece of speech, in an order in which
// those of another gateway are of the same speech and the same lost packets. And how busy it was meanwhile.
type heardSpeech struct {
	by   [places]map[string][]float64
	held Result
}

// understand listens to the calls, on all cores, and keeps one of each kind as a file.
func (s *spokenCalls) understand(ctx context.Context, folder string, width band, voice [2][]int16) (*heardSpeech, error) {
	weathers := badnesses()
	var said [2][]int16
	for i := range said {
		said[i] = audio.Resample(audio.Resample(voice[i], voiceRate, width.rate), width.rate, stoiRate)
	}
	result := &heardSpeech{held: s.held}
	for place := range result.by {
		result.by[place] = map[string][]float64{}
	}
	var listening errgroup.Group
	listening.SetLimit(runtime.GOMAXPROCS(0))
	var toKeep []func()
	listen := func(place int, weather string, kept bool, hear func() ([]float64, []int16, error)) {
		var pieces []float64
		listening.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var samples []int16
			var err error
			if pieces, samples, err = hear(); err != nil || !kept {
				return err
			}
			return keepHeard(folder, width, place, weather, s.name, samples)
		})
		toKeep = append(toKeep, func() { result.by[place][weather] = append(result.by[place][weather], pieces...) })
	}
	for k, c := range s.pairs {
		w := weathers[k%len(weathers)]
		listen(beforeFromBrowser, w.name, k < len(weathers), func() ([]float64, []int16, error) {
			heard := c.toPhone.playPhone(s.from, width.codec)
			stoi, _ := c.toPhone.pieces(said[1], audio.Resample(heard, width.rate, stoiRate), s.from)
			return stoi, heard, nil
		})
		hear := func(f *flow) ([]float64, []int16, error) {
			heard, err := f.playBrowser(s.from, width.rate)
			stoi, _ := f.pieces(said[0], audio.Resample(heard, width.rate, stoiRate), s.from)
			return stoi, heard, err
		}
		if !isAfter(k) {
			listen(beforeFromPhone, w.name, k < len(weathers), func() ([]float64, []int16, error) { return hear(c.toBrowser) })
			continue
		}
		patterns := afterPatterns
		if w.Lost == 0 {
			patterns = 1
		}
		first, err := c.toBrowser.firstPlace(said[0], s.from, width.rate)
		if err != nil {
			return nil, err
		}
		for pattern := range patterns {
			lost := w.losses(1000*k + pattern)
			listen(afterToBrowser, w.name, pattern == 0, func() ([]float64, []int16, error) {
				return hear(c.toBrowser.without(lost, first, s.from))
			})
		}
	}
	if err := listening.Wait(); err != nil {
		return nil, err
	}
	for _, keep := range toKeep {
		keep()
	}
	return result, nil
}

// keepSaid makes the folder and writes what is said, as each band can carry it.
func keepSaid(folder string, voice [2][]int16) error {
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return fmt.Errorf("load: folder of what is said and heard: %w", err)
	}
	for _, width := range bands() {
		for i, who := range []string{"phones", "browsers"} {
			file := fmt.Sprintf("%s-said-by-%s.wav", strings.ToLower(width.codec), who)
			said := audio.Resample(voice[i], voiceRate, width.rate)
			if err := audio.WriteWAV(filepath.Join(folder, file), said, width.rate); err != nil {
				return fmt.Errorf("load: what is said: %w", err)
			}
		}
	}
	return nil
}

// keepHeard writes what was heard to a file.
func keepHeard(folder string, width band, place int, weather, gateway string, samples []int16) error {
	what := [places]string{"to-phone", "to-browser-lost-before", "to-browser-lost-after"}[place]
	file := fmt.Sprintf("%s-%s-%s-%s.wav", strings.ToLower(width.codec), what, strings.NewReplacer(" ", "", "%", "").Replace(weather), gateway)
	if err := audio.WriteWAV(filepath.Join(folder, file), samples, width.rate); err != nil {
		return fmt.Errorf("load: what was heard: %w", err)
	}
	return nil
}

// pieces is the STOI of each piece of what is said again and again, the first time that it is said whole after from; and by how much
// it was late. What was heard begins at from, both are of stoiRate. A piece that we sent too late is not a number.
func (f *flow) pieces(said, heard []int16, from time.Duration) (stoi []float64, late []time.Duration) {
	first, _ := slices.BinarySearch(f.sent, from)
	begin := (first + pieceFrames - 1) / pieceFrames * pieceFrames
	turn := begin % speechFrames / pieceFrames // the piece that comes first
	at := begin % speechFrames * (len(said) / speechFrames)
	stoi, late = stoiPieces(slices.Concat(said[at:], said[:at]), heard, time.Duration(begin-first)*packetTime)
	for i := range stoi {
		if f.sentLate(begin + i*pieceFrames) {
			stoi[i] = math.NaN()
		}
	}
	back := len(stoi) - turn
	return slices.Concat(stoi[back:], stoi[:back]), slices.Concat(late[back:], late[:back])
}

// sentLate says whether a packet of the piece that begins with packet i went out later than the receiver can wait for: then what is
// missed is our doing.
func (f *flow) sentLate(i int) bool {
	for k := i + 1; k <= i+pieceFrames && k < len(f.sent); k++ {
		if f.sent[k]-f.sent[k-1] > packetTime+playout/2 {
			return true
		}
	}
	return false
}

// stoiPieces compares in pieces that are aligned each for itself. What was heard begins by early before what was said; both are of
// stoiRate.
func stoiPieces(said, heard []int16, early time.Duration) (stoi []float64, late []time.Duration) {
	samples := func(d time.Duration) int { return int(d * stoiRate / time.Second) }
	piece, reach := samples(speechPiece), samples(speechReach)
	for from := 0; from+piece <= len(said); from += piece {
		at := from + samples(early)
		begin := min(max(0, at-reach), len(heard))
		aligned, lag := audio.Align(said[from:from+piece], heard[begin:min(len(heard), at+piece+reach)], stoiRate, 2*speechReach)
		stoi = append(stoi, audio.STOI(said[from:from+piece], aligned, stoiRate))
		late = append(late, lag-time.Duration(at-begin)*time.Second/stoiRate)
	}
	return stoi, late
}

// understood is the mean STOI of what was said and heard from the same time on.
func understood(said, heard []int16, rate int) float64 {
	stoi, _ := stoiPieces(audio.Resample(said, rate, stoiRate), audio.Resample(heard, rate, stoiRate), 0)
	return estimated(stoi).mean
}

// firstPlace is which packet of ours the first one after from carries, of a flow of which nothing is lost. The sound tells: a gateway's
// timestamps begin where they will, and it may hold packets back. Codecs look ahead by less than a packet.
func (f *flow) firstPlace(said []int16, from time.Duration, rate int) (int, error) {
	heard, err := f.playBrowser(from, rate)
	if err != nil {
		return 0, err
	}
	_, late := f.pieces(said, audio.Resample(heard, rate, stoiRate), from)
	slices.Sort(late)
	first, _ := slices.BinarySearch(f.sent, from)
	return first - int(math.Floor(float64(late[len(late)/2])/float64(packetTime))), nil
}

// without is the flow, from from on, when the packets that carry lost places of what was said have not arrived. The first one that did
// carries place first.
func (f *flow) without(lost []bool, first int, from time.Duration) *flow {
	rest := &flow{step: f.step, sent: f.sent, store: f.store}
	begin := slices.IndexFunc(f.arrivals, func(a arrival) bool { return a.at >= from })
	if begin < 0 {
		return rest
	}
	start := f.arrivals[begin].timestamp
	for _, a := range f.arrivals[begin:] {
		place := first + int(int32(a.timestamp-start))/int(f.step)
		if !lost[(place%len(lost)+len(lost))%len(lost)] {
			rest.arrivals = append(rest.arrivals, a)
		}
	}
	return rest
}
