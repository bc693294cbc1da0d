package dialogs

import (
	"context"
	"fmt"
	"time"

	"tandem/errs"
	"tandem/sessions"
	"tandem/trunks"
	"tandem/webhooks"
)

// Number is a telephone number whose callers come in without a token.
type Number struct {
	Number      string // E.164
	CallbackURL string // where onIncomingCall is sent

	AnswerTimeout      time.Duration // how long the application may take to answer; 0: 30 s
	Announcement       string        // a sound that is played when it did not; empty: the call is refused, 480
	AnnouncementAnswer bool          // the call is answered for the announcement; false: early media
	HoldMusic          string        // a sound; empty: that of the directory
}

// Directory knows what numbers there are, and what who waits hears.
type Directory interface {
	// Number returns an account's number as it is configured now.
	Number(account, number string) (Number, bool)
	// HoldMusic is the sound for phones of an account that came over a trunk (empty: it is not known which); empty: none.
	HoldMusic(account, trunk string) string
}

// Sounds finds what is played to phones. sounds.Library does.
type Sounds interface {
	// Sound returns 8 kHz mono samples, which are never changed.
	Sound(ctx context.Context, name string) ([]int16, error)
}

const (
	defaultAnswerTimeout = 30 * time.Second
	// announcementStart is how long an announcement may take until it is heard, announcementEnd how long after its end
	// that may be told: then the call ends without it.
	announcementStart = 15 * time.Second
	announcementEnd   = 5 * time.Second

	temporarilyUnavailable = 480

	// lingering is how long the participant of a caller is kept after its call, so that its dialog can be read.
	lingering  = time.Hour
	sweepEvery = time.Minute
	sweepMost  = 100

	// maxAwaits is how many events of a call wait for an answer: callbacks go out one after the other, so an application
	// that is asked again and again has few in its hands.
	maxAwaits = 32
)

// caller is what a call knows that came in to a number.
type caller struct {
	who        sessions.Participant
	number     Number
	news       Incoming // what onIncomingCall tells
	announcing bool     // the application did not answer in time
}

// dialledIn decides about a call without a token. Whose number is called is told to nobody but its own account's trunks.
func (s *Service) dialledIn(in Incoming) (func(Leg), error) {
	number, ok := s.number(in)
	if !ok {
		return nil, errs.New(errs.NotFound,
			"nobody answers %q: it is no number of the caller's trunk, and the call has no participant token in User-to-User", in.To)
	}
	in.To = number.Number
	p := s.people.NewCaller(in.Account, number.CallbackURL, number.Number)
	c := s.newCall(Dialog{
		ID: newID(), Account: p.Account, Participant: p.ID, Inbound: true, State: Ringing,
		To: in.To, From: in.From, Trunk: in.Trunk, Headers: in.Headers, Created: time.Now(),
		Cause: Cause{Reason: RingingReason},
	})
	if len(in.UserToUser) <= maxUserToUser {
		c.d.UserToUser = in.UserToUser
	}
	c.caller = &caller{who: p, number: number, news: in}
	return s.take(c), nil
}

// number finds what was called. A trunk may leave out the plus.
func (s *Service) number(in Incoming) (Number, bool) {
	if s.cfg.Directory == nil || in.Trunk == "" || in.Account == "" {
		return Number{}, false
	}
	if n, ok := s.cfg.Directory.Number(in.Account, in.To); ok {
		return n, true
	}
	if plus := "+" + in.To; trunks.IsE164(plus) {
		return s.cfg.Directory.Number(in.Account, plus)
	}
	return Number{}, false
}

// receive saves the caller, its call and the event that asks the application, and waits for the answer. The phone rings
// since it came.
func (c *call) receive() {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	asking := webhooks.Event{
		ID: webhooks.NewID(), Account: c.d.Account, Name: webhooks.OnIncomingCall, Time: time.Now(), Participant: c.d.Participant,
		Dialog: &webhooks.DialogData{
			ID: c.d.ID, State: string(c.d.State), To: c.d.To, From: c.d.From, UserToUser: c.d.UserToUser, Headers: c.caller.news.Headers,
		},
	}
	c.await(asking.ID) // before it can be answered
	var err error
	if c.attachment, err = c.service.people.Attach(c.d.Account, c.d.Participant, c); err != nil {
		c.refuse(err)
		return
	}
	events := append([]webhooks.Event{asking}, stateEvents(c.d, false)...)
	if err := c.service.store.CreateCaller(ctx, c.caller.who, c.d, events...); err != nil {
		c.refuse(err)
		c.attachment.Detach()
		c.neverWas(err)
		c.flush()
		return
	}
	c.attachment.Know(c.caller.who)
	patience := c.caller.number.AnswerTimeout
	if patience <= 0 {
		patience = defaultAnswerTimeout
	}
	c.patience.set(patience)
	c.waits = patience
}

// impatient is the end of the time that the application has.
func (c *call) impatient() {
	switch {
	case c.caller == nil:
	case c.caller.announcing:
		c.farewell("the announcement could not be played")
	default:
		c.unanswered(fmt.Sprintf("the application did not answer within %s", c.waits))
	}
}

