package load

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/hraban/opus"
	"github.com/zaf/g711"
)

const (
	browserRate    = 48000
	browserBitrate = 32000
	// After 192 packets tones and marks are where they began, so the sound can be repeated without a break.
	phoneLoop   = 192
	browserLoop = 8 * phoneLoop
	// Noise, of full scale, as in a room: it makes a browser's encoder use the full band, and a gateway's encoder of
	// the phone's band, which is not made for pure tones, spoil fewer of them.
	browserNoise = 0.01
	phoneNoise   = 0.02
)

// sounds is what phones and browsers say: packet i says sounds[i % len]. Made once, shared and read only.
type sounds struct {
	phone   [][]byte // G.711 µ-law
	browser [][]byte // Opus, full band; marks without in-band FEC: it would bring back what was dropped on purpose
	narrow  [][]byte // Opus of the same, as a browser sends it that was told that 8 kHz are enough; nil: none was
}

// plainSounds is where nobody speaks anything but G.711.
func plainSounds() *sounds {
	all := make([][]byte, phoneLoop)
	var pcm [frameSamples]int16
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range all {
		writeMark(pcm[:], i, phoneRate, func() float64 { return phoneNoise * rng.NormFloat64() })
		all[i] = make([]byte, frameSamples)
		for n, v := range pcm {
			all[i][n] = g711.EncodeUlawFrame(v)
		}
	}
	return &sounds{phone: all, browser: all}
}

func newSounds() (*sounds, error) {
	s := &sounds{phone: plainSounds().phone}
	enc, err := browserEncoder(browserBitrate, opus.Fullband)
	if err != nil {
		return nil, err
	}
	s.browser, err = encodeMarks(enc)
	return s, err
}

// browserEncoder encodes as a browser does.
func browserEncoder(bitrate int, band opus.Bandwidth) (*opus.Encoder, error) {
	enc, err := opus.NewEncoder(browserRate, 1, opus.AppVoIP)
	if err != nil {
		return nil, fmt.Errorf("load: Opus encoder: %w", err)
	}
	if err := enc.SetBitrate(bitrate); err != nil {
		return nil, fmt.Errorf("load: Opus bit rate: %w", err)
	}
	if err := enc.SetMaxBandwidth(band); err != nil {
		return nil, fmt.Errorf("load: Opus bandwidth: %w", err)
	}
	return enc, nil
}

// encodeMarks is all that a browser says.
func encodeMarks(enc *opus.Encoder) ([][]byte, error) {
	all := make([][]byte, browserLoop)
	rng := rand.New(rand.NewPCG(1, 2))
	pcm, packet := make([]int16, browserRate/50), make([]byte, maxPayload)
	for i := range all {
		writeMark(pcm, i, browserRate, func() float64 { return browserNoise * rng.NormFloat64() })
		n, err := enc.Encode(pcm, packet)
		if err != nil {
			return nil, fmt.Errorf("load: encode Opus: %w", err)
		}
		all[i] = append([]byte(nil), packet[:n]...)
	}
	return all, nil
}

// encode adds packets for both ends; write writes the sound of packet i at a rate.
func (s *sounds) encode(enc *opus.Encoder, packets int, write func(pcm []int16, i, rate int)) error {
	narrow, wide, packet := make([]int16, frameSamples), make([]int16, opusStep), make([]byte, maxPayload)
	for i := range packets {
		write(narrow, i, phoneRate)
		payload := make([]byte, frameSamples)
		for n, v := range narrow {
			payload[n] = g711.EncodeUlawFrame(v)
		}
		s.phone = append(s.phone, payload)
		write(wide, i, browserRate)
		n, err := enc.Encode(wide, packet)
		if err != nil {
			return fmt.Errorf("load: encode Opus: %w", err)
		}
		s.browser = append(s.browser, slices.Clone(packet[:n]))
	}
	return nil
}

// decodePhone reads a G.711 µ-law payload.
func decodePhone(payload []byte, frame *[frameSamples]int16) bool {
	if len(payload) != frameSamples {
		return false
	}
	for n, b := range payload {
		frame[n] = g711.DecodeUlawFrame(b)
	}
	return true
}

// newBrowserDecoder reads one stream of Opus packets, in the order of their arrival.
func newBrowserDecoder() (decoder, error) {
	dec, err := opus.NewDecoder(phoneRate, 1)
	if err != nil {
		return nil, fmt.Errorf("load: Opus decoder: %w", err)
	}
	return func(payload []byte, frame *[frameSamples]int16) bool {
		n, err := dec.Decode(payload, frame[:])
		return err == nil && n == frameSamples
	}, nil
}
