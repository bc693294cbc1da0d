package sip

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
)

var here = netip.MustParseAddrPort("192.0.2.1:20000")

// lines joins SDP lines.
func lines(s ...string) string { return strings.Join(s, "\r\n") + "\r\n" }

func remote(addr string, rtcp string, law media.Speech, event int, send, receive bool) media.PortMedia {
	m := media.PortMedia{Speech: law, EventType: event, Send: send, Receive: receive}
	if addr != "" {
		m.Remote, m.RemoteRTCP = netip.MustParseAddrPort(addr), netip.MustParseAddrPort(rtcp)
	}
	return m
}

// packets is what an offer of PCMU agrees to, in packets of ms; 0: as usual.
func packets(ms int) func() (string, media.PortMedia) {
	return func() (string, media.PortMedia) {
		m := remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
		m.PacketTime = time.Duration(ms) * time.Millisecond
		return "sendrecv", m
	}
}

func TestAnswer(t *testing.T) {
	const head = "v=0\r\no=x 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"
	const audio = head + "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
	plain := func(direction string, send, receive bool) (string, media.PortMedia) {
		return direction, remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, 101, send, receive)
	}
	for _, c := range []struct {
		name, offer string
		contains    string // in the answer
		want        func() (string, media.PortMedia)
	}{
		{"both ways", audio, "m=audio 20000 RTP/AVP 0 101\r\n", func() (string, media.PortMedia) { return plain("sendrecv", true, true) }},
		{"they hold", audio + "a=sendonly\r\n", "", func() (string, media.PortMedia) { return plain("recvonly", false, true) }},
		{"they listen", audio + "a=recvonly\r\n", "", func() (string, media.PortMedia) { return plain("sendonly", true, false) }},
		{"nothing flows", audio + "a=inactive\r\n", "", func() (string, media.PortMedia) { return plain("inactive", false, false) }},
		{"held for the session", head + "a=sendonly\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n", "", func() (string, media.PortMedia) { return plain("recvonly", false, true) }},
		{"held for the session, not for the stream", head + "a=inactive\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n", "", func() (string, media.PortMedia) { return plain("sendrecv", true, true) }},
		{"their order wins", head + "m=audio 4000 RTP/AVP 18 8 0\r\n", "m=audio 20000 RTP/AVP 8\r\n", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMA, -1, true, true)
		}},
		{"payload type 0 that is another codec", head + "m=audio 4000 RTP/AVP 0 8\r\na=rtpmap:0 EVIL/8000\r\n", "", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMA, -1, true, true)
		}},
		{"event type of another number", head + "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\n", "a=fmtp:96 0-16\r\n", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMA, 96, true, true)
		}},
		{"event of a wideband codec", head + "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/16000\r\n", "a=rtpmap:96 telephone-event/16000\r\n", func() (string, media.PortMedia) {
			m := remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMA, 96, true, true)
			m.EventRate = 16000
			return "sendrecv", m
		}},
		{"event of both clocks", head + "m=audio 4000 RTP/AVP 8 96 97\r\na=rtpmap:96 telephone-event/48000\r\na=rtpmap:97 telephone-event/8000/1\r\n", "m=audio 20000 RTP/AVP 8 97\r\n", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMA, 97, true, true)
		}},
		{"event of a clock that is none", head + "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/0\r\n", "", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMA, -1, true, true)
		}},
		{"G.711 by a dynamic payload type", head + "m=audio 4000 RTP/AVP 97 8\r\na=rtpmap:97 PCMU/8000\r\n", "m=audio 20000 RTP/AVP 97\r\na=rtpmap:97 PCMU/8000\r\n", func() (string, media.PortMedia) {
			m := remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
			m.PayloadType = 97
			return "sendrecv", m
		}},
		{"packets of 30 ms", head + "m=audio 4000 RTP/AVP 0\r\na=ptime:30\r\n", "a=ptime:30\r\n", packets(30)},
		{"packets of no more than 10 ms", head + "m=audio 4000 RTP/AVP 0\r\na=ptime:20\r\na=maxptime:10\r\n", "a=ptime:10\r\n", packets(10)},
		{"packets of 120 ms", head + "m=audio 4000 RTP/AVP 0\r\na=ptime:120\r\n", "a=ptime:60\r\n", packets(60)},
		{"packets of no sensible time", head + "m=audio 4000 RTP/AVP 0\r\na=ptime:-5\r\na=maxptime:x\r\n", "a=ptime:20\r\n", packets(0)},
		{"RTCP on the port of RTP", head + "m=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\n", "a=rtcp-mux\r\n", func() (string, media.PortMedia) {
			m := remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
			m.RTCPMux = true
			return "sendrecv", m
		}},
		{"comfort noise", head + "m=audio 4000 RTP/AVP 0 13\r\n", "m=audio 20000 RTP/AVP 0 13\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:13 CN/8000\r\n", func() (string, media.PortMedia) {
			m := remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
			m.ComfortType = 13
			return "sendrecv", m
		}},
		{"comfort noise beside Opus", head + "m=audio 4000 RTP/AVP 96 13\r\na=rtpmap:96 opus/48000/2\r\n", "m=audio 20000 RTP/AVP 96\r\n", func() (string, media.PortMedia) {
			m := remote("198.51.100.7:4000", "198.51.100.7:4001", media.Opus, -1, true, true)
			m.PayloadType = 96
			return "sendrecv", m
		}},
		{"VoIP metrics in RTCP XR", head + "m=audio 4000 RTP/AVP 0\r\na=rtcp-xr:rcvr-rtt=all voip-metrics\r\n", "a=rtcp-xr:voip-metrics\r\n", func() (string, media.PortMedia) {
			m := remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
			m.Metrics = true
			return "sendrecv", m
		}},
		{"XR of another kind", head + "m=audio 4000 RTP/AVP 0\r\na=rtcp-xr:rcvr-rtt=all\r\n", "a=rtcp:20001\r\n", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
		}},
		{"hold of RFC 6157", lines("v=0", "o=x 1 1 IN IP4 1.2.3.4", "s=-", "c=IN IP6 hold.invalid", "t=0 0", "m=audio 4000 RTP/AVP 0", "a=sendonly"), "", func() (string, media.PortMedia) {
			return "recvonly", remote("", "", media.PCMU, -1, false, true)
		}},
		{"hold of RFC 2543, and inactive", lines("v=0", "o=x 1 1 IN IP4 1.2.3.4", "s=-", "c=IN IP4 0.0.0.0", "t=0 0", "m=audio 4000 RTP/AVP 0", "a=inactive"), "", func() (string, media.PortMedia) {
			return "inactive", remote("", "", media.PCMU, -1, false, false)
		}},
		{"hold of RFC 2543", lines("v=0", "o=x 1 1 IN IP4 1.2.3.4", "s=-", "c=IN IP4 0.0.0.0", "t=0 0", "m=audio 4000 RTP/AVP 0"), "", func() (string, media.PortMedia) {
			return "recvonly", remote("", "", media.PCMU, -1, false, true)
		}},
		{"RTCP elsewhere", head + "m=audio 4000 RTP/AVP 0\r\na=rtcp:5001 IN IP4 198.51.100.8\r\n", "", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.8:5001", media.PCMU, -1, true, true)
		}},
		{"RTCP on another port", head + "m=audio 4000 RTP/AVP 0\r\na=rtcp:5001\r\n", "a=rtcp:20001\r\n", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:5001", media.PCMU, -1, true, true)
		}},
		{"RTCP that makes no sense", head + "m=audio 4000 RTP/AVP 0\r\na=rtcp:0 IN IP4 x\r\n", "", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
		}},
		{"video beside, and before", head + "m=video 6000 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 0\r\nm=image 7000 udptl t38\r\n", "m=video 0 RTP/AVP 31\r\nm=audio 20000 RTP/AVP 0\r\n", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
		}},
		{"SRTP first, then plain", head + "m=audio 6000 RTP/SAVP 0\r\nm=audio 4000 RTP/AVP 0\r\n", "m=audio 0 RTP/SAVP 0\r\n", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
		}},
		{"a stream that has its own address", head + "m=audio 4000 RTP/AVP 0\r\na=ptime:20\r\nc=IN IP4 198.51.100.9\r\n", "", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.9:4000", "198.51.100.9:4001", media.PCMU, -1, true, true)
		}},
		{"sloppy: no t=, a session id of 80 bits, bare newlines", "v=0\no=x 99999999999999999999999 1 IN IP4 h\nc=IN IP4 198.51.100.7\nm=audio 4000 RTP/AVP 0\n", "", func() (string, media.PortMedia) {
			return "sendrecv", remote("198.51.100.7:4000", "198.51.100.7:4001", media.PCMU, -1, true, true)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, agreed, err := newDescription(7, here, termsOf(nil)).answer([]byte(c.offer))
			require.NoError(t, err)
			direction, want := c.want()
			require.Equal(t, want, agreed)
			require.Contains(t, string(answer), "a="+direction+"\r\n")
			require.Contains(t, string(answer), c.contains)
			require.Contains(t, string(answer), "o=tandem 7 8 IN IP4 192.0.2.1\r\n")
		})
	}
}

