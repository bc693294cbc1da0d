package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gotranspile/g722"
	"github.com/hraban/opus"
	"github.com/zaf/g711"

	"tandem/test/audio"
)

// SpeechConfig is a comparison of what is understood of a voice after our gateway and after rtpengine. The zero value
// is usable.
type SpeechConfig struct {
	Gateway []string // how this program is called; empty: as it was
	Voice   string   // a file of speech, G.722 without a header; empty: one that Debian has
	Keep    string   // a folder for what was heard; empty: bin/speech
}

const (
	speechVoice  = "/usr/share/asterisk/sounds/en_US_f_Allison/demo-instruct.g722" // asterisk-core-sounds-en-g722
	speechFolder = "bin/speech"
	voiceRate    = 16000
	speechFrames = 800 // 16 s
	speechPiece  = 4 * time.Second
	speechReach  = 1500 * time.Millisecond // by which what is heard may be late or early
	meanBurst    = 3
	playout      = 80 * time.Millisecond // the jitter buffer of both receivers
)

// badness is one column of the table: the same loss in three places, each in a call or two of its own.
type badness struct {
	name string
	Weather
}

func badnesses() []badness {
	all := []badness{{name: "0 %"}}
	for _, burst := range []float64{1, meanBurst} {
		for _, percent := range []float64{5, 10, 20} {
			name := "random"
			if burst > 1 {
				name = "bursts"
			}
			all = append(all, badness{fmt.Sprintf("%g %% %s", percent, name), Weather{Lost: percent / 100, Burst: burst}})
		}
	}
	return all
}

// The places where packets are lost. A call has the first and one of the other two.
const (
	beforeFromBrowser = iota
	beforeFromPhone
	afterToBrowser
	places
)

func placeName(place int) string {
	return [places]string{
		"browser → phone, lost before the gateway", "phone → browser, lost before the gateway", "phone → browser, lost after the gateway",
	}[place]
}

// band is one width of sound.
type band struct {
	name    string
	codec   string // of the phones
	rate    int    // of what is compared
	bitrate int    // our default, which the rival is told
}

func bands() []band {
	return []band{{"narrowband (PCMU)", pcmu, phoneRate, 32000}, {"wideband (G.722)", g722Name, voiceRate, 48000}}
}

// heardSpeech is what was understood, by place and badness, and how busy it was meanwhile.
type heardSpeech struct {
	by   [places]map[string]float64
	held Result
}

// RunSpeech lets phones and browsers speak through both gateways and prints what is understood of it.
func RunSpeech(ctx context.Context, cfg SpeechConfig, out io.Writer) error {
	if cfg.Voice == "" {
		cfg.Voice = speechVoice
	}
	if cfg.Keep == "" {
		cfg.Keep = speechFolder
	}
	var err error
	if cfg.Gateway, err = programOr(cfg.Gateway); err != nil {
		return err
	}
	voice, err := readVoice(cfg.Voice)
	if errors.Is(err, os.ErrNotExist) {
		_, err = fmt.Fprintf(out, "no speech: %s is not here (scripts/install bench)\n", cfg.Voice)
		return err
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Keep, 0o750); err != nil {
		return fmt.Errorf("load: folder of what was heard: %w", err)
	}
	if err := pinSelf(ctx, os.Getpid()); err != nil {
		return err
	}
	for _, b := range bands() {
		says, err := allSays(voice, b.codec)
		if err != nil {
			return err
		}
		var all [2]*heardSpeech
		for of, name := range []string{"tandem", "rtpengine"} {
			if kind(of) == rival && !hasRTPEngine() {
				continue
			}
			if all[of], err = speak(ctx, cfg, kind(of), name, b, voice, says); err != nil {
				return fmt.Errorf("%s, %s: %w", name, b.name, err)
			}
		}
		if err := printSpeech(out, b, all[ours], all[rival]); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "what was said and heard is kept in %s\n", cfg.Keep)
	return err
}

