package transcode

// samples is memory for sound that is not kept for longer than its owner says. It grows to the longest that was wanted: most
// calls never want more than 20 ms at 8 kHz.
type samples []int16

// of returns room for n samples. What was in it may be lost when that is more than ever before.
func (s *samples) of(n int) []int16 {
	if cap(*s) < n {
		*s = make([]int16, n)
	}
	return (*s)[:n]
}
