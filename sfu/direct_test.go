package sfu_test

import (
	"encoding/binary"
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
