package media

import (
	"math"
	"strings"
	"time"
)

// The tones of ITU-T Q.23 in Hz.
const (
	toneLow1, toneLow2, toneLow3, toneLow4     = 697, 770, 852, 941
	toneHigh1, toneHigh2, toneHigh3, toneHigh4 = 1209, 1336, 1477, 1633
)

// toneRate is the sampling rate of tones in Hz.
const toneRate = 8000

// keypad has the digit of each pair of tones, four for each low one.
const keypad = "123A456B789C*0#D"

func lowTones() [4]float64  { return [4]float64{toneLow1, toneLow2, toneLow3, toneLow4} }
func highTones() [4]float64 { return [4]float64{toneHigh1, toneHigh2, toneHigh3, toneHigh4} }

// KeyTones returns the two frequencies of a digit in Hz (ITU-T Q.23); false: it is none.
func KeyTones(digit byte) (low, high float64, ok bool) {
	i := strings.IndexByte(keypad, digit)
	if i < 0 {
		return 0, 0, false
	}
	return lowTones()[i/4], highTones()[i%4], true
}

// How a detector judges (ITU-T Q.24 and what it reports of the administrations). Windows overlap: each hop judges the
// last 20 ms. A window is a hit when two tones are nearly all there is in it. The numbers of hops follow from how many
// windows lie within a tone, or a gap, of a given length.
const (
	toneWindow = 160 // samples, 20 ms
	toneHop    = 40  // 5 ms
	// toneHits begin a key: a tone of 40 ms has at least 5 of them, one of 24 ms at most 3.
	toneHits = 4
	// toneSuspicion hits mute the sound: the shortest leak that leaves most speech alone.
	toneSuspicion = 2
	// toneMisses end a key: a gap of 10 ms makes at most 5 of them, and a pause of 40 ms at least 9.
	toneMisses = 7
	// toneTail is how many misses still belong to the tone: its end lies in their windows.
	toneTail = 4
	// toneLength is what a tone is longer than the time between its first hit and its last.
	toneLength = 12 * time.Millisecond
	// toneShare is how much of the power in a window the two tones must have; 15 dB of noise leave 0.97.
	toneShare = 0.80
	// toneHint is how much they have at least where they should be: the more they are off, the less.
	toneHint = 0.15
	// toneFloor is the least power of each tone, as a mean square: -38 dBm0 is too quiet to be a key, -29 dBm0 and the
	// widest twist must do. 0 dBm0 is 3.14 dB below the overload of G.711's µ-law.
	toneFloor = 32767 * 32767 / 2 * 7e-5
	// Twist: how much louder the low tone may be than the high one, and the other way round, as ratios of power.
	toneLowTwist  = 10.0 // 10 dB
	toneHighTwist = 4.0  // 6 dB
	// toneOffset is how far from its nominal frequency a tone may be: Q.24 demands 1.8 %, and 3.5 % is too much.
	toneOffset = 0.022
	// toneStep is between two frequencies that are tried.
	toneStep = 0.0125
)

// ToneReader finds DTMF in sound of 8 kHz by Goertzel's algorithm. It is pure: it counts time in samples. The zero value
// is ready. Its memory does not grow and it allocates nothing.
type ToneReader struct {
	ring [toneWindow]float64 // the newest samples; next is the oldest of them
	next int
	hop  int // samples since the last judgement
	now  int64

	digit  byte // of the newest hits; 0: there is none
	hits   int  // of digit, in a row but for misses
	misses int  // since the last hit
	down   bool // digit was told
	first  int64
	last   int64 // hits
}

// Sound appends to keys what pcm brings and says whether it belongs to a key and should not be heard.
func (r *ToneReader) Sound(keys []Key, pcm []int16) (out []Key, mute bool) {
	mute = r.suspects()
	for _, s := range pcm {
		r.ring[r.next] = float64(s)
		if r.next++; r.next == toneWindow {
			r.next = 0
		}
		r.now++
		if r.hop++; r.hop == toneHop {
			r.hop = 0
			keys = r.judge(keys)
			mute = mute || r.suspects()
		}
	}
	return keys, mute
}

// suspects says whether the newest sound may be a key's.
func (r *ToneReader) suspects() bool {
	return r.misses <= toneTail && (r.down || r.hits >= toneSuspicion)
}

// Lost tells that some samples are missing: what was heard before goes on after them, or ends if they are many.
func (r *ToneReader) Lost(keys []Key, samples int64) []Key {
	if samples > 60*toneRate/1000 {
		return r.Reset(keys)
	}
	for range samples {
		r.ring[r.next] = 0
		if r.next++; r.next == toneWindow {
			r.next = 0
		}
	}
	r.now += samples
	r.misses = min(r.misses, 1) // what follows has time to fill the window again
	return keys
}

// Reset appends the end of a key that is down and forgets what was heard.
func (r *ToneReader) Reset(keys []Key) []Key {
	keys = r.up(keys)
	*r = ToneReader{now: r.now}
	return keys
}

// Down says whether a key is down.
func (r *ToneReader) Down() bool { return r.down }

