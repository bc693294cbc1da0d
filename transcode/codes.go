package transcode

import (
	"slices"

	"tandem/media"
)

// codes are the packets of one sound that several phones hear, encoded once for each codec. Its owner is a mix, or a feed.
type codes struct {
	coders  [4]shared
	coded   [4][]byte // nil: nobody has asked yet
	buffers [4][]byte
}

// next lets the next packet begin.
func (c *codes) next() { clear(c.coded[:]) }

// encoded returns the packet in a codec, for a phone that loses so many percent, and whose it is; nil: it can't be shared.
func (c *codes) encoded(s media.Speech, cfg Config, lost, pressure int, pcm []int16) ([]byte, *coder) {
	i := slices.Index(media.Speeches(), s)
	c.coders[i].lost = max(c.coders[i].lost, lost)
	if c.coded[i] == nil {
		if err := c.coders[i].use(s, cfg); err != nil {
			return nil, nil // the phone's own coder will say so
		}
		c.coders[i].tune(cfg, pressure)
		if c.buffers[i] == nil {
			c.buffers[i] = make([]byte, longestPayload)
		}
		c.coded[i] = c.buffers[i][:c.coders[i].encode(c.buffers[i], pcm)]
	}
	return c.coded[i], &c.coders[i].coder
}

// overlap is how many packets a phone's own coder and one that it shares encode both, until the phone hears the shared one: what
// either remembers of other sounds has passed by then.
const overlap = 5

// sharing is how a phone goes over to what is encoded for others, too. It belongs to the downlink's lock.
type sharing struct {
	pcm     []int16 // of a packet that others hear, too; nil: there is none
	payload []byte  // which it is there
	of      *coder
	from    *coder // whom the packets before were shared with, or could have been
	both    int    // packets in a row that could have been
	at      int64  // the position behind the last packet
}

// offer says how others have some sound of which the next packet may be.
func (s *sharing) offer(pcm []int16, payload []byte, of *coder) {
	s.pcm, s.payload, s.of = pcm, payload, of
}

// withdraw ends what offer began.
func (s *sharing) withdraw() { s.offer(nil, nil, nil) }

// take returns the packet of some sound, if the phone may have it as others do; nil: it can't. own is the phone's coder.
func (s *sharing) take(own *coder, pos int64, pcm []int16) []byte {
	of := s.of
	if len(pcm) != len(s.pcm) || &pcm[0] != &s.pcm[0] {
		of = nil
	}
	if of != s.from || pos != s.at {
		s.both = 0
	}
	s.from, s.at = of, pos+int64(len(pcm))
	switch {
	case of == nil:
		return nil
	case own.remembers() && s.both < overlap:
		s.both++
		return nil
	}
	own.follow(of, pcm)
	return s.payload
}