// readVoice reads two stretches of 16 s: what phones say, and what browsers do.
func readVoice(path string) ([2][]int16, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return [2][]int16{}, fmt.Errorf("load: speech: %w", err)
	}
	const length = speechFrames * voiceRate / 50
	pcm := make([]int16, 2*len(raw))
	pcm = pcm[:g722.NewDecoder(g722.Rate64000, 0).Decode(pcm, raw)]
	if len(pcm) < 2*length {
		return [2][]int16{}, fmt.Errorf("load: %s holds %d s of speech: want %d", path, len(pcm)/voiceRate, 2*speechFrames/50)
	}
	return [2][]int16{pcm[:length], pcm[length : 2*length]}, nil
}

// speechSounds is what a call says: voice[0] at the phone, voice[1] at the browser, whose encoder knows of the loss as browsers
// are told of it.
func speechSounds(voice [2][]int16, codec string, loss float64) (*sounds, error) {
	s := &sounds{}
	phone := g722.NewEncoder(g722.Rate64000, 0)
	narrow := audio.Resample(voice[0], voiceRate, phoneRate)
	for i := range speechFrames {
		payload := make([]byte, frameSamples)
		if codec == g722Name {
			phone.Encode(payload, voice[0][i*2*frameSamples:(i+1)*2*frameSamples])
		} else {
			for n, v := range narrow[i*frameSamples : (i+1)*frameSamples] {
				payload[n] = g711.EncodeUlawFrame(v)
			}
		}
		s.phone = append(s.phone, payload)
	}
	enc, err := opus.NewEncoder(browserRate, 1, opus.AppVoIP)
	if err != nil {
		return nil, fmt.Errorf("load: Opus encoder: %w", err)
	}
	for _, err := range []error{
		enc.SetBitrate(browserBitrate), enc.SetMaxBandwidth(opus.Fullband), enc.SetInBandFEC(true), enc.SetPacketLossPerc(int(100 * loss)),
	} {
		if err != nil {
			return nil, fmt.Errorf("load: Opus encoder: %w", err)
		}
	}
	wide := audio.Resample(voice[1], voiceRate, browserRate)
	packet := make([]byte, maxPayload)
	for i := range speechFrames {
		n, err := enc.Encode(wide[i*opusStep:(i+1)*opusStep], packet)
		if err != nil {
			return nil, fmt.Errorf("load: encode Opus: %w", err)
		}
		s.browser = append(s.browser, slices.Clone(packet[:n]))
	}
	return s, nil
}

