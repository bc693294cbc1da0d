package audio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// format is the "fmt " chunk of a WAV file.
type format struct {
	Tag, Channels        uint16
	Rate, BytesPerSecond uint32
	BytesPerFrame, Bits  uint16
}

// errNotWAV is what a file without the RIFF frame or one of its two chunks is answered with.
var errNotWAV = errors.New("not a WAV file")

// WriteWAV writes samples as 16-bit PCM, mono.
func WriteWAV(path string, samples []int16, rate int) error {
	var b bytes.Buffer
	size := uint32(2 * len(samples))
	for _, part := range []any{
		[]byte("RIFF"), 36 + size, []byte("WAVEfmt "), uint32(16),
		format{Tag: 1, Channels: 1, Rate: uint32(rate), BytesPerSecond: uint32(2 * rate), BytesPerFrame: 2, Bits: 16},
		[]byte("data"), size, samples,
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			return fmt.Errorf("encode %s: %w", path, err)
		}
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// ReadWAV reads a 16-bit mono PCM file; any other kind is an error.
func ReadWAV(path string) (samples []int16, rate int, err error) {
	b, err := os.ReadFile(path) //nolint:gosec // a test names its own file
	if err != nil {
		return nil, 0, err
	}
	samples, rate, err = decodeWAV(b)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	return samples, rate, nil
}

func decodeWAV(b []byte) (samples []int16, rate int, err error) {
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return nil, 0, errNotWAV
	}
	var f format
	for b = b[12:]; len(b) >= 8; {
		id, size := string(b[:4]), int(binary.LittleEndian.Uint32(b[4:8]))
		// A recorder that was stopped leaves a length that is too long: take what is there.
		body := b[8:min(len(b), 8+size)]
		switch id {
		case "fmt ":
			if _, err := binary.Decode(body, binary.LittleEndian, &f); err != nil {
				return nil, 0, errNotWAV
			}
		case "data":
			if f.Tag != 1 || f.Channels != 1 || f.Bits != 16 {
				return nil, 0, fmt.Errorf("format %d, %d channels, %d bits: want 16-bit PCM mono", f.Tag, f.Channels, f.Bits)
			}
			samples = make([]int16, len(body)/2)
			if _, err := binary.Decode(body[:2*len(samples)], binary.LittleEndian, samples); err != nil {
				return nil, 0, err
			}
			return samples, int(f.Rate), nil
		}
		b = b[min(len(b), 8+size+size%2):] // chunks start at even offsets
	}
	return nil, 0, errNotWAV
}
