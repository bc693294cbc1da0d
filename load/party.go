package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"tandem/test/audio"
)

// PartyConfig is a session of phones and browsers, most of whom are silent. The zero value is usable.
type PartyConfig struct {
	Gateway  []string      // how this program is called; empty: as it was
	Duration time.Duration // of each hold; 0: 8 s
	Rounds   int           // how often each is measured, in turn; 0: 3
}

// Who is there: as many phones as browsers. The first ones speak.
const (
	partyPairs    = 10
	partyPhones   = 1 // who speak
	partyBrowsers = 2

	partyBrowsersAlone = 2 * partyPairs // as many, where there are no phones

	mostOfFloor  = 1.25
	mostOfBridge = 0.3

	talkLevel  = 0.1   // of full scale
	talkNoise  = 0.1   // of that, as in a room
	quietNoise = 2e-4  // what a silent one sends all the same: −74 dBFS
	talkLoop   = 50    // packets after which the sound is repeated
	loudLevel  = 20    // −dBov, as the browser says (RFC 6464)
	quietLevel = 90    //
	voiceFlag  = 0x80  // it is a voice, says the browser
	heardLevel = -40.0 // dBFS from which on a tone is heard
)

// talkTones are what the speakers say, phones first: none is an overtone of another.
func talkTones() []float64 { return []float64{450, 700, 1100} }

// talk is a voice of a tone, as phones and browsers send it; with a level of 0 it is none.
func talk(hz, level float64) (*sounds, error) {
	s := &sounds{}
	noise := level * talkNoise
	if level == 0 {
		noise = quietNoise
	}
	enc, err := opus.NewEncoder(browserRate, 1, opus.AppVoIP)
	if err != nil {
		return nil, fmt.Errorf("load: Opus encoder: %w", err)
	}
	if err := enc.SetBitrate(browserBitrate); err != nil {
		return nil, fmt.Errorf("load: Opus bit rate: %w", err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	write := func(pcm []int16, i, rate int) {
		for n := range pcm {
			v := level*math.Sin(2*math.Pi*hz*float64(i*len(pcm)+n)/float64(rate)) + noise*rng.NormFloat64()
			pcm[n] = int16(math.MaxInt16 * v)
		}
	}
	return s, s.encode(enc, talkLoop, write)
}

// gather makes a run one of a party: everybody is in one session, and few speak. Without phones, browsers say what these would.
func gather(phones bool) (func(*bench), error) {
	var says []*sounds
	for _, hz := range talkTones() {
		one, err := talk(hz, talkLevel)
		if err != nil {
			return nil, err
		}
		says = append(says, one)
	}
	silent, err := talk(0, 0)
	if err != nil {
		return nil, err
	}
	inPhones, inBrowsers := says[:partyPhones], says[partyPhones:]
	if !phones {
		inPhones, inBrowsers = nil, says
	}
	return func(b *bench) {
		b.cfg.PerSession, b.party = b.cfg.Calls, true
		b.prepare = func(k int, c *pair) error {
			c.phoneless = !phones
			c.says, c.level = &sounds{phone: silent.phone, browser: silent.browser}, quietLevel
			if k < len(inPhones) {
				c.says.phone = inPhones[k].phone
			}
			if k < len(inBrowsers) {
				c.says.browser, c.level = inBrowsers[k].browser, voiceFlag|loudLevel
			}
			return nil
		}
		b.check = checkParty
		if !phones {
			b.check = checkBrowsers
		}
	}, nil
}

// checkParty fails if a phone doesn't hear what it should at the end of the hold: all who speak, and not itself.
func checkParty(b *bench) error {
	for k, c := range b.pairs {
		if err := checkTones("phone", k, k < partyPhones, c.toPhone.last(time.Second, b.to, decodePhone)); err != nil {
			return err
		}
	}
	return nil
}

// checkBrowsers is the same for browsers that have one mix each.
func checkBrowsers(b *bench) error {
	for k, c := range b.pairs {
		decode, err := newBrowserDecoder()
		if err != nil {
			return err
		}
		if err := checkTones("browser", k, k < len(talkTones()), c.toBrowser.last(time.Second, b.to, decode)); err != nil {
			return err
		}
	}
	return nil
}

// checkTones fails if number k of the phones or browsers misses a tone in what it heard, or hears its own.
func checkTones(who string, k int, speaks bool, heard []int16) error {
	for i, hz := range talkTones() {
		level := audio.Goertzel(heard, phoneRate, hz)
		if own := i == k && speaks; (level > heardLevel) == own {
			return fmt.Errorf("load: %s %d hears the tone of %g Hz at %.0f dBFS; it speaks itself: %v", who, k, hz, level, own)
		}
	}
	return nil
}

// last is what was sent to somebody in the last moment before to.
func (f *flow) last(length, to time.Duration, decode decoder) []int16 {
	var out []int16
	var frame [frameSamples]int16
	for _, a := range f.arrivals {
		if a.at > to-length && a.at <= to && decode(f.store[a.from:a.from+a.len], &frame) {
			out = append(out, frame[:]...)
		}
	}
	return out
}

// setLevel lets a browser say how loud each of its packets is, if that was agreed.
func setLevel(p *rtp.Packet, line *webrtc.RTPTransceiver, level uint8) error {
	if level == 0 {
		return nil
	}
	for _, e := range line.Sender().GetParameters().HeaderExtensions {
		if e.URI != sdp.AudioLevelURI {
			continue
		}
		if err := p.SetExtension(uint8(e.ID), []byte{level}); err != nil {
			return fmt.Errorf("load: audio level: %w", err)
		}
	}
	return nil
}

// heard counts the packets that came to phones and to browsers.
func (b *bench) heard() (n [2]int64) {
	for _, c := range b.pairs {
		n[0] += c.phone.heard.Load()
		if c.far != nil {
			n[1] += c.far.packets()
		}
	}
	return n
}

// decoded is how many packets of browsers our gateway has decoded.
func (b *bench) decoded(ctx context.Context) (float64, error) {
	if b.rest == nil {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.rest.base+"/metrics", http.NoBody)
	if err != nil {
		return 0, fmt.Errorf("load: metrics: %w", err)
	}
	res, err := b.rest.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("load: metrics: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	return readMetric(io.LimitReader(res.Body, maxBody), "tandem_browser_packets_decoded_total")
}

// readMetric finds a value without labels in what Prometheus reads.
func readMetric(from io.Reader, name string) (float64, error) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("load: metric %s: %w", name, err)
			}
			return n, nil
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("load: metrics: %w", err)
	}
	return 0, fmt.Errorf("load: no metric %s: %w", name, os.ErrNotExist)
}

