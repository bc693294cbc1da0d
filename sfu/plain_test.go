package sfu_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/sessions"
	"tandem/sfu"
)

// plainRoom is one whose session wants no codecs.
func plainRoom(ids ...string) *room {
	r := anybody(ids...)
	r.entered = func(ep sessions.Endpoint) { ep.(sessions.Plain).SetPassthrough(true) }
	return r
}

// telephone is a phone that may be heard as it comes.
func telephone(participant, stream string) *phone {
	p := newPhone(participant, stream)
	p.src.Audio().Telephone = true
	return p
}

// sayIn writes one packet of a phone that speaks s, as the bridge of a phone does.
func (p *phone) sayIn(s media.Speech, mark string) {
	p.seq++
	p.ts += 160
	plain, coded := p.src.Audio().ListenersOf(s)
	for _, l := range plain {
		l.WritePlain(s, &rtp.Packet{
			Header:  rtp.Header{Version: 2, PayloadType: uint8(s), SequenceNumber: p.seq, Timestamp: p.ts, SSRC: 8},
			Payload: []byte(mark),
		})
	}
	for _, l := range coded {
		l.WriteRTP(&rtp.Packet{
			Header:  rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: p.seq, Timestamp: 6 * p.ts, SSRC: 7},
			Payload: []byte("opus of " + mark),
		})
	}
}

// without is a client that lacks some codecs.
func without(mimes ...string) browserOption {
	return func(b *browser, _ *webrtc.SettingEngine) { b.lacks = mimes }
}

func TestPlainReachesWhoTakesIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		room  *room
		law   media.Speech
		lacks []string
		want  string
		pt    uint8
	}{
		{"PCMU", plainRoom("bob"), media.PCMU, nil, "v", 0},
		{"PCMA", plainRoom("bob"), media.PCMA, nil, "v", 8},
		{"a phone of another codec", plainRoom("bob"), media.G722, nil, "opus of v", 111},
		{"a client with the other law", plainRoom("bob"), media.PCMU, []string{webrtc.MimeTypePCMU}, "opus of v", 111},
		{"a client with Opus alone", plainRoom("bob"), media.PCMA, []string{webrtc.MimeTypePCMU, webrtc.MimeTypePCMA}, "opus of v", 111},
		{"a session with codecs", anybody("bob"), media.PCMU, nil, "opus of v", 111},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := serve(t, c.room, sfu.Config{})
			bob := g.browser(t, "bob", "b1", without(c.lacks...))
			carl := telephone("carl", "leg")
			g.room.publish(carl.src)
			require.Eventually(t, func() bool {
				carl.sayIn(c.law, "v")
				return bob.hears("leg", "voice").count(c.want) > 10
			}, patience, 5*time.Millisecond)
			h := bob.hears("leg", "voice")
			h.mu.Lock()
			defer h.mu.Unlock()
			require.Len(t, h.marks, 1)
			require.Equal(t, c.pt, h.types[len(h.types)-1])
			for i := 1; i < len(h.seqs); i++ {
				require.EqualValues(t, 1, h.seqs[i]-h.seqs[i-1])
			}
		})
	}
}

// What holds for every stream holds for one that comes as it is: mute, subscriptions, a change of codec.
func TestPlainObeys(t *testing.T) {
	r := plainRoom("bob")
	var bobs sessions.Endpoint
	tell := r.entered
	r.entered = func(ep sessions.Endpoint) { bobs = ep; tell(ep) }
	g := serve(t, r, sfu.Config{})
	bob := g.browser(t, "bob", "b1")
	carl := telephone("carl", "leg")
	g.room.publish(carl.src)
	until := func(s media.Speech, mark, want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			carl.sayIn(s, mark)
			return bob.hears("leg", "voice").count(want) > 3
		}, patience, 5*time.Millisecond)
	}
	until(media.PCMU, "u", "u")
	until(media.PCMA, "a", "a")
	until(media.G722, "g", "opus of g")
	until(media.PCMU, "u again", "u again")

	bobs.Mute(carl.src, true)
	bob.call("ping", nil)
	for range 20 {
		carl.sayIn(media.PCMU, "muted")
	}
	bobs.Mute(carl.src, false)
	bob.call("ping", nil)
	until(media.PCMU, "heard", "heard")
	require.Zero(t, bob.hears("leg", "voice").count("muted"))

	g.room.unpublish(carl.src)
	bob.call("ping", nil)
	plain, coded := carl.src.Audio().ListenersOf(media.PCMU)
	require.Empty(t, plain)
	require.Empty(t, coded)
}

// The same phone in a session with codecs is heard as Opus again.
func TestPlainEndsWithTheSession(t *testing.T) {
	r := plainRoom("bob")
	var bobs sessions.Endpoint
	tell := r.entered
	r.entered = func(ep sessions.Endpoint) { bobs = ep; tell(ep) }
	g := serve(t, r, sfu.Config{})
	bob := g.browser(t, "bob", "b1")
	carl := telephone("carl", "leg")
	g.room.publish(carl.src)
	until := func(mark, want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			carl.sayIn(media.PCMU, mark)
			return bob.hears("leg", "voice").count(want) > 3
		}, patience, 5*time.Millisecond)
	}
	until("plain", "plain")
	bobs.(sessions.Plain).SetPassthrough(false)
	bobs.Unsubscribe(carl.src)
	bobs.Subscribe(carl.src)
	until("coded", "opus of coded")
	require.Zero(t, bob.hears("leg", "voice").count("coded"))
}

// A browser publishes G.711 where the session wants it, and only there.
func TestBrowsersPublishG711(t *testing.T) {
	for _, plain := range []bool{true, false} {
		r := anybody("ann", "bob")
		if plain {
			r = plainRoom("ann", "bob")
		}
		g := serve(t, r, sfu.Config{})
		ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
		mic := ann.track(webrtc.MimeTypePCMU, "s", "mic")
		var preferred []webrtc.RTPCodecParameters
		for _, mime := range []string{webrtc.MimeTypePCMU, webrtc.MimeTypeOpus} {
			for _, c := range mic.sender.GetParameters().Codecs {
				if c.MimeType == mime {
					preferred = append(preferred, c)
				}
			}
		}
		require.NoError(t, mic.tr.SetCodecPreferences(preferred))
		var answer string
		if plain {
			answer = ann.offerPublish(nil, nil).SDPAnswer
		} else { // this client has nothing but PCMU to say: it could not use the answer
			o, err := ann.pub.CreateOffer(nil)
			require.NoError(t, err)
			answer = string(ann.call("offerSdp", map[string]any{"sdpOffer": o.SDP}))
		}
		codec := g.room.sources("ann")[0].Audio().Codec
		require.Equal(t, plain, strings.Contains(answer, "PCMU/8000"), answer)
		require.Contains(t, answer, "opus/48000")
		if !plain {
			require.Equal(t, webrtc.MimeTypeOpus, codec.MimeType)
			continue
		}
		require.Equal(t, media.Codec{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}, codec)
		mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") > 5 })
		h := bob.hears("s", "mic")
		h.mu.Lock()
		require.Zero(t, h.types[len(h.types)-1])
		h.mu.Unlock()
	}
}