// allSays is what the calls of each badness say.
func allSays(voice [2][]int16, codec string) ([]*sounds, error) {
	var all []*sounds
	for _, w := range badnesses() {
		s, err := speechSounds(voice, codec, w.Lost)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// speak holds a call for each badness and place over one gateway, and says what is understood.
func speak(ctx context.Context, cfg SpeechConfig, of kind, name string, width band, voice [2][]int16, says []*sounds) (*heardSpeech, error) {
	weathers := badnesses()
	run := Config{
		Gateway: append(slices.Clone(cfg.Gateway), "serve"), Calls: 2 * len(weathers), Duration: (speechFrames + 60) * packetTime,
		Pinned: true, Codec: width.codec, Idle: time.Second,
	}
	if of == rival {
		run.Opus = Opus{Bitrate: width.bitrate, Mono: true}
	}
	var b *bench
	held, err := hold(ctx, of, run, cfg.Gateway, says[0], func(made *bench) {
		b = made
		b.prepare = func(k int, c *pair) error {
			w := weathers[k%len(weathers)].Weather
			seeded := func(seed int) *Network {
				w := w
				w.Seed = uint64(seed)
				return NewNetwork(w)
			}
			c.says = says[k%len(weathers)]
			c.lose[1] = seeded(3 * k)
			c.loseAfter = NewNetwork(Weather{}) // so that all browsers say that they take FEC
			if k < len(weathers) {
				c.lose[0] = seeded(3*k + 1)
			} else {
				c.loseAfter = seeded(3*k + 2)
			}
			return nil
		}
	})
	if err != nil {
		return nil, err
	}
	result := &heardSpeech{held: held}
	for place := range result.by {
		result.by[place] = map[string]float64{}
	}
	said := [2][]int16{audio.Resample(voice[0], voiceRate, width.rate), audio.Resample(voice[1], voiceRate, width.rate)}
	for k, c := range b.pairs {
		w := weathers[k%len(weathers)]
		atPhone := c.toPhone.playPhone(b.from, width.codec)
		toBrowser, err := c.toBrowser.playBrowser(b.from, width.rate)
		if err != nil {
			return nil, err
		}
		half := k / len(weathers)
		result.by[beforeFromBrowser][w.name] += understood(c.toPhone.looped(said[1], b.from), atPhone, width.rate) / 2
		result.by[beforeFromPhone+half][w.name] = understood(c.toBrowser.looped(said[0], b.from), toBrowser, width.rate)
		for _, kept := range []struct {
			what    string
			samples []int16
		}{{"to-phone", atPhone}, {[]string{"to-browser-lost-before", "to-browser-lost-after"}[half], toBrowser}} {
			file := fmt.Sprintf("%s-%s-%s-%s.wav", strings.ToLower(width.codec), kept.what, strings.NewReplacer(" ", "", "%", "").Replace(w.name), name)
			if err := audio.WriteWAV(filepath.Join(cfg.Keep, file), kept.samples, width.rate); err != nil {
				return nil, fmt.Errorf("load: what was heard: %w", err)
			}
		}
	}
	return result, nil
}

// looped is what was said from the first packet after from on, for 16 s.
func (f *flow) looped(said []int16, from time.Duration) []int16 {
	first, _ := slices.BinarySearch(f.sent, from)
	at := first % speechFrames * (len(said) / speechFrames)
	return slices.Concat(said[at:], said[:at])
}

// understood is the STOI of what was heard, in pieces that are aligned each for itself.
func understood(said, heard []int16, rate int) float64 {
	piece, reach := int(speechPiece.Seconds())*rate, int(speechReach.Seconds()*float64(rate))
	var sum float64
	count := 0
	for from := 0; from+piece <= len(said) && from < len(heard); from += piece {
		begin := max(0, from-reach)
		aligned, _ := audio.Align(said[from:from+piece], heard[begin:min(len(heard), from+piece+reach)], rate, 2*speechReach)
		if one := audio.STOI(said[from:from+piece], aligned, rate); !math.IsNaN(one) {
			sum += one
			count++
		}
	}
	if count == 0 {
		return 0
	}
	return sum / float64(count)
}

// played is what a receiver plays in 20 ms.
type played struct {
	payload []byte // of the packet whose turn it is; nil: it is lost, or late
	next    []byte // of the one after it, if payload is nil and that one is there
}

// playOut is a jitter buffer: it begins 80 ms after the first packet and takes one each 20 ms, in the order of the sequence
// numbers. One that isn't there when a later one is, is lost; if none is there at all, it waits. What was left out and
// what was put in by a gateway thus shifts what follows, and does not lose it; a buffer of more than ten packets is cut. Where the
// timestamps say that nothing was sent for a while, that is played as long as it was, as receivers do.
func (f *flow) playOut(from time.Duration) []played {
	const ticks, full, far = speechFrames + 25, 10, 500
	out := make([]played, ticks)
	begin := slices.IndexFunc(f.arrivals, func(a arrival) bool { return a.at >= from })
	if begin < 0 {
		return out
	}
	first := f.arrivals[begin]
	waiting := map[int][]byte{}
	newest, turn := 0, 0            // places in what is played
	last, pauses, waited := 0, 0, 0 // the newest packet's number, the places of pauses before it, and those for which nothing was there
	lastTime := first.timestamp
	arrivals := f.arrivals[begin:]
	for k := range out {
		now := first.at + playout + time.Duration(k)*packetTime
		for len(arrivals) > 0 && arrivals[0].at <= now {
			a := arrivals[0]
			arrivals = arrivals[1:]
			if a.ssrc != first.ssrc {
				continue
			}
			number := last + int(int16(a.sequence-first.sequence-uint16(last)))
			if number == last+1 {
				pause := int(int32(a.timestamp-lastTime))/int(f.step) - 1
				pauses += max(0, min(pause, far)-waited)
			}
			i := number + pauses
			if i < turn || i >= newest+far {
				continue
			}
			waiting[i] = f.store[a.from : a.from+a.len]
			newest = max(newest, i)
			if number > last {
				last, lastTime = number, a.timestamp
			}
		}
		for newest-turn > full {
			delete(waiting, turn)
			turn++
		}
		if turn > newest {
			waited++
			continue
		}
		waited = 0
		if out[k].payload = waiting[turn]; out[k].payload == nil {
			out[k].next = waiting[turn+1]
		}
		delete(waiting, turn)
		turn++
	}
	return out
}

// playBrowser is what a browser hears: a packet that is missing comes from the FEC of the next one, or is concealed.
func (f *flow) playBrowser(from time.Duration, rate int) ([]int16, error) {
	dec, err := opus.NewDecoder(rate, 1)
	if err != nil {
		return nil, fmt.Errorf("load: Opus decoder: %w", err)
	}
	packets := f.playOut(from)
	frame := rate / 50
	out := make([]int16, len(packets)*frame)
	for i, p := range packets {
		pcm := out[i*frame : (i+1)*frame]
		switch {
		case p.payload != nil:
			_, err = dec.Decode(p.payload, pcm)
		case p.next != nil:
			err = dec.DecodeFEC(p.next, pcm)
		default:
			err = dec.DecodePLC(pcm)
		}
		if err != nil {
			clear(pcm)
		}
	}
	return out, nil
}

// playPhone is what a phone hears; it conceals nothing: nothing is lost on the way to it, so a hole is the gateway's.
func (f *flow) playPhone(from time.Duration, codec string) []int16 {
	packets := f.playOut(from)
	if codec == g722Name {
		dec := g722.NewDecoder(g722.Rate64000, 0)
		out := make([]int16, len(packets)*2*frameSamples)
		for i, p := range packets {
			if len(p.payload) == frameSamples {
				dec.Decode(out[i*2*frameSamples:(i+1)*2*frameSamples], p.payload)
			}
		}
		return out
	}
	out := make([]int16, len(packets)*frameSamples)
	for i, p := range packets {
		var frame [frameSamples]int16
		if decodePhone(p.payload, &frame) {
			copy(out[i*frameSamples:], frame[:])
		}
	}
	return out
}

func printSpeech(out io.Writer, width band, mine, theirs *heardSpeech) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) } // Flush tells
	header := []string{width.name}
	for _, b := range badnesses() {
		header = append(header, b.name)
	}
	line(header...)
	worse := 0
	for place := range places {
		line(placeName(place))
		rows := [2][]string{{"  Tandem"}, {"  rtpengine"}}
		for _, b := range badnesses() {
			rows[0] = append(rows[0], fmt.Sprintf("%.3f", mine.by[place][b.name]))
			if theirs != nil {
				rows[1] = append(rows[1], fmt.Sprintf("%.3f", theirs.by[place][b.name]))
				if mine.by[place][b.name] < theirs.by[place][b.name] {
					worse++
				}
			}
		}
		line(rows[0]...)
		if theirs != nil {
			line(rows[1]...)
		}
	}
	for i, h := range []*heardSpeech{mine, theirs} {
		if h == nil {
			continue
		}
		line(fmt.Sprintf("%s took %.0f %% of its core; we sent at worst %.0f ms late", [2]string{"Tandem", "rtpengine"}[i], h.held.CPUPct, h.held.PacerLateMaxMs))
		if h.held.PacerLateMaxMs > ms(playout)/2 {
			line("void: the machine was too busy for speech")
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	said := "rtpengine is not installed (scripts/install bench)"
	if theirs != nil {
		said = fmt.Sprintf("cells in which Tandem is understood less: %d (to reach: 0)", worse)
	}
	_, err := fmt.Fprintln(out, said)
	return err
}
