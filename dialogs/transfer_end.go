package dialogs

import (
	"fmt"
	"time"

	"tandem/media"
	"tandem/transcode"
	"tandem/webhooks"
)

// onWait is the end of patience: of the far end's report, or of the target's ringing.
func (c *call) onWait() {
	a := c.aim
	switch {
	case a == nil:
	case a.leg == nil:
		details := fmt.Sprintf("no outcome within %s", c.service.cfg.TransferTimeout)
		if a.last != 0 {
			details += fmt.Sprintf(" after the far end's last news, %d", a.last)
		}
		c.failTransfer(Cause{Details: details})
	case c.d.Transfer.Mode == ModeReplaces:
		c.failTransfer(Cause{Details: fmt.Sprintf("no ACK within %s", c.service.cfg.TransferTimeout)})
	default:
		c.failTransfer(Cause{SIPCode: 408, Details: fmt.Sprintf("no answer within %s", c.service.cfg.RingTimeout)})
	}
}

// survives says whether the dialog outlives its leg: a far end that wants a transfer may go before that is made (RFC
// 5589 §6). It also tells what its leaving means for a transfer that it was asked for.
func (c *call) survives(cause Cause) bool {
	a := c.aim
	if a == nil || c.d.State == Terminated {
		return false
	}
	if c.d.Transfer.ByFarEnd {
		a.gone = &cause
		return true
	}
	// Many who accept a REFER hang up and report nothing, or no more than the 100 that RFC 3515 §2.4.4 demands. Whoever
	// reported that the target rings would have reported its answer.
	if c.d.Transfer.Mode == ModeRefer && cause.Reason == NoReason && (a.last == 202 || a.last == 100) {
		to := c.d.Transfer.To
		c.settle(true, Cause{SIPCode: 202, Details: "the far end accepted the transfer and hung up without reporting its outcome"})
		c.step(farEnded, Cause{Details: "transferred to " + to})
		return true
	}
	return false
}

// endTransfer ends what is under way when the dialog ends.
func (c *call) endTransfer(cause Cause) {
	if c.aim == nil {
		return
	}
	c.aim.gone = nil // that leg's end is no news any more
	c.failTransfer(Cause{Details: cause.Details})
}

// failTransfer ends a transfer that came to nothing. The call is as it was before, if it is there.
func (c *call) failTransfer(cause Cause) {
	a := c.aim
	if c.d.Transfer.ByFarEnd && a.gone == nil && c.d.Transfer.Mode == ModeRefer && c.leg != nil {
		status := cause.SIPCode
		if status < 300 {
			status = 503
		}
		c.leg.Referred(status)
	}
	c.settle(false, cause)
	if a.leg != nil {
		a.leg.Hangup(0)
	}
	if a.gone != nil && c.d.State != Terminated {
		c.step(farEnded, *a.gone)
	}
}

// settle reports the one outcome of the transfer.
func (c *call) settle(ok bool, cause Cause) {
	t := c.d.Transfer
	c.aim, c.d.Transfer = nil, Transfer{}
	c.wait.stop()
	c.service.log.Info("a transfer is over", "dialog", c.d.ID, "to", t.To, "mode", string(t.Mode), "succeeded", ok, "details", cause.Details)
	c.save(change{d: c.d, events: []webhooks.Event{transferEvent(c.d, t, cause, ok)}})
}

func transferEvent(d Dialog, t Transfer, cause Cause, ok bool) webhooks.Event {
	report := webhooks.Transfer{
		State: transferFailed, To: t.To, Mode: string(t.Mode), By: t.By(), SIPCode: cause.SIPCode, Details: cause.Details,
	}
	if ok {
		report.State = transferSucceeded
	}
	return webhooks.Event{
		ID: webhooks.NewID(), Account: d.Account, Name: webhooks.OnTransfer, Time: time.Now(), Participant: d.Participant, DialogID: d.ID,
		Transfer: &report,
	}
}

