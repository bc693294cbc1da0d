package transcode

import (
	"math"

	"tandem/media"
)

// mixer adds the voices of several sources, 20 ms at a time. It is a pure step: no clock, no lock.
type mixer struct {
	sum   [frameSamples]int32
	voice [frameSamples]int16
	out   [frameSamples]int16
}

// mixOnce takes 20 ms out of every buffer and returns their saturated sum, valid until the next call.
func (m *mixer) mixOnce(voices []*input) []int16 {
	clear(m.sum[:])
	for _, v := range voices {
		if !v.buffer.Take(m.voice[:]) {
			continue
		}
		for i, s := range m.voice {
			m.sum[i] += int32(s)
		}
	}
	for i, s := range m.sum {
		m.out[i] = int16(min(max(s, math.MinInt16), math.MaxInt16))
	}
	return m.out[:]
}

// skipOnce lets 20 ms of every buffer pass unheard.
func (m *mixer) skipOnce(voices []*input) {
	for _, v := range voices {
		v.buffer.Take(m.voice[:])
	}
}

// input is one source at a bridge: it takes the source's voice and keys.
type input struct {
	down  *downlink
	src   *media.Source
	feed  *feed        // nil: the source has no audio that we understand
	track *media.Track // feed's

	// Under down.mu.
	buffer media.Jitter
	epoch  uint32
	gone   bool
	muted  bool
}

// WriteKey queues a key of the source for the phone. It implements media.KeySink.
func (in *input) WriteKey(k media.Key) { in.down.queueKey(in, k) }
