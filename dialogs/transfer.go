package dialogs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"tandem/errs"
	"tandem/media"
	"tandem/transcode"
	"tandem/trunks"
	"tandem/webhooks"
)

// Mode is how a transfer is made.
type Mode string

// The modes.
const (
	// ModeRefer asks whom is transferred to call the target: the far end by us, or we by the far end (RFC 3515).
	ModeRefer Mode = "refer"
	// ModeBridge calls the target from here and joins the two legs.
	ModeBridge Mode = "bridge"
	// ModeReplaces is a call that came in to take the far end's place (RFC 3891).
	ModeReplaces Mode = "replaces"
)

// Transfer is one that is under way.
type Transfer struct {
	To       string // who is to be reached: E.164 or a sip: URI
	Mode     Mode
	ByFarEnd bool // it was the far end's wish, not the application's
}

// By says whose wish it was, as callbacks and the API do.
func (t Transfer) By() string {
	if t.ByFarEnd {
		return "FAR END"
	}
	return "APPLICATION"
}

// The outcomes of a transfer.
const (
	transferSucceeded = "SUCCEEDED"
	transferFailed    = "FAILED"
)

const (
	// maxTransfer bounds a transfer of which news comes again and again.
	maxTransfer = 10 * time.Minute
	// partingTime is how long a leg that was replaced may take to hang up by itself.
	partingTime = 5 * time.Second
)

// TransferRequest is an application's wish. One of To and Replaces is needed.
type TransferRequest struct {
	To       string // E.164 or a sip: URI
	Replaces string // a dialog of the same account, whose place the far end takes (attended); empty: none
	Mode     Mode   // empty: ModeRefer
	From     string // ModeBridge: whom the target sees; E.164, FromUnknown or FromRestricted; empty: this end's number
}

func (r *TransferRequest) validate() error {
	switch r.Mode {
	case "":
		r.Mode = ModeRefer
	case ModeRefer, ModeBridge:
	case ModeReplaces:
		return errs.New(errs.Invalid, "mode: %q is neither refer nor bridge", r.Mode)
	default:
		return errs.New(errs.Invalid, "mode: %q is neither refer nor bridge", r.Mode)
	}
	switch {
	case r.To == "" && r.Replaces == "":
		return errs.New(errs.Invalid, "to: is missing; must be a number in E.164 format or a sip: URI, unless replaces names a dialog")
	case r.To != "" && !trunks.IsE164(r.To) && !isSIPURI(r.To):
		return errs.New(errs.Invalid, "to: %q is neither a number in E.164 format, such as +15550100, nor a sip: URI", r.To)
	case r.Mode == ModeBridge && r.Replaces != "":
		return errs.New(errs.Invalid, "replaces: goes with the mode refer only")
	case r.Mode != ModeBridge && r.From != "":
		return errs.New(errs.Invalid, "from: goes with the mode bridge only")
	case r.From != "" && r.From != FromUnknown && r.From != FromRestricted && !trunks.IsE164(r.From):
		return errs.New(errs.Invalid, "from: %q is neither a number in E.164 format, such as +15550100, nor UNKNOWN or RESTRICTED", r.From)
	}
	return nil
}

// maxURI bounds the URI of a target, in bytes.
const maxURI = 255

// isSIPURI says whether s looks like sip:[user@]host; the user agent reads it.
func isSIPURI(s string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(s), "sip:")
	return ok && rest != "" && len(s) <= maxURI && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"?`, r) })
}

// Transfer begins a transfer of an ANSWERED dialog. It returns at once: the outcome is called back as onTransfer, exactly
// once. It is errs.Conflict when the dialog is not ANSWERED or a transfer is under way.
func (s *Service) Transfer(ctx context.Context, ref Ref, req TransferRequest) (Dialog, error) {
	if err := req.validate(); err != nil {
		return Dialog{}, err
	}
	d, err := s.Get(ctx, ref)
	if err != nil {
		return Dialog{}, err
	}
	c := s.find(d.ID)
	if c == nil {
		return Dialog{}, notUp(d)
	}
	var other *attended
	if req.Replaces != "" {
		if other, err = s.attended(ctx, c, req.Replaces); err != nil {
			return Dialog{}, err
		}
	}
	return c.ask(ctx, func() (Dialog, error) { //nolint:contextcheck // it is saved whatever becomes of the request
		return c.transfer(req, other)
	})
}

