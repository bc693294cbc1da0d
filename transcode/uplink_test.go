package transcode

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

// upstream is a phone whose Opus a test hears.
type upstream struct {
	t     *testing.T
	c     *clock
	b     *Bridge
	ear   *opusEar
	voice *phoneVoice
	tone  []int16
	at    int
	keys  []media.Key
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{t: t, c: newClock(), ear: &opusEar{}, voice: newPhoneVoice(media.PCMU), tone: audio.Tone(1000, -15, 8000, time.Second)}
	u.b, _ = testBridge(t, testEngine(u.c, Config{}), u.c, pcmu, func(k media.Key) { u.keys = append(u.keys, k) })
	u.b.Source().Audio().Add(u.ear)
	return u
}

// next makes the next packet of n samples of the tone.
func (u *upstream) next(n int) *rtp.Packet {
	if u.at+n > len(u.tone) {
		u.at = 0
	}
	u.at += n
	return u.voice.make(u.tone[u.at-n : u.at])
}

func (u *upstream) take(p *rtp.Packet) { u.b.up.ReceiveRTP(p, u.c.now()) }

// say takes n packets of 20 ms, one every 20 ms.
func (u *upstream) say(n int) {
	for range n {
		u.take(u.next(160))
		u.c.add(frameTime)
	}
}

// pause lets the phone's clock go on without packets.
func (u *upstream) pause(samples uint32) {
	u.voice.packet.Timestamp += samples
	u.c.add(time.Duration(samples) * time.Second / 8000)
}

// event makes a telephone-event packet; the key's timestamp is ts.
func (u *upstream) event(ts uint32, code byte, end bool, held uint16) *rtp.Packet {
	p := u.voice.packet.Clone()
	u.voice.packet.SequenceNumber++
	p.PayloadType, p.Timestamp = 101, ts
	p.Payload = []byte{code, 10, 0, 0}
	if end {
		p.Payload[1] |= 0x80
	}
	binary.BigEndian.PutUint16(p.Payload[2:], held)
	return p
}

// steps returns the differences of sequence numbers and timestamps, the latter in frames of 20 ms.
func (u *upstream) steps() (seqs []int, times []int) {
	for i, p := range u.ear.got[1:] {
		seqs = append(seqs, int(p.SequenceNumber-u.ear.got[i].SequenceNumber))
		times = append(times, int(p.Timestamp-u.ear.got[i].Timestamp)/960)
	}
	return seqs, times
}

func repeat(v, n int) []int { return slices.Repeat([]int{v}, n) }

func TestLossOfThePhoneStaysAGap(t *testing.T) {
	u := newUpstream(t)
	u.say(5)
	u.next(160)
	u.next(160)
	u.c.add(2 * frameTime)
	u.say(5)
	seqs, times := u.steps()
	want := slices.Concat(repeat(1, 4), []int{3}, repeat(1, 4))
	require.Equal(t, want, seqs, "the browser sees two lost packets")
	require.Equal(t, want, times)
	for _, p := range u.ear.got[1:] {
		require.False(t, p.Marker)
	}
}

func TestPauseOfThePhoneIsNoLoss(t *testing.T) {
	u := newUpstream(t)
	u.say(5)
	u.pause(8000)
	u.say(5)
	seqs, times := u.steps()
	require.Equal(t, repeat(1, 9), seqs)
	require.Equal(t, slices.Concat(repeat(1, 4), []int{51}, repeat(1, 4)), times)
	require.True(t, u.ear.got[0].Marker)
	require.True(t, u.ear.got[5].Marker)
}

func TestReorderedPacketsCorruptNothing(t *testing.T) {
	u := newUpstream(t)
	for i := range 100 {
		p := u.next(160)
		if i%10 == 5 {
			u.take(u.next(160))
			u.take(p)
		} else {
			u.take(p)
			u.take(p)
		}
		u.c.add(frameTime)
	}
	require.EqualValues(t, 1+90, u.b.Stats().LateFromPhone, "the first that is swapped, and what comes twice")
	seqs, times := u.steps()
	require.Equal(t, seqs, times)
	require.Equal(t, 2, slices.Max(seqs))
	require.Equal(t, 1, slices.Min(seqs))
}

func TestRestartOfThePhonesClockGoesOnInOurs(t *testing.T) {
	u := newUpstream(t)
	u.say(5)
	u.voice.packet.SSRC, u.voice.packet.SequenceNumber, u.voice.packet.Timestamp = 5, 5, 5
	u.say(5)
	u.voice.packet.Timestamp -= 1_000_000
	u.say(5)
	u.voice.packet.SequenceNumber += 20000
	u.c.add(time.Second)
	u.say(5)
	seqs, times := u.steps()
	require.Equal(t, repeat(1, 19), seqs)
	require.Equal(t, slices.Concat(repeat(1, 14), []int{51}, repeat(1, 4)), times)
}

