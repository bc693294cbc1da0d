package sfu

import (
	"slices"
	"testing"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
)

const (
	loud    = 30 // −dBov
	nothing = 127
	spoken  = 0x80 // it is a voice, says the browser: Chromium says so of everything
	levelID = 3
)

// teller is a browser that says how loud its packets are, towards others.
type teller struct {
	t      *testing.T
	track  *media.Track
	packet rtp.Packet // the last
	ear    *wire
	out    *outbound
}

// wire keeps what is written.
type wire struct{ got []*rtp.Packet }

func (w *wire) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	w.got = append(w.got, &rtp.Packet{Header: h.Clone(), Payload: slices.Clone(payload)})
	return len(payload), nil
}

func (w *wire) Write([]byte) (int, error) { return 0, nil }

func newTeller(t *testing.T) *teller {
	s := &teller{t: t, track: media.NewTrack("mic", media.Audio, media.BrowserOpus(), nil)}
	s.track.LevelID = levelID
	s.packet = *packet(7, 65500, 1<<32-50*960)
	s.out, s.ear = s.listener()
	return s
}

// listener lets another one hear it.
func (s *teller) listener() (*outbound, *wire) {
	w := &wire{}
	out := &outbound{kind: s.track.Kind, codec: s.track.Codec, writer: w, open: true, tell: untold}
	out.attach(s.track)
	return out, w
}

// next makes the next packet, of 20 ms.
func (s *teller) next(level byte, payload ...byte) *rtp.Packet {
	p := &s.packet
	p.SequenceNumber++
	p.Timestamp += 960
	p.Payload = payload
	if len(payload) == 0 {
		p.Payload = []byte{0xfb, 2, 3, 4}
	}
	p.Extensions = nil
	require.NoError(s.t, p.SetExtension(levelID, []byte{spoken | level}))
	return p
}

// say sends so many packets.
func (s *teller) say(packets int, level byte) {
	for range packets {
		s.track.WriteRTP(s.next(level))
	}
}

// steps returns the differences of sequence numbers and timestamps, the latter in frames.
func (w *wire) steps() (seqs, frames []int) {
	for i, p := range w.got[1:] {
		seqs = append(seqs, int(p.SequenceNumber-w.got[i].SequenceNumber))
		frames = append(frames, int(p.Timestamp-w.got[i].Timestamp)/960)
	}
	return seqs, frames
}

func repeat(v, n int) []int { return slices.Repeat([]int{v}, n) }

// TestSilenceOfABrowserIsNotForwarded: a browser that is silent costs those who hear it next to no packets, and none is missing to them.
func TestSilenceOfABrowserIsNotForwarded(t *testing.T) {
	const sent = 25 + 7 // half a second, then one in 400 ms of 2.5 s
	for _, level := range []byte{66, 90, nothing} {
		s := newTeller(t)
		all := &wire{}
		s.track.Add(sink{all}) // a phone
		s.say(50, loud)
		s.say(150, level)
		require.Equal(t, 50+sent, len(s.ear.got), "level %d", level)
		for i, p := range s.ear.got[75:] {
			require.Equal(t, []byte{0xf8}, p.Payload, "it has no frame")
			require.EqualValues(t, (75+20*i)*960, p.Timestamp-s.ear.got[0].Timestamp)
		}
		s.say(50, loud)
		require.Equal(t, 50+sent+1+50, len(s.ear.got), "the silence before it, and the word")
		first := s.ear.got[50+sent]
		require.True(t, first.Marker, "a word begins (RFC 3551 §4.1)")
		require.False(t, s.ear.got[50+sent+1].Marker)
		require.EqualValues(t, (200-1)*960, first.Timestamp-s.ear.got[0].Timestamp)
		require.Len(t, first.Payload, 4)
		seqs, frames := s.ear.steps()
		require.Equal(t, repeat(1, len(seqs)), seqs, "nothing was lost")
		require.Equal(t, repeat(1, 50), frames[50+sent:])
		require.Equal(t, 250, len(all.got), "phones have everything")
	}
}