// attended is the call whose place the far end of a transferred one takes.
type attended struct {
	call *call
	leg  Leg
	far  string // its far end
}

func (s *Service) attended(ctx context.Context, c *call, id string) (*attended, error) {
	other := s.find(id)
	switch {
	case id == c.id:
		return nil, errs.New(errs.Invalid, "replaces: a dialog can't replace itself")
	case other == nil || other.account != c.account:
		return nil, errs.New(errs.Invalid, "replaces: %q is no live dialog of this account", id)
	}
	a := &attended{call: other}
	_, err := other.ask(ctx, func() (Dialog, error) {
		if other.d.State != Answered || other.aim != nil || other.guest != nil {
			return Dialog{}, errs.New(errs.Conflict, "replaces: dialog %q is %s or being transferred; it must be ANSWERED", id, other.d.State)
		}
		a.leg, a.far = other.leg, other.d.farEnd()
		return other.d, nil
	})
	return a, err
}

// farEnd is the number of who is on the phone, ownNumber that of this end.
func (d Dialog) farEnd() string {
	if d.Inbound {
		return d.From
	}
	return d.To
}

// talksTo notes that somebody else is on the phone from now on.
func (d *Dialog) talksTo(number string) {
	if d.Inbound {
		d.From = number
	} else {
		d.To = number
	}
}

func (d Dialog) ownNumber() string {
	switch {
	case !d.Inbound:
		return d.From
	case trunks.IsE164(d.To):
		return d.To
	}
	return FromUnknown
}

// aim is what a call knows of the transfer that is under way.
type aim struct {
	last  int       // asked for by us: the last status that the far end told, 0: it has not even accepted
	limit time.Time // asked for by us: when it is over, whatever the far end tells
	other *attended // asked for by us: the call that is replaced; nil: none
	gone  *Cause    // asked for by the far end: why its leg ended; nil: it is there

	// The leg of the target. Nil where the far end calls it.
	leg      Leg
	events   <-chan LegEvent
	port     *media.Port
	media    media.PortMedia
	answered bool
}

// guest is a target that the gateway joined the far end with.
type guest struct {
	leg    Leg
	events <-chan LegEvent
	bridge *transcode.Bridge
}

// transfer begins what the application wants.
func (c *call) transfer(req TransferRequest, other *attended) (Dialog, error) {
	switch {
	case c.d.State != Answered:
		return Dialog{}, notUp(c.d)
	case c.aim != nil:
		return Dialog{}, errs.New(errs.Conflict, "state: a transfer to %s is under way", c.d.Transfer.To)
	case c.guest != nil:
		return Dialog{}, errs.New(errs.Conflict, "state: the dialog was transferred already")
	}
	if routes := c.service.cfg.Routes; routes != nil && req.Mode == ModeRefer && req.To != "" {
		if err := routes.MayRefer(c.d.Account, c.d.Trunk, req.To); err != nil {
			return Dialog{}, err
		}
	}
	t, a := Transfer{To: req.To, Mode: req.Mode}, &aim{other: other}
	if t.To == "" {
		t.To = other.far
	}
	if t.Mode == ModeBridge {
		from := req.From
		if from == "" {
			from = c.d.ownNumber()
		}
		if err := c.callTarget(a, Dial{To: t.To, From: from}); err != nil {
			return Dialog{}, err
		}
	}
	// Saved before it is said to have begun: a crash leaves no transfer without its end.
	c.d.Transfer = t
	c.save(change{d: c.d})
	if len(c.backlog) > 0 {
		c.d.Transfer = Transfer{}
		c.save(change{d: c.d})
		if a.leg != nil {
			a.leg.Hangup(0)
		}
		return Dialog{}, errs.New(errs.Unavailable, "the database cannot be reached or is busy, try again")
	}
	c.aim = a
	if t.Mode == ModeRefer {
		r := Refer{To: req.To}
		if other != nil {
			r.Other = other.leg
		}
		a.limit = time.Now().Add(maxTransfer)
		c.wait.Reset(c.service.cfg.TransferTimeout)
		c.leg.Refer(r)
	}
	return c.d, nil
}