func TestAnswerRefuses(t *testing.T) {
	const head = "v=0\r\no=x 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"
	for _, c := range []struct {
		name, offer string
		status      int
	}{
		{"nothing", "", 488},
		{"no stream", head, 488},
		{"no codec", head + "m=audio 4000 RTP/AVP 18\r\n", 488},
		{"only SRTP", head + "m=audio 4000 RTP/SAVP 0\r\n", 488},
		{"a stream that is off", head + "m=audio 0 RTP/AVP 0\r\n", 488},
		{"no SDP", "hello", 400},
		{"no address", "v=0\r\nm=audio 4000 RTP/AVP 0\r\n", 400},
		{"a host name", "v=0\r\nc=IN IP4 phone.example\r\nm=audio 4000 RTP/AVP 0\r\n", 400},
		{"a group", "v=0\r\nc=IN IP4 224.2.1.1/127\r\nm=audio 4000 RTP/AVP 0\r\n", 400},
		{"everyone", "v=0\r\nc=IN IP4 255.255.255.255\r\nm=audio 4000 RTP/AVP 0\r\n", 400},
		{"the other IP family", head + "m=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::7\r\n", 488},
		{"a port that is none", head + "m=audio 70000 RTP/AVP 0\r\n", 400},
		{"too long", head + strings.Repeat("a=x\r\n", maxDescription), 400},
		{"too many streams", head + strings.Repeat("m=audio 4000 RTP/AVP 18\r\n", maxStreams+1), 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := newDescription(7, here, termsOf(nil)).answer([]byte(c.offer))
			require.Error(t, err)
			require.Equal(t, c.status, offerStatus(err), "%v", err)
		})
	}
}

