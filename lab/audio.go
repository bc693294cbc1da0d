package lab

import (
	_ "embed"
	"math"
	"time"

	"github.com/zaf/g711"
)

const (
	sampleRate   = 8000
	frameSamples = 160 // 20 ms
	frameTime    = 20 * time.Millisecond
)

// speech is a spoken sentence, G.711 µ-law, 8 kHz (espeak-ng, then sox).
//
//go:embed speech.ulaw
var speech []byte

// law is one of the two G.711 laws; the value is its RTP payload type (RFC 3551 §6).
type law uint8

const (
	pcmu law = 0
	pcma law = 8
)

// String returns the encoding name of RFC 3551.
func (l law) String() string {
	if l == pcma {
		return "PCMA"
	}
	return "PCMU"
}

func (l law) encode(dst []byte, samples []int16) {
	if l == pcma {
		for i, s := range samples {
			dst[i] = g711.EncodeAlawFrame(s)
		}
		return
	}
	for i, s := range samples {
		dst[i] = g711.EncodeUlawFrame(s)
	}
}

func (l law) decode(dst []int16, payload []byte) {
	if l == pcma {
		for i, b := range payload {
			dst[i] = g711.DecodeAlawFrame(b)
		}
		return
	}
	for i, b := range payload {
		dst[i] = g711.DecodeUlawFrame(b)
	}
}

// Source gives the next 20 ms of audio: it fills frame (160 samples, 8 kHz), which comes in as silence. It runs on the
// goroutine that sends the call's RTP and must not block.
type Source func(frame []int16)

// Speech returns the lab's sentence, 8 kHz.
func Speech() []int16 {
	samples := make([]int16, len(speech))
	pcmu.decode(samples, speech)
	return samples
}

// Loop repeats samples with a pause between.
func Loop(samples []int16, pause time.Duration) Source {
	length := len(samples) + int(pause.Seconds()*sampleRate)
	pos := 0
	return func(frame []int16) {
		for i := range frame {
			if pos < len(samples) {
				frame[i] = samples[pos]
			}
			if pos++; pos >= length {
				pos = 0
			}
		}
	}
}

// Tone is the sum of sines of these frequencies in Hz, each at level (0 to 1 of full scale, 1/len(hz) at most).
func Tone(level float64, hz ...float64) Source {
	phases := make([]float64, len(hz))
	return func(frame []int16) {
		for i := range frame {
			sum := 0.0
			for k, f := range hz {
				sum += math.Sin(2 * math.Pi * phases[k])
				_, phases[k] = math.Modf(phases[k] + f/sampleRate)
			}
			frame[i] = int16(max(-1, min(1, level*sum)) * math.MaxInt16)
		}
	}
}
