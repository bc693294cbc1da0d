package dialogs

import (
	"context"
	"errors"
	"strconv"

	"tandem/errs"
	"tandem/sessions"
)

// errNoSounds is what every sound is answered with where none are configured.
var errNoSounds = errs.New(errs.NotFound, "no sounds are configured") //nolint:gochecknoglobals // a sentinel

// Instruction is what an application wants of a call, by PATCH or in its answer to an event. Its parts combine.
type Instruction struct {
	State         State // Ringing, Answered or Terminated; empty: as it is
	SIPCode       int   // with Terminated: the refusal of a call that is not answered; 0: 603
	Session       string
	Subscriptions sessions.Subscriptions // with Session
	Play          *Play
	Gather        *Gather
}

// Play is an application's wish for a sound.
type Play struct {
	Sound string // empty: what is playing is stopped
	Loop  bool
}

// Empty says whether nothing is wanted.
func (i Instruction) Empty() bool {
	return i.State == "" && i.Session == "" && i.Play == nil && i.Gather == nil
}

// Instruct does what the application wants. It returns at once; the SIP side follows. What the dialog's state does not
// have is errs.Conflict and changes nothing.
func (s *Service) Instruct(ctx context.Context, ref Ref, i Instruction) (Dialog, error) {
	d, err := s.Get(ctx, ref)
	if err != nil {
		return Dialog{}, err
	}
	if err := i.reachable(); err != nil {
		return Dialog{}, err
	}
	c := s.find(d.ID)
	if c == nil {
		return Dialog{}, refused(d, i.State)
	}
	d, err = c.ask(ctx, func() (Dialog, error) { return c.instruct(i) }) //nolint:contextcheck // what it does outlives the request
	if errors.Is(err, errOver) {
		return Dialog{}, refused(Dialog{State: Terminated, Inbound: true}, i.State)
	}
	return d, err
}

// reachable says whether the state is one that an application can wish for.
func (i Instruction) reachable() error {
	if i.State == StateNew || i.State == Calling {
		return errs.New(errs.Conflict, "state: a dialog can be set to RINGING, ANSWERED or TERMINATED, not to %s", i.State)
	}
	return nil
}

// instruct does what the application wants, all of it or nothing.
func (c *call) instruct(i Instruction) (Dialog, error) {
	if i.State == Terminated {
		return c.decline(i)
	}
	if err := i.reachable(); err != nil {
		return Dialog{}, err
	}
	if err := c.possible(i); err != nil {
		return Dialog{}, err
	}
	if i.Session != "" {
		// First, so that a session that does not exist leaves the call as it was, and one that does is there when it begins.
		ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
		defer cancel()
		if err := c.service.people.Join(ctx, c.d.Account, i.Session, c.d.Participant, i.Subscriptions); err != nil {
			return Dialog{}, err
		}
		c.endGather(gatherCancelled)
	}
	if c.d.State == Ringing && (i.State == Answered || i.Gather != nil && !i.Gather.Unanswered) {
		c.answeredByApplication()
		c.step(localAnswer, Cause{Reason: Answer})
	} else {
		c.followed()
	}
	switch {
	case i.Gather != nil:
		c.beginGather(*i.Gather)
	case i.Play != nil:
		c.endGather(gatherCancelled)
		c.stopPlaying()
		if i.Play.Sound != "" {
			c.play(playing{name: i.Play.Sound, loop: i.Play.Loop})
		}
	}
	return c.d, nil
}

// possible says whether the dialog's state has what is wanted.
func (c *call) possible(i Instruction) error {
	more := i.Session != "" || i.Play != nil || i.Gather != nil
	switch {
	case c.d.State == Terminated:
		return refused(c.d, i.State)
	case i.State == Answered && (c.d.State == Answered && !more && !c.announces() || !c.d.Inbound):
		return refused(c.d, i.State)
	case i.State == Ringing && (c.d.State != Ringing || !c.d.Inbound):
		return refused(c.d, i.State)
	case c.d.State != Answered && !c.d.Inbound:
		return errs.New(errs.Conflict, "state: the dialog is %s; until its far end answers it can be set to TERMINATED only", c.d.State)
	case i.Session != "" && c.d.State != Answered && i.State != Answered && (i.Gather == nil || i.Gather.Unanswered):
		return errs.New(errs.Conflict, "sessionId: the dialog is %s; it goes with the state ANSWERED", c.d.State)
	case (i.Play != nil || i.Gather != nil) && (c.guest != nil || c.aim != nil):
		return errs.New(errs.Conflict, "state: the dialog is being transferred, or was")
	}
	return nil
}

// decline ends the call; one that is not answered is refused with the status that the application names.
func (c *call) decline(i Instruction) (Dialog, error) {
	cause := Cause{Details: "hung up by the application"}
	if c.d.State == Ringing && c.d.Inbound && i.SIPCode != 0 {
		c.refusal = i.SIPCode
		cause = Cause{Details: "declined by the application with " + strconv.Itoa(i.SIPCode), SIPCode: i.SIPCode}
	}
	if !c.step(localHangup, cause) {
		return Dialog{}, refused(c.d, i.State)
	}
	return c.d, nil
}
