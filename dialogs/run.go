package dialogs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
	"tandem/transcode"
	"tandem/webhooks"
)

const (
	// saveTimeout bounds one attempt to save.
	saveTimeout = 5 * time.Second
	// saveRetry is the wait between two attempts while the database is away; the call goes on meanwhile.
	saveRetry = time.Second
	// lastSaves is how often a call that is over tries to save its end. After that a restart reports it.
	lastSaves = 60
	// maxBacklog is how many changes may wait for the database before keys are not kept any more.
	maxBacklog = 256
	// stopSaves is how many of them a call has when the gateway stops.
	stopSaves = 5
)

// change is a state with the events that report it, or a key.
type change struct {
	d      Dialog
	events []webhooks.Event
	key    *webhooks.Event // a key: no row changes
}

// run is the goroutine of a call. Nothing else changes its dialog. It ends when the dialog is over, the leg holds
// nothing any more, and the end is saved. What it does is done in functions of their own: it waits here for as long as the call
// lasts, and of a stack of which less than a quarter is in use the runtime takes half back.
func (c *call) run() {
	defer c.stopAlarms()
	defer c.endSounds()

	c.begin()
	if c.leg != nil {
		c.events = c.leg.Events()
	}
	closing, stops := c.closing, c.stops
	for c.d.State != Terminated || c.events != nil || len(c.backlog) > 0 {
		select {
		case e := <-c.events:
			c.onLeg(e)
		case e := <-c.targetEvents():
			c.onTarget(e)
		case a := <-c.asks:
			a.serve()
		case k := <-c.keys:
			c.onKey(*k)
		case found := <-c.answerers:
			c.onAnswerer(found)
		case q := <-c.quiets:
			c.onQuiet(q)
		case <-c.ring.goes():
			c.onRing()
		case <-c.talk.goes():
			c.onTalk()
		case <-closing:
			closing = nil
			c.onClosing()
		case <-stops:
			stops = nil
			c.onStops()
		case do := <-c.inbox:
			do()
		case <-c.broken:
			c.collapse()
		case <-c.nudged:
			c.onNudge()
		case <-c.patience.goes():
			c.impatient()
		case <-c.typing.goes():
			c.endGather(gatherTimeout)
		case <-c.wait.goes():
			c.onWait()
		case <-c.part.goes():
			c.letGo()
		case <-c.retry.goes():
			c.flush()
		}
		c.settleSound()
	}
	c.letGo()
}

func (c *call) stopAlarms() {
	for _, a := range []*alarm{&c.ring, &c.talk, &c.retry, &c.wait, &c.part, &c.patience, &c.typing} {
		a.stop()
	}
}

// ended is what a leg means that vanishes.
func ended() *LegEvent {
	return &LegEvent{Kind: LegEnded, Cause: Cause{Reason: Error, Details: "the leg ended without saying why"}}
}

func (c *call) onRing() {
	c.step(ringTimeout, Cause{Reason: Error, Details: fmt.Sprintf("no answer within %s", c.d.RingTimeout)})
}

func (c *call) onTalk() {
	c.step(timeIsUp, Cause{Details: fmt.Sprintf("the longest duration, %s, is over", c.d.MaxDuration)})
}

func (c *call) onClosing() { c.step(localHangup, Cause{Details: "the participant was deleted"}) }

func (c *call) onStops() {
	c.lastTries = max(c.lastTries, lastSaves-stopSaves)
	c.step(fault, Cause{Reason: Error, Details: "the gateway was stopped"})
}

// begin does what an outbound or an inbound call begins with. One whose row is in doubt begins with its end.
func (c *call) begin() {
	if c.d.State == Terminated {
		c.flush()
		return
	}
	if c.caller != nil {
		c.receive()
		return
	}
	if c.d.Inbound {
		c.welcome()
		return
	}
	if err := c.dial(); err != nil {
		c.service.log.Warn("a call can't be placed", "dialog", c.d.ID, "to", c.d.To, "error", err)
		c.step(fault, Cause{Reason: Error, Details: errs.MessageOf(err)})
	}
}

// dial sends the INVITE of an outbound call.
func (c *call) dial() error {
	leg, err := c.service.phone.Dial(context.Background(), Dial{
		Dialog: c.d.ID, Account: c.d.Account, To: c.d.To, From: c.d.From, UserToUser: c.d.UserToUser,
		Trunk: c.d.Trunk, Headers: c.d.Headers, Place: c.place,
	})
	if err != nil {
		return err
	}
	c.leg = leg
	c.service.own(c, leg)
	return nil
}