func TestOtherFrameLengthsLoseNothing(t *testing.T) {
	for _, size := range []int{80, 240, 320, 400, 480, 960} {
		u := newUpstream(t)
		for i := range 40 {
			p := u.next(size)
			u.c.add(time.Duration(size) * time.Second / 8000)
			if i == 20 {
				continue // lost
			}
			u.take(p)
		}
		total := u.ear.got[len(u.ear.got)-1].Timestamp - u.ear.got[0].Timestamp
		require.InDelta(t, 40*size*6, total, 1920, "size %d", size)
		require.EqualValues(t, 39, u.b.Stats().FromPhone)
		for i, p := range u.ear.got[1:] {
			step := int(p.Timestamp - u.ear.got[i].Timestamp)
			if p.SequenceNumber-u.ear.got[i].SequenceNumber == 1 {
				require.Equal(t, 960, step, "size %d packet %d", size, i)
			} else {
				require.Greater(t, step, 960)
			}
		}
	}
	u := newUpstream(t)
	u.take(u.next(maxPayload + 1))
	u.take(u.voice.make(nil))
	require.EqualValues(t, 2, u.b.Stats().Malformed)
	require.Empty(t, u.ear.got)
}

func TestEncodesOnlyWhenSomebodyListens(t *testing.T) {
	u := newUpstream(t)
	track := u.b.Source().Audio()
	u.say(5)
	track.Remove(u.ear)
	u.say(50)
	require.Len(t, u.ear.got, 5)
	track.Add(u.ear)
	u.say(5)
	seqs, times := u.steps()
	require.Equal(t, repeat(1, 9), seqs)
	require.Equal(t, slices.Concat(repeat(1, 4), []int{51}, repeat(1, 4)), times)
}

func TestKeysOfThePhone(t *testing.T) {
	u := newUpstream(t)
	var heard keyLog
	u.b.Source().AddKeys(&heard)
	u.say(5)
	ts := u.voice.packet.Timestamp
	for i := range uint16(5) {
		u.take(u.event(ts, 5, false, 160*(i+1)))
		u.take(u.next(160)) // a phone that sends its key as sound, too
		u.c.add(frameTime)
	}
	for range 3 {
		u.take(u.event(ts, 5, true, 800))
	}
	u.say(5)
	// The next one's end is lost: the clock ends it.
	ts = u.voice.packet.Timestamp
	u.take(u.event(ts, 11, false, 160))
	for range 20 {
		u.c.add(frameTime)
		u.b.tick(u.c.now())
	}
	u.pause(160 * 20)
	// One is still down when the phone's clock begins anew.
	u.take(u.event(u.voice.packet.Timestamp, 1, false, 160))
	u.voice.packet.SSRC++
	u.say(5)
	want := []media.Key{
		{Digit: '5'},
		{Digit: '5', Ended: true, Duration: 100 * time.Millisecond},
		{Digit: '#'},
		{Digit: '#', Ended: true, Duration: 20 * time.Millisecond},
		{Digit: '1'},
		{Digit: '1', Ended: true, Duration: 20 * time.Millisecond},
	}
	require.Equal(t, want, u.keys)
	require.Equal(t, want, []media.Key(heard))
	seqs, times := u.steps()
	require.Equal(t, repeat(1, 14), seqs, "events are no lost packets")
	require.Equal(t, 6, times[4], "the key is not heard as sound")
}

// TestKeysOnAStreamOfTheirOwn has a phone whose keys have another SSRC than its sound, which goes on: each is pressed once,
// and the sound is neither late nor begun anew.
func TestKeysOnAStreamOfTheirOwn(t *testing.T) {
	u := newUpstream(t)
	press := func(ts uint32, code byte, seq uint16) {
		for i := range uint16(6) {
			p := u.event(ts, code, i > 3, 160*min(i+1, 5))
			u.voice.packet.SequenceNumber--
			p.SSRC, p.SequenceNumber = p.SSRC+1, seq+i
			u.take(p)
			u.take(u.next(160))
			u.c.add(frameTime)
		}
	}
	press(70000, 3, 900) // before there was any sound
	u.say(5)
	press(80000, 4, 906)
	u.say(5)
	require.Equal(t, []media.Key{
		{Digit: '3'},
		{Digit: '3', Ended: true, Duration: 100 * time.Millisecond},
		{Digit: '4'},
		{Digit: '4', Ended: true, Duration: 100 * time.Millisecond},
	}, u.keys)
	require.Zero(t, u.b.up.late)
	seqs, _ := u.steps()
	require.Equal(t, repeat(1, len(seqs)), seqs, "events are no lost packets")
}

