package media

import (
	"math"
	"slices"
	"time"
)

// Answerer is who answered a call, as far as the first seconds of sound tell.
type Answerer int

// What a MachineReader finds. One of the first three comes once; Beep may follow Machine.
const (
	AnswererUnknown Answerer = iota // nobody spoke, or what was said fits neither
	Human                           // a short greeting, then silence: somebody waits for an answer
	Machine                         // a greeting that goes on
	Beep                            // the machine's tone is over: it records from now on
)

const (
	machineFrame = 160 // samples, 20 ms
	frameTime    = 20 * time.Millisecond

	// quietLevel is the least power, as a mean square, that can be speech: -45 dBFS.
	quietLevel = 32768 * 32768 * 3.2e-5
	// overNoise is how much louder than the line's own noise speech is, as a ratio of power: 9 dB.
	overNoise = 8

	greetingTime = 2200 * time.Millisecond // a person who answers has said less by then
	afterTime    = 800 * time.Millisecond  // of silence: the greeting is over
	wordTime     = 100 * time.Millisecond  // the shortest word
	pauseTime    = 60 * time.Millisecond   // the shortest pause between two words
	maxWords     = 5                       // that a person says before it waits
	silenceTime  = 5 * time.Second         // nobody speaks
	judgingTime  = 10 * time.Second        // from the answer to the verdict
	beepWait     = time.Minute             // from the verdict to the beep

	// A beep is one steady tone.
	beepTime   = 140 * time.Millisecond
	beepLow    = 350.0 // Hz
	beepHigh   = 2300.0
	beepDrift  = 0.03 // of the frequency with which it begins
	beepSwell  = 2.0  // between the loudest and the quietest quarter of a frame: two tones that beat are no beep
	beepImpure = 0.02 // the share of the power that is not the tone
)

// MachineReader tells an answering machine from a person by the rhythm of the first seconds after the answer, and then
// waits for the machine's beep. It is pure: it counts time in samples of 8 kHz. The zero value is ready. It allocates
// nothing. No such judgement is certain.
type MachineReader struct {
	frame [machineFrame]int16
	n     int

	noise    float64       // power of the line without speech; 0: not known
	elapsed  time.Duration // since the answer, or since the verdict
	greeting time.Duration // from the first speech to the last
	begun    bool          // somebody has spoken
	word     time.Duration // of the word that is being said
	pause    time.Duration // since the last speech
	words    int
	judged   bool
	waits    bool // for the beep

	tone  time.Duration // of the tone that sounds
	pitch float64       // its frequency in Hz
}

// Done says whether nothing more is to be found.
func (r *MachineReader) Done() bool { return r.judged && !r.waits }

// Sound takes the next samples. ok is true when something was found.
func (r *MachineReader) Sound(pcm []int16) (found Answerer, ok bool) {
	for len(pcm) > 0 && !r.Done() {
		n := copy(r.frame[r.n:], pcm)
		pcm, r.n = pcm[n:], r.n+n
		if r.n < machineFrame {
			break
		}
		r.n = 0
		if got, hit := r.step(); hit {
			found, ok = got, true
		}
	}
	return found, ok
}

// Lost takes samples that did not come: silence.
func (r *MachineReader) Lost(samples int64) (found Answerer, ok bool) {
	var silence [machineFrame]int16
	for samples = min(samples, 8000*int64(judgingTime/time.Second)); samples > 0 && !r.Done(); samples -= machineFrame {
		if got, hit := r.Sound(silence[:min(samples, machineFrame)]); hit {
			found, ok = got, true
		}
	}
	return found, ok
}

// step judges one frame.
func (r *MachineReader) step() (Answerer, bool) {
	r.elapsed += frameTime
	power := meanSquare(r.frame[:])
	if r.judged {
		return r.beep(power)
	}
	r.rhythm(r.speech(power))
	switch {
	case r.begun && (r.greeting >= greetingTime || r.words > maxWords):
		r.judged, r.waits, r.elapsed = true, true, 0
		return Machine, true
	case r.begun && r.pause >= afterTime:
		r.judged = true
		return Human, true
	case !r.begun && r.elapsed >= silenceTime, r.elapsed >= judgingTime:
		r.judged = true
		return AnswererUnknown, true
	}
	return 0, false
}

// speech says whether a frame of this power is speech, and learns the line's noise: down at once, up slowly.
func (r *MachineReader) speech(power float64) bool {
	loud := power > quietLevel && (r.noise == 0 || power > overNoise*r.noise)
	switch {
	case r.noise == 0 && !loud, power < r.noise:
		r.noise = math.Max(power, 1)
	case !loud:
		r.noise += (power - r.noise) / 16
	}
	return loud
}

// rhythm follows words and pauses.
func (r *MachineReader) rhythm(speech bool) {
	if !r.begun && !speech {
		r.word = 0
		return
	}
	if !speech {
		r.pause += frameTime
		if r.pause >= pauseTime {
			r.word = 0
		}
		return
	}
	r.word += frameTime
	if !r.begun && r.word < wordTime { // a click is no greeting
		return
	}
	if !r.begun {
		r.begun, r.words, r.greeting = true, 1, r.word
		r.pause = 0
		return
	}
	if r.word == wordTime {
		r.words++
	}
	r.greeting += r.pause + frameTime
	r.pause = 0
}

// beep waits for a steady tone to end.
func (r *MachineReader) beep(power float64) (Answerer, bool) {
	pitch, ok := steady(r.frame[:], power)
	if ok && r.tone > 0 && math.Abs(pitch-r.pitch) <= beepDrift*r.pitch {
		r.tone += frameTime
		return 0, false
	}
	if r.tone >= beepTime {
		r.waits = false
		return Beep, true
	}
	if r.tone = 0; ok {
		r.tone, r.pitch = frameTime, pitch
		return 0, false
	}
	if r.elapsed >= beepWait {
		r.waits = false
	}
	return 0, false
}

// steady returns the frequency of a frame that is one tone. Of a tone x, x[n]+x[n-2] is 2·cos(ω)·x[n-1]; what is left
// of it otherwise is not the tone.
func steady(x []int16, power float64) (hz float64, ok bool) {
	if power < quietLevel {
		return 0, false
	}
	quietest, loudest := math.Inf(1), 0.0
	for quarter := range slices.Chunk(x, machineFrame/4) {
		p := meanSquare(quarter)
		quietest, loudest = math.Min(quietest, p), math.Max(loudest, p)
	}
	if loudest > beepSwell*quietest {
		return 0, false
	}
	var cross, middle, sum float64
	for n := 2; n < len(x); n++ {
		a, b := float64(x[n])+float64(x[n-2]), float64(x[n-1])
		cross += a * b
		middle += b * b
		sum += a * a
	}
	if middle == 0 {
		return 0, false
	}
	c := cross / middle
	left := sum - c*cross // of the least squares
	if c <= -2 || c >= 2 || left > beepImpure*middle {
		return 0, false
	}
	hz = math.Acos(c/2) * toneRate / (2 * math.Pi)
	return hz, hz >= beepLow && hz <= beepHigh
}

func meanSquare(x []int16) float64 {
	var sum float64
	for _, s := range x {
		sum += float64(s) * float64(s)
	}
	return sum / float64(len(x))
}
