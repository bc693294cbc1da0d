package dialogs

import (
	"context"

	"tandem/errs"
	"tandem/webhooks"
)

// How a hold is told: the dialog stays ANSWERED, the details say who holds.
const (
	heldByFarEnd    = "HELD BY FAR END"
	resumedByFarEnd = "RESUMED BY FAR END"
	heldByUs        = "HELD"
	resumedByUs     = "RESUMED"
	holdFailed      = "HOLD FAILED"
	resumeFailed    = "RESUME FAILED"
)

// Hold puts the far end of an ANSWERED dialog on hold, or takes it back. It returns at once: what came of it is called
// back. While the far end has not agreed to the one, the other may be asked for: it follows, or takes its place. It is
// errs.Conflict when the dialog is not ANSWERED, is on hold already (or is not), or is being transferred. One that was
// joined with its target can only be taken back, where its far end did not agree to that before.
func (s *Service) Hold(ctx context.Context, ref Ref, on bool) (Dialog, error) {
	d, err := s.Get(ctx, ref)
	if err != nil {
		return Dialog{}, err
	}
	c := s.find(d.ID)
	if c == nil {
		return Dialog{}, notUp(d)
	}
	return c.ask(ctx, func() (Dialog, error) { return c.hold(on) })
}

// notUp refuses what only an ANSWERED dialog can do.
func notUp(d Dialog) error {
	return errs.New(errs.Conflict, "state: the dialog is %s; only one that is ANSWERED can be held, resumed or transferred", d.State)
}

func (c *call) hold(on bool) (Dialog, error) {
	switch {
	case c.d.State != Answered:
		return Dialog{}, notUp(c.d)
	case c.guest != nil && on:
		return Dialog{}, errs.New(errs.Conflict, "state: the dialog was transferred: its far end talks with the target")
	case c.aim != nil:
		return Dialog{}, errs.New(errs.Conflict, "state: a transfer to %s is under way", c.d.Transfer.To)
	case on && c.onHoldSoon():
		return Dialog{}, errs.New(errs.Conflict, "state: the dialog is on hold already")
	case !on && !c.onHoldSoon():
		return Dialog{}, errs.New(errs.Conflict, "state: the dialog was not put on hold by this end")
	}
	c.wishesHold = &on
	if on {
		c.setApart(true) // from now on, not only when the far end has agreed
	}
	c.leg.Hold(on) // behind what the far end is being asked, or in its place where that has not left yet
	return c.d, nil
}

// onHoldSoon says whether this end holds the far end once it has agreed to what it was asked last.
func (c *call) onHoldSoon() bool {
	if c.wishesHold != nil {
		return *c.wishesHold
	}
	return c.d.Hold.ByUs
}

// onHold takes news of who holds.
func (c *call) onHold(e *LegEvent) {
	before := c.d.Hold
	c.d.Hold = e.Hold
	refused := e.Cause.Details != "" || e.Cause.SIPCode != 0
	changed := e.Hold.ByUs != before.ByUs
	withdrawn := false // the application changed its mind before the far end was asked
	if c.wishesHold != nil && (refused || e.Hold.ByUs == *c.wishesHold && (changed || e.Hold == before)) {
		withdrawn = !refused && !changed && !e.Hold.ByUs
		c.wishesHold = nil
	}
	if c.guest == nil {
		c.setApart(e.Hold.ByUs || c.onHoldSoon())
	}
	if c.d.State != Answered {
		return // it is saved and shown with the next state
	}
	var news []Cause
	switch {
	case e.Hold.ByUs && !before.ByUs:
		news = append(news, Cause{Details: heldByUs})
	case !e.Hold.ByUs && before.ByUs, withdrawn:
		news = append(news, Cause{Details: resumedByUs})
	case refused: // it is as it was, so what was refused is the other
		details := holdFailed
		if e.Hold.ByUs {
			details = resumeFailed
		}
		if e.Cause.Details != "" {
			details += ": " + e.Cause.Details
		}
		news = append(news, Cause{Details: details, SIPCode: e.Cause.SIPCode})
	}
	switch {
	case e.Hold.ByFarEnd && !before.ByFarEnd:
		news = append(news, Cause{Details: heldByFarEnd})
	case !e.Hold.ByFarEnd && before.ByFarEnd:
		news = append(news, Cause{Details: resumedByFarEnd})
	}
	c.report(news...)
}

// report calls news of an unchanged state back and shows it to the devices that follow the participant.
func (c *call) report(news ...Cause) {
	if len(news) == 0 {
		return
	}
	var events []webhooks.Event
	for _, cause := range news {
		told := c.d
		told.Cause = cause
		events = append(events, dialogEvent(told))
		c.tellOf(cause)
	}
	c.save(change{d: c.d, events: events})
}