// join lets the far end and the target hear each other, and the session neither.
func (c *call) join() {
	a := c.aim
	own := c.bridge // written by this goroutine only
	if own == nil {
		c.failTransfer(Cause{Details: "the far end has no sound yet"})
		return
	}
	bridge, err := c.service.engine.NewBridge(transcode.BridgeConfig{
		Participant: c.d.Participant, Stream: c.d.ID + "-target", Port: a.port, Media: a.media, SendKey: a.leg.SendKey,
		OnFailure: c.broke,
	})
	if err != nil {
		c.service.log.Error("a phone has no sound", "dialog", c.d.ID, "error", err)
		c.failTransfer(Cause{Details: "no media could be set up for the target"})
		return
	}
	c.endGather(gatherCancelled)
	c.stopPlaying() // from now on the far end hears the target, and nobody else could end it
	c.guest = &guest{leg: a.leg, events: a.events, bridge: bridge}
	c.watchGuest()
	c.attachment.Unpublish(own.Source())
	c.setApart(true)
	own.Subscribe(bridge.Source())
	bridge.Subscribe(own.Source())
	c.settle(true, Cause{SIPCode: 200, Details: "the target answered; the two are joined"})
	if c.d.Hold.ByUs || c.onHoldSoon() { // also one that the far end has not answered yet
		off := false
		c.wishesHold = &off
		c.leg.Hold(false)
	}
}

// onGuest takes news of a target that the far end is joined with.
func (c *call) onGuest(e *LegEvent) {
	g := c.guest
	switch e.Kind {
	case LegMedia:
		g.bridge.Update(e.Media)
	case LegRefer:
		g.leg.Referred(603)
	case LegKey:
		k := e.Key
		k.Method, k.Ended = media.Info, true
		g.bridge.Pressed(k) // the far end gets it in the way of its trunk
	case LegEnded:
		g.events, g.leg = nil, nil
		details := "hung up by the target of the transfer"
		if e.Cause.Reason == Error {
			details = "the target of the transfer: " + e.Cause.Details
		}
		c.step(localHangup, Cause{Reason: e.Cause.Reason, Details: details})
	case LegCalling, LegRinging, LegAnswered, LegHold, LegReferred:
	}
}

// seeOff ends what the call has of a guest.
func (c *call) seeOff() {
	g := c.guest
	if g == nil {
		return
	}
	if g.leg != nil {
		g.leg.Hangup(0)
	}
	g.bridge.Close(errOver)
	g.events = nil
}

// replace puts the target's leg into the place of the far end's: the same dialog, participant and stream.
func (c *call) replace() {
	a, t := c.aim, c.d.Transfer
	old := c.leg
	c.leg, c.events = a.leg, a.events
	c.lineIs(a.leg)
	held := c.d.Hold
	held.ByUs = held.ByUs || c.onHoldSoon()
	c.d.Hold, c.wishesHold = Hold{}, nil // the other leg was asked nothing
	if c.bridge != nil {
		c.bridge.Move(a.port, a.media)
	} else {
		c.onMedia(a.port, a.media)
	}
	if c.aim == nil {
		return // no sound could be made, and all is over
	}
	c.setApart(false)
	switch {
	case t.Mode == ModeReplaces:
		old.Hangup(0)
	case a.gone == nil:
		old.Referred(200)
		c.letGo()
		c.old = old // it hangs up by itself, or we do
		c.part.set(partingTime)
	}
	c.d.talksTo(t.To)
	c.settle(true, Cause{SIPCode: 200, Details: t.To + " has taken the far end's place"})
	if c.d.State != Answered {
		c.step(farAnswered, Cause{Reason: Answer})
		return
	}
	var news []Cause
	if held.ByUs {
		news = append(news, Cause{Details: resumedByUs})
	}
	if held.ByFarEnd {
		news = append(news, Cause{Details: resumedByFarEnd})
	}
	c.report(news...)
}
