package lab

import (
	"slices"
	"sync"
	"time"
)

// maxJump is how far an RTP timestamp may be from the one expected before we take it for a new beginning.
const maxJump = 10 * sampleRate

// recorder lays received audio out by RTP timestamp; what was lost stays zero.
type recorder struct {
	limit int // samples

	mu      sync.Mutex
	samples []int16
	started bool
	ssrc    uint32
	base    uint32 // RTP timestamp of samples[offset]
	offset  int
}

func newRecorder(limit time.Duration) *recorder {
	return &recorder{limit: max(0, int(limit.Seconds()*sampleRate))}
}

// write places one packet's audio. A new SSRC or a leap of the timestamp goes on where the recording ends.
func (r *recorder) write(ssrc, timestamp uint32, audio []int16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.offset + int(int32(timestamp-r.base))
	if !r.started || ssrc != r.ssrc || at < len(r.samples)-maxJump || at > len(r.samples)+maxJump {
		r.started, r.ssrc, r.base, r.offset = true, ssrc, timestamp, len(r.samples)
		at = r.offset
	}
	if at < 0 || at+len(audio) > r.limit {
		return
	}
	if end := at + len(audio); end > len(r.samples) {
		grown := slices.Grow(r.samples, end-len(r.samples))[:end]
		clear(grown[len(r.samples):])
		r.samples = grown
	}
	copy(r.samples[at:], audio)
}

func (r *recorder) recorded() []int16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.samples)
}