func offerOf(t testing.TB, d *description) []byte {
	t.Helper()
	body, err := d.offer()
	require.NoError(t, err)
	return body
}

func TestOffer(t *testing.T) {
	d := newDescription(7, here, terms{codecs: codecsOf([]string{"opus", "pcma", "PCMU", "PCMA"})})
	require.Equal(t, lines("v=0", "o=tandem 7 8 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0",
		"m=audio 20000 RTP/AVP 107 8 0 13 101", "a=rtpmap:107 opus/48000/2", "a=fmtp:107 useinbandfec=1", "a=rtpmap:8 PCMA/8000", "a=rtpmap:0 PCMU/8000", "a=rtpmap:13 CN/8000", "a=rtpmap:101 telephone-event/8000",
		"a=fmtp:101 0-16", "a=ptime:20", "a=rtcp:20001", "a=sendrecv"), string(offerOf(t, d)))
	six := newDescription(7, netip.MustParseAddrPort("[2001:db8::1]:20000"), termsOf(nil))
	require.Contains(t, string(offerOf(t, six)), "c=IN IP6 2001:db8::1\r\n")
}

// TestComfortNoiseIsOffered where a codec has it, and agreed as the answer says, for all that follows.
func TestComfortNoiseIsOffered(t *testing.T) {
	const head = "v=0\r\no=x 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"
	d := newDescription(7, here, termsOf(nil))
	require.Contains(t, string(offerOf(t, d)), "a=rtpmap:13 CN/8000\r\n")
	agreed, err := d.accept([]byte(head + "m=audio 4000 RTP/AVP 9 13\r\n"))
	require.NoError(t, err)
	require.EqualValues(t, 13, agreed.ComfortType)
	held, err := d.holding(true)
	require.NoError(t, err)
	require.Contains(t, string(held), " RTP/AVP 9 13\r\n", "a hold changes nothing else")
	agreed, err = d.accept([]byte(head + "m=audio 4000 RTP/AVP 9\r\na=recvonly\r\n"))
	require.NoError(t, err)
	require.Zero(t, agreed.ComfortType)
	back, err := d.holding(false)
	require.NoError(t, err)
	require.Contains(t, string(back), " RTP/AVP 9\r\n")
	agreed, err = d.accept([]byte(head + "m=audio 4000 RTP/AVP 9 13\r\n"))
	require.NoError(t, err)
	require.Zero(t, agreed.ComfortType, "it was not offered (RFC 3264 §6.1)")

	require.NotContains(t, string(offerOf(t, newDescription(7, here, terms{codecs: []media.Speech{media.Opus}}))), "CN/8000", "Opus has its own")
	other := newDescription(7, here, termsOf(nil))
	_, agreed, err = other.answer([]byte(head + "m=audio 4000 RTP/AVP 0 13\r\na=rtpmap:13 X/8000\r\n"))
	require.NoError(t, err)
	require.Zero(t, agreed.ComfortType)
	require.NotContains(t, string(offerOf(t, other)), "CN/8000", "13 is something else here")
}

