package dialogs

import "runtime/debug"

// maxPanics is how often a call may fail before nothing is saved of it any more: the next start reports its end.
const maxPanics = 3

// supervise runs the call. What fails in it ends this call, with its terminal event, and no other.
func (c *call) supervise() {
	for range maxPanics {
		if c.withstands(c.run) {
			return
		}
		c.withstands(c.collapse)
	}
	c.service.log.Error("a call is given up: it fails again and again", "dialog", c.id)
	c.withstands(func() {
		if c.leg != nil {
			c.leg.Hangup(500)
		}
	})
	c.withstands(c.letGo)
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
func (c *call) collapse() { c.step(fault, Cause{Reason: Error, Details: "internal error"}) }

// broke tells the call that its media failed. It may be called from any goroutine, and does not wait.
func (c *call) broke() {
	select {
	case c.broken <- struct{}{}:
	default:
	}
}
