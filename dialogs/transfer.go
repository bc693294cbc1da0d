package dialogs

import (
	"context"
	"strings"
	"time"

	"tandem/errs"
	"tandem/media"
	"tandem/transcode"
	"tandem/trunks"
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
	events   <-chan *LegEvent
	port     *media.Port
	media    media.PortMedia
	answered bool
}

// guest is a target that the gateway joined the far end with.
type guest struct {
	leg    Leg
	events <-chan *LegEvent
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
		c.wait.set(c.service.cfg.TransferTimeout)
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
	c.wait.set(c.service.cfg.RingTimeout)
	return nil
}

// targetEvents is what happens to the target's leg; nil when there is none.
func (c *call) targetEvents() <-chan *LegEvent {
	switch {
	case c.aim != nil:
		return c.aim.events
	case c.guest != nil:
		return c.guest.events
	}
	return nil
}

// onTarget takes news of the target's leg; nil: there are no more.
func (c *call) onTarget(e *LegEvent) {
	if e == nil {
		e = ended()
	}
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
func (c *call) onReferred(e *LegEvent) {
	a := c.aim
	if a == nil || c.d.Transfer.Mode != ModeRefer || c.d.Transfer.ByFarEnd {
		return // too late
	}
	switch {
	case !e.Final:
		a.last = e.Cause.SIPCode
		c.wait.set(min(c.service.cfg.TransferTimeout, max(0, time.Until(a.limit))))
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
		c.part.set(partingTime)
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
