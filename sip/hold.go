package sip

import (
	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
)

// Hold is part of dialogs.Leg. Of several wishes the last counts.
func (c *call) Hold(on bool) {
	if !c.inbox.wish(func() { c.change.hold, c.change.glares = &on, 0 }) {
		c.log.Warn("sip: too many wishes at once", "lost", "hold")
	}
}

// pursueHold asks the far end to wait, or to talk again (RFC 3264 §8.4). What is so already needs no asking.
func (c *call) pursueHold(on bool) {
	wish := c.change.hold
	if c.sdp.hold == on {
		c.change.hold = nil
		c.emit(&dialogs.LegEvent{Kind: dialogs.LegHold, Hold: c.holding()})
		return
	}
	body, err := c.sdp.holding(on)
	if err != nil {
		c.change.hold = nil
		c.holdFailed(dialogs.Cause{Details: err.Error()})
		return
	}
	c.propose(sip.INVITE, body, func(res *sip.Response, again bool) {
		if again {
			return
		}
		if c.change.hold == wish { // no other came meanwhile
			c.change.hold = nil
		}
		switch {
		case res == nil:
			c.holdFailed(dialogs.Cause{Details: "the far end does not answer"})
		case !res.IsSuccess():
			cause := causeOf(res.StatusCode, res.Reason)
			cause.Reason = dialogs.NoReason
			c.holdFailed(cause)
		case c.sdp.hold != on:
			c.holdFailed(dialogs.Cause{Details: "the far end's answer has no usable SDP"})
		}
	})
}

// holdFailed tells that a wish was not fulfilled, and how it stands.
func (c *call) holdFailed(cause dialogs.Cause) {
	c.emit(&dialogs.LegEvent{Kind: dialogs.LegHold, Hold: c.holding(), Cause: cause})
}
