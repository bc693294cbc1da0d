package sfu_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/sdp/v3"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/sfu"
)

// line is an m-line of an offer of ours.
type line struct {
	mid, kind, msid string
	inactive        bool
	port            int
}

func lines(t *testing.T, o offer) []line {
	t.Helper()
	var parsed sdp.SessionDescription
	require.NoError(t, parsed.UnmarshalString(o.SDPOffer))
	var all []line
	for _, m := range parsed.MediaDescriptions {
		l := line{kind: m.MediaName.Media, port: m.MediaName.Port.Value}
		l.mid, _ = m.Attribute("mid")
		l.msid, _ = m.Attribute("msid")
		_, l.inactive = m.Attribute("inactive")
		all = append(all, l)
	}
	return all
}

func TestAnOfferThatIsNotAnswered(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{OfferTimeout: short})
	bob := g.browser(t, "bob", "b1", silent)
	g.room.publish(newPhone("carl", "leg").src)
	first := bob.nextOffer()
	for revision := 1; revision <= 3; revision++ {
		o := first
		if revision > 1 {
			o = bob.nextOffer()
		}
		require.Equal(t, revision, o.SDPRevision)
		require.Equal(t, first.SDPOffer, o.SDPOffer, "the same again")
	}
	code := bob.waitClosed()
	require.EqualValues(t, 1000, code)
	require.Contains(t, bob.told(), "not answered")
	require.Empty(t, bob.offers)
	g.room.waitFor(t, "bob connected b1", "bob lost")
}

func TestChangesAreFoldedIntoTheNextOffer(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{})
	bob := g.browser(t, "bob", "b1", silent)
	one, two, three, four := newPhone("p1", "s1"), newPhone("p2", "s2"), newPhone("p3", "s3"), newPhone("p4", "s4")
	g.room.publish(one.src)
	first := bob.nextOffer()
	g.room.publish(two.src)
	g.room.publish(three.src)
	g.room.publish(four.src)
	g.room.unpublish(one.src)
	g.room.unpublish(four.src)
	bob.call("ping", nil) // all of it has been seen
	require.Empty(t, bob.offers, "one offer is outstanding at a time")

	bob.answer(bob.conn, first)
	second := bob.nextOffer()
	require.Equal(t, 2, second.SDPRevision)
	require.Len(t, second.StreamMetadata, 2)
	require.Contains(t, second.StreamMetadata, "s2")
	require.Contains(t, second.StreamMetadata, "s3")
	bob.answer(bob.conn, second)
	two.until(t, "v", func() bool { return bob.hears("s2", "voice").count("v") > 3 })
	bob.call("ping", nil)
	require.Empty(t, bob.offers)
}

// Late answers to the repetitions of an offer are not taken for answers to the next.
func TestLateAnswers(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{OfferTimeout: short})
	bob := g.browser(t, "bob", "b1", silent)
	one, two := newPhone("p1", "s1"), newPhone("p2", "s2")
	g.room.publish(one.src)
	first, again := bob.nextOffer(), bob.nextOffer()
	g.room.publish(two.src)
	bob.answer(bob.conn, first)
	next := bob.nextOffer()
	require.Len(t, next.StreamMetadata, 2)
	bob.answer(bob.conn, again) // a description with one stream
	bob.answer(bob.conn, next)
	two.until(t, "v", func() bool {
		one.say("v")
		return bob.hears("s1", "voice").count("v") > 3 && bob.hears("s2", "s2-voice").count("v") > 3
	})
}

func TestAnswersThatAreNotSDP(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{})
	bob := g.browser(t, "bob", "b1", silent)
	require.JSONEq(t, `{}`, string(bob.call("answerSdp", map[string]string{"sdpAnswer": "nobody asked"})))
	g.room.publish(newPhone("p1", "s1").src)
	o := bob.nextOffer()
	for _, bad := range []string{"", "v=0", strings.Replace(o.SDPOffer, "a=fingerprint", "a=nothing", 1)} {
		require.Equal(t, -32602, bob.request("answerSdp", map[string]string{"sdpAnswer": bad}).Error.Code)
	}
	bob.answer(bob.conn, o) // it is still outstanding
	require.Eventually(t, func() bool { return len(bob.subscribed()) == 1 }, patience, time.Millisecond)
}

// A client whose connections are new cannot go on with ours.
func TestAnAnswerOfAnotherConnection(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{})
	bob := g.browser(t, "bob", "b1")
	g.room.publish(newPhone("p1", "s1").src)
	require.Eventually(t, func() bool { return bob.hears("s1", "voice") != nil || len(bob.subscribed()) == 1 }, patience, time.Millisecond)
	bob.call("ping", nil)
	bob.stranger.Store(true)
	bob.mu.Lock()
	old := bob.sub
	bob.sub = nil
	bob.mu.Unlock()
	t.Cleanup(func() { _ = old.GracefulClose() })
	g.room.publish(newPhone("p2", "s2").src)
	require.EqualValues(t, 1000, bob.waitClosed())
	require.Contains(t, bob.told(), "join again")
}

