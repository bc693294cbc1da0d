package sfu_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/sfu"
)

// inletOf waits for the one of a participant.
func (g *gateway) inletOf(t *testing.T, participant string) *sfu.Inlet {
	t.Helper()
	var found *sfu.Inlet
	require.Eventually(t, func() bool {
		all := g.Inlets(participant)
		if len(all) == 1 {
			found = all[0]
		}
		return found != nil
	}, patience, time.Millisecond)
	return found
}

// turns says packets that go round with the sequence numbers, and waits for each of them.
func (v *voice) turns(t *testing.T, at *heard, mark string, n int) {
	t.Helper()
	for range n {
		before := at.count(mark)
		v.seq = (v.seq+28672)&0xf000 - 1
		v.say(mark)
		require.Eventually(t, func() bool { return at.count(mark) > before }, patience, time.Millisecond)
	}
}

// TestSoundIsTakenAtThePort: what a browser says is decrypted by its reader, also after its sequence numbers went round and its address
// changed. When it comes another way, Pion reads it, and knows how often they went round.
func TestSoundIsTakenAtThePort(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	mic.seq = 65530
	ann.offerPublish(nil, nil)
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") >= 10 })
	in := g.inletOf(t, "ann")
	open, from, came := in.State()
	require.True(t, open)
	require.True(t, came)
	at := bob.hears("s", "mic")
	mic.turns(t, at, "round", 12)

	ann.offerPublish(nil, &webrtc.OfferOptions{ICERestart: true})
	require.Eventually(t, func() bool {
		open, now, _ := in.State()
		require.True(t, open)
		return now != from
	}, patience, time.Millisecond)
	mic.until(t, "moved", func() bool { return at.count("moved") >= 10 })
	mic.turns(t, at, "around", 12)

	in.Leave()
	mic.until(t, "left", func() bool { return at.count("left") >= 10 })
	mic.turns(t, at, "by Pion", 12)
	open, _, _ = in.State()
	require.False(t, open)
}

// TestForgedFirstPacket: who has no keys can't keep a browser from being heard.
func TestForgedFirstPacket(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	in := g.inletOf(t, "ann")
	forged := []byte{0x80, 111, 0, 7, 0, 0, 0, 0}
	forged = append(binary.BigEndian.AppendUint32(forged, in.SSRC()), make([]byte, 80)...)
	in.Put(forged)
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") >= 10 })
	for range 100 {
		in.Put(forged)
	}
	mic.until(t, "w", func() bool { return bob.hears("s", "mic").count("w") >= 10 })
}

// TestForgedPackets: nor can who knows its address, its stream and where it is.
func TestForgedPackets(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") >= 10 })
	in := g.inletOf(t, "ann")
	forged := []byte{0x80, 111, byte(mic.seq >> 8), byte(mic.seq + 1), 0, 0, 0, 0}
	forged = append(binary.BigEndian.AppendUint32(forged, in.SSRC()), make([]byte, 80)...)
	for n := range 100 {
		forged[3] = byte(n)
		require.True(t, in.Put(forged))
	}
	mic.until(t, "w", func() bool { return bob.hears("s", "mic").count("w") >= 10 })
	open, _, _ := in.State()
	require.True(t, open)
}

// TestSoundIsSentByThePort: what a browser hears is encrypted by who has it, also after the sequence numbers went round, Pion had the
// stream for a while, and the connection has another line.
func TestSoundIsSentByThePort(t *testing.T) {
	for name, active := range map[string]bool{"DTLS's server": false, "DTLS's client": true} {
		t.Run(name, func(t *testing.T) { testSoundIsSent(t, active) })
	}
}

func testSoundIsSent(t *testing.T, active bool) {
	t.Helper()
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann := g.browser(t, "ann", "a1")
	bob := g.browser(t, "bob", "b1", func(_ *browser, s *webrtc.SettingEngine) {
		role := webrtc.DTLSRoleServer
		if active {
			role = webrtc.DTLSRoleClient
		}
		require.NoError(t, s.SetAnsweringDTLSRole(role))
	})
	own := func(lines int) func() bool {
		return func() bool {
			all := g.Outlets("bob")
			return len(all) == lines && !slices.Contains(all, false)
		}
	}
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") >= 10 })
	at := bob.hears("s", "mic")
	mic.until(t, "own", own(1))
	mic.turns(t, at, "round", 12)
	before := at.count("own")
	mic.until(t, "own", func() bool { return at.count("own") >= before+10 })

	for range 2 {
		g.Reroute("bob", true)
		mic.turns(t, at, "by Pion", 12)
		require.Equal(t, []bool{false}, g.Outlets("bob"))
		g.Reroute("bob", false)
		mic.turns(t, at, "around", 12)
		mic.until(t, "own", own(1))
	}

	other := ann.track(webrtc.MimeTypeOpus, "s2", "mic2")
	other.seq = 65530
	ann.offerPublish(nil, nil)
	other.until(t, "w", func() bool { return bob.hears("s2", "mic2").count("w") >= 50 })
	mic.until(t, "own", func() bool { other.say("w"); return own(2)() })
	other.turns(t, bob.hears("s2", "mic2"), "other", 12)
	mic.turns(t, at, "still", 6)
}

// TestEarlyRound: where the sequence numbers went round before there was a connection, Pion sends the stream, which alone knows what it
// sent of that.
func TestEarlyRound(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann := g.browser(t, "ann", "a1")
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	mic.seq = 65500
	ann.offerPublish(nil, nil)
	in := g.inletOf(t, "ann")
	mic.until(t, "before", func() bool { _, _, came := in.State(); return came })
	bob := g.browser(t, "bob", "b1")
	mic.until(t, "v", func() bool { return bob.hears("s", "mic").count("v") >= 100 })
	mic.turns(t, bob.hears("s", "mic"), "round", 12)
}
