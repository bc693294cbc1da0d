package media

const (
	jitterSize  = 4096 // samples of the ring: 512 ms
	jitterFrame = 960  // longest frame: 120 ms
	jitterAhead = 3000 // a frame this far before its time is a jump of the source's clock, not delay to spare
	jitterStep  = 160  // 20 ms, by which the delay moves
	jitterMin   = 160  // smallest delay: 20 ms
	jitterStart = 320
	jitterMax   = 1600 // largest delay: 200 ms
	jitterSpell = 50   // frames that must have had time to spare until the delay shrinks
	lateRun     = 3    // frames too late in a row after which the delay is measured anew
)

// Jitter is a play-out buffer of 8 kHz samples with an adaptive delay: it grows when frames come too late and shrinks
// again when for a while none needed it, so a bad spell leaves nothing behind. It owns its samples and never holds more
// than half a second. Positions are a source's sample count, any start. It is pure and not safe for concurrent use.
// The zero value is ready.
type Jitter struct {
	Late     uint64 // frames that came when their time had passed
	Overflow uint64 // samples dropped because too many waited

	ring    [jitterSize]int16
	playing bool
	read    int64 // position of the next Take
	end     int64 // after the last sample put in
	delay   int64 // after a restart, in samples
	spare   int64 // the least time before its play-out that a frame had in this spell
	spell   int   // frames in this spell
	late    int   // in a row
}

// Put takes a frame of at most 120 ms whose first sample has position pos.
func (j *Jitter) Put(pos int64, pcm []int16) {
	if len(pcm) == 0 || len(pcm) > jitterFrame {
		return
	}
	if j.delay == 0 {
		j.delay = jitterStart
	}
	if !j.playing {
		j.restart(pos)
	}
	switch spare := pos - j.read; {
	case spare > jitterAhead:
		j.Overflow += uint64(j.Depth())
		j.restart(pos)
	case spare < 0:
		j.behind(pos)
	default:
		j.late = 0
		j.adapt(spare)
	}
	j.store(pos, pcm)
}

// behind meets a frame whose time has come already: the delay grows, so that the next one as late as this is heard.
func (j *Jitter) behind(pos int64) {
	j.Late++
	j.late++
	j.delay = min(jitterMax, j.delay+jitterStep)
	if j.late >= lateRun || pos < j.read-jitterSize {
		j.restart(pos)
		return
	}
	j.read = max(j.read-jitterStep, j.end-jitterSize)
	j.spell, j.spare = 0, jitterAhead
}

// Take fills dst with the next samples, silence where nothing came, and says whether there was anything to hear.
func (j *Jitter) Take(dst []int16) bool {
	if !j.playing {
		clear(dst)
		return false
	}
	for i := range dst {
		slot := &j.ring[uint64(j.read+int64(i))%jitterSize]
		dst[i], *slot = *slot, 0
	}
	heard := j.read < j.end
	j.read += int64(len(dst))
	return heard
}

// Depth is how many samples wait.
func (j *Jitter) Depth() int { return int(max(0, j.end-j.read)) }

// Reset empties the buffer; the counters and the measured delay stay.
func (j *Jitter) Reset() {
	clear(j.ring[:])
	j.playing = false
	j.late = 0
}

// restart lets pos be heard after the delay.
func (j *Jitter) restart(pos int64) {
	clear(j.ring[:])
	j.playing, j.late = true, 0
	j.read, j.end = pos-j.delay, pos
	j.spell, j.spare = 0, jitterAhead
}

// skip drops the next n samples, fewer than the ring holds.
func (j *Jitter) skip(n int64) {
	for range n {
		j.ring[uint64(j.read)%jitterSize] = 0
		j.read++
	}
}

// store writes what is still to be played.
func (j *Jitter) store(pos int64, pcm []int16) {
	if pos < j.read {
		if j.read-pos >= int64(len(pcm)) {
			return
		}
		pcm = pcm[j.read-pos:]
		pos = j.read
	}
	for i, v := range pcm {
		j.ring[uint64(pos+int64(i))%jitterSize] = v
	}
	j.end = max(j.end, pos+int64(len(pcm)))
}

// adapt shortens the delay when a whole spell of frames had time to spare: at most 40 ms at once.
func (j *Jitter) adapt(spare int64) {
	j.spare = min(j.spare, spare)
	if j.spell++; j.spell < jitterSpell {
		return
	}
	if extra := min(j.spare-2*jitterStep, jitterStep) + jitterStep; extra >= jitterStep {
		j.skip(extra)
		j.delay = max(jitterMin, j.delay-extra)
	}
	j.spell, j.spare = 0, jitterAhead
}
