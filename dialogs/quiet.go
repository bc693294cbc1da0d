package dialogs

import (
	"fmt"
	"time"

	"tandem/media"
	"tandem/transcode"
	"tandem/webhooks"
)

// quiet is that the far end sends nothing.
type quiet struct {
	who   string // the far end, or the target that it is joined with
	heard media.Heard
	over  bool // for so long that the call is to end
}

// watchMedia begins to listen for the far end's silence, once it is answered and has media.
func (c *call) watchMedia() {
	if c.bridge == nil || c.d.State != Answered {
		return
	}
	c.bridge.Watch(transcode.Watch{
		First: c.service.cfg.NoMediaAfter, OnFirst: func(h media.Heard) { c.wentQuiet(quiet{heard: h}) },
		Silence: c.service.cfg.SilenceTimeout, OnSilence: func(h media.Heard) { c.wentQuiet(quiet{who: "the far end", heard: h, over: true}) },
	})
}

// watchGuest does the same for whom the gateway joined the far end with.
func (c *call) watchGuest() {
	c.guest.bridge.Watch(transcode.Watch{
		Silence: c.service.cfg.SilenceTimeout,
		OnSilence: func(h media.Heard) {
			c.wentQuiet(quiet{who: "the target of the transfer", heard: h, over: true})
		},
	})
}

// wentQuiet runs on the clock of many phones: it only posts.
func (c *call) wentQuiet(q quiet) {
	select {
	case c.quiets <- q:
	default: // one of each is all that comes until the call watches anew
	}
}

// onQuiet tells that no RTP came after the answer, or ends the call when neither RTP nor RTCP came for too long.
func (c *call) onQuiet(q quiet) {
	if c.d.State != Answered {
		return
	}
	if q.over {
		c.service.log.Warn("a call ends: no RTP and no RTCP comes", "dialog", c.d.ID, "from", q.who, "expected", q.heard.Expected, "seen", q.heard.Seen())
		c.step(fault, Cause{Reason: Error, Details: fmt.Sprintf("no RTP or RTCP from %s for %s: expected from %s, last RTP %s, seen %s",
			q.who, c.service.cfg.SilenceTimeout, q.heard.Expected, lastOf(q.heard), q.heard.Seen())})
		return
	}
	c.service.log.Warn("no RTP came after the answer", "dialog", c.d.ID, "expected", q.heard.Expected, "seen", q.heard.Seen())
	e := webhooks.Event{
		ID: webhooks.NewID(), Account: c.d.Account, Name: webhooks.OnNoMedia, Time: time.Now(), Participant: c.d.Participant, DialogID: c.d.ID,
		NoMedia: &webhooks.NoMedia{
			Expected: q.heard.Expected.String(), Seen: q.heard.Seen(), Details: fmt.Sprintf("no RTP within %s of the answer", c.service.cfg.NoMediaAfter),
		},
	}
	c.save(change{key: &e})
}

// lastOf says when a far end's last RTP came.
func lastOf(h media.Heard) string {
	if h.RTP.IsZero() {
		return "never"
	}
	return "at " + h.RTP.UTC().Format(time.RFC3339)
}