func TestOurOfferKeepsTheirLines(t *testing.T) {
	d := newDescription(7, here, termsOf(nil))
	_, _, err := d.answer([]byte("v=0\r\nc=IN IP4 198.51.100.7\r\nm=video 6000 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 8 97\r\na=rtpmap:97 telephone-event/8000\r\n"))
	require.NoError(t, err)
	require.Contains(t, string(offerOf(t, d)), "m=video 0 RTP/AVP 31\r\nm=audio 20000 RTP/AVP 8 0 9 107 13 97\r\n")
}

// FuzzSDP checks what must hold for whatever a peer sends: no panic; an answer can be read back, has as many m-lines as
// the offer, and says the direction that was agreed.
func FuzzSDP(f *testing.F) {
	f.Add("v=0\r\no=x 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n")
	f.Add("v=0\nc=IN IP4 0.0.0.0\nm=video 1 RTP/AVP 31\nm=audio 4000/2 RTP/AVP 8\na=rtcp:5 IN IP6 ::1\na=inactive\n")
	f.Add("m=audio 1 RTP/AVP 0\nc=IN IP4 1.2.3.4/5/6\nm= \nm=a 1 b\n")
	f.Fuzz(func(t *testing.T, offer string) {
		d := newDescription(7, here, termsOf(nil))
		answer, agreed, err := d.answer([]byte(offer))
		if err != nil {
			return
		}
		_, ours, err := parseDescription(answer)
		require.NoError(t, err, "our own answer:\n%s", answer)
		_, theirs, err := parseDescription([]byte(offer))
		require.NoError(t, err)
		require.Len(t, ours, len(theirs))
		offerer := newDescription(8, here, termsOf(nil))
		_ = offerOf(t, offerer)
		back, err := offerer.accept(answer)
		require.NoError(t, err)
		require.Equal(t, agreed.Speech, back.Speech)
		require.Equal(t, agreed.EventType, back.EventType)
		require.Equal(t, agreed.Send, back.Receive)
		require.Equal(t, agreed.Receive, back.Send)
		require.Equal(t, here, back.Remote)
	})
}
