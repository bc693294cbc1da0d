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
	speech media.Speech
	g722   *g722.Encoder
	opus   *opus.Encoder
	stale  bool   // others' packets went out since the last one
	tuning tuning // of opus
}

// use changes the codec. What was said in another one before is forgotten.
func (c *coder) use(s media.Speech, cfg Config) error {
	if s == c.speech {
		return nil
	}
	next := coder{speech: s}
	switch s {
	case media.G722:
		next.g722 = g722.NewEncoder(g722.Rate64000, 0)
	case media.Opus:
		var err error
		if next.opus, err = cfg.encoder(s.Rate(), opus.AppVoIP); err != nil {
			return fmt.Errorf("phone's codec: %w", err)
		}
		next.tuning = cfg.tuned(s.Rate())
	case media.PCMU, media.PCMA:
	}
	*c = next
	return nil
}

// reset forgets what was encoded: Opus holds some milliseconds of it back.
func (c *coder) reset() {
	if c.opus != nil {
		_ = c.opus.Reset() // of an encoder that works
	}
}

// encode writes pcm, a whole packet at the codec's rate, into dst and returns how many bytes that are.
func (c *coder) encode(dst []byte, pcm []int16) int {
	if c.stale {
		c.stale = false
		c.reset()
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