// unanswered does with a call that still rings what its number wants: the application does not answer, or not sensibly.
func (c *call) unanswered(why string) {
	if c.caller == nil || c.announces() || c.d.State != Ringing {
		return
	}
	c.service.log.Warn("a call in is not answered by its application", "dialog", c.d.ID, "number", c.d.To, "why", why)
	c.endGather(gatherCancelled)
	number := c.caller.number
	if number.Announcement == "" {
		c.refusal = temporarilyUnavailable
		c.step(ringTimeout, Cause{Reason: Error, Details: why, SIPCode: c.refusal})
		return
	}
	c.caller.announcing = true
	c.patience.set(announcementStart)
	if number.AnnouncementAnswer {
		c.step(localAnswer, Cause{Reason: Answer, Details: why})
	}
	c.play(playing{
		name:  number.Announcement,
		begun: func(length time.Duration) { c.patience.set(length + announcementEnd) },
		then: func(err error) {
			if err != nil {
				why += "; its announcement can't be played"
			}
			c.farewell(why)
		},
	})
}

// farewell ends a call after its announcement.
func (c *call) farewell(why string) {
	if c.d.State == Answered {
		c.step(localHangup, Cause{Details: why})
		return
	}
	c.refusal = temporarilyUnavailable
	c.step(ringTimeout, Cause{Reason: Error, Details: why, SIPCode: c.refusal})
}

// answeredByApplication ends the wait for the application: it took the call.
func (c *call) answeredByApplication() {
	c.patience.stop()
	if c.announces() {
		c.caller.announcing = false
		c.stopPlaying()
	}
}

// announces says whether the caller hears that nobody answers.
func (c *call) announces() bool { return c.caller != nil && c.caller.announcing }

// followed takes note that the application follows the call: one that rings is given more time, one that was answered for
// its announcement goes on without it.
func (c *call) followed() {
	switch {
	case c.caller == nil:
	case c.d.State == Answered:
		c.answeredByApplication()
	case c.d.State == Ringing:
		if c.caller.announcing {
			c.caller.announcing = false
			c.stopPlaying()
		}
		c.waits = c.service.cfg.RingTimeout
		c.patience.set(c.waits)
	}
}

// seeOut takes a caller whose call is over out of its session. Its participant stays for a while: sweep.
func (c *call) seeOut() {
	c.mu.Lock()
	room := c.room
	c.mu.Unlock()
	if c.caller == nil || room == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	if err := c.service.people.Leave(ctx, c.d.Account, room, c.d.Participant); err != nil && errs.CodeOf(err) != errs.NotFound {
		c.service.log.Warn("a caller stays in its session until its participant is deleted", "dialog", c.d.ID, "session", room, "error", err)
	}
}

// sweep deletes the participants of callers whose last call was over a while ago.
func (s *Service) sweep(ctx context.Context) {
	idle, err := s.store.IdleCallers(ctx, time.Now().Add(-lingering), sweepMost)
	if err != nil {
		s.log.Warn("the participants of callers can't be looked through", "error", err)
		return
	}
	for _, p := range idle {
		if s.people.Online(p.ID) {
			continue
		}
		if err := s.people.DeleteParticipant(ctx, p.Account, p.ID); err != nil && errs.CodeOf(err) != errs.NotFound {
			s.log.Warn("the participant of a caller can't be deleted", "participant", p.ID, "error", err)
			return
		}
	}
}

// Wants is part of webhooks.Answers.
func (s *Service) Wants(name webhooks.Name) bool {
	return name == webhooks.OnIncomingCall || name == webhooks.OnDtmf
}

// Answered follows what an application answers to an event in its HTTP response. Each event's answer counts once, and
// only while its call lives. It is part of webhooks.Answers.
func (s *Service) Answered(ctx context.Context, a webhooks.Answer) {
	s.mu.Lock()
	c := s.awaiting[a.Event]
	delete(s.awaiting, a.Event)
	s.mu.Unlock()
	if c == nil {
		return
	}
	i, err := parseAnswer(a)
	select {
	case c.inbox <- func() { c.onAnswer(a.Name, i, err) }: //nolint:contextcheck // what it does outlives the answer
	case <-c.done:
	case <-ctx.Done():
		s.log.Error("an application's answer came to nothing: the call is too busy", "dialog", c.id, "event", string(a.Name))
	}
}

func parseAnswer(a webhooks.Answer) (Instruction, error) {
	if a.Cut {
		return Instruction{}, errs.New(errs.Invalid, "body: has more than %d bytes", len(a.Body))
	}
	return ParseInstruction(a.Body)
}

// await lets the answer to an event find the call.
func (c *call) await(event string) {
	s := c.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(c.awaits) >= maxAwaits {
		delete(s.awaiting, c.awaits[0])
		c.awaits = append(c.awaits[:0], c.awaits[1:]...)
	}
	s.awaiting[event] = c
	c.awaits = append(c.awaits, event)
}

// onAnswer follows what the application answered to an event, or says why it can't be followed.
func (c *call) onAnswer(event webhooks.Name, i Instruction, err error) {
	if c.d.State == Terminated {
		return
	}
	if err == nil && !i.Empty() {
		_, err = c.instruct(i)
	}
	if err == nil {
		return
	}
	c.service.log.Error("an application's answer can't be followed", "dialog", c.d.ID, "event", string(event), "error", err)
	c.unanswered(fmt.Sprintf("the application's answer to %s can't be followed: %s", event, errs.MessageOf(err)))
}
