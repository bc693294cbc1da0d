package sfu_test

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/sessions"
	"tandem/sfu"
)

func TestPublishAndSubscribe(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{Heartbeat: 50 * time.Millisecond})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")

	mic := ann.track(webrtc.MimeTypeOpus, "camera", "mic")
	cam := ann.track(webrtc.MimeTypeVP8, "camera", "cam")
	result := ann.offerPublish(map[string]string{"camera": "front"}, nil)
	require.Equal(t, map[string]metadata{
		"camera": {EndpointID: "camera", MediaTypes: []string{"AUDIO", "VIDEO"}, Alias: "front", ParticipantID: "ann"},
	}, result.StreamMetadata)
	require.NotEmpty(t, result.EndpointID)
	require.NotContains(t, result.SDPAnswer, "a=setup:passive")
	require.Contains(t, result.SDPAnswer, "a=setup:active", "we are the DTLS client")
	require.Contains(t, result.SDPAnswer, fmt.Sprintf("127.0.0.1 %d typ host", g.UDPAddr().Port()), "no trickle")
	require.Contains(t, result.SDPAnswer, fmt.Sprintf("127.0.0.1 %d typ host tcptype passive", g.TCPAddr().Port()))
	require.Contains(t, result.SDPAnswer, "telephone-event/48000", "or sendDtmf throws")
	require.Contains(t, result.SDPAnswer, "telephone-event/8000")
	for _, line := range []string{"nack", "nack pli", "transport-cc", "ccm fir"} {
		require.Contains(t, result.SDPAnswer, " "+line+"\r\n")
	}

	first := bob.nextOffer()
	require.Equal(t, 1, first.SDPRevision)
	require.Equal(t, result.StreamMetadata, first.StreamMetadata, "audio and video come in one offer")
	require.Contains(t, first.SDPOffer, "a=setup:actpass")
	require.Contains(t, first.SDPOffer, "m=application")
	require.Contains(t, first.SDPOffer, "a=msid:camera mic")
	require.Contains(t, first.SDPOffer, "a=msid:camera cam")
	require.Contains(t, first.SDPOffer, fmt.Sprintf("127.0.0.1 %d typ host", g.UDPAddr().Port()))

	mic.until(t, "voice", func() bool { return bob.hears("camera", "mic").count("voice") >= 10 })
	cam.until(t, "picture", func() bool { return bob.hears("camera", "cam").count("picture") >= 10 })
	require.Zero(t, bob.hears("camera", "mic").count("picture"))
	require.Equal(t, []string{"ann connected a1", "bob connected b1"}, g.room.log())
	for _, b := range []*browser{ann, bob} {
		require.Eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.beats >= 2
		}, patience, time.Millisecond, "PING on both connections")
	}
}

func TestEveryCodecIsForwarded(t *testing.T) {
	for _, mime := range []string{webrtc.MimeTypeVP8, webrtc.MimeTypeVP9, webrtc.MimeTypeH264, webrtc.MimeTypeAV1} {
		t.Run(mime, func(t *testing.T) {
			g := serve(t, anybody("ann", "bob"), sfu.Config{})
			ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
			name := strings.ReplaceAll(mime, "/", "-")
			v := ann.track(mime, name, name)
			var prefer []webrtc.RTPCodecParameters
			for _, c := range v.sender.GetParameters().Codecs {
				if c.MimeType == mime {
					prefer = append(prefer, c)
				}
			}
			require.NoError(t, v.tr.SetCodecPreferences(prefer[:1]))
			ann.offerPublish(nil, nil)
			v.until(t, mime, func() bool { return bob.hears(name, name).count(mime) >= 3 })
			require.Equal(t, mime, bob.hears(name, name).track.Codec().MimeType)
		})
	}
}

// A phone's voice, or a browser that sends nothing yet: the source is there as soon as it is negotiated.
func TestSourcesDoNotWaitForPackets(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	ann.track(webrtc.MimeTypeVP8, "canvas", "c")
	ann.offerPublish(nil, nil)
	require.Contains(t, bob.nextOffer().StreamMetadata, "canvas")
	src := g.room.sources("ann")[0]
	require.Equal(t, "video/VP8", src.Tracks[0].Codec.MimeType)
	require.EqualValues(t, 90000, src.Tracks[0].Codec.ClockRate)
}