// RunParty holds a session of 10 phones and 10 browsers, of whom 3 speak, over our gateway, over the least code that does it and
// over Janus, and prints what each takes. A participant of Janus's room is a browser; a phone that comes by plain RTP costs it half as much. So there
// is one row of 20 browsers, and one of the same phones and browsers as ours.
func RunParty(ctx context.Context, cfg PartyConfig, out io.Writer) error {
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
	if moved, err := moveIn(ctx, out); moved {
		return err
	}
	with, err := gather(true)
	if err != nil {
		return err
	}
	alone, err := gather(false)
	if err != nil {
		return err
	}
	if err := pinSelf(ctx, os.Getpid()); err != nil {
		return err
	}
	all := []*contender{
		{name: "Tandem", kind: ours, calls: partyPairs, again: true, with: with},
		{name: "the floor", kind: leastRoom, calls: partyPairs, again: true, with: with},
		{name: "Janus, audiobridge, 20 browsers", kind: viaBridge, calls: partyBrowsersAlone, again: true, with: alone},
		{name: "Janus, audiobridge, 10 phones over plain RTP", kind: viaBridge, calls: partyPairs, again: true, with: with},
	}
	if !isolated() {
		all[2].missing = missingJanus(ctx)
		all[3].missing = all[2].missing
	}
	run := RivalConfig{Gateway: cfg.Gateway, Duration: cfg.Duration, Rounds: cfg.Rounds}
	if err := measureRounds(ctx, run, nil, all); err != nil {
		return err
	}
	return printParty(out, cfg, all)
}

// whole is the CPU of all its calls.
func (c *contender) whole() float64 { return float64(c.calls) * c.cpu() }

func printParty(out io.Writer, cfg PartyConfig, all []*contender) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := lines(w)
	line("%d phones, of whom %d speaks, and %d browsers, of whom %d speak; held for %v, medians of %d runs", partyPairs, partyPhones, partyPairs, partyBrowsers,
		cfg.Duration, cfg.Rounds)
	line("\tCPU of a second\tlowest, highest\tmemory\tpackets of a second to each phone, each browser\tbrowsers decoded\town CPU\tsent late")
	for _, c := range all {
		if len(c.runs) == 0 {
			line("%s\t%s", c.name, c.missing)
			continue
		}
		decoders := "-"
		if c.kind == ours {
			decoders = fmt.Sprintf("%.2f of %d who speak (to reach: no more)", c.median(func(r Result) float64 { return r.Decoders }), partyBrowsers)
		}
		low, high := spread(c.runs)
		pairs := float64(c.calls)
		line("%s\t%.1f ms\t%.1f, %.1f\t%.0f kB\t%.1f, %.1f\t%s\t%.0f %%\t%.1f ms", c.name, pairs*c.cpu(), pairs*low, pairs*high, pairs*c.memory(),
			c.median(func(r Result) float64 { return r.perSecond(r.PhonesHeard, c.calls) }), c.median(func(r Result) float64 { return r.perSecond(r.BrowsersHeard, c.calls) }),
			decoders, c.median(func(r Result) float64 { return r.OwnCPUPct }), c.median(func(r Result) float64 { return r.PacerLateMaxMs }))
	}
	printRatio(line, "CPU against the floor", all[0].cpu(), all[1].cpu(), mostOfFloor)
	printRatio(line, "CPU against Janus audiobridge with 20 browsers", all[0].whole(), all[2].whole(), mostOfBridge)
	printRatio(line, "CPU against Janus audiobridge with 10 phones over plain RTP", all[0].whole(), all[3].whole(), mostOfBridge)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}
