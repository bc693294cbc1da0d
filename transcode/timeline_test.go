package transcode

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tape records a timeline's packets and checks that its positions rise without a hole or an overlap, but at a marker.
type tape struct {
	t       *testing.T
	pos     []int64
	loud    []bool
	pcm     []int16
	markers int
	next    int64
}

func (p *tape) packet(pos int64, marker bool, pcm []int16) {
	require.Len(p.t, pcm, frameSamples)
	if marker {
		p.markers++
		require.GreaterOrEqual(p.t, pos, p.next)
	} else {
		require.Equal(p.t, p.next, pos)
	}
	p.next = pos + frameSamples
	sounds := false
	for _, s := range pcm {
		sounds = sounds || s != 0
	}
	p.pos, p.loud = append(p.pos, pos), append(p.loud, sounds)
	p.pcm = append(p.pcm, pcm...)
}

func (p *tape) missing([]int16) {}

func (p *tape) sound(pcm []int16) []int16 { return pcm }

func (p *tape) sounding() int {
	n := 0
	for _, s := range p.loud {
		if s {
			n++
		}
	}
	return n
}

// line is a timeline under test: begun at time 0, ticked in every 20 ms by run.
type line struct {
	timeline
	tape  *tape
	begun time.Time
	ms    int
}

func newLine(t *testing.T) *line {
	l := &line{tape: &tape{t: t}, begun: time.Unix(1000, 0)}
	l.out, l.rate = l.tape, narrow
	l.begin(l.begun)
	return l
}

func (l *line) at(ms int) time.Time { return l.begun.Add(time.Duration(ms) * time.Millisecond) }

// run ticks until ms.
func (l *line) run(ms int) {
	for ; l.ms < ms; l.ms += 20 {
		l.fill(l.at(l.ms), overdue)
	}
}

// voice is samples that say where they belong.
func words(pos int64, n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16((pos+int64(i))%30000) + 1
	}
	return out
}

// hear lets frame number i of a source with 20 ms frames come at ms.
func (l *line) hear(i, ms int) {
	require.True(l.tape.t, l.take(i, ms), "frame %d", i)
}

func (l *line) take(i, ms int) bool {
	l.run(ms)
	return l.write(frame{pos: int64(i) * 160, epoch: 1, pcm: words(int64(i)*160, 160)}, l.at(ms))
}

func (l *line) mustRefuse(i, ms int) { require.False(l.tape.t, l.take(i, ms), "frame %d", i) }

// requireSamples compares without printing thousands of them.
func requireSamples(t *testing.T, want, got []int16) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("sample %d is %d, not %d", i, got[i], want[i])
		}
	}
}

func TestTimelineIsSilentFromTheStart(t *testing.T) {
	l := newLine(t)
	l.run(1000)
	require.Len(t, l.tape.pos, 50)
	require.Zero(t, l.tape.sounding())
	require.Equal(t, 1, l.tape.markers)
	require.EqualValues(t, 50, l.fillers)
}

func TestTimelineSendsFramesAsTheyCome(t *testing.T) {
	l := newLine(t)
	l.run(107)
	before := len(l.tape.pos)
	for i := range 100 {
		l.hear(i, 107+20*i)
		require.Len(t, l.tape.pos, before+i+1, "at once, and nothing else")
	}
	requireSamples(t, words(0, 16000), l.tape.pcm[before*160:])
	require.EqualValues(t, 0, l.late)
}

// Jitter below 60 ms never meets a filler.
func TestTimelineBearsJitter(t *testing.T) {
	for seed := range uint64(50) {
		l := newLine(t)
		rnd := rand.New(rand.NewPCG(seed, 0))
		last := 0
		for i := range 500 {
			last = max(last, 20*i+rnd.IntN(39))
			l.hear(i, last)
		}
		require.Zero(t, l.late)
		require.LessOrEqual(t, l.fillers, uint64(1+39/20), "only before the first frame")
		require.Equal(t, 500, l.tape.sounding())
	}
}

func TestTimelineFillsALostFrame(t *testing.T) {
	l := newLine(t)
	for i := range 100 {
		if i != 50 {
			l.hear(i, 20*i)
		}
	}
	require.Equal(t, 99, l.tape.sounding())
	requireSamples(t, words(51*160, 160), l.tape.pcm[len(l.tape.pcm)-49*160:][:160])
	requireSamples(t, make([]int16, 160), l.tape.pcm[len(l.tape.pcm)-50*160:][:160])
	require.Equal(t, 1, l.tape.markers)
}

// A pause (DTX) is silent, and what follows keeps its time: not 60 ms later than before.
func TestTimelineKeepsTimeOverAPause(t *testing.T) {
	l := newLine(t)
	for i := range 10 {
		l.hear(i, 20*i)
	}
	first := l.tape.next - 10*160
	l.hear(100, 2000)
	require.Equal(t, first+101*160, l.tape.next)
	require.Len(t, l.tape.pos, int(l.tape.next/160), "no hole")
	require.Equal(t, 11, l.tape.sounding())
}

// A frame that comes after the silence in its place is not for the stream that is sent as it comes, and no silence more
// than was overdue is sent for it.
func TestTimelineRefusesWhatIsLate(t *testing.T) {
	l := newLine(t)
	for i := range 50 {
		l.hear(i, 20*i)
	}
	l.run(20*50 + 150)
	sent := len(l.tape.pos)
	l.mustRefuse(50, 20*50+150)
	require.Len(t, l.tape.pos, sent)
	require.Equal(t, 50, l.tape.sounding())
}

