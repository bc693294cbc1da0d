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
	guest bool // not the far end, but the target that it is joined with
	heard media.Heard
	over  bool // neither RTP nor RTCP, for so long that the call is to end
	told  bool // that it lasts was told before
}

// who says of whom nothing is heard.
func (q *quiet) who() string {
	if q.guest {
		return "the target of the transfer"
	}
	return "the far end"
}

// watchMedia begins to listen for the far end's silence, once it is answered and has media.
func (c *call) watchMedia() {
	if c.bridge == nil || c.d.State != Answered {
		return
	}
	w := c.silence(quiet{})
	w.First, w.OnFirst = c.service.cfg.NoMediaAfter, func(h media.Heard) { c.wentQuiet(quiet{heard: h}) }
	c.bridge.Watch(w)
}

// watchGuest does the same for whom the gateway joined the far end with.
func (c *call) watchGuest() { c.guest.bridge.Watch(c.silence(quiet{guest: true})) }

// silence listens for what lasts too long.
func (c *call) silence(q quiet) transcode.Watch {
	return transcode.Watch{Silence: c.service.cfg.SilenceTimeout, OnSilence: func(h media.Heard) {
		q.heard, q.over = h, true
		c.wentQuiet(q)
	}}
}

// wentQuiet runs on the clock of many phones: it only posts.
func (c *call) wentQuiet(q quiet) {
	select {
	case c.quiets <- &q:
	default: // one of each is all that comes until the call watches anew
	}
}

// onQuiet tells that no RTP came after the answer, or ends the call when neither RTP nor RTCP came for too long. Where a
// session timer says that the far end is there, silence is its right: then that is told, once, and the call goes on.
func (c *call) onQuiet(q *quiet) {
	if c.d.State != Answered || q.guest && (c.guest == nil || c.guest.leg == nil) {
		return
	}
	if !q.over {
		c.tellQuiet(q, fmt.Sprintf("no RTP within %s of the answer", c.service.cfg.NoMediaAfter))
		return
	}
	leg, bridge := c.leg, c.bridge // written by this goroutine only
	if q.guest {
		leg, bridge = c.guest.leg, c.guest.bridge
	}
	nothing := fmt.Sprintf("no RTP or RTCP from %s for %s", q.who(), c.service.cfg.SilenceTimeout)
	if leg.Watched() {
		if !q.told {
			c.tellQuiet(q, nothing+"; its session timer says that it is there")
		}
		bridge.Watch(c.silence(quiet{guest: q.guest, told: true}))
		return
	}
	c.service.log.Warn("a call ends: no RTP and no RTCP comes", "dialog", c.d.ID, "from", q.who(), "expected", q.heard.Expected, "seen", q.heard.Seen())
	c.step(fault, Cause{Reason: Error, Details: fmt.Sprintf("%s: expected from %s, last RTP %s, seen %s",
		nothing, q.heard.Expected, lastOf(q.heard), q.heard.Seen())})
}

// tellQuiet tells the application that it may hear nothing.
func (c *call) tellQuiet(q *quiet, details string) {
	c.service.log.Warn(details, "dialog", c.d.ID, "expected", q.heard.Expected, "seen", q.heard.Seen())
	e := webhooks.Event{
		ID: webhooks.NewID(), Account: c.d.Account, Name: webhooks.OnNoMedia, Time: time.Now(), Participant: c.d.Participant, DialogID: c.d.ID,
		NoMedia: &webhooks.NoMedia{Expected: q.heard.Expected.String(), Seen: q.heard.Seen(), Details: details},
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