// TestWordBehindAPacketWithoutFrame: it stands where the silence before the word would.
func TestWordBehindAPacketWithoutFrame(t *testing.T) {
	s := newTeller(t)
	s.say(1, loud)
	s.say(25+21, nothing)
	s.say(1, loud)
	seqs, frames := s.ear.steps()
	require.Equal(t, repeat(1, 25+3), seqs)
	require.Equal(t, slices.Concat(repeat(1, 26), []int{20, 1}), frames)
	require.True(t, s.ear.got[28].Marker)
}

// sink keeps what a track writes.
type sink struct{ *wire }

func (s sink) WriteRTP(p *rtp.Packet) { _, _ = s.wire.WriteRTP(&p.Header, p.Payload) }

// TestSoftSoundIsForwarded: what may be heard, or is not said to be silent, is forwarded however long it lasts, and at once.
func TestSoftSoundIsForwarded(t *testing.T) {
	for _, level := range []byte{0, 50, 65} {
		s := newTeller(t)
		s.say(150, level)
		require.Equal(t, 150, len(s.ear.got), "level %d", level)
	}
	s := newTeller(t)
	s.say(100, nothing)
	held := len(s.ear.got)
	s.say(1, 50)
	require.Equal(t, held+2, len(s.ear.got), "a soft beginning")
	s.say(100, nothing)
	held = len(s.ear.got)
	p := s.next(nothing)
	p.Extension, p.Extensions = false, nil
	s.track.WriteRTP(p)
	require.Equal(t, held+2, len(s.ear.got), "nobody says how loud it is")
	for _, change := range []func(*media.Track){
		func(t *media.Track) { t.LevelID = 0 },
		func(t *media.Track) { t.Kind = media.Video },
		func(t *media.Track) { t.Codec.MimeType = "audio/PCMU" },
	} {
		s := newTeller(t)
		s.out.detach()
		change(s.track)
		s.out, s.ear = s.listener()
		s.say(150, nothing)
		require.Equal(t, 150, len(s.ear.got))
	}
}

// TestLossAndSilence: what is lost of silence that is not forwarded is no loss to who hears the browser; what is lost of a word, or
// comes late, is as it came.
func TestLossAndSilence(t *testing.T) {
	s := newTeller(t)
	s.say(10, loud)
	for i := range 100 {
		if p := s.next(nothing); i < 40 || i%7 != 3 && i < 60 || i >= 70 && i < 90 {
			s.track.WriteRTP(p)
		}
	}
	quiet := len(s.ear.got)
	late := s.next(loud).Clone() // it comes behind the first two of a word
	s.say(2, loud)
	s.track.WriteRTP(late)
	s.say(3, loud)
	s.next(loud)
	s.say(4, loud)
	seqs, _ := s.ear.steps()
	require.Equal(t, repeat(1, quiet-1), seqs[:quiet-1])
	var word []int
	for _, p := range s.ear.got[quiet:] {
		word = append(word, int(p.SequenceNumber-s.ear.got[quiet-1].SequenceNumber))
	}
	// The silence before it; ten that were lost, of which nobody knows what they held, and the late one; the two.
	require.Equal(t, []int{1, 13, 14, 12, 15, 16, 17, 19, 20, 21, 22}, word)
	s.say(100, nothing)
	before := len(s.ear.got)
	old := s.packet.Clone()
	old.SequenceNumber -= 10
	s.track.WriteRTP(old)
	require.Len(t, s.ear.got, before, "of what nobody misses nothing comes late")
}

// TestBrowserThatSendsNoSilence: what a browser with DTX sends is forwarded as it is.
func TestBrowserThatSendsNoSilence(t *testing.T) {
	s := newTeller(t)
	s.say(20, loud)
	s.say(10, nothing)
	want := 30
	for range 20 {
		s.track.WriteRTP(s.next(nothing, 0xf8))
		s.packet.Timestamp += 19 * 960
		s.say(1, nothing)
		want += 2
	}
	require.Equal(t, want, len(s.ear.got))
	for range 20 {
		s.packet.Timestamp += 19 * 960
		s.say(1, nothing)
	}
	want += 20
	require.Equal(t, want, len(s.ear.got))
	for _, p := range s.ear.got[want-20:] {
		require.Len(t, p.Payload, 4, "some send a frame alone now and then")
	}
	for range 50 { // which may send all of its packets without a frame, too
		s.track.WriteRTP(s.next(nothing, 0xf8, 0))
	}
	require.Equal(t, want+50, len(s.ear.got))
}