// Nor is one of a source that has left real time, whichever way.
func TestTimelineRefusesASourceThatLeavesRealTime(t *testing.T) {
	for _, ppm := range []time.Duration{-500, 500} {
		l := newLine(t)
		i, at := 0, l.begun
		for ; l.write(frame{pos: int64(i) * 160, pcm: words(0, 160)}, at); i++ {
			at = at.Add(frameTime + frameTime*ppm/1_000_000)
			l.run(int(at.Sub(l.begun).Milliseconds()))
		}
		require.InDelta(t, mostLead.Seconds()*1e6/500, at.Sub(l.begun).Seconds(), 1)
		require.Equal(t, i, l.tape.sounding())
		require.Zero(t, l.late)
	}
}

func TestTimelineFollowsAJumpOfTheSource(t *testing.T) {
	for _, jump := range []int64{-1 << 40, -100000, 8000, 1 << 40} {
		l := newLine(t)
		for i := range 50 {
			l.hear(i, 20*i)
		}
		for i := 50; i < 100; i++ {
			l.run(20 * i)
			l.write(frame{pos: int64(i)*160 + jump, epoch: 1, pcm: words(0, 160)}, l.at(20*i))
		}
		require.GreaterOrEqual(t, l.tape.sounding(), 100, "%d", jump)
		require.LessOrEqual(t, len(l.tape.pos), 100+4)
	}
}

func TestTimelineTakesAnotherEpochAtOnce(t *testing.T) {
	l := newLine(t)
	for i := range 50 {
		l.hear(i, 20*i)
	}
	for i := range 50 {
		l.run(1000 + 20*i)
		l.write(frame{pos: int64(i) * 160, epoch: 2, pcm: words(0, 160)}, l.at(1000+20*i))
	}
	require.Equal(t, 100, l.tape.sounding())
	require.Zero(t, l.late)
}

// A source whose clock is off by so little that the stream stays in real time loses nothing and is never met by silence.
func TestTimelineFollowsDrift(t *testing.T) {
	for _, ppm := range []int{-300, 300} {
		l := newLine(t)
		var begun uint64
		for i := range 5_000 { // 30 ms
			at := l.begun.Add(time.Duration(i) * (frameTime + frameTime*time.Duration(ppm)/1_000_000))
			l.run(int(at.Sub(l.begun).Milliseconds()))
			require.True(t, l.write(frame{pos: int64(i) * 160, pcm: words(0, 160)}, at))
			if i == 0 {
				begun = l.fillers
			}
		}
		require.Zero(t, l.late)
		require.Equal(t, begun, l.fillers)
	}
}

// Packets that are sent as they are keep the source's time, however far its clock runs away from ours: none is left out, and no
// timestamp jumps.
func TestTimelinePassesDriftOn(t *testing.T) {
	for _, ppm := range []int{-200, 200} {
		l := newLine(t)
		at, first := l.begun, int64(0)
		for i := range 180_000 { // an hour
			l.ms = int(at.Sub(l.begun).Milliseconds())
			l.fill(at, forwardGap)
			pos, marker, ok := l.pass(frame{pos: int64(i) * 160}, 160, at)
			if i == 0 {
				first = pos
			}
			require.True(t, ok, "packet %d", i)
			require.Equal(t, first+int64(i)*160, pos)
			require.Equal(t, i == 0, marker)
			at = at.Add(frameTime + frameTime*time.Duration(ppm)/1_000_000)
		}
		require.Zero(t, l.skipped+l.late)
		require.Zero(t, len(l.tape.pos), "no silence")
	}
}

func TestTimelineReframes(t *testing.T) {
	for _, size := range []int{20, 40, 80, 160, 240, 320, 480, 640, 800, 960} {
		l := newLine(t)
		pos := 0
		for ; pos < 16000; pos += size {
			l.run(pos / 8)
			l.write(frame{pos: int64(pos), pcm: words(int64(pos), size)}, l.at(pos/8))
		}
		require.Zero(t, l.late)
		start := int(l.fillers) * 160
		requireSamples(t, words(0, pos/160*160), l.tape.pcm[start:])
	}
}

// An unfinished packet is completed with silence when nothing follows.
func TestTimelineCompletesWhatIsOverdue(t *testing.T) {
	l := newLine(t)
	l.run(40)
	n := len(l.tape.pos)
	l.write(frame{pos: 0, pcm: words(0, 80)}, l.at(40))
	l.run(140)
	requireSamples(t, append(words(0, 80), make([]int16, 80)...), l.tape.pcm[n*160:n*160+160])
}

// Whatever comes, time does not go back and does not run away.
func FuzzTimeline(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLine(t)
		pos := int64(0)
		for len(b) >= 4 {
			switch b[0] % 8 {
			case 0:
				pos += int64(int8(b[1])) << (b[2] % 40)
			case 1:
				l.clocked(words(0, 160), l.at(l.ms))
			case 2:
				l.reserve(l.at(l.ms))
			case 3:
				l.run(l.ms + int(b[1]))
			default:
				n := int(b[1])*4 + 1
				l.write(frame{pos: pos, epoch: uint32(b[2] % 4 / 3), pcm: words(0, min(n, maxFrame))}, l.at(l.ms))
				pos += int64(n)
			}
			l.tape.next = max(l.tape.next, l.pos) // reserved slots are not packets
			b = b[4:]
		}
	})
}
