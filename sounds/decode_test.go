package sounds

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/hraban/opus"
	"github.com/stretchr/testify/require"

	"tandem/test/audio"
)

// oggWriter makes an Ogg/Opus file, packets across pages included.
type oggWriter struct {
	out      []byte
	sequence uint32
	serial   uint32
}

// pages writes packets on pages of at most most segments; the last page gets position and flags.
func (w *oggWriter) pages(position int64, flags byte, most int, packets ...[]byte) {
	var lacing, body []byte
	for _, p := range packets {
		for n := len(p); ; n -= 255 {
			lacing = append(lacing, byte(min(n, 255)))
			if n < 255 {
				break
			}
		}
		body = append(body, p...)
	}
	continued := byte(0)
	for len(lacing) > 0 {
		n := min(most, len(lacing))
		size := 0
		for _, l := range lacing[:n] {
			size += int(l)
		}
		head := make([]byte, 27, 27+n+size)
		copy(head, "OggS")
		head[5], head[26] = continued, byte(n)
		at := int64(-1)
		if n == len(lacing) {
			head[5] |= flags
			at = position
		}
		binary.LittleEndian.PutUint64(head[6:], uint64(at))
		binary.LittleEndian.PutUint32(head[14:], w.serial)
		binary.LittleEndian.PutUint32(head[18:], w.sequence)
		page := append(append(head, lacing[:n]...), body[:size]...)
		binary.LittleEndian.PutUint32(page[22:], checksum(page))
		w.out = append(w.out, page...)
		w.sequence++
		continued = 0
		if lacing[n-1] == 255 {
			continued = oggContinued
		}
		lacing, body = lacing[n:], body[size:]
	}
}

// oggFile encodes samples of 48 kHz.
func oggFile(t testing.TB, channels int, samples []int16, gain int16, most int) []byte {
	t.Helper()
	enc, err := opus.NewEncoder(48000, channels, opus.AppAudio)
	require.NoError(t, err)
	require.NoError(t, enc.SetBitrate(128000*channels))
	const skip = 312
	head := make([]byte, 19)
	copy(head, "OpusHead")
	head[8], head[9] = 1, byte(channels)
	binary.LittleEndian.PutUint16(head[10:], skip)
	binary.LittleEndian.PutUint32(head[12:], 48000)
	binary.LittleEndian.PutUint16(head[16:], uint16(gain))
	w := &oggWriter{serial: 7}
	w.pages(0, 2, 255, head)
	w.pages(0, 0, 255, append([]byte("OpusTags"), make([]byte, 600)...))
	length := int64(len(samples) / channels)
	padded := append(append([]int16{}, samples...), make([]int16, 960*channels)...)
	var packets [][]byte
	for len(padded) >= 960*channels {
		buf := make([]byte, 4000)
		n, err := enc.Encode(padded[:960*channels], buf)
		require.NoError(t, err)
		packets, padded = append(packets, buf[:n]), padded[960*channels:]
	}
	for len(packets) > 10 {
		w.pages(skip, 0, most, packets[:10]...)
		packets = packets[10:]
	}
	w.pages(skip+length, oggLast, most, packets...)
	return w.out
}

func TestOggOpus(t *testing.T) {
	mono := audio.Tone(1000, -12, 48000, 2*time.Second)
	stereo := make([]int16, 0, 2*len(mono))
	for _, s := range mono {
		stereo = append(stereo, s, s)
	}
	for name, raw := range map[string][]byte{
		"mono":                          oggFile(t, 1, mono, 0, 255),
		"stereo":                        oggFile(t, 2, stereo, 0, 255),
		"packets go on on another page": oggFile(t, 2, stereo, 0, 1),
		"another stream behind":         append(oggFile(t, 1, mono, 0, 255), oggFile(t, 1, mono, 0, 255)...),
	} {
		got, err := decode(raw, 60*Rate)
		require.NoError(t, err, name)
		require.Len(t, got, 16000, "%s: exactly what went in, without the encoder's start and padding", name)
		require.InDelta(t, 1000, audio.Frequency(got[800:15200], Rate), 0.1, name)
		require.InDelta(t, -12, audio.Level(got[800:15200]), 0.3, name)
		require.Greater(t, audio.SNR(got[800:15200], Rate, 1000), 40.0, name)
	}
	quiet, err := decode(oggFile(t, 1, mono, -6*256, 255), 60*Rate)
	require.NoError(t, err)
	require.InDelta(t, -18, audio.Level(quiet[800:15200]), 0.3, "the output gain of the head")
}

func TestBrokenOgg(t *testing.T) {
	good := oggFile(t, 1, audio.Tone(1000, -12, 48000, time.Second), 0, 255)
	damaged := append([]byte{}, good...)
	damaged[len(damaged)-5] ^= 1
	head := &oggWriter{}
	head.pages(0, 2, 255, []byte("\x01vorbis and so on and on"))
	family := &oggWriter{}
	family.pages(0, 2, 255, []byte("OpusHead\x01\x06\x00\x00\x80\xbb\x00\x00\x00\x00\x01"))
	for name, c := range map[string]struct {
		raw   []byte
		words string
	}{
		"damaged":    {damaged, "damaged"},
		"cut off":    {good[:len(good)-100], "cut off"},
		"vorbis":     {head.out, "should be Opus"},
		"5.1":        {family.out, "6 channels"},
		"begin only": {good[:47], "ends before its sound"},
		"too long":   {good, "longer than"},
	} {
		limit := 60 * Rate
		if name == "too long" {
			limit = 4000
		}
		_, err := decode(c.raw, limit)
		require.ErrorContains(t, err, c.words, name)
	}
}

// TestChecksum compares with the check value that is published for this CRC (poly 04c11db7, no reflection, initially 0).
func TestChecksum(t *testing.T) {
	require.EqualValues(t, 0x89a1897f, checksum([]byte("123456789")))
}

func FuzzDecode(f *testing.F) {
	f.Add(oggFile(f, 1, audio.Tone(1000, -12, 48000, 100*time.Millisecond), 0, 1))
	f.Add([]byte("RIFF\x10\x00\x00\x00WAVEdata\x04\x00\x00\x00abcd"))
	f.Add([]byte("RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x02\x00\x40\x1f\x00\x00\x00\x7d\x00\x00\x04\x00\x10\x00data\x08\x00\x00\x00abcdefgh"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		const limit = 2 * Rate
		// An Ogg page passes its checksum, so that the fuzzer comes behind it.
		if len(raw) > 27 && string(raw[:4]) == "OggS" {
			if size := 27 + int(raw[26]); size <= len(raw) {
				for _, n := range raw[27:size] {
					size += int(n)
				}
				if size <= len(raw) {
					binary.LittleEndian.PutUint32(raw[22:], checksum(raw[:size]))
				}
			}
		}
		samples, err := decode(raw, limit)
		if err == nil && (len(samples) == 0 || len(samples) > limit+1) {
			t.Fatalf("%d samples", len(samples))
		}
	})
}

func BenchmarkResample(b *testing.B) {
	in := audio.Tone(1000, -12, 48000, 10*time.Second)
	b.ReportAllocs()
	for b.Loop() {
		resample(in, 48000)
	}
}
