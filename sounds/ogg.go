package sounds

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/hraban/opus"
)

const (
	opusRate  = 48000           // what positions and the pre-skip count (RFC 7845 §4)
	opusRatio = opusRate / Rate // of them in a sample of ours
	// maxPacket bounds a packet of Opus: 120 ms at the highest bit rate have 61,298 bytes (RFC 7845 §6).
	maxPacket  = 61440
	maxDecoded = Rate * 120 / 1000
)

// Flags of an Ogg page (RFC 3533 §6).
const (
	oggContinued = 1
	oggLast      = 4
)

// decodeOgg reads the first stream of an Ogg file, which must be Opus (RFC 7845). libopus brings it to 8 kHz and one
// channel itself.
func decodeOgg(raw []byte, limit int) ([]int16, error) {
	dec, err := opus.NewDecoder(Rate, 1)
	if err != nil {
		return nil, fmt.Errorf("opus decoder: %w", err)
	}
	o := oggOpus{decoder: dec, limit: limit}
	if err := o.pages(raw); err != nil {
		return nil, err
	}
	if o.headers < 2 {
		return nil, errors.New("its stream ends before its sound")
	}
	// The last page says how many samples there are; the rest of its last packet is no sound (RFC 7845 §4.4).
	if total := (o.end - o.skip) / opusRatio; o.end > 0 && total < int64(len(o.samples)) {
		o.samples = o.samples[:max(0, total)]
	}
	if len(o.samples) == 0 {
		return nil, errors.New("it is empty")
	}
	return o.samples, nil
}

// oggOpus reads one stream.
type oggOpus struct {
	decoder *opus.Decoder
	limit   int

	begun    bool
	serial   uint32
	sequence uint32
	packet   []byte // its beginning, while it is not complete
	broken   bool   // its beginning is missing
	headers  int
	skip     int64 // samples at 48 kHz that are no sound yet
	left     int64 // of these, at 8 kHz, what is still to come
	gain     float64
	end      int64 // the position of the last page
	pcm      [maxDecoded]int16
	samples  []int16
}

// pages goes through the pages of the first stream.
func (o *oggOpus) pages(raw []byte) error {
	for len(raw) > 0 {
		if len(raw) < 27 || string(raw[:4]) != "OggS" || raw[4] != 0 {
			if o.headers == 2 {
				return nil // what was cut off is played up to there
			}
			return errors.New("its pages are malformed")
		}
		count := int(raw[26])
		size := 27 + count
		if len(raw) < size {
			return errors.New("a page is cut off")
		}
		lacing := raw[27:size]
		for _, n := range lacing {
			size += int(n)
		}
		if len(raw) < size {
			return errors.New("a page is cut off")
		}
		page := raw[:size]
		raw = raw[size:]
		serial := binary.LittleEndian.Uint32(page[14:])
		if o.begun && serial != o.serial {
			continue // another stream beside it or after it
		}
		if checksum(page) != binary.LittleEndian.Uint32(page[22:]) {
			return errors.New("a page is damaged")
		}
		o.begun, o.serial = true, serial
		if err := o.page(page, lacing); err != nil {
			return err
		}
		if page[5]&oggLast != 0 {
			return nil
		}
	}
	return nil
}

// page takes the packets of a page.
func (o *oggOpus) page(page, lacing []byte) error {
	sequence := binary.LittleEndian.Uint32(page[18:])
	if page[5]&oggContinued == 0 || sequence != o.sequence+1 {
		o.broken = page[5]&oggContinued != 0
		o.packet = o.packet[:0]
	}
	o.sequence = sequence
	body := page[27+len(lacing):]
	for _, n := range lacing {
		o.packet = append(o.packet, body[:n]...)
		body = body[n:]
		if len(o.packet) > maxPacket && o.headers != 1 {
			return errors.New("a packet is too long")
		}
		if n == 255 {
			continue
		}
		if !o.broken {
			if err := o.take(o.packet); err != nil {
				return err
			}
		}
		o.packet, o.broken = o.packet[:0], false
	}
	if position := int64(binary.LittleEndian.Uint64(page[6:])); position >= 0 && o.headers == 2 {
		o.end = position
	}
	return nil
}

// take takes a whole packet: the head, the comments, then sound.
func (o *oggOpus) take(p []byte) error {
	switch {
	case o.headers == 0:
		return o.head(p)
	case o.headers == 1:
		if len(p) < 8 || string(p[:8]) != "OpusTags" {
			return errors.New("its second packet should be OpusTags")
		}
		o.headers++
		return nil
	case len(p) == 0:
		return nil
	}
	n, err := o.decoder.Decode(p, o.pcm[:])
	if err != nil {
		return fmt.Errorf("a packet can't be decoded: %w", err)
	}
	pcm := o.pcm[:n]
	if drop := min(o.left, int64(n)); drop > 0 {
		o.left -= drop
		pcm = pcm[drop:]
	}
	if len(o.samples)+len(pcm) > o.limit {
		return errTooLong(o.limit)
	}
	for _, s := range pcm {
		o.samples = append(o.samples, clamp(float64(s)*o.gain))
	}
	return nil
}

// head reads OpusHead (RFC 7845 §5.1).
func (o *oggOpus) head(p []byte) error {
	if len(p) < 19 || string(p[:8]) != "OpusHead" || p[8]>>4 != 0 {
		return errors.New("its first stream should be Opus")
	}
	if p[18] != 0 || p[9] != 1 && p[9] != 2 {
		return fmt.Errorf("it has %d channels, 1 or 2 are possible", p[9])
	}
	o.skip = int64(binary.LittleEndian.Uint16(p[10:]))
	o.left = o.skip / opusRatio
	o.gain = math.Pow(10, float64(int16(binary.LittleEndian.Uint16(p[16:])))/256/20)
	o.headers++
	return nil
}

// checksum is the CRC of an Ogg page (RFC 3533 §6): its own field counts as zero.
func checksum(page []byte) uint32 {
	var crc uint32
	for i, b := range page {
		if i >= 22 && i < 26 {
			b = 0
		}
		crc ^= uint32(b) << 24
		for range 8 {
			if crc&0x8000_0000 != 0 {
				crc = crc<<1 ^ 0x04c1_1db7
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
