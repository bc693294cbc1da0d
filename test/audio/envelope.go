package audio

import (
	"math"
	"time"
)

// hop is the distance between two points of an envelope, smooth the length of sound that each one looks at.
const (
	hop    = 5 * time.Millisecond
	smooth = 20 * time.Millisecond
)

// Envelope is the loudness of samples over time: the RMS of 20 ms, every 5 ms, in units of one sample step.
func Envelope(samples []int16, rate int) []float64 {
	step, span := count(rate, hop), count(rate, smooth)
	if step == 0 || len(samples) < span {
		return nil
	}
	out := make([]float64, 0, len(samples)/step)
	for i := 0; i+span <= len(samples); i += step {
		out = append(out, math.Sqrt(variance(samples[i:i+span])))
	}
	return out
}

// EnvelopeCorrelation says how alike two recordings of the same rate sound, from −1 to 1, at the alignment that fits
// best, and how much later b is than a there (negative: earlier), in steps of 5 ms. Loudness doesn't matter. At
// least half of the shorter recording overlaps. Nothing to compare, or a constant on one side, is 0.
func EnvelopeCorrelation(a, b []int16, rate int) (correlation float64, lag time.Duration) {
	ea, eb := Envelope(a, rate), Envelope(b, rate)
	overlap := max(2, min(len(ea), len(eb))/2)
	correlation = math.Inf(-1)
	for shift := overlap - len(ea); shift <= len(eb)-overlap; shift++ {
		x, y := ea, eb
		if shift >= 0 {
			y = y[shift:]
		} else {
			x = x[-shift:]
		}
		n := min(len(x), len(y))
		if c := pearson(x[:n], y[:n]); c > correlation {
			correlation, lag = c, time.Duration(shift)*hop
		}
	}
	if math.IsInf(correlation, -1) {
		return 0, 0
	}
	return correlation, lag
}

// pearson is the correlation coefficient of two series of one length; 0 when one of them is constant.
func pearson(x, y []float64) float64 {
	var sx, sy, xx, yy, xy float64
	for i := range x {
		sx, sy = sx+x[i], sy+y[i]
		xx, yy, xy = xx+x[i]*x[i], yy+y[i]*y[i], xy+x[i]*y[i]
	}
	n := float64(len(x))
	vx, vy := xx-sx*sx/n, yy-sy*sy/n
	if vx <= 0 || vy <= 0 {
		return 0
	}
	return (xy - sx*sy/n) / math.Sqrt(vx*vy)
}