func TestPermissions(t *testing.T) {
	g := serve(t, newRoom(person("ann", sessions.PublishAudio), person("mute"), person("bob")), sfu.Config{})
	ann, mute, bob := g.browser(t, "ann", "a1"), g.browser(t, "mute", "m1"), g.browser(t, "bob", "b1")

	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	cam := ann.track(webrtc.MimeTypeVP8, "s", "cam")
	result := ann.offerPublish(nil, nil)
	require.Equal(t, []string{"AUDIO"}, result.StreamMetadata["s"].MediaTypes)
	require.NotContains(t, result.SDPAnswer, "m=video 0", "a rejected line could not carry the bundle")
	require.Equal(t, 1, strings.Count(result.SDPAnswer, "a=inactive"))

	nothing := mute.track(webrtc.MimeTypeOpus, "m", "m")
	refused := mute.offerPublish(nil, nil)
	require.Equal(t, map[string]metadata{"m": {EndpointID: "m", MediaTypes: []string{}, ParticipantID: "mute"}}, refused.StreamMetadata)

	mic.until(t, "voice", func() bool {
		cam.say("picture")
		nothing.say("nothing")
		return bob.hears("s", "mic").count("voice") >= 20
	})
	require.Nil(t, bob.hears("s", "cam"))
	require.Nil(t, bob.hears("m", "m"))
	require.Len(t, g.room.sources("ann")[0].Tracks, 1)

	// The refused kind stays refused in every later offer, and the allowed one goes on.
	mic2 := ann.track(webrtc.MimeTypeOpus, "s2", "mic2")
	again := ann.offerPublish(nil, nil)
	require.Equal(t, 1, strings.Count(again.SDPAnswer, "a=inactive"))
	mic2.until(t, "second", func() bool {
		mic.say("still")
		return bob.hears("s2", "mic2").count("second") >= 3 && bob.hears("s", "mic").count("still") >= 3
	})
}

func TestUnpublishAndPublishAgain(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	one := ann.track(webrtc.MimeTypeOpus, "one", "1")
	two := ann.track(webrtc.MimeTypeOpus, "two", "2")
	ann.offerPublish(nil, nil)
	one.until(t, "1", func() bool {
		two.say("2")
		return bob.hears("one", "1").count("1") > 3 && bob.hears("two", "2").count("2") > 3
	})

	require.NoError(t, ann.pub.RemoveTrack(one.sender))
	result := ann.offerPublish(nil, nil)
	require.NotContains(t, result.StreamMetadata, "one")
	require.Eventually(t, func() bool { _, ok := bob.subscribed()["one"]; return !ok }, patience, time.Millisecond)
	require.Contains(t, bob.subscribed(), "two")
	two.until(t, "after", func() bool { return bob.hears("two", "2").count("after") > 3 })

	three := ann.track(webrtc.MimeTypeOpus, "three", "3")
	ann.offerPublish(nil, nil)
	three.until(t, "3", func() bool { return bob.hears("three", "3").count("3") > 3 })
}

// An m-line that a browser let idle through several offers, from its beginning or after it was used, is heard when it is
// used.
func TestIdleLinesAreUsedAgain(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	ann.pub = ann.connection(false)
	_, err := ann.pub.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
	require.NoError(t, err)
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "v", "voice")
	require.NoError(t, err)
	voice := &voice{TrackLocalStaticRTP: track}
	for round := range 6 { // the fault that this guards against came every other time
		for range 2 {
			idle := ann.offerPublish(nil, nil)
			require.Empty(t, idle.StreamMetadata)
			require.Equal(t, 1, strings.Count(idle.SDPAnswer, "a=inactive"))
		}
		sender, err := ann.pub.AddTrack(voice)
		require.NoError(t, err)
		used := ann.offerPublish(nil, nil)
		require.Equal(t, 1, strings.Count(used.SDPAnswer, "m=audio"), "it is the same line")
		require.Equal(t, 1, strings.Count(used.SDPAnswer, "a=recvonly"))
		mark := strconv.Itoa(round)
		voice.until(t, mark, func() bool { return bob.hears("voice", "v").count(mark) > 3 })
		require.NoError(t, ann.pub.RemoveTrack(sender))
	}
}