func TestTwoHundredChanges(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{})
	bob := g.browser(t, "bob", "b1")
	const most = 4
	random := rand.New(rand.NewPCG(1, 2))
	var up []*phone
	var last []line
	seen := map[string]string{} // msid by mid in the last offer that had one
	for change := range 200 {
		if len(up) == 0 || len(up) < most && random.IntN(2) == 0 {
			p := newPhone("p", fmt.Sprintf("s%d", change))
			if random.IntN(2) == 0 {
				p.src.Tracks = append(p.src.Tracks, media.NewTrack("cam", media.Video, media.Codec{MimeType: "video/VP8", ClockRate: 90000}, nil))
			}
			up = append(up, p)
			g.room.publish(p.src)
		} else {
			i := random.IntN(len(up))
			g.room.unpublish(up[i].src)
			up = slices.Delete(up, i, i+1)
		}
		o := bob.nextOffer()
		require.Equal(t, change+1, o.SDPRevision)
		require.Len(t, o.StreamMetadata, len(up))
		now := lines(t, o)
		require.LessOrEqual(t, len(now)-1, 2*2*most, "twice the most tracks at once")
		require.GreaterOrEqual(t, len(now), len(last))
		for i, l := range now {
			require.NotZero(t, l.port)
			if i < len(last) {
				require.Equal(t, last[i].mid, l.mid)
				require.Equal(t, last[i].kind, l.kind)
				if l.msid != last[i].msid && l.msid != "" {
					require.True(t, last[i].inactive, "m-line %s carries %s right after %s", l.mid, l.msid, seen[l.mid])
				}
			}
			require.Equal(t, l.kind != "application" && l.msid == "", l.inactive)
			if l.msid != "" {
				seen[l.mid] = l.msid
			}
		}
		last = now
		require.Eventually(t, func() bool { return len(bob.subscribed()) == len(up) }, patience, time.Millisecond)
	}
	g.room.publish(newPhone("p", "other").src)
	p := newPhone("p", "final")
	g.room.publish(p.src)
	p.until(t, "v", func() bool { return bob.hears("final", "final-voice").count("v") > 3 })
}

func TestOffersThatCannotBeUsed(t *testing.T) {
	g := serve(t, anybody("ann"), sfu.Config{})
	ann := g.browser(t, "ann", "a1")
	ann.track("audio/opus", "s", "mic")
	o, err := ann.pub.CreateOffer(nil)
	require.NoError(t, err)
	good := o.SDP
	cases := map[string]struct{ sdp, says string }{
		"empty":           {"", "sdpOffer: expected a session description"},
		"not SDP":         {"hello", "sdpOffer: not a session description"},
		"no media":        {"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", "0 media sections"},
		"no fingerprint":  {strings.ReplaceAll(good, "a=fingerprint", "a=other"), "fingerprint"},
		"no mid":          {strings.Replace(good, "a=mid:0\r\n", "", 1), "a=mid"},
		"mid twice":       {strings.Replace(good, "a=mid:1\r\n", "a=mid:0\r\n", 1), "twice"},
		"no ssrc":         {strings.ReplaceAll(good, "a=ssrc:", "a=other:"), "a=ssrc"},
		"a strange kind":  {strings.Replace(good, "m=audio", "m=text", 1), "m=text"},
		"a long msid":     {strings.ReplaceAll(good, "a=msid:s ", "a=msid:"+strings.Repeat("s", 300)+" "), "a=msid"},
		"many m-lines":    {good + strings.Repeat("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", 200), "media sections"},
		"no ICE password": {strings.ReplaceAll(good, "a=ice-pwd", "a=other"), "cannot be used"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			refused := ann.request("offerSdp", map[string]string{"sdpOffer": c.sdp})
			require.NotNil(t, refused.Error)
			require.Equal(t, -32602, refused.Error.Code)
			require.Contains(t, refused.Error.Message, c.says)
			require.Nil(t, refused.Result)
		})
	}
	alias := ann.request("offerSdp", map[string]any{"sdpOffer": good, "mediaMetadata": map[string]any{
		"mediaStreams": map[string]any{"s": map[string]string{"alias": strings.Repeat("x", 300)}},
	}})
	require.Contains(t, alias.Error.Message, "mediaMetadata.mediaStreams.s.alias")
	require.Contains(t, ann.offerPublish(nil, nil).StreamMetadata, "s", "the device can go on")
}

// A client that begins anew on the same socket, with a new connection.
func TestANewPublishingConnection(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	old := ann.track("audio/opus", "s", "mic")
	ann.offerPublish(nil, nil)
	old.until(t, "old", func() bool { return bob.hears("s", "mic").count("old") > 3 })
	was := ann.pub
	t.Cleanup(func() { _ = was.GracefulClose() })
	ann.pub = nil
	fresh := ann.track("audio/opus", "s2", "mic")
	ann.offerPublish(nil, nil)
	require.Eventually(t, func() bool { _, ok := bob.subscribed()["s"]; return !ok }, patience, time.Millisecond)
	fresh.until(t, "new", func() bool { return bob.hears("s2", "mic").count("new") > 3 })
}

// The device closes its publishing connection and keeps the socket.
func TestAClosedPublishingConnection(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	mic := ann.track("audio/opus", "s", "mic")
	ann.offerPublish(nil, nil)
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") > 3 })
	require.NoError(t, ann.pub.GracefulClose())
	require.Eventually(t, func() bool { return len(g.room.sources("ann")) == 0 }, patience, time.Millisecond)
}
