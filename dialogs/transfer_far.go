package dialogs

import (
	"tandem/errs"
)

// onRefer takes the wish of the far end. It was accepted already; what comes of it is told by Referred.
func (c *call) onRefer(r Refer) {
	if c.d.State != Answered || c.aim != nil || c.guest != nil {
		c.leg.Referred(603) // no second transfer while one is under way: nobody was promised anything
		return
	}
	c.d.Transfer, c.aim = Transfer{To: r.To, Mode: ModeRefer, ByFarEnd: true}, &aim{}
	if r.Other != nil {
		if err := c.meet(r.Other); err != nil {
			c.failTransfer(Cause{SIPCode: referRefusal(err), Details: errs.MessageOf(err)})
			return
		}
		c.save(change{d: c.d})
		return
	}
	dial := Dial{To: r.To, From: c.d.ownNumber(), Trunk: r.Trunk, Replaces: r.Replaces, ReferredBy: r.ReferredBy}
	if err := c.callTarget(c.aim, dial); err != nil {
		c.service.log.Warn("the far end's transfer can't be made", "dialog", c.d.ID, "to", r.To, "error", err)
		c.failTransfer(Cause{SIPCode: referRefusal(err), Details: errs.MessageOf(err)})
		return
	}
	c.save(change{d: c.d})
}

// meet lets this call and the one of leg, whose far ends are the same, have each other instead: that far end leaves.
func (c *call) meet(leg Leg) error {
	s := c.service
	other := s.owner(leg)
	switch {
	case other == nil || other == c:
		return errs.New(errs.NotFound, "the call to be replaced is over")
	case other.account != c.account:
		return errs.New(errs.Forbidden, "the call to be replaced belongs to another account")
	}
	calls, answers, err := s.phone.Pair()
	if err != nil {
		return err
	}
	c.aim.leg, c.aim.events = calls, calls.Events()
	s.own(c, calls)
	c.wait.set(s.cfg.TransferTimeout)
	in := Incoming{Account: c.account, From: c.d.ownNumber(), Replaces: leg}
	s.order(other, func() { other.takeIn(answers, in) }, func() { answers.Hangup(481) })
	return nil
}

// referRefusal is the status for a transfer that can't even begin.
func referRefusal(err error) int {
	switch errs.CodeOf(err) {
	case errs.Invalid:
		return 400
	case errs.Forbidden, errs.Unauthenticated:
		return 403
	case errs.NotFound:
		return 404
	case errs.Conflict, errs.TooMany, errs.Unavailable, errs.Internal:
		return 503
	}
	return 503
}

// takeover decides about an INVITE with Replaces: only the account of the call that it names may take its place.
func (s *Service) takeover(in Incoming) (func(Leg), error) {
	c := s.owner(in.Replaces)
	switch {
	case c == nil:
		return nil, errs.New(errs.NotFound, "the call to be replaced is over")
	case in.Account != c.account:
		return nil, errs.New(errs.Forbidden, "the call to be replaced belongs to another account")
	}
	return func(leg Leg) {
		s.order(c, func() { c.takeIn(leg, in) }, func() { leg.Hangup(603) })
	}, nil
}

// takeIn lets leg take the place of the call's own, if that is still the one that was named.
func (c *call) takeIn(leg Leg, in Incoming) {
	early := early(c.d.State) && !c.d.Inbound // a call of ours that rings: it is picked up elsewhere
	if c.leg != in.Replaces || c.aim != nil || c.guest != nil || c.d.State != Answered && !early {
		leg.Hangup(486)
		return
	}
	c.d.Transfer = Transfer{To: in.From, Mode: ModeReplaces, ByFarEnd: true}
	c.aim = &aim{leg: leg, events: leg.Events()}
	c.service.own(c, leg)
	c.wait.set(c.service.cfg.TransferTimeout)
	c.save(change{d: c.d})
	leg.Answer()
}