// A stopped m-line has port 0 in the offer; unless the answer has it too, the browser can never use the line again.
func TestStoppedLinesAreAnsweredWithPortZero(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	ann := g.browser(t, "ann", "a1")
	ann.track(webrtc.MimeTypeOpus, "one", "1")
	ann.offerPublish(nil, nil)
	o, err := ann.pub.CreateOffer(nil)
	require.NoError(t, err)
	stopped := strings.Replace(o.SDP, "m=audio 9 ", "m=audio 0 ", 1)
	stopped = strings.Replace(stopped, "a=sendonly", "a=inactive", 1)
	stopped = strings.Replace(stopped, "a=group:BUNDLE 0 1", "a=group:BUNDLE 1", 1)
	answer := string(ann.call("offerSdp", map[string]any{"sdpOffer": stopped}))
	require.Contains(t, answer, "m=audio 0 ")
	require.Contains(t, answer, "m=application 9 ")
	require.Empty(t, g.room.sources("ann"))
}

// The subscriber's own sequence numbers have no hole and no jump when the publisher's stream is published anew.
func TestAStreamPublishedAnewGoesOn(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{})
	bob := g.browser(t, "bob", "b1")
	phone := newPhone("carl", "leg")
	g.room.publish(phone.src)
	phone.until(t, "a", func() bool { return bob.hears("leg", "voice").count("a") > 5 })
	before := bob.nextOffer()

	again := newPhone("carl", "leg")
	g.room.unpublish(phone.src)
	g.room.publish(again.src)
	again.until(t, "b", func() bool { return bob.hears("leg", "voice").count("b") > 5 })
	h := bob.hears("leg", "voice")
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := 1; i < len(h.seqs); i++ {
		require.EqualValues(t, 1, h.seqs[i]-h.seqs[i-1])
		require.Less(t, h.stamp[i]-h.stamp[i-1], uint32(48000*20))
	}
	apart := false
	for len(bob.offers) > 0 { // if both changes were seen apart, there are offers; the m-line stays the same all the same
		o := bob.nextOffer()
		require.Equal(t, strings.Count(before.SDPOffer, "m=audio"), strings.Count(o.SDPOffer, "m=audio"))
		if _, there := o.StreamMetadata["leg"]; !there {
			apart = true
		}
	}
	if !apart { // else it ended, and to the browser it is another one
		require.Positive(t, h.marks["a"], "it is the same track")
	}
}

// A browser may change to another codec that was agreed: the stream is published anew with it.
func TestAnotherAgreedCodec(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	cam := ann.track(webrtc.MimeTypeVP8, "s", "cam")
	ann.offerPublish(nil, nil)
	cam.until(t, "eight", func() bool { return bob.hears("s", "cam").count("eight") > 3 })
	require.Equal(t, webrtc.MimeTypeVP8, g.room.sources("ann")[0].Tracks[0].Codec.MimeType)
	var vp9 uint8
	for _, c := range cam.sender.GetParameters().Codecs {
		if c.MimeType == webrtc.MimeTypeVP9 && c.SDPFmtpLine == "profile-id=0" {
			vp9 = uint8(c.PayloadType)
		}
	}
	require.NotZero(t, vp9)
	require.Eventually(t, func() bool {
		cam.seq++
		cam.ts += 3000
		cam.send(vp9, &rtp.Packet{
			Header: rtp.Header{Version: 2, SequenceNumber: cam.seq, Timestamp: cam.ts}, Payload: []byte("nine"),
		})
		for _, src := range g.room.sources("ann") {
			if src.Tracks[0].Codec.MimeType == webrtc.MimeTypeVP9 {
				return bob.hears("s", "cam").count("nine") > 3
			}
		}
		return false
	}, patience, 5*time.Millisecond)
	require.Len(t, g.room.sources("ann"), 1)
}

func TestThePublicAddress(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{PublicIP: netip.MustParseAddr("203.0.113.7")})
	ann := g.browser(t, "ann", "a1")
	ann.track(webrtc.MimeTypeOpus, "s", "mic")
	answer := ann.offerPublish(nil, nil).SDPAnswer
	require.Contains(t, answer, fmt.Sprintf("203.0.113.7 %d typ host", g.UDPAddr().Port()))
	require.NotContains(t, answer, "127.0.0.1 ", "an address that nobody can reach")
}

