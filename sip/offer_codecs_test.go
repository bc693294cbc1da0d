package sip

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

// wideband are descriptions of G.722 and Opus, of phones that number and name them in their own way, and what is agreed.
func wideband() []struct {
	name, audio string // the m-line and what follows it
	speech      media.Speech
	payload     uint8 // 0: the static one
	event       int
	rate        int // of the event; 0: 8000
} {
	return []struct {
		name, audio string
		speech      media.Speech
		payload     uint8
		event       int
		rate        int
	}{
		{"G.722 without a=rtpmap", "m=audio 4000 RTP/AVP 9 0 8\r\n", media.G722, 0, -1, 0},
		{"G.722", "m=audio 4000 RTP/AVP 9 0\r\na=rtpmap:9 G722/8000\r\n", media.G722, 0, -1, 0},
		{"G.722 by a dynamic payload type", "m=audio 4000 RTP/AVP 115 0\r\na=rtpmap:115 g722/8000/1\r\n", media.G722, 115, -1, 0},
		// RFC 3551 §4.5.2: its clock is 8000, and what has the clock of its samples is another codec.
		{"G.722 of 16 kHz", "m=audio 4000 RTP/AVP 115 0\r\na=rtpmap:115 G722/16000\r\n", media.PCMU, 0, -1, 0},
		{"payload type 9 that is another codec", "m=audio 4000 RTP/AVP 9 8\r\na=rtpmap:9 G7221/16000\r\n", media.PCMA, 0, -1, 0},
		{"Opus", "m=audio 4000 RTP/AVP 107 0\r\na=rtpmap:107 opus/48000/2\r\n", media.Opus, 107, -1, 0},
		{"Opus by the lowest payload type", "m=audio 4000 RTP/AVP 96 0\r\na=rtpmap:96 OPUS/48000/2\r\na=fmtp:96 maxplaybackrate=16000; stereo=0; useinbandfec=1\r\n", media.Opus, 96, -1, 0},
		{"Opus by the highest payload type", "m=audio 4000 RTP/AVP 127 9 0\r\na=rtpmap:127 Opus/48000/2\r\n", media.Opus, 127, -1, 0},
		// RFC 7587 §4.1 and §7: always 48000, always 2.
		{"Opus of another clock", "m=audio 4000 RTP/AVP 107 9\r\na=rtpmap:107 opus/16000/2\r\n", media.G722, 0, -1, 0},
		{"Opus of one channel", "m=audio 4000 RTP/AVP 107 9\r\na=rtpmap:107 opus/48000\r\n", media.G722, 0, -1, 0},
		{"Opus by a static payload type", "m=audio 4000 RTP/AVP 18 0\r\na=rtpmap:18 opus/48000/2\r\n", media.PCMU, 0, -1, 0},
		{"Opus without a=rtpmap", "m=audio 4000 RTP/AVP 107 0\r\n", media.PCMU, 0, -1, 0},
		{
			"Opus with keys of both clocks", "m=audio 4000 RTP/AVP 111 110 126\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n",
			media.Opus, 111, 126, 0,
		},
		{
			"Opus with keys of its own clock", "m=audio 4000 RTP/AVP 111 110\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:110 telephone-event/48000\r\n",
			media.Opus, 111, 110, 48000,
		},
		// RFC 3389 §4: comfort noise by payload type 13 has the clock of 8000.
		{"Opus with comfort noise", "m=audio 4000 RTP/AVP 111 13\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:13 CN/8000\r\n", media.Opus, 111, -1, 0},
	}
}

const farHead = "v=0\r\no=x 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"