// TestWhoComesInSilence: who begins to hear a browser that is silent has its packets at once, and so has who was muted; who may not hear
// it yet is sent nothing.
func TestWhoComesInSilence(t *testing.T) {
	s := newTeller(t)
	s.say(200, nothing)
	late, ear := s.listener()
	s.say(100, nothing)
	require.Equal(t, 1+25+4, len(ear.got), "the first packet follows nothing")
	late.setMuted(true)
	s.say(100, nothing)
	require.Equal(t, 30, len(ear.got))
	late.setMuted(false)
	s.say(20, nothing)
	require.Equal(t, 50, len(ear.got))
	seqs, _ := ear.steps()
	require.Equal(t, repeat(1, 49), seqs)

	again, ear := s.listener()
	again.setOpen(false)
	s.say(100, nothing)
	require.Empty(t, ear.got)
	again.setOpen(true)
	s.say(20, nothing)
	require.Equal(t, 20, len(ear.got))
}

// TestWordOfABrowserIsWhole: who decodes what is forwarded hears the word as one who has every packet does, in both modes of Opus.
func TestWordOfABrowserIsWhole(t *testing.T) {
	for name, app := range map[string]opus.Application{"low delay": opus.AppRestrictedLowdelay, "for speech": opus.AppVoIP} {
		for quiet := 28; quiet < 46; quiet++ {
			enc, err := opus.NewEncoder(48000, 1, app)
			require.NoError(t, err)
			require.NoError(t, enc.SetBitrate(16000))
			word := audio.Tone(1000, -15, 48000, 200*time.Millisecond)
			said := slices.Concat(word, make([]int16, quiet*960), word)
			s := newTeller(t)
			every := &wire{}
			s.track.Add(sink{every})
			buf := make([]byte, 1500)
			for frame := range slices.Chunk(said, 960) {
				level := byte(nothing)
				if audio.Level(frame) > -60 {
					level = loud
				}
				n, err := enc.Encode(frame, buf)
				require.NoError(t, err)
				s.track.WriteRTP(s.next(level, slices.Clone(buf[:n])...))
			}
			require.Less(t, len(s.ear.got), len(every.got))
			got, want := decoded(t, s.ear), decoded(t, every)
			require.Equal(t, len(want), len(got), "time is true")
			for at := (10 + quiet) * 960; at < len(want); at += 240 {
				a, b := audio.Level(got[at:at+240]), audio.Level(want[at:at+240])
				require.True(t, max(a, b) < -45 || a > b-2 && a < b+2, "%s, %d frames: %.1f dB, not %.1f, %d ms after the onset",
					name, quiet, a, b, at/48-(10+quiet)*20)
			}
		}
	}
}

// decoded is what is heard of packets: where none comes, the decoder goes on.
func decoded(t *testing.T, w *wire) (pcm []int16) {
	t.Helper()
	dec, err := opus.NewDecoder(48000, 1)
	require.NoError(t, err)
	var frame [5760]int16
	for _, p := range w.got {
		for int(p.Timestamp-w.got[0].Timestamp) > len(pcm) {
			require.NoError(t, dec.DecodePLC(frame[:960]))
			pcm = append(pcm, frame[:960]...)
		}
		n, err := dec.Decode(p.Payload, frame[:])
		require.NoError(t, err)
		pcm = append(pcm, frame[:n]...)
	}
	return pcm
}

func TestSilenceAllocatesNothing(t *testing.T) {
	s := newTeller(t)
	n := &nowhere{}
	s.out.writer = n
	quiet, word := s.next(nothing).Clone(), s.next(loud).Clone()
	at := 0
	require.Zero(t, testing.AllocsPerRun(500, func() {
		p := quiet
		if at++; at%100 < 3 {
			p = word
		}
		p.SequenceNumber, p.Timestamp = uint16(at), uint32(at*960)
		s.track.WriteRTP(p)
	}))
	require.Greater(t, n.n, 5*(25+2+1))
	require.Less(t, n.n, 5*(25+7+5))
}