// welcome takes an inbound call in: its place at the participant, its row, its answer. That it rings and that it is answered
// is decided at once and so saved at once, with the events of both.
func (c *call) welcome() {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	var err error
	if c.attachment, err = c.service.people.Attach(c.d.Account, c.d.Participant, c); err != nil {
		c.refuse(err)
		return
	}
	events := stateEvents(c.d, false)
	answer, effects, _ := next(c.d.State, true, localAnswer)
	c.d.State, c.d.Cause, c.d.Answered = answer, Cause{Reason: Answer}, time.Now()
	who, err := c.service.store.CreateDialog(ctx, c.d, append(events, stateEvents(c.d, false)...)...)
	if err != nil {
		c.refuse(err)
		c.attachment.Detach()
		c.neverWas(err)
		c.flush()
		return
	}
	c.attachment.Know(who)
	c.perform(slices.DeleteFunc(effects, func(e effect) bool { return e == notify }), false)
}

func (c *call) refuse(err error) {
	c.service.log.Warn("an inbound call is refused", "participant", c.d.Participant, "error", err)
	c.leg.Hangup(refusal(err))
	c.d.State = Terminated
}

// neverWas ends a call whose row could not be written. When the answer of the database may just have been lost, the row
// may stand, and would occupy its participant: then its end is to be saved.
func (c *call) neverWas(err error) {
	up := !c.d.Answered.IsZero() // as the row has it
	c.d.State, c.d.Cause, c.d.Ended = Terminated, Cause{Reason: Error, Details: "the call could not be saved"}, time.Now()
	if code := errs.CodeOf(err); code == errs.Internal || code == errs.Unavailable {
		c.backlog = append(c.backlog, change{d: c.d, events: stateEvents(c.d, up)})
	}
}

// refusal is the SIP status for an inbound call that was let in and then could not be kept.
func refusal(err error) int {
	switch errs.CodeOf(err) {
	case errs.Conflict:
		return 486
	case errs.NotFound: // deleted meanwhile
		return 404
	default:
		return 503
	}
}

// onLeg takes news of the leg; nil: there are no more.
func (c *call) onLeg(e *LegEvent) {
	if e == nil {
		e = ended()
	}
	switch e.Kind {
	case LegCalling:
		c.step(inviteSent, Cause{})
	case LegRinging:
		c.step(farRinging, Cause{Reason: RingingReason, Details: e.Cause.Details, SIPCode: e.Cause.SIPCode})
	case LegAnswered:
		c.step(farAnswered, Cause{Reason: Answer})
	case LegMedia:
		c.onMedia(e.Port, e.Media)
	case LegHold:
		c.onHold(e)
	case LegKey:
		c.onInfo(e.Key)
	case LegRefer:
		c.onRefer(e.Refer)
	case LegReferred:
		c.onReferred(e)
	case LegEnded:
		c.events = nil
		if !c.survives(e.Cause) {
			c.step(farEnded, e.Cause)
		}
	}
}

// onMedia lets the phone's sound flow, or follows a change of its address. Early media (a 183 with SDP) flows too.
func (c *call) onMedia(port *media.Port, agreed media.PortMedia) {
	if c.d.State == Terminated {
		return
	}
	c.lineIs(c.leg)
	if c.bridge != nil { // written by this goroutine only
		c.bridge.Update(agreed)
		return
	}
	bridge, err := c.service.engine.NewBridge(transcode.BridgeConfig{
		Participant: c.d.Participant, Stream: c.d.ID, Port: port, Media: agreed, OnKey: c.pressed, SendKey: c.sendInfo,
		OnFailure: c.broke,
	})
	if err != nil {
		c.service.log.Error("a phone has no sound", "dialog", c.d.ID, "error", err)
		c.step(fault, Cause{Reason: Error, Details: "no media could be set up for the phone"})
		return
	}
	c.setBridge(bridge)
	c.attachment.Publish(bridge.Source())
	c.listenForMachine()
	c.watchMedia()
}

// update takes the dialog to the state that the application wants.
func (c *call) update(want State) (Dialog, error) {
	in, cause := localHangup, Cause{Details: "hung up by the application"}
	if want == Answered {
		in, cause = localAnswer, Cause{Reason: Answer}
	}
	if !c.step(in, cause) {
		return Dialog{}, refused(c.d, want)
	}
	return c.d, nil
}

// step takes one input through the machine and performs its effects. It returns false when the state has no such
// transition.
func (c *call) step(in input, cause Cause) bool {
	to, effects, ok := next(c.d.State, c.d.Inbound, in)
	if !ok {
		return false
	}
	up := c.d.State == Answered
	if to == Terminated {
		c.drainKeys()
		c.endGather(gatherHangup)
		c.endTransfer(cause)
		c.d.Quality = c.quality((*transcode.Bridge).Overall)
	}
	if to != c.d.State {
		c.d.State, c.d.Cause = to, cause
	}
	c.perform(effects, up)
	return true
}

