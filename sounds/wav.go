package sounds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/zaf/g711"
)

// Format tags of WAV (RFC 2361), and the one under which the real tag follows.
const (
	wavPCM        = 1
	wavALaw       = 6
	wavMuLaw      = 7
	wavExtensible = 0xfffe
)

// rates are those that have a filter of sensible size to 8 kHz.
func rates() []int {
	return []int{8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000}
}

// wavFormat is what the "fmt " chunk says.
type wavFormat struct {
	tag      uint16
	channels int
	rate     int
	bits     int
}

// decodeWAV reads PCM of 16 bits and G.711, one channel or two, of any usual rate. Chunks it does not know are passed
// over; a length that is too long means: up to the end.
func decodeWAV(raw []byte, limit int) ([]int16, error) {
	if len(raw) < 12 || string(raw[8:12]) != "WAVE" {
		return nil, errors.New("its RIFF holds no WAVE")
	}
	var f wavFormat
	for rest := raw[12:]; len(rest) >= 8; {
		id, size := string(rest[:4]), int64(binary.LittleEndian.Uint32(rest[4:]))
		rest = rest[8:]
		body := rest[:min(size, int64(len(rest)))]
		switch id {
		case "fmt ":
			var err error
			if f, err = readFormat(body); err != nil {
				return nil, err
			}
		case "data":
			if f.rate == 0 {
				return nil, errors.New("its data come before their format")
			}
			return f.samples(body, limit)
		}
		rest = rest[min(size+size%2, int64(len(rest))):]
	}
	return nil, errors.New("it has no data")
}

func readFormat(b []byte) (wavFormat, error) {
	if len(b) < 16 {
		return wavFormat{}, errors.New("its format is cut off")
	}
	f := wavFormat{
		tag:      binary.LittleEndian.Uint16(b),
		channels: int(binary.LittleEndian.Uint16(b[2:])),
		rate:     int(binary.LittleEndian.Uint32(b[4:])),
		bits:     int(binary.LittleEndian.Uint16(b[14:])),
	}
	if f.tag == wavExtensible && len(b) >= 26 {
		f.tag = binary.LittleEndian.Uint16(b[24:])
	}
	switch {
	case f.tag == wavPCM && f.bits == 16, (f.tag == wavALaw || f.tag == wavMuLaw) && f.bits == 8:
	default:
		return wavFormat{}, fmt.Errorf("its format %d with %d bits should be PCM with 16 bits, or A-law or µ-law", f.tag, f.bits)
	}
	if f.channels != 1 && f.channels != 2 {
		return wavFormat{}, fmt.Errorf("it has %d channels, 1 or 2 are possible", f.channels)
	}
	if !slices.Contains(rates(), f.rate) {
		return wavFormat{}, fmt.Errorf("its rate is %d Hz; possible are %v", f.rate, rates())
	}
	return f, nil
}

// samples decodes the data, makes one channel of two, and brings it to 8 kHz.
func (f wavFormat) samples(data []byte, limit int) ([]int16, error) {
	width := f.bits / 8 * f.channels
	n := len(data) / width
	if n == 0 {
		return nil, errors.New("it is empty")
	}
	if int64(n)*Rate > int64(limit)*int64(f.rate) {
		return nil, errTooLong(limit)
	}
	mono := make([]int16, n)
	for i := range mono {
		frame := data[i*width : i*width+width]
		v := f.sample(frame)
		if f.channels == 2 {
			v = (v + f.sample(frame[width/2:])) / 2
		}
		mono[i] = int16(v)
	}
	return resample(mono, f.rate), nil
}

func (f wavFormat) sample(b []byte) int {
	switch f.tag {
	case wavALaw:
		return int(g711.DecodeAlawFrame(b[0]))
	case wavMuLaw:
		return int(g711.DecodeUlawFrame(b[0]))
	}
	return int(int16(binary.LittleEndian.Uint16(b)))
}
