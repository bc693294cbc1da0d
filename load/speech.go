package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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
	Keep    string   // a folder for what was said and heard; empty: bin/speech
}

const (
	speechVoice  = "/usr/share/asterisk/sounds/en_US_f_Allison/demo-instruct.g722" // asterisk-core-sounds-en-g722
	speechFolder = "bin/speech"
	voiceRate    = 16000
	speechFrames = 1800 // 36 s, in nine pieces
	pieceFrames  = 200
	meanBurst    = 3

	callsBefore   = 2 // with the same loss before the gateway, from the phone
	callsAfter    = 1 // with it after the gateway
	afterPatterns = 7
)

// badness is one column of the table: the same loss in three places.
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

// losses is which of the packets of what is said are lost, each time that it is said: the same ones over every gateway.
func (b badness) losses(seed int) []bool {
	w := b.Weather
	w.Seed = uint64(seed)
	n := NewNetwork(w)
	lost := make([]bool, speechFrames)
	for i := range lost {
		copies, _ := n.Packet(time.Duration(i) * packetTime)
		lost[i] = copies == 0
	}
	return lost
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
		return noSpeech(out, cfg.Voice)
	}
	if err != nil {
		return err
	}
	if err := keepSaid(cfg.Keep, voice); err != nil {
		return err
	}
	for _, b := range bands() {
		if err := pinSelf(ctx, os.Getpid()); err != nil {
			return err
		}
		says, err := allSays(voice, b.codec)
		if err != nil {
			return err
		}
		var spoke [2]*spokenCalls
		for of, name := range []string{"tandem", "rtpengine"} {
			if kind(of) == rival && !hasRTPEngine() {
				continue
			}
			if spoke[of], err = speak(ctx, cfg, kind(of), b, says); err != nil {
				return fmt.Errorf("%s, %s: %w", name, b.name, err)
			}
			spoke[of].name = name
		}
		if err := unpinSelf(ctx, os.Getpid()); err != nil {
			return err
		}
		var all [2]*heardSpeech
		for of, calls := range spoke {
			if calls == nil {
				continue
			}
			if all[of], err = calls.understand(ctx, cfg.Keep, b, voice); err != nil {
				return err
			}
		}
		if err := printSpeech(out, b, all[ours], all[rival]); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "what was said and heard is kept in %s\n", cfg.Keep)
	return err
}

// noSpeech says why nothing was measured.
func noSpeech(out io.Writer, path string) error {
	_, err := fmt.Fprintf(out, "no speech: %s is not here (scripts/install bench)\n", path)
	return err
}

// readVoice reads two stretches of 36 s: what phones say, and what browsers do.
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
	var err error
	s.browser, err = browserSpeech(voice[1], browserBitrate, opus.Fullband, loss)
	return s, err
}

// browserSpeech is what a browser sends of a voice, at a bit rate and in a band, whose encoder was told of a share of losses.
func browserSpeech(voice []int16, bitrate int, band opus.Bandwidth, loss float64) ([][]byte, error) {
	enc, err := browserEncoder(bitrate, band)
	if err != nil {
		return nil, err
	}
	for _, err := range []error{enc.SetInBandFEC(true), enc.SetPacketLossPerc(int(100 * loss))} {
		if err != nil {
			return nil, fmt.Errorf("load: Opus encoder: %w", err)
		}
	}
	wide := audio.Resample(voice, voiceRate, browserRate)
	packet := make([]byte, maxPayload)
	all := make([][]byte, speechFrames)
	for i := range all {
		n, err := enc.Encode(wide[i*opusStep:(i+1)*opusStep], packet)
		if err != nil {
			return nil, fmt.Errorf("load: encode Opus: %w", err)
		}
		all[i] = slices.Clone(packet[:n])
	}
	return all, nil
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

// spokenCalls are calls that have been held over one gateway.
type spokenCalls struct {
	name  string // of the gateway
	pairs []*pair
	from  time.Duration // from when on they count
	held  Result
}

// speak holds calls of each badness over one gateway. Call k has the loss of column k; the first calls have it on the way from the
// phone to the gateway, the last on the way from there to the browser, and all from the browser to the gateway.
func speak(ctx context.Context, cfg SpeechConfig, of kind, width band, says []*sounds) (*spokenCalls, error) {
	weathers := badnesses()
	run := Config{
		Gateway: append(slices.Clone(cfg.Gateway), "serve"), Calls: (callsBefore + callsAfter) * len(weathers),
		Duration: (speechFrames + pieceFrames + 60) * packetTime, Pinned: true, Codec: width.codec, Idle: time.Second,
	}
	if of == rival {
		run.Opus = Opus{Bitrate: width.bitrate, Mono: true}
	}
	calls := &spokenCalls{}
	var b *bench
	var err error
	calls.held, err = hold(ctx, of, run, cfg.Gateway, says[0], func(made *bench) {
		b = made
		b.prepare = func(k int, c *pair) error {
			w := weathers[k%len(weathers)]
			c.says = says[k%len(weathers)]
			c.lost[1] = w.losses(2 * k)
			reported := Weather{} // so that all browsers say that they take FEC
			if isAfter(k) {
				reported = w.Weather
			} else {
				c.lost[0] = w.losses(2*k + 1)
			}
			c.loseAfter = NewNetwork(reported)
			return nil
		}
	})
	if err != nil {
		return nil, err
	}
	calls.pairs, calls.from = b.pairs, b.from
	return calls, nil
}

// isAfter says whether call k loses packets after the gateway.
func isAfter(k int) bool { return k >= callsBefore*len(badnesses()) }
