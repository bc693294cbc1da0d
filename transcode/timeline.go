package transcode

import "time"

const (
	narrow = 8000  // samples in a second of G.711
	wide   = 16000 // of G.722, and of what is decoded for it

	frameTime = 20 * time.Millisecond
	frameMost = wide / 50         // samples of 20 ms
	soundMost = 120 * wide / 1000 // of the longest packet

	// overdue is how late a frame may be before silence takes its place: ordinary jitter never meets the filler.
	overdue = 60 * time.Millisecond
	// ahead is how early a frame may be; beyond, the source's clock has jumped.
	ahead = 200 * time.Millisecond
	// jump is a gap in a source's positions that no pause explains, for pauses are filled while they last. Hostile
	// timestamps end here, before any arithmetic with time.
	jump = time.Second
	// patch is the longest gap that is filled with packets at once; over a longer one the timestamp jumps.
	patch = 4 * frameTime
	// stall is how far behind the clock may be and still be made up for packet by packet.
	stall = 500 * time.Millisecond
	// lateRun is how many packets in a row may come too late until the source is mapped anew: its path became slower.
	lateRun = 3
	// maxLead is how far a stream of packets that are sent as they are may run ahead of real time. Each stall of a path puts
	// silence into it, and what waited comes in a burst behind that.
	maxLead = 200 * time.Millisecond
	// mostLead is how far a source may be ahead of real time, by the frames that come earliest, or behind it. Beyond, its
	// clock or its path has changed: it is heard through a buffer until the stream is in time again.
	mostLead = 40 * time.Millisecond
	// drift lets the expected time of a source slide later, 1000 ppm of 20 ms frames: more than any sound card is off.
	drift = 20 * time.Microsecond
)

// frame is a piece of a source's voice. It is valid during the call that brings it.
type frame struct {
	pos       int64  // of the first sample, in the source's count
	epoch     uint32 // changes when pos begins anew
	pcm       []int16
	concealed bool   // made up in place of a lost one
	codes     *codes // of pcm; nil: not several phones hear it as it comes
}

// timelineOut takes the packets of a timeline: 20 ms each, at a rising position.
type timelineOut interface {
	packet(pos int64, marker bool, pcm []int16)
	// sound sees what is sent, in order, and may send something else in its place.
	sound(pcm []int16) []int16
	// missing makes up for sound that did not come, or did not come in time. What it leaves alone is silence.
	missing(pcm []int16)
}

// timeline makes the continuous stream that a phone hears of whatever comes: frames of one source as they arrive with
// their timing kept, silence where nothing came, or frames that a clock makes. Positions only rise. It is pure: time
// comes from the caller.
type timeline struct {
	out  timelineOut
	rate int64 // samples in a second

	pos     int64     // of the next packet
	part    samples   // its beginning, while it is not complete
	n       int       // samples in part
	origin  time.Time // when position 0 was due, by the source's clock as it was last seen
	zero    time.Time // when position 0 was sent, had all been sent in real time
	marked  bool      // the next packet needs no marker
	mapped  bool      // offset is valid
	offset  int64     // from the source's positions to ours
	epoch   uint32
	next    int64 // the source's position that follows what was sent
	lateRun int   // packets

	late    uint64 // frames that nobody has heard because something else had been sent in their place
	skipped uint64 // packets left out because too much had been sent already
	fillers uint64 // packets of silence
}

// begin lets the stream start at now: the first packet of silence is due at once.
func (t *timeline) begin(now time.Time) {
	t.zero = now.Add(-t.span(t.at()))
	t.origin = t.zero.Add(-overdue)
}

// at is where the next sample goes.
func (t *timeline) at() int64 { return t.pos + int64(t.n) }

func (t *timeline) span(samples int64) time.Duration {
	return time.Duration(samples) * (time.Second / time.Duration(t.rate))
}

// samples is how many a time takes.
func (t *timeline) samples(d time.Duration) int64 {
	return int64(d) * t.rate / int64(time.Second)
}

// frame is how many samples a packet has.
func (t *timeline) frame() int { return int(t.rate / 50) }

// pace changes the rate. What has begun goes out first, and the positions keep their time.
func (t *timeline) pace(rate int64) {
	if rate == t.rate {
		return
	}
	t.complete()
	t.pos = t.pos * rate / t.rate
	t.rate = rate
	t.detach()
}

// due is when a position should be sent.
func (t *timeline) due(pos int64) time.Time { return t.origin.Add(t.span(pos)) }

// expect lets the next sample be due at when.
func (t *timeline) expect(when time.Time) { t.origin = when.Add(-t.span(t.at())) }

// lead is how far the stream is ahead of real time.
func (t *timeline) lead(now time.Time) time.Duration {
	lead := t.span(t.at()) - now.Sub(t.zero)
	if lead < -patch { // the clock stood still: nothing makes up for that
		t.zero = t.zero.Add(-patch - lead)
		return -patch
	}
	return lead
}

// write sends a source's frame. It does not where the frame cannot go out as it came: something was sent in its place, or
// the source has left real time. Then it is a buffer's.
func (t *timeline) write(f frame, now time.Time) (ok bool) {
	if t.strange(f, now) {
		t.bridge(t.present(now))
		t.attach(f, now)
	}
	pos := f.pos + t.offset
	if pos < t.at() {
		return false
	}
	// Expect the source as early as it ever came, but slide later when it never comes so early again.
	origin := t.origin.Add(min(now.Sub(t.due(pos)), drift))
	if lead := t.zero.Sub(origin); lead > mostLead || lead < -mostLead {
		return false
	}
	t.bridge(pos)
	t.origin, t.next = origin, f.pos+int64(len(f.pcm))
	t.append(f.pcm)
	return true
}