// judge takes the window that ends now.
func (r *ToneReader) judge(keys []Key) []Key {
	digit := r.look()
	if digit == 0 {
		if r.misses++; r.misses >= toneMisses || !r.down && r.misses > 1 {
			keys = r.up(keys)
			r.digit, r.hits = 0, 0
		}
		return keys
	}
	if digit != r.digit {
		// Another digit: the one before ends when this one is sure.
		keys = r.up(keys)
		r.digit, r.hits, r.first = digit, 0, r.now
	}
	r.hits++
	r.misses, r.last = 0, r.now
	if r.hits == toneHits && !r.down {
		r.down = true
		keys = append(keys, Key{Digit: digit, Method: InBand})
	}
	return keys
}

func (r *ToneReader) up(keys []Key) []Key {
	if !r.down {
		return keys
	}
	r.down = false
	length := time.Duration(r.last-r.first)*(time.Second/toneRate) + toneLength
	return append(keys, Key{Digit: r.digit, Ended: true, Duration: length, Method: InBand})
}

// look returns the digit in the window, or 0.
func (r *ToneReader) look() byte {
	var window [toneWindow]float64
	copy(window[copy(window[:], r.ring[r.next:]):], r.ring[:r.next])
	var energy float64
	for _, s := range window {
		energy += s * s
	}
	energy /= toneWindow
	if energy < 2*toneFloor {
		return 0
	}
	lows, highs := powers(&window, lowTones()), powers(&window, highTones())
	low, high := loudest(lows), loudest(highs)
	if lows[low]+highs[high] < toneHint*energy {
		return 0
	}
	lowPower, highPower := peak(&window, lowTones()[low]), peak(&window, highTones()[high])
	switch {
	case lowPower < toneFloor, highPower < toneFloor,
		lowPower > highPower*toneLowTwist, highPower > lowPower*toneHighTwist,
		lowPower+highPower < toneShare*energy:
		return 0
	}
	return keypad[4*low+high]
}

func loudest(of [4]float64) (best int) {
	for i, p := range of {
		if p > of[best] {
			best = i
		}
	}
	return best
}

// peak finds the tone near a nominal frequency and returns its power. That is 0 when it is further off than tones may
// be, or when there is no peak.
func peak(window *[toneWindow]float64, hz float64) float64 {
	var around [8]float64
	const middle = 3
	at := func(i int) float64 { return hz * (1 + float64(i-middle)*toneStep) }
	left := powers(window, [4]float64{at(0), at(1), at(2), at(3)})
	right := powers(window, [4]float64{at(4), at(5), at(6), at(7)})
	copy(around[copy(around[:], left[:]):], right[:])
	best := 0
	for i, p := range around {
		if p > around[best] {
			best = i
		}
	}
	if best == 0 || best >= 2*middle {
		return 0
	}
	// The logarithms of a tone's powers lie nearly on a parabola.
	a, b, c := math.Log(around[best-1]+1), math.Log(around[best]+1), math.Log(around[best+1]+1) //nolint:gosec // best is neither first nor last
	shift := 0.0
	if bend := a - 2*b + c; bend < 0 {
		shift = min(max(0.5*(a-c)/bend, -0.5), 0.5)
	}
	offset := (float64(best-middle) + shift) * toneStep
	if math.Abs(offset) > toneOffset {
		return 0
	}
	exact := hz * (1 + offset)
	return powers(window, [4]float64{exact, exact, exact, exact})[0]
}

// powers are the mean squares of the components at four frequencies in Hz (Goertzel). Four at once keep the processor
// from waiting for each other's sums.
func powers(window *[toneWindow]float64, hz [4]float64) (out [4]float64) {
	var turn [4]float64
	for i, f := range hz {
		turn[i] = 2 * math.Cos(2*math.Pi*f/toneRate)
	}
	t0, t1, t2, t3 := turn[0], turn[1], turn[2], turn[3]
	var a0, b0, a1, b1, a2, b2, a3, b3 float64
	for _, s := range window {
		a0, b0 = s-b0+t0*a0, a0
		a1, b1 = s-b1+t1*a1, a1
		a2, b2 = s-b2+t2*a2, a2
		a3, b3 = s-b3+t3*a3, a3
	}
	out = [4]float64{a0*a0 + b0*b0 - t0*a0*b0, a1*a1 + b1*b1 - t1*a1*b1, a2*a2 + b2*b2 - t2*a2*b2, a3*a3 + b3*b3 - t3*a3*b3}
	for i := range out {
		out[i] *= 2.0 / (toneWindow * toneWindow)
	}
	return out
}

// toneLevel is the peak of each tone that a ToneWriter makes: -8 dBm0.
const toneLevel = 32767 * 0.2767 // 10^(-(8+3.14)/20)

// ToneWriter makes the sound of a key, for phones that take no events. The zero value is silent.
type ToneWriter struct {
	low, high float64 // phase in turns
	lowStep   float64
	highStep  float64
}

// Press begins a digit's sound; false: it is none.
func (w *ToneWriter) Press(digit byte) bool {
	low, high, ok := KeyTones(digit)
	if ok {
		*w = ToneWriter{lowStep: low / toneRate, highStep: high / toneRate}
	}
	return ok
}

// Sound fills pcm with the next samples.
func (w *ToneWriter) Sound(pcm []int16) {
	for i := range pcm {
		pcm[i] = int16(toneLevel * (math.Sin(2*math.Pi*w.low) + math.Sin(2*math.Pi*w.high)))
		_, w.low = math.Modf(w.low + w.lowStep)
		_, w.high = math.Modf(w.high + w.highStep)
	}
}
