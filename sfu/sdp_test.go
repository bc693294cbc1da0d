package sfu

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/media"
)

const chromeOffer = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA\r\n" +
	"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111 110\r\na=mid:1\r\na=msid:s mic\r\na=sendonly\r\na=rid:h send\r\na=simulcast:send h\r\n" +
	"a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\na=rtpmap:110 telephone-event/48000\r\na=ssrc:1 cname:x\r\n" +
	"m=video 0 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:2\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n" +
	"m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=bundle-only\r\na=mid:3\r\na=msid:- cam\r\na=ssrc:2 cname:x\r\n"

func TestDescriptions(t *testing.T) {
	d, err := readDescription(offerField, chromeOffer)
	require.NoError(t, err)
	require.Equal(t, []section{
		{mid: "0"},
		{mid: "1", kind: media.Audio, sends: true, stream: "s", track: "mic"},
		{mid: "2", kind: media.Video, rejected: true},
		{mid: "3", kind: media.Video, sends: true, receives: true, stream: "cam", track: "cam"},
	}, d.sections)
	require.NotContains(t, d.sdp, "simulcast")
	require.NotContains(t, d.sdp, "a=rid")
	require.Equal(t, "sha-256 AA", d.fingerprint)
	require.True(t, d.receives("3"))
	require.False(t, d.receives("1"))
}

func TestCodecsOfAnAnswer(t *testing.T) {
	all := agreedCodecs(chromeOffer)
	require.Equal(t, []agreed{
		{111, media.Codec{MimeType: "audio/opus", ClockRate: 48000, Channels: 2, Fmtp: "minptime=10"}},
		{110, media.Codec{MimeType: "audio/telephone-event", ClockRate: 48000}},
	}, all["1"])
	require.Equal(t, []agreed{{96, media.Codec{MimeType: "video/VP8", ClockRate: 90000}}}, all["2"], "RTX is no codec")
	require.Empty(t, agreedCodecs("nonsense"))

	lane := newInbound("1", media.Audio)
	require.True(t, lane.agree(all["1"]))
	require.EqualValues(t, 111, lane.current.payloadType)
	require.Len(t, lane.events, 1)
	require.False(t, lane.use(111))
	require.False(t, lane.use(5))
	require.False(t, lane.agree(nil))
}

func TestRejectedLinesStayRejected(t *testing.T) {
	d, err := readDescription(offerField, chromeOffer)
	require.NoError(t, err)
	answer := strings.ReplaceAll(chromeOffer, "m=video 0", "m=video 9")
	out, err := reject(answer, d)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(out, "m=video 0"))
	_, err = reject("nonsense", d)
	require.Error(t, err)
}

func TestDirectionsAreSet(t *testing.T) {
	d, err := readDescription(offerField, chromeOffer)
	require.NoError(t, err)
	out, err := steer(d, []string{"", "inactive", "recvonly", "sendonly"})
	require.NoError(t, err)
	again, err := readDescription(offerField, out)
	require.NoError(t, err)
	var directions []string
	for _, s := range again.sections {
		directions = append(directions, fmt.Sprint(s.sends, s.receives))
	}
	require.Equal(t, []string{"false false", "false false", "false false", "true false"}, directions)
	for _, direction := range []string{"sendonly", "recvonly", "inactive"} {
		require.Equal(t, 1, strings.Count(out, "a="+direction+"\r\n"))
	}
	_, err = steer(description{sdp: "nonsense"}, nil)
	require.Error(t, err)
}

func TestFormats(t *testing.T) {
	h264 := func(profile, mode string) string {
		return "level-asymmetry-allowed=1;packetization-mode=" + mode + ";profile-level-id=" + profile
	}
	cases := map[string]struct {
		mime, a, b string
		same       bool
	}{
		"H.264 level differs":         {"video/H264", h264("42e01f", "1"), h264("42e034", "1"), true},
		"H.264 profile differs":       {"video/H264", h264("42e01f", "1"), h264("64001f", "1"), false},
		"H.264 packetization differs": {"video/H264", h264("42e01f", "1"), h264("42e01f", "0"), false},
		"H.264 without parameters":    {"video/H264", "", h264("42001f", "0"), true},
		"VP9 profile differs":         {"video/VP9", "profile-id=0", "profile-id=2", false},
		"VP9 default profile":         {"video/VP9", "", "profile-id=0", true},
		"AV1 other parameters":        {"video/AV1", "profile=0;tier=0", "", true},
		"VP8 has none":                {"video/VP8", "x=1", "", true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.same, sameFormat(c.mime, c.a, c.b)) })
	}
	_, ok := matchCodec(media.Codec{MimeType: "video/VP8", ClockRate: 90000}, nil)
	require.False(t, ok)
	first := webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "video/VP9", ClockRate: 90000}}
	got, ok := matchCodec(media.Codec{MimeType: "video/VP8", ClockRate: 90000}, []webrtc.RTPCodecParameters{first})
	require.False(t, ok, "a codec that the subscriber lacks is silence, not a spoilt answer")
	require.Equal(t, first, got)
}

func FuzzDescription(f *testing.F) {
	f.Add(chromeOffer)
	f.Fuzz(func(t *testing.T, s string) {
		d, err := readDescription(offerField, s)
		if err != nil {
			return
		}
		_ = agreedCodecs(d.sdp)
		_, _ = reject(d.sdp, d)
		out, err := steer(d, slices.Repeat([]string{"inactive"}, len(d.sections)))
		require.NoError(t, err)
		require.Len(t, agreedCodecs(out), len(agreedCodecs(d.sdp)))
		again, err := readDescription(offerField, d.sdp)
		if err == nil {
			require.Len(t, again.sections, len(d.sections))
		}
	})
}