// phone is a source without a device.
type phone struct {
	src *media.Source
	seq uint16
	ts  uint32
}

func newPhone(participant, stream string) *phone {
	track := media.NewTrack("voice", media.Audio, media.BrowserOpus(), nil)
	return &phone{src: &media.Source{Participant: participant, Stream: stream, Tracks: []*media.Track{track}}}
}

func (p *phone) until(t *testing.T, mark string, done func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		p.say(mark)
		return done()
	}, patience, 5*time.Millisecond)
}

func (p *phone) say(mark string) {
	p.seq++
	p.ts += 960
	p.src.Tracks[0].WriteRTP(&rtp.Packet{
		Header: rtp.Header{Version: 2, SequenceNumber: p.seq, Timestamp: p.ts, SSRC: 7}, Payload: []byte(mark),
	})
}

func TestMsidsThatCollide(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{})
	bob := g.browser(t, "bob", "b1")
	one, two := newPhone("carl", "leg"), newPhone("dora", "leg")
	g.room.publish(one.src)
	g.room.publish(two.src)
	require.Eventually(t, func() bool { return len(bob.subscribed()) == 2 }, patience, time.Millisecond)
	require.Equal(t, "carl", bob.subscribed()["leg"].ParticipantID)
	require.Equal(t, "dora", bob.subscribed()["leg-2"].ParticipantID)
	one.until(t, "carl", func() bool {
		two.say("dora")
		return bob.hears("leg", "voice").count("carl") > 3 && bob.hears("leg-2", "leg-2-voice").count("dora") > 3
	})
	g.room.unpublish(one.src)
	require.Eventually(t, func() bool { return len(bob.subscribed()) == 1 }, patience, time.Millisecond)
	require.Contains(t, bob.subscribed(), "leg-2", "a name that was given stays")
}

func TestKeyframes(t *testing.T) {
	g := serve(t, anybody("ann", "bob", "carl"), sfu.Config{KeyframePause: 50 * time.Millisecond})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	cam := ann.track(webrtc.MimeTypeVP8, "s", "cam")
	var asked atomic.Int32
	go func() {
		for {
			packets, _, err := cam.sender.ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range packets {
				if _, ok := p.(*rtcp.PictureLossIndication); ok {
					asked.Add(1)
				}
			}
		}
	}()
	ann.offerPublish(nil, nil)
	cam.until(t, "p", func() bool { return asked.Load() > 0 && bob.hears("s", "cam").count("p") > 0 })

	before := asked.Load()
	carl := g.browser(t, "carl", "c1")
	cam.until(t, "p", func() bool { return asked.Load() > before && carl.hears("s", "cam").count("p") > 0 })

	before = asked.Load()
	h := bob.hears("s", "cam")
	require.NoError(t, bob.sub.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(h.track.SSRC())}}))
	cam.until(t, "p", func() bool { return asked.Load() > before })
}

// keys collects what a source's listeners get.
type keys struct{ all chan media.Key }

func (k keys) WriteKey(key media.Key) { k.all <- key }

func TestKeysAreTakenOut(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") > 3 })
	got := keys{make(chan media.Key, 100)}
	g.room.sources("ann")[0].AddKeys(got)

	press := func(code byte, length uint16, end bool, mark bool) {
		mic.seq++
		flags := byte(10)
		if end {
			flags |= 0x80
		}
		mic.event(&rtp.Packet{
			Header:  rtp.Header{Version: 2, Marker: mark, SequenceNumber: mic.seq, Timestamp: mic.ts},
			Payload: []byte{code, flags, byte(length >> 8), byte(length)},
		})
	}
	for _, code := range []byte{5, 11} {
		mic.ts += 960
		for i := range uint16(5) {
			press(code, 960*(i+1), false, i == 0)
		}
		for range 3 {
			press(code, 960*6, true, false)
		}
		mic.ts += 960 * 6
	}
	want := []media.Key{
		{Digit: '5'},
		{Digit: '5', Ended: true, Duration: 120 * time.Millisecond},
		{Digit: '#'},
		{Digit: '#', Ended: true, Duration: 120 * time.Millisecond},
	}
	for _, k := range want {
		select {
		case key := <-got.all:
			require.Equal(t, k, key)
		case <-time.After(patience):
			t.Fatal("a key is missing")
		}
	}
	for _, digit := range []string{"5", "#"} {
		note := bob.nextNote()
		require.Equal(t, "dtmf", note.Method)
		require.JSONEq(t, fmt.Sprintf(`{"participantId":"ann","digit":%q,"duration":120}`, digit), string(note.Params))
	}
	mic.until(t, "w", func() bool { return bob.hears("s", "mic").count("w") > 3 })
	h := bob.hears("s", "mic")
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := 1; i < len(h.seqs); i++ {
		require.EqualValues(t, 1, h.seqs[i]-h.seqs[i-1], "the others close the gap")
	}
	for mark := range h.marks {
		require.Contains(t, []string{"v", "w"}, mark)
	}
	require.Empty(t, got.all)
	require.Empty(t, bob.notes)
}