type keyLog []media.Key

func (l *keyLog) WriteKey(k media.Key) { *l = append(*l, k) }

func TestKeysFromPhoneToPhone(t *testing.T) {
	u := newUpstream(t)
	other, ear := testBridge(t, u.b.engine, u.c, pcmu, nil)
	other.Subscribe(u.b.Source())
	ts := u.voice.packet.Timestamp
	for i := range uint16(5) {
		u.take(u.event(ts, 7, i == 4, 160*(i+1)))
		u.c.add(frameTime)
		other.tick(u.c.now())
	}
	for range 10 {
		u.c.add(frameTime)
		other.tick(u.c.now())
	}
	digits, _ := keysOf(t, ear.events())
	require.Equal(t, "7", digits)
}

func TestPhoneChangesItsLaw(t *testing.T) {
	u := newUpstream(t)
	u.say(100)
	m := pcmu
	m.Speech = media.PCMA
	u.b.Update(m)
	u.say(5) // still the old law: on their way when it changed
	require.EqualValues(t, 5, u.b.Stats().Malformed)
	u.voice.law, u.voice.packet.PayloadType = media.PCMA, 8
	u.at = 0
	u.say(100)
	pcm := u.ear.pcm(t)
	requireTone(t, pcm[len(pcm)-48000:], 48000, 1000, -15)
}

func TestBridgeClosed(t *testing.T) {
	u := newUpstream(t)
	web := newBrowser(t, "web", 1)
	u.b.Subscribe(web.src)
	u.say(5)
	u.b.Close(nil)
	u.b.Close(nil)
	u.b.Subscribe(web.src)
	u.b.Unsubscribe(web.src)
	u.b.Update(pcmu)
	u.say(5)
	u.b.tick(u.c.now())
	web.src.WriteKey(media.Key{Digit: '1'})
	require.Len(t, u.ear.got, 5)
	require.Empty(t, u.b.engine.feeds)
	require.False(t, web.track.Wanted())
	for i := range u.b.engine.shards {
		require.Zero(t, u.b.engine.shards[i].bridges.Len())
	}
}

// Nothing that a phone sends can hurt.
func FuzzPhoneToOpus(f *testing.F) {
	f.Add([]byte{2, 1, 160, 0, 1, 2, 4, 1, 160, 1, 5, 10, 0, 160})
	f.Fuzz(func(t *testing.T, b []byte) {
		u := newUpstream(t)
		other, _ := testBridge(t, u.b.engine, u.c, pcmu, nil)
		other.Subscribe(u.b.Source())
		p := rtp.Packet{Header: rtp.Header{Version: 2}}
		for len(b) >= 4 {
			n := min(int(b[0]), len(b)-4)
			p.SequenceNumber += uint16(int8(b[1]))
			p.Timestamp += uint32(int8(b[2])) << (b[3] % 32)
			p.SSRC = uint32(b[3] >> 7)
			p.PayloadType = 0
			if b[3]&32 != 0 {
				p.PayloadType = 101
			}
			p.Payload = b[4 : 4+n]
			u.take(&p)
			u.c.add(frameTime)
			other.tick(u.c.now())
			u.b.tick(u.c.now())
			b = b[4+n:]
		}
		for i := 1; i < len(u.ear.got); i++ {
			if int32(u.ear.got[i].Timestamp-u.ear.got[i-1].Timestamp) < 960 {
				t.Fatal("frames overlap, or time went back")
			}
		}
		down := false
		for _, k := range u.keys {
			if k.Ended != down {
				t.Fatal("keys do not alternate")
			}
			down = !k.Ended
		}
	})
}

// TestDetectMachine has a bridge listen to a phone that sends a long voice, with packets missing.
func TestDetectMachine(t *testing.T) {
	c := newClock()
	b, err := testEngine(c, Config{}).newBridge(BridgeConfig{Media: media.PortMedia{EventType: -1}}, &phoneEar{t: t, c: c})
	require.NoError(t, err)
	defer b.Close(nil)
	var found []media.Answerer
	b.DetectMachine(func(a media.Answerer) { found = append(found, a) })
	voice, voiceOf := newPhoneVoice(media.PCMU), make([]int16, frameSamples)
	for i := range voiceOf {
		voiceOf[i] = int16(4000 * (i%20 - 10) / 10)
	}
	for n := range 150 {
		p := voice.make(voiceOf)
		c.add(20 * time.Millisecond)
		if n%10 != 9 {
			b.up.ReceiveRTP(p, c.now())
		}
	}
	require.Equal(t, []media.Answerer{media.Machine}, found)
	require.NotNil(t, b.up.ears, "it waits for the beep")
}