// TestAnswerOfWidebandCodecs takes offers of G.722 and Opus: what the port gets, and what the far end reads.
func TestAnswerOfWidebandCodecs(t *testing.T) {
	for _, c := range wideband() {
		t.Run(c.name, func(t *testing.T) {
			answer, agreed, err := newDescription(7, here, termsOf(nil)).answer([]byte(farHead + c.audio))
			require.NoError(t, err)
			want := remote("198.51.100.7:4000", "198.51.100.7:4001", c.speech, c.event, true, true)
			want.PayloadType, want.EventRate = c.payload, c.rate
			require.Equal(t, want, agreed)
			text, number := string(answer), strconv.Itoa(int(agreed.Audio()))
			require.Regexp(t, `m=audio 20000 RTP/AVP `+number+`( \d+)?\r\n`, text)
			require.Contains(t, text, "a=rtpmap:"+number+" "+encodingOf(c.speech)+"\r\n")
			require.Equal(t, c.speech == media.Opus, strings.Contains(text, "useinbandfec=1"))
			require.NotContains(t, text, "CN/8000")
			require.Equal(t, 1, strings.Count(text, "m="))
		})
	}
}

// TestAcceptOfWidebandCodecs offers all, and takes answers that choose G.722 or Opus, by our payload types and by others: then
// what we send has the number of the answer, and what comes may have either (RFC 3264 §5.1, §6.1).
func TestAcceptOfWidebandCodecs(t *testing.T) {
	for _, c := range wideband() {
		t.Run(c.name, func(t *testing.T) {
			d := newDescription(7, here, termsOf(nil))
			offer := string(offerOf(t, d))
			require.Contains(t, offer, "m=audio 20000 RTP/AVP 0 8 9 107 13 101\r\n")
			require.Contains(t, offer, "a=rtpmap:9 G722/8000\r\na=rtpmap:107 opus/48000/2\r\na=fmtp:107 useinbandfec=1\r\n")
			agreed, err := d.accept([]byte(farHead + c.audio))
			require.NoError(t, err)
			require.Equal(t, c.speech, agreed.Speech)
			require.Equal(t, map[bool]uint8{true: c.payload, false: uint8(c.speech)}[c.payload != 0], agreed.Audio())
			require.True(t, agreed.IsAudio(agreed.Audio()))
			offered := map[media.Speech]uint8{media.PCMU: 0, media.PCMA: 8, media.G722: 9, media.Opus: 107}[c.speech]
			require.True(t, agreed.IsAudio(offered), "what comes has the number of our offer")
			require.False(t, agreed.IsAudio(105))
			require.Equal(t, c.speech.Clock(), agreed.Speech.Clock())
			require.Equal(t, c.event, agreed.EventType)
		})
	}
}

// TestOpusOfAnotherNumberStays makes offers of our own after a far end named Opus: hold, resume, and a refresh keep its number.
func TestOpusOfAnotherNumberStays(t *testing.T) {
	d := newDescription(7, here, termsOf(nil))
	_, _, err := d.answer([]byte(farHead + "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n"))
	require.NoError(t, err)
	for _, hold := range []bool{true, false} {
		offer, err := d.holding(hold)
		require.NoError(t, err)
		require.Contains(t, string(offer), "m=audio 20000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n")
		agreed, err := d.accept([]byte(farHead + "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n"))
		require.NoError(t, err)
		require.Equal(t, media.Opus, agreed.Speech)
		require.EqualValues(t, 96, agreed.Audio())
	}
}

// TestTrunkWithoutOpus takes what is left where the trunk's configuration leaves Opus or G.722 out.
func TestTrunkWithoutOpus(t *testing.T) {
	const all = farHead + "m=audio 4000 RTP/AVP 96 9 8\r\na=rtpmap:96 opus/48000/2\r\n"
	for _, c := range []struct {
		codecs []string
		want   media.Speech
	}{{[]string{"PCMU", "G722", "PCMA"}, media.G722}, {[]string{"PCMA"}, media.PCMA}, {[]string{"opus"}, media.Opus}} {
		_, agreed, err := newDescription(7, here, terms{codecs: codecsOf(c.codecs)}).answer([]byte(all))
		require.NoError(t, err)
		require.Equal(t, c.want, agreed.Speech, "%v", c.codecs)
	}
}
