package harness

import (
	"slices"
	"testing"

	"github.com/gotranspile/g722"
	"github.com/hraban/opus"
	"github.com/stretchr/testify/require"
	"github.com/zaf/g711"
)

// handCodec is how a HandPhone speaks and hears.
type handCodec struct {
	encoding string // as a=rtpmap has it
	format   string // a=fmtp; empty: none
	rate     int    // of its sound, in Hz
	clock    int    // of its timestamps
	encode   func(pcm []int16) []byte
	decode   func(payload []byte) []int16
}

// newHandCodec makes PCMU, G722 or opus.
func newHandCodec(tb testing.TB, name string) handCodec {
	tb.Helper()
	switch name {
	case "PCMU":
		return handCodec{"PCMU/8000", "", Rate, Rate, func(pcm []int16) []byte {
			out := make([]byte, len(pcm))
			for i, s := range pcm {
				out[i] = g711.EncodeUlawFrame(s)
			}
			return out
		}, func(payload []byte) []int16 {
			out := make([]int16, len(payload))
			for i, b := range payload {
				out[i] = g711.DecodeUlawFrame(b)
			}
			return out
		}}
	case "G722":
		encoder, decoder := g722.NewEncoder(g722.Rate64000, 0), g722.NewDecoder(g722.Rate64000, 0)
		return handCodec{"G722/8000", "", WideRate, Rate, func(pcm []int16) []byte {
			out := make([]byte, len(pcm)/2)
			return out[:encoder.Encode(out, pcm)]
		}, func(payload []byte) []int16 {
			out := make([]int16, 2*len(payload))
			return out[:decoder.Decode(out, payload)]
		}}
	case "opus":
		encoder, err := opus.NewEncoder(opusRate, 1, opus.AppVoIP)
		require.NoError(tb, err)
		require.NoError(tb, encoder.SetBitrate(32000))
		decoder, err := opus.NewDecoder(opusRate, 1)
		require.NoError(tb, err)
		return handCodec{"opus/48000/2", "useinbandfec=1", opusRate, opusRate, func(pcm []int16) []byte {
			out := make([]byte, maxPayload)
			n, err := encoder.Encode(pcm, out)
			if err != nil {
				return nil
			}
			return out[:n]
		}, func(payload []byte) []int16 {
			out := make([]int16, opusRate*120/1000)
			n, err := decoder.Decode(payload, out)
			if err != nil {
				return nil
			}
			return out[:n]
		}}
	}
	require.FailNow(tb, "no such codec", name)
	return handCodec{}
}

// CodecRate is the rate at which a HandPhone's codec speaks and hears, in Hz.
func CodecRate(tb testing.TB, name string) int {
	tb.Helper()
	return newHandCodec(tb, name).rate
}

// Through is what is heard of samples by a HandPhone's codec, at its rate, in whole packets of 20 ms.
func Through(tb testing.TB, name string, samples []int16) (heard []int16) {
	tb.Helper()
	codec := newHandCodec(tb, name)
	for frame := range slices.Chunk(samples, codec.rate/50) {
		heard = append(heard, codec.decode(codec.encode(frame))...)
	}
	return heard
}
