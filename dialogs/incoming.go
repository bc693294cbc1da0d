package dialogs

import (
	"context"
	"time"

	"tandem/errs"
)

// Incoming decides about a call that comes in. It must call a number of its trunk's account, or carry a participant's
// token in its User-to-User header: errs.NotFound without either, errs.Forbidden for a forged one or one of another
// account than the trunk's, errs.Unauthenticated for an expired one, errs.Conflict when the participant has a call
// already. Nothing is spent on a call that is refused. That a participant is gone is found when its call is saved: 404.
func (s *Service) Incoming(_ context.Context, in Incoming) (func(Leg), error) {
	if in.Replaces != nil {
		return s.takeover(in) //nolint:contextcheck // what it changes is saved whatever becomes of the INVITE
	}
	token, ok := Token(in.UserToUser)
	if !ok {
		return s.dialledIn(in) //nolint:contextcheck // a call outlives the request that began it
	}
	account, participant, err := s.people.Verify(token)
	if err != nil {
		return nil, err
	}
	if in.Account != "" && in.Account != account {
		return nil, errs.New(errs.Forbidden, "the token belongs to another account than the trunk %q", in.Trunk)
	}
	if s.people.OnThePhone(participant) {
		return nil, errs.New(errs.Conflict, "participant %q has a call already", participant)
	}
	c := s.newCall(Dialog{
		ID: newID(), Account: account, Participant: participant, Inbound: true, State: Ringing,
		To: in.To, From: in.From, UserToUser: withoutToken(in.UserToUser), Trunk: in.Trunk, Headers: in.Headers, Created: time.Now(),
		Cause: Cause{Reason: RingingReason},
	})
	return s.take(c), nil //nolint:contextcheck // a call outlives the request that began it
}

// take lets a call that may come in begin as soon as its leg is there.
func (s *Service) take(c *call) func(Leg) {
	return func(leg Leg) {
		c.leg = leg
		if c.d.Trunk == "" && s.cfg.Routes != nil { // over a trunk, the user agent has counted it
			var err error
			if c.place, err = s.cfg.Routes.AdmitTo(c.d.Account); err != nil {
				s.log.Warn("an inbound call is refused", "participant", c.d.Participant, "error", err)
				leg.Hangup(503)
				return
			}
		}
		s.own(c, leg)
		if !s.enlist(c) {
			c.place.Release()
			leg.Hangup(503)
			return
		}
		s.start(c)
	}
}