// callTarget places the call to the target of a transfer.
func (c *call) callTarget(a *aim, d Dial) error {
	d.Dialog, d.Account = c.d.ID, c.d.Account
	leg, err := c.service.phone.Dial(context.Background(), d)
	if err != nil {
		return err
	}
	a.leg, a.events = leg, leg.Events()
	c.service.own(c, leg)
	c.wait.Reset(c.service.cfg.RingTimeout)
	return nil
}

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
	c.wait.Reset(s.cfg.TransferTimeout)
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
	c.wait.Reset(c.service.cfg.TransferTimeout)
	c.save(change{d: c.d})
	leg.Answer()
}

// targetEvents is what happens to the target's leg; nil when there is none.
func (c *call) targetEvents() <-chan LegEvent {
	switch {
	case c.aim != nil:
		return c.aim.events
	case c.guest != nil:
		return c.guest.events
	}
	return nil
}

// onTarget takes news of the target's leg.
func (c *call) onTarget(e LegEvent) {
	if c.guest != nil {
		c.onGuest(e)
		return
	}
	a := c.aim
	switch e.Kind {
	case LegRinging:
		if c.d.Transfer.ByFarEnd && a.gone == nil {
			c.leg.Referred(ringingStatus(e.Cause.SIPCode))
		}
	case LegMedia:
		a.port, a.media = e.Port, e.Media
	case LegAnswered:
		a.answered = true
	case LegRefer:
		a.leg.Referred(603)
	case LegEnded:
		a.leg = nil
		c.failTransfer(e.Cause)
		return
	case LegCalling, LegHold, LegKey, LegReferred:
	}
	if a.answered && a.port != nil {
		if c.d.Transfer.Mode == ModeBridge {
			c.join()
		} else {
			c.replace()
		}
	}
}

// ringingStatus is the status of a provisional answer; 180 when there is none.
func ringingStatus(status int) int {
	if status > 100 && status < 200 {
		return status
	}
	return 180
}

// onReferred takes the far end's news of the transfer that it was asked for.
func (c *call) onReferred(e LegEvent) {
	a := c.aim
	if a == nil || c.d.Transfer.Mode != ModeRefer || c.d.Transfer.ByFarEnd {
		return // too late
	}
	switch {
	case !e.Final:
		a.last = e.Cause.SIPCode
		c.wait.Reset(min(c.service.cfg.TransferTimeout, max(0, time.Until(a.limit))))
	case e.Cause.SIPCode >= 200 && e.Cause.SIPCode < 300:
		c.transferred(e.Cause)
	default:
		c.failTransfer(e.Cause)
	}
}

// transferred ends a call whose far end is with the target now.
func (c *call) transferred(cause Cause) {
	to := c.d.Transfer.To
	if other := c.aim.other; other != nil {
		// Its far end hangs it up (RFC 3891 §3), or we do.
		c.service.order(other.call, func() { other.call.replacedBy(other.leg) }, func() {})
	}
	c.settle(true, cause)
	c.step(localHangup, Cause{Details: "transferred to " + to})
}

// replacedBy lets the far end of leg, which talks with somebody else now, hang up; if it does not, we do.
func (c *call) replacedBy(leg Leg) {
	if c.leg == leg && c.d.State == Answered && c.old == nil {
		c.old = leg
		c.part.Reset(partingTime)
	}
}

// letGo hangs up a leg that had time to do so itself.
func (c *call) letGo() {
	old := c.old
	c.old = nil
	switch old {
	case nil:
	case c.leg:
		c.step(localHangup, Cause{Details: "the far end was transferred"})
	default:
		old.Hangup(0)
	}
}

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
	c.wait.Stop()
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
	c.guest = &guest{leg: a.leg, events: a.events, bridge: bridge}
	c.watchGuest()
	c.attachment.Unpublish(own.Source())
	c.setApart(true)
	own.Subscribe(bridge.Source())
	bridge.Subscribe(own.Source())
	c.settle(true, Cause{SIPCode: 200, Details: "the target answered; the two are joined"})
	if c.d.Hold.ByUs {
		c.leg.Hold(false)
	}
}

// onGuest takes news of a target that the far end is joined with.
func (c *call) onGuest(e LegEvent) {
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
	c.d.Hold = Hold{}
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
		c.part.Reset(partingTime)
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