func TestOverTCP(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1", onlyTCP), g.browser(t, "bob", "b1", onlyTCP)
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") > 10 })
	pair, err := ann.pub.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	require.NoError(t, err)
	require.Equal(t, webrtc.ICEProtocolTCP, pair.Remote.Protocol)
}

// cable is a browser's network, which can be pulled out.
type cable struct {
	net.PacketConn
	out atomic.Bool
}

func (c *cable) WriteTo(p []byte, to net.Addr) (int, error) {
	if c.out.Load() {
		return len(p), nil
	}
	return c.PacketConn.WriteTo(p, to)
}

func (c *cable) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(p)
		if err != nil || !c.out.Load() {
			return n, from, err
		}
	}
}

func TestICERestarts(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	wire := &cable{PacketConn: conn}
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: wire})
	t.Cleanup(func() { _ = mux.Close() })
	ann := g.browser(t, "ann", "a1")
	bob := g.browser(t, "bob", "b1", func(_ *browser, s *webrtc.SettingEngine) { s.SetICEUDPMux(mux) })
	t.Cleanup(bob.close)
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	first := ann.offerPublish(nil, nil)
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") > 3 })

	// The publishing side is the device's to restart.
	second := ann.offerPublish(nil, &webrtc.OfferOptions{ICERestart: true})
	require.NotEqual(t, attribute(first.SDPAnswer, "ice-ufrag"), attribute(second.SDPAnswer, "ice-ufrag"))
	require.Contains(t, second.SDPAnswer, "typ host")
	mic.until(t, "restarted", func() bool { return bob.hears("s", "mic").count("restarted") > 3 })

	// The subscribing side is ours.
	before := attribute(bob.nextOffer().SDPOffer, "ice-ufrag")
	wire.out.Store(true)
	next := bob.nextOffer()
	require.NotEqual(t, before, attribute(next.SDPOffer, "ice-ufrag"))
	require.Contains(t, next.SDPOffer, "typ host")
	wire.out.Store(false)
	mic.until(t, "back", func() bool { return bob.hears("s", "mic").count("back") > 3 })
}

func attribute(sdp, key string) string {
	_, rest, _ := strings.Cut(sdp, "a="+key+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// What a browser says on a data channel is read, however long it is, and holds nothing up.
func TestDataChannelsAreRead(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{Heartbeat: 10 * time.Millisecond})
	ann := g.browser(t, "ann", "a1")
	ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	beats := func() int {
		ann.mu.Lock()
		defer ann.mu.Unlock()
		return ann.beats
	}
	require.Eventually(t, func() bool { return beats() > 2 }, patience, time.Millisecond)
	for _, size := range []int{4, 60_000, 1, 60_000} {
		for range 30 { // more than SCTP would keep for a reader that does not come
			require.NoError(t, ann.diagnostics.Send(make([]byte, size)))
		}
	}
	require.Eventually(t, func() bool { return ann.diagnostics.BufferedAmount() == 0 }, patience, time.Millisecond)
	before := beats()
	require.Eventually(t, func() bool { return beats() > before+2 }, patience, time.Millisecond)
	require.NoError(t, ann.diagnostics.Send(make([]byte, 10)))
	require.Equal(t, webrtc.DataChannelStateOpen, ann.diagnostics.ReadyState())
}
