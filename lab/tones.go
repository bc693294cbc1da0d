package lab

import (
	"fmt"
	"strings"

	"tandem/media"
)

// toneSamples are the 100 ms of a key in the sound.
const toneSamples = sampleRate / 10

// SoundKeys plays keys (0-9 * # A-D) as tones in the sound (ITU-T Q.23), each 100 ms long with as much silence after it.
// It doesn't wait until they are sent.
func (c *Call) SoundKeys(keys string) error {
	if _, ok := keyEvents(keys); !ok {
		return fmt.Errorf("lab: %q has something that isn't a key", keys)
	}
	var samples []int16
	for _, key := range strings.ToUpper(keys) {
		var w media.ToneWriter
		w.Press(byte(key))
		tone := make([]int16, 2*toneSamples)
		w.Sound(tone[:toneSamples])
		samples = append(samples, tone...)
	}
	c.Play(samples)
	return nil
}

// inBand says whether the caller wants the keys of +15550108 as tones.
func inBand(c *Call) bool {
	method, _ := c.request.Recipient.UriParams.Get("method")
	return strings.EqualFold(method, "inband") || strings.EqualFold(c.Header("X-Digits-Method"), "inband")
}
