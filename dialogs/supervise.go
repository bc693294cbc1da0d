package dialogs

import (
	"runtime/debug"

	"tandem/webhooks"
)

// maxPanics is how often a call may fail before nothing is saved of it any more: the next start reports its end.
const maxPanics = 3

const internalError = "internal error" // all that is told of it

// supervise runs the call. What fails in it ends this call, with its terminal event, and no other.
func (c *call) supervise() {
	for range maxPanics {
		if c.withstands(c.run) {
			return
		}
		c.salvage()
	}
	c.withstands(c.giveUp)
}

// giveUp is the last that is done for a call.
func (c *call) giveUp() {
	c.service.log.Error("a call is given up: it fails again and again", "dialog", c.id)
	c.letGo()
}

// salvage ends a call that failed. When that fails too, each part of the end is done that can be: the far end is hung
// up, the participant let go, the end told.
func (c *call) salvage() {
	if c.withstands(c.collapse) && c.told {
		return
	}
	up := !c.d.Answered.IsZero()
	if c.d.State != Terminated {
		c.d.State, c.d.Cause = Terminated, Cause{Reason: Error, Details: internalError}
	}
	parts := []func(){c.tell, c.seeOut, c.seeOff}
	if c.leg != nil {
		parts = append(parts, func() { c.leg.Hangup(c.refusal) })
	}
	if a := c.aim; a != nil {
		t := c.d.Transfer
		c.aim, c.d.Transfer = nil, Transfer{}
		parts = append(parts, func() {
			c.save(change{d: c.d, events: []webhooks.Event{transferEvent(c.d, t, Cause{Details: internalError}, false)}})
		})
		if a.leg != nil {
			parts = append(parts, func() { a.leg.Hangup(0) })
		}
	}
	c.mu.Lock()
	bridge := c.bridge
	c.mu.Unlock()
	if bridge != nil {
		parts = append(parts, func() { c.attachment.Unpublish(bridge.Source()) }, func() { bridge.Close(errOver) })
	}
	if c.attachment != nil {
		parts = append(parts, c.attachment.Detach)
	}
	if !c.told {
		parts = append(parts, func() { c.note(up) })
	}
	for _, part := range parts {
		c.withstands(part)
	}
}

// withstands says whether do returned; when it did not, the reason is in the log.
func (c *call) withstands(do func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			c.service.log.Error("a call failed", "dialog", c.id, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	do()
	return true
}

// collapse ends the call in the order of a fault.
func (c *call) collapse() { c.step(fault, Cause{Reason: Error, Details: internalError}) }

// broke tells the call that its media failed. It may be called from any goroutine, and does not wait.
func (c *call) broke() {
	select {
	case c.broken <- struct{}{}:
	default:
	}
}
