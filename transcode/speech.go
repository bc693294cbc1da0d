package transcode

import (
	"fmt"

	"github.com/gotranspile/g722"
	"github.com/hraban/opus"
	"github.com/zaf/g711"

	"tandem/media"
)

// expand decodes G.711 into dst, which is as long as payload.
func expand(law media.Speech, dst []int16, payload []byte) {
	if law == media.PCMA {
		for i, b := range payload {
			dst[i] = g711.DecodeAlawFrame(b)
		}
		return
	}
	for i, b := range payload {
		dst[i] = g711.DecodeUlawFrame(b)
	}
}

// compress encodes pcm as G.711 into dst, which is as long.
func compress(law media.Speech, dst []byte, pcm []int16) {
	if law == media.PCMA {
		for i, v := range pcm {
			dst[i] = g711.EncodeAlawFrame(v)
		}
		return
	}
	for i, v := range pcm {
		dst[i] = g711.EncodeUlawFrame(v)
	}
}

// coder encodes one stream of sound in a phone's codec. The zero value is PCMU's.
type coder struct {
	speech  media.Speech
	g722    *g722.Encoder
	opus    *opus.Encoder
	packets uint64 // so many were encoded
	stale   bool   // others' packets went out since the last one
	// missed is what others encoded of it last, of which Opus must know; known says how much at its end.
	missed []int16
	known  int
	tuning tuning // of opus
}

// use changes the codec. What was said in another one before is forgotten.
func (c *coder) use(s media.Speech, cfg Config) error {
	if s == c.speech {
		return nil
	}
	next := coder{speech: s, packets: c.packets}
	switch s {
	case media.G722:
		next.g722 = g722.NewEncoder(g722.Rate64000, 0)
	case media.Opus:
		var err error
		if next.opus, err = cfg.encoder(s.Rate(), opus.AppVoIP); err != nil {
			return fmt.Errorf("phone's codec: %w", err)
		}
		next.tuning = cfg.tuned(s.Rate())
		next.missed = make([]int16, 2*frameMost)
	case media.PCMU, media.PCMA:
	}
	*c = next
	return nil
}

// most is how many bytes a packet of so many samples may have.
func (c *coder) most(samples int) int {
	if c.opus != nil {
		return longestPayload
	}
	return samples
}

// remembers says whether a packet depends on those before it.
func (c *coder) remembers() bool { return c.g722 != nil || c.opus != nil }

// follow goes on from what another coder of the same codec has made of pcm. The state of G.722 can be copied; that of Opus can't,
// and what it has missed is encoded when that is needed.
func (c *coder) follow(other *coder, pcm []int16) {
	if c.g722 != nil {
		*c.g722 = *other.g722
	}
	if c.opus != nil {
		c.miss(pcm)
	}
}

// miss notes what was sent without this coder.
func (c *coder) miss(pcm []int16) {
	c.stale = true
	n := copy(c.missed, c.missed[min(len(pcm), len(c.missed)):])
	c.known = min(c.known+copy(c.missed[n:], pcm[max(0, len(pcm)-len(c.missed)):]), len(c.missed))
}

// lose says that what was sent since is not known.
func (c *coder) lose() { c.stale, c.known = true, 0 }

// catchUp makes Opus forget what it encoded last, some milliseconds of which it holds back, for what was sent since.
func (c *coder) catchUp(scratch []byte) {
	if c.stale = false; c.opus == nil {
		return
	}
	if c.known < len(c.missed) {
		_ = c.opus.Reset() // of an encoder that works
	}
	for missed := c.missed[len(c.missed)-c.known:]; len(missed) >= frameMost; missed = missed[frameMost:] {
		_, _ = c.opus.Encode(missed[:frameMost], scratch) // 20 ms, which it has
	}
	c.known = 0
}

// encode writes pcm, a whole packet at the codec's rate, into dst and returns how many bytes that are.
func (c *coder) encode(dst []byte, pcm []int16) int {
	if c.packets++; c.stale {
		c.catchUp(dst)
	}
	switch c.speech {
	case media.G722:
		return c.g722.Encode(dst, pcm[:len(pcm)&^1])
	case media.Opus:
		n, err := c.opus.Encode(pcm, dst)
		if err != nil {
			return 0 // of a length that Opus has not: what packets makes has
		}
		return n
	case media.PCMU, media.PCMA:
	}
	compress(c.speech, dst[:len(pcm)], pcm)
	return len(pcm)
}