// perform does what a transition asks for. up says whether the phone leg was up before.
func (c *call) perform(effects []effect, up bool) {
	for _, e := range effects {
		switch e {
		case notify:
			c.note(up)
		case tell:
			c.tell()
		case startRing:
			c.ring.set(c.d.RingTimeout)
		case startTalk:
			c.ring.stop()
			if c.d.MaxDuration > 0 {
				c.talk.set(c.d.MaxDuration)
			}
			c.listenForMachine()
			c.watchMedia()
		case acceptLeg:
			c.leg.Answer()
		case endLeg:
			if c.leg != nil {
				c.leg.Hangup(c.refusal)
			}
		case releaseAll:
			c.release()
		}
	}
}

// note saves the state that was just reached, with its events.
func (c *call) note(up bool) {
	now := time.Now()
	switch c.d.State {
	case Answered:
		c.d.Answered = now
	case Terminated:
		c.d.Ended = now
		c.told = true
	case StateNew, Calling, Ringing:
	}
	c.save(change{d: c.d, events: stateEvents(c.d, up)})
}

// tell shows the state to the devices that follow the participant.
func (c *call) tell() { c.tellOf(c.d.Cause) }

func (c *call) tellOf(cause Cause) {
	c.service.people.Announce(sessions.DialogChange{
		Dialog: c.d.ID, Participant: c.d.Participant, State: string(c.d.State), To: c.d.To, From: c.d.From,
		Reason: string(cause.Reason), Details: cause.Details,
	})
}

// save writes a change now, or as soon as the database takes it; the order is kept and the call goes on.
func (c *call) save(ch change) {
	if ch.key != nil && len(c.backlog) >= maxBacklog {
		return // the database is away for long, and a phone could fill our memory
	}
	c.backlog = append(c.backlog, ch)
	c.flush()
}

// flush writes what waits; at the first failure it stops and tries again later. After the end it gives up in time:
// the next start reports the dialog then.
func (c *call) flush() {
	for len(c.backlog) > 0 {
		err := c.write(c.backlog[0])
		if err == nil {
			c.backlog[0] = change{}
			if c.backlog = c.backlog[1:]; len(c.backlog) == 0 {
				c.backlog = nil
			}
			continue
		}
		c.service.log.Error("a change of a call is not saved yet; it will be tried again",
			"dialog", c.d.ID, "state", string(c.backlog[0].d.State), "error", err)
		if c.d.State == Terminated {
			if c.lastTries++; c.lastTries >= lastSaves {
				c.service.log.Error("the end of a call could not be saved; the next start will report it", "dialog", c.d.ID)
				c.backlog = nil
				return
			}
		}
		c.retry.set(saveRetry)
		return
	}
}

// write makes one attempt. Each event has its id from the beginning, so what an earlier attempt wrote, of which the
// answer was lost, is a conflict now: it stands, once. A row that is not there was never written.
func (c *call) write(ch change) error {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	var err error
	if ch.key != nil {
		err = c.service.store.WriteEvent(ctx, *ch.key)
	} else {
		err = c.service.store.SaveDialog(ctx, ch.d, ch.events...)
	}
	if code := errs.CodeOf(err); err != nil && (code == errs.Conflict || code == errs.NotFound) {
		c.service.log.Info("a change of a call needs no saving", "dialog", c.d.ID, "because", err)
		return nil
	}
	return err
}

// release takes the media down, lets go of the participant, and gives the call's place back: all before the end is saved,
// so that whoever reads of it may call again at once.
func (c *call) release() {
	c.place.Release()
	c.mu.Lock()
	bridge := c.bridge
	c.mu.Unlock()
	if bridge != nil {
		c.attachment.Unpublish(bridge.Source())
	}
	if c.attachment != nil {
		c.attachment.Detach()
	}
	c.seeOut()
	c.seeOff()
	if bridge != nil {
		bridge.Close(errors.New("the call is over"))
	}
}

// errOver means that a call was over before it could be asked.
var errOver = errs.New(errs.Conflict, "state: the dialog is TERMINATED")

// ask lets the call's goroutine do something. It is errOver when the call is over.
func (c *call) ask(ctx context.Context, do func() (Dialog, error)) (Dialog, error) {
	a := ask{do: do, reply: make(chan answer, 1)}
	select {
	case c.asks <- a:
	case <-c.done:
		return Dialog{}, errOver
	case <-ctx.Done():
		return Dialog{}, errs.Wrap(ctx.Err(), errs.Unavailable, "the request was given up")
	}
	got := <-a.reply
	return got.d, got.err
}

// serve does what is asked and answers, also when that fails altogether: who asked must not wait for ever.
func (a ask) serve() {
	got := answer{err: errs.New(errs.Internal, "the call failed while it did what was asked")}
	defer func() { a.reply <- got }()
	got.d, got.err = a.do()
}
