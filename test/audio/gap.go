package audio

import "time"

// LongestGap is the longest stretch of samples whose loudness stays more than 30 dB under that of all: where sound that
// should go on does not. It is exact to 2 ms.
func LongestGap(samples []int16, rate int) time.Duration {
	piece := count(rate, time.Millisecond)
	floor := variance(samples) / 1000
	longest, run := 0, 0
	for from := 0; from+piece <= len(samples); from += piece {
		var sum float64
		for _, s := range samples[from : from+piece] {
			sum += float64(s) * float64(s)
		}
		if run++; sum/float64(piece) > floor {
			run = 0
		}
		longest = max(longest, run)
	}
	return time.Duration(longest) * time.Millisecond
}
