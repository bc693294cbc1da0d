package transcode

import (
	"github.com/zaf/g711"

	"tandem/media"
)

// expand decodes G.711 into dst, which is as long as payload.
func expand(law media.G711, dst []int16, payload []byte) {
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
func compress(law media.G711, dst []byte, pcm []int16) {
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
