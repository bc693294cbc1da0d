package sfu_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/sfu"
)

// report waits for one of a kind that fits.
func report[T rtcp.Packet](t *testing.T, heard func() []rtcp.Packet, fits func(T) bool) (found T) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, p := range heard() {
			if r, is := p.(T); is && fits(r) {
				found = r
				return true
			}
		}
		return false
	}, patience, 5*time.Millisecond)
	return found
}

// name is the CNAME that a description has for an SSRC, or "".
func name(d *rtcp.SourceDescription, ssrc uint32) string {
	for _, c := range d.Chunks {
		if c.Source == ssrc && len(c.Items) == 1 && c.Items[0].Type == rtcp.SDESCNAME {
			return c.Items[0].Text
		}
	}
	return ""
}

// TestReportsToBrowsers: who hears a stream gets SR, SDES and, in the end, BYE; who publishes one gets RR.
func TestReportsToBrowsers(t *testing.T) {
	g := serve(t, anybody("ann", "bob"), sfu.Config{})
	ann, bob := g.browser(t, "ann", "a1"), g.browser(t, "bob", "b1")
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)
	mic.until(t, "voice", func() bool { return bob.hears("s", "mic").count("voice") >= 10 })
	h := bob.hears("s", "mic")
	ssrc := uint32(h.track.SSRC())
	atBob := func() []rtcp.Packet {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Clone(h.reports)
	}

	sr := report(t, func() []rtcp.Packet { mic.say("voice"); return atBob() }, func(r *rtcp.SenderReport) bool {
		return r.SSRC == ssrc && r.PacketCount >= 10
	})
	require.GreaterOrEqual(t, sr.OctetCount, sr.PacketCount*uint32(len("voice")))
	cname := name(report(t, atBob, func(d *rtcp.SourceDescription) bool { return name(d, ssrc) != "" }), ssrc)
	require.GreaterOrEqual(t, len(cname), 16)

	told := make(chan struct{})
	go func() { // it ends with its browser, at the latest
		for {
			packets, _, err := mic.sender.ReadRTCP()
			if err != nil {
				return
			}
			if rr, ok := packets[0].(*rtcp.ReceiverReport); ok && len(rr.Reports) == 1 {
				close(told)
				return // Pion reads apart what comes together: see TestNaming
			}
		}
	}()
	mic.until(t, "voice", func() bool {
		select {
		case <-told:
			return true
		default:
			return false
		}
	})

	bob.mute.Store(true) // with the next offer it would read the stream no more
	g.room.unpublish(g.room.sources("ann")[0])
	report(t, atBob, func(b *rtcp.Goodbye) bool { return slices.Contains(b.Sources, ssrc) })
}

// TestLossThatABrowserReports reaches who makes the packets: the worst counts.
func TestLossThatABrowserReports(t *testing.T) {
	g := serve(t, anybody("bob", "cat"), sfu.Config{})
	p := newPhone("caller", "call")
	g.room.publish(p.src)
	bob, cat := g.browser(t, "bob", "b1"), g.browser(t, "cat", "c1")
	p.until(t, "voice", func() bool {
		return bob.hears("call", "voice").count("voice") >= 3 && cat.hears("call", "voice").count("voice") >= 3
	})
	track := p.src.Tracks[0]
	tell := func(b *browser, fraction uint8) {
		require.NoError(t, b.sub.WriteRTCP([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{
			{SSRC: uint32(b.hears("call", "voice").track.SSRC()), FractionLost: fraction},
			{SSRC: 12345, FractionLost: 255},
		}}}))
	}
	tell(bob, 64)
	require.Eventually(t, func() bool { return track.Loss() == 25 }, patience, time.Millisecond)
	tell(cat, 128)
	require.Eventually(t, func() bool { return track.Loss() == 50 }, patience, time.Millisecond)
	g.room.delete("cat")
	require.Eventually(t, func() bool { return track.Loss() <= 25 }, patience, time.Millisecond)
	require.Equal(t, media.Audio, track.Kind)
}

// TestReportsOfALineUsedAgain: a stream on a line that another one had before is reported like any other.
func TestReportsOfALineUsedAgain(t *testing.T) {
	g := serve(t, anybody("bob"), sfu.Config{})
	bob := g.browser(t, "bob", "b1")
	for _, mark := range []string{"1", "2", "3"} {
		p := newPhone(mark, mark)
		g.room.publish(p.src)
		p.until(t, mark, func() bool { return bob.hears(mark, "voice").count(mark) >= 3 })
		h := bob.hears(mark, "voice")
		report(t, func() []rtcp.Packet {
			p.say(mark)
			h.mu.Lock()
			defer h.mu.Unlock()
			return slices.Clone(h.reports)
		}, func(r *rtcp.SenderReport) bool { return r.SSRC == uint32(h.track.SSRC()) })
		g.room.unpublish(p.src)
		require.Eventually(t, func() bool { return g.IdleLines("bob") == 1 }, patience, time.Millisecond)
	}
	for len(bob.offers) > 0 {
		require.Equal(t, 1, strings.Count(bob.nextOffer().SDPOffer, "m=audio"), "all on one line")
	}
}
