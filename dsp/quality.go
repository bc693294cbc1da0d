package dsp

import (
	"math"
	"time"
)

// CodecQuality is what the E-model knows about a codec (ITU-T G.113).
type CodecQuality struct {
	// R is the rating of a connection whose only flaw is its bandwidth: 93.2 for 300–3400 Hz (G.107 §7.7), 129 for
	// 50–7000 Hz (G.107.1 §7).
	R float64
	// Ie is the equipment impairment factor without loss, on R's scale.
	Ie float64
	// Bpl is the packet-loss robustness factor: the loss in per cent that halves what is left to lose.
	Bpl float64
}

// What the E-model computes with where a gateway knows nothing: the default values of G.107 Table 2 and what follows
// from them.
const (
	ratingNarrow = 93.2        // R with every value at its default, G.107 §7.7
	ratingWide   = 129         // G.107.1 §7
	ratingMost   = 100         // the top of the scale that MOS is read from, G.107 Annex B
	lossRange    = 95          // G.107 §7.5
	talkerEcho   = 65.         // TELR in dB
	echoLoss     = 110.        // WEPL in dB
	noiseRating  = 94.77       // Ro, and Roe, of the defaults: no echo worth the name is masked by noise
	idleOfNone   = 0.149       // Idle at no delay: G.107's 93.2 has it already
	longestDelay = time.Minute // any longer is no better and no worse
)

// QualityG711 is PCMU or PCMA with packet loss concealment as in G.711 Appendix I (G.113 Appendix I: Ie 0, Bpl 25.1).
func QualityG711() CodecQuality { return CodecQuality{R: ratingNarrow, Ie: 0, Bpl: 25.1} }

// QualityG722 is G.722 at 64 kbit/s. Its values are on the wideband scale of G.107.1, which has the same origin and
// unit as that of G.107 and ends at 129: Ie,wb 13 (G.113 Appendix IV), and a Bpl,wb of 4.9, which is assumed: it is
// near what the appendix has for other wideband codecs. So that legs can be compared, MOS is read on the narrowband
// scale: a call without loss rates 116 there, which is better than any telephone call and counts as 100.
func QualityG722() CodecQuality { return CodecQuality{R: ratingWide, Ie: 13, Bpl: 4.9} }

// QualityOpus is Opus where one end is a telephone. ITU-T gives it no values; these are assumed: no impairment of its
// own at speech bitrates from 16 kbit/s, and under loss as robust as G.711 with concealment. What in-band FEC
// restores is not to be counted as lost.
func QualityOpus() CodecQuality { return CodecQuality{R: ratingNarrow, Ie: 0, Bpl: 25.1} }

// MOS is the mean opinion score, 1 to 4.5, that listeners are expected to give to a conversation (ITU-T G.107), on
// the narrowband scale, where a faultless telephone call has 4.41. loss is the share of packets that came late or not
// at all, 0 to 1. burst is the mean length of a gap divided by what it would be if packets were lost at random, 1 or
// more (BurstR; 0 if unknown). delay is the time from mouth to ear, one way.
func MOS(codec CodecQuality, loss, burst float64, delay time.Duration) float64 {
	return ratingMOS(Rating(codec, loss, burst, delay))
}

// Rating is the transmission rating factor R that MOS is read from: R = Ro − Is − Id − Ie,eff (G.107 §7.1, without the
// advantage factor). It is between 0 and 100.
func Rating(codec CodecQuality, loss, burst float64, delay time.Duration) float64 {
	r := codec.R - delayImpairment(delay) - LossImpairment(codec, loss, burst)
	return within(r, 0, ratingMost)
}

// LossImpairment is Ie,eff: what the codec and lost packets take from R (G.107 §7.5).
func LossImpairment(codec CodecQuality, loss, burst float64) float64 {
	percent := 100 * within(loss, 0, 1)
	if percent == 0 {
		return codec.Ie
	}
	return codec.Ie + (lossRange-codec.Ie)*percent/(percent/within(burst, 1, 1000)+codec.Bpl)
}

// delayImpairment is Id, what delay takes from R (G.107 §7.4): talker echo, listener echo and delay itself, less what
// the default rating has of them already.
func delayImpairment(delay time.Duration) float64 {
	t := min(max(delay, 0), longestDelay).Seconds() * 1000 // T and Ta in ms; Tr = 2T

	// Idte, talker echo. Where the echo is masked, at a few ms, the formula dips under 0; an echo improves nothing.
	terv := talkerEcho - 40*math.Log10((1+t/10)/(1+t/150)) + 6*math.Exp(-0.3*t*t)
	apart := noiseRating - (80 + 2.5*(terv-14))
	talker := (apart/2 + math.Sqrt(apart*apart/4+100) - 1) * (1 - math.Exp(-t))

	// Idle, listener echo.
	apart = noiseRating - 10.5*(echoLoss+7)*math.Pow(2*t+1, -0.25)
	listener := apart/2 + math.Sqrt(apart*apart/4+169)

	// Idd, delay that is too long even without an echo.
	absolute := 0.0
	if t > 100 {
		x := math.Log2(t / 100)
		absolute = 25 * (math.Pow(1+math.Pow(x, 6), 1./6) - 3*math.Pow(1+math.Pow(x/3, 6), 1./6) + 2)
	}
	return max(0, talker) + listener - idleOfNone + absolute
}

// ratingMOS is MOS-CQE of a rating (G.107 Annex B). Below 6.5 the polynomial dips under 1; nothing is worse
// than 1.
func ratingMOS(r float64) float64 {
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}
