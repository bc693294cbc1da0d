package dsp

import "math"

// The half-band low-pass of Halver and Doubler has 51 taps for 16 kHz: one half in the middle, zero at every other
// place, and these 13 pairs beside it, of which two are 1<<16. It is a sinc under Kaiser's window. Up to 3.4 kHz it
// is flat within 0.01 dB; from 4.6 kHz on it lets −63 dB through. In between its edges mirror each other at 4 kHz,
// where it lets one half through: what folds there falls above 3.4 kHz.
const (
	halfbandPairs = 13
	halfbandSpan  = 2 * halfbandPairs // samples of one phase under the filter
	// resampleChunk is how many samples at 8 kHz are worked on at a time. Frames may be longer.
	resampleChunk = 160
)

// Delays in samples at 16 kHz. Down and up again is 49 samples, 3.1 ms.
const (
	// HalverDelay is how much later sound leaves a Halver, 1.5 ms; it is 12 samples at 8 kHz.
	HalverDelay = 24
	// DoublerDelay is how much later sound leaves a Doubler, 1.6 ms.
	DoublerDelay = 25
)

// halfband is the filter's value between the two samples in the middle of w, times 1<<16 and without the tap in the
// middle: half the sound's value there.
func halfband(w *[halfbandSpan]int16) int {
	return 20769*(int(w[12])+int(w[13])) -
		6699*(int(w[11])+int(w[14])) +
		3762*(int(w[10])+int(w[15])) -
		2430*(int(w[9])+int(w[16])) +
		1648*(int(w[8])+int(w[17])) -
		1130*(int(w[7])+int(w[18])) +
		769*(int(w[6])+int(w[19])) -
		510*(int(w[5])+int(w[20])) +
		325*(int(w[4])+int(w[21])) -
		197*(int(w[3])+int(w[22])) +
		110*(int(w[2])+int(w[23])) -
		54*(int(w[1])+int(w[24])) +
		21*(int(w[0])+int(w[25]))
}

// Halver turns a stream of 16 kHz into one of 8 kHz, HalverDelay later. Its zero value is ready; a stream has its own.
type Halver struct {
	even [halfbandPairs - 1 + resampleChunk]int16 // what comes last in the buffers is new
	odd  [halfbandSpan - 1 + resampleChunk]int16
}

// Frame writes half as many samples as src has to dst and returns how many. A frame has an even number of samples; a
// single one at its end is dropped. dst may be src.
func (h *Halver) Frame(dst, src []int16) int {
	written := len(src) / 2
	dst = dst[:written]
	for len(dst) > 0 {
		n := min(len(dst), resampleChunk)
		even, odd := h.even[halfbandPairs-1:], h.odd[halfbandSpan-1:]
		for i := range n {
			even[i], odd[i] = src[2*i], src[2*i+1]
		}
		for i := range n {
			sum := halfband((*[halfbandSpan]int16)(h.odd[i:])) + int(h.even[i])<<15
			dst[i] = resampleClamp((sum + 1<<15) >> 16)
		}
		copy(h.even[:halfbandPairs-1], h.even[n:])
		copy(h.odd[:halfbandSpan-1], h.odd[n:])
		dst, src = dst[n:], src[2*n:]
	}
	return written
}

// Doubler turns a stream of 8 kHz into one of 16 kHz, DoublerDelay later. Its zero value is ready; a stream has its
// own.
type Doubler struct {
	in [halfbandSpan - 1 + resampleChunk]int16
}

// Frame writes twice as many samples as src has to dst and returns how many. dst and src must not overlap.
func (d *Doubler) Frame(dst, src []int16) int {
	written := 2 * len(src)
	dst = dst[:written]
	for len(src) > 0 {
		n := copy(d.in[halfbandSpan-1:], src)
		for i := range n {
			w := (*[halfbandSpan]int16)(d.in[i:])
			dst[2*i] = resampleClamp((halfband(w) + 1<<14) >> 15)
			dst[2*i+1] = w[halfbandPairs]
		}
		copy(d.in[:halfbandSpan-1], d.in[n:])
		dst, src = dst[2*n:], src[n:]
	}
	return written
}

func resampleClamp(v int) int16 { return int16(min(max(v, math.MinInt16), math.MaxInt16)) }
