package sounds

import (
	"math"
	"slices"
	"strings"
	"time"
)

const tonePrefix = "tone:"

// toneLevel is the amplitude of each frequency: -19 dBm0, as exchanges send them (ITU-T E.180, T1.401).
const toneLevel = 2560

// tones are the sounds that need no file. Each is one period, which can be repeated without a click.
func tones() map[string][]int16 {
	return map[string][]int16{
		"ringback":    tone(2*time.Second, 4*time.Second, 440, 480), // North America
		"ringback-eu": tone(time.Second, 4*time.Second, 425),
		"busy":        tone(500*time.Millisecond, 500*time.Millisecond, 480, 620),
		"silence":     make([]int16, Rate),
	}
}

func toneNames() string {
	var names []string
	for name := range tones() {
		names = append(names, tonePrefix+name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// tone is frequencies (Hz) for a time, and then silence.
func tone(on, off time.Duration, frequencies ...float64) []int16 {
	const ramp = Rate / 200 // 5 ms, or switching it would be heard
	n := int(on * Rate / time.Second)
	samples := make([]int16, n+int(off*Rate/time.Second))
	for i := range n {
		var v float64
		for _, hz := range frequencies {
			v += toneLevel * math.Sin(2*math.Pi*hz*float64(i)/Rate)
		}
		edge := min(1, float64(i)/ramp, float64(n-i)/ramp)
		samples[i] = clamp(v * edge)
	}
	return samples
}