// pass finds the place of a source's packet that is sent as it is, of n samples. Over a gap the time jumps. How fast the
// source's clock runs is the phone's affair; how much too many stalls have put into the stream is not.
func (t *timeline) pass(f frame, n int64, now time.Time) (pos int64, marker, ok bool) {
	t.complete()
	if t.lead(now) > maxLead {
		t.skipped++
		t.detach()
		t.expect(now.Add(t.span(n)))
		return 0, false, false
	}
	if t.strange(f, now) {
		if present := t.present(now); present > t.pos {
			t.skip(present)
		}
		t.attach(f, now)
	}
	pos = f.pos + t.offset
	if pos < t.pos {
		t.late++
		if t.lateRun++; t.lateRun >= lateRun {
			t.detach()
		}
		return 0, false, false
	}
	t.lateRun = 0
	t.origin = t.origin.Add(min(now.Sub(t.due(pos)), drift))
	t.zero = t.zero.Add(max(-drift, min(t.origin.Sub(t.zero), drift)))
	marker = !t.marked
	t.marked, t.pos = true, pos+n
	return pos, marker, true
}

// strange says that a frame begins anew: with it a source begins, or its clock has jumped.
func (t *timeline) strange(f frame, now time.Time) bool {
	if !t.mapped || f.epoch != t.epoch {
		return true
	}
	pos := f.pos + t.offset
	if distance := t.samples(jump); pos > t.at()+distance || pos < t.at()-distance { // before any arithmetic with time
		return true
	}
	late := now.Sub(t.due(pos))
	return pos > t.at() && late < -ahead || pos < t.at() && late > stall
}

// present is where the stream should be now, if it is behind.
func (t *timeline) present(now time.Time) int64 {
	if behind := -t.lead(now); behind > frameTime {
		return t.at() + t.samples(behind)
	}
	return t.at()
}

// attach maps a source so that f comes next, in time.
func (t *timeline) attach(f frame, now time.Time) {
	t.mapped, t.epoch, t.lateRun = true, f.epoch, 0
	t.offset = t.at() - f.pos
	t.expect(now)
}

// detach forgets the source: the next frame that is written comes next.
func (t *timeline) detach() { t.mapped = false }

// bridge goes on to pos over a gap in the source's time.
func (t *timeline) bridge(pos int64) {
	if pos-t.at() > t.samples(patch) {
		t.skip(pos)
		return
	}
	for t.at() < pos {
		t.silence(pos - t.at())
	}
}

// await goes on to where the stream is so long, if it is not that long yet.
func (t *timeline) await(length time.Duration) {
	if short := length - t.span(t.at()); short > 0 {
		t.bridge(t.at() + t.samples(short))
	}
}

// skip lets the timestamp jump to pos: to the phone a pause, told by the marker (RFC 3551 §4.1).
func (t *timeline) skip(pos int64) {
	t.complete()
	t.pos = max(t.pos, pos)
	t.marked = false
}

// fill sends silence in place of what is overdue, by patience at least.
func (t *timeline) fill(now time.Time, patience time.Duration) {
	if now.Sub(t.due(t.at())) < patience {
		return
	}
	if behind := now.Sub(t.due(t.at())); behind > stall {
		t.skip(t.at() + int64((behind-overdue)/frameTime)*int64(t.frame()))
	}
	for now.Sub(t.due(t.at())) >= overdue {
		t.silence(int64(t.frame()))
	}
}

// clocked sends 20 ms that a clock made. Sources are mapped anew afterwards.
func (t *timeline) clocked(pcm []int16, now time.Time) {
	t.append(pcm)
	t.expect(now.Add(frameTime))
	t.detach()
}

// reserve takes a slot of 20 ms out of the stream, in which something else is sent, and returns its position.
func (t *timeline) reserve(now time.Time) int64 {
	t.complete()
	pos := t.pos
	t.pos += int64(t.frame())
	t.expect(now.Add(frameTime))
	t.detach()
	return pos
}

// append adds samples and sends what makes whole packets.
func (t *timeline) append(pcm []int16) {
	pcm = t.out.sound(pcm)
	size := t.frame()
	if t.n > 0 {
		part := t.part.of(size)
		n := copy(part[t.n:], pcm)
		t.n += n
		pcm = pcm[n:]
		if t.n == size {
			t.send(part)
		}
	}
	for len(pcm) >= size {
		t.send(pcm[:size])
		pcm = pcm[size:]
	}
	if len(pcm) > 0 {
		t.n = copy(t.part.of(size), pcm)
	}
}

// silence adds at most n samples in place of what did not come, and no more than the packet needs.
func (t *timeline) silence(n int64) {
	size := t.frame()
	n = min(n, int64(size-t.n))
	part := t.part.of(size)
	gap := part[t.n : t.n+int(n)]
	clear(gap)
	t.out.missing(gap)
	t.n += int(n)
	if t.n == size {
		t.fillers++
		t.send(part)
	}
}

// complete sends a packet that has begun.
func (t *timeline) complete() {
	if t.n > 0 {
		t.silence(int64(t.frame()))
	}
}

func (t *timeline) send(pcm []int16) {
	t.out.packet(t.pos, !t.marked, pcm)
	t.marked = true
	t.pos += int64(t.frame())
	t.n = 0
}
