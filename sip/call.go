package sip

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
	"golang.org/x/time/rate"

	"tandem/dialogs"
	"tandem/media"
	"tandem/trunks"
)

const (
	requestBuffer = 8  // requests of the far end that wait for the call's goroutine
	maxForks      = 16 // further answers to one INVITE that are hung up

	maxRinging   = 10 * time.Minute // whoever forgets a call that rings loses it
	ringInterval = time.Minute      // a 180 is repeated that often (RFC 3261 §13.3.1.1)
)

// How a normal hang-up is told: there is no reason, only who did it.
const (
	byThisEnd = "hung up by this end"
	byFarEnd  = "hung up by the far end"
)

const (
	ringsTooLong  = "nobody answered" // the end of a call that nobody took or gave up
	internalError = "internal error"  // all that is told of a fault of ours
)

// request is a request of the far end within a call. Its handler waits until the call has dealt with it.
type request struct {
	*sip.Request
	tx      *sip.ServerTx // nil: an ACK, which nobody answers
	handled chan struct{}
}

// call is one leg. Its goroutine owns everything under that heading; the rest is safe from anywhere.
type call struct {
	agent *Agent
	log   *slog.Logger

	accepted  *latch // Answer
	hung      *latch // Hangup
	cancelled *latch // the far end's CANCEL
	refuseBy  int    // set before hung
	requests  chan request
	answers   chan *sip.Response // 2xx to our INVITE beyond the first
	progress  chan bool          // Progress: the last wish
	events    chan *dialogs.LegEvent
	done      chan struct{}
	inbox     *inbox
	order     order
	pracks    atomic.Int32 // under way
	failed    atomic.Bool  // what works for it has panicked
	watched   atomic.Bool  // a session timer would end it
	late      atomic.Int32 // answers that came when it was over

	// Owned by the call's goroutine.
	keys      []callKey // under which it is found; guarded by the agent's mutex
	port      *media.Port
	sdp       *description
	offer     theirOffer   // of the INVITE of an inbound call, until it is answered
	family    media.Family // of its port
	media     media.PortMedia
	hasMedia  bool
	held      []*dialogs.LegEvent // those that nobody had room for
	called    bool                // LegCalling was told
	rang      bool                // LegRinging was told
	peer      peer
	up        bool           // a 2xx was sent or came
	fault     *dialogs.Cause // the call is to be hung up for this
	trunk     *trunk         // whose challenges are answered; nil: none
	hosts     []netip.Addr   // where the trunk is, as far as this call knows
	otherHops bool           // addresses of the trunk are left that were not tried
	realm     string         // in which it asked for a password; empty: not yet
	place     *trunks.Place  // what it counts at; nil: nowhere
	rest      time.Duration  // how long the trunk that failed wants to be left alone
	ack       *sip.Request   // the ACK to repeat when the 2xx comes again
	forks     map[string]*sip.Request
	// An outbound call: the INVITE that was answered, whether it had no offer, and the phones that it rings.
	invitation *sip.Request
	offerless  bool
	phones     phones
	pace       *rate.Limiter       // of its provisional answers; nil: none came
	crowded    bool                // that there are too many was said
	reliable   reliable            // an inbound call's provisional answers
	acks       <-chan *sip.Request // ACKs that came in the transaction of the INVITE
	unacked    *unacked
	transfers  transfers

	known   atomic.Pointer[reference] // what others may know of the call; written by its goroutine
	change  change
	timer   sessionTimer
	told    dialogs.Hold    // by LegHold
	keysOut []media.Key     // to be sent by INFO; the first is on its way
	left    <-chan struct{} // closed when our last request, or the ACK to it, has left; nil: there was none
}

// callKey finds a call: our tag is random, and the call checks the far end's tag itself.
type callKey struct{ callID, tag string }

// mergeTag is the key of an inbound call by which an INVITE is found that came by two ways: of the same tag and CSeq. One
// of a later CSeq is another try, with credentials say (RFC 3261 §8.2.2.2). It is none that a To could have: no tag has a
// blank.
func mergeTag(theirs string, seq uint32) string {
	return "from " + theirs + ":" + strconv.FormatUint(uint64(seq), 10)
}

func (a *Agent) newCall(log *slog.Logger) *call {
	return &call{
		agent: a, log: log, timer: sessionTimer{wanted: a.cfg.SessionExpires, least: a.cfg.minSession}, accepted: newLatch(), hung: newLatch(), cancelled: newLatch(),
		requests: make(chan request, requestBuffer), answers: make(chan *sip.Response, requestBuffer), progress: make(chan bool, 1),
		events: make(chan *dialogs.LegEvent, eventBuffer), done: make(chan struct{}), inbox: newInbox(),
	}
}

// Events is part of dialogs.Leg.
func (c *call) Events() <-chan *dialogs.LegEvent { return c.events }

// Answer is part of dialogs.Leg.
func (c *call) Answer() { c.accepted.set(func() {}) }

// Hangup is part of dialogs.Leg. The call counts nowhere from now on: whoever is told that it is over may place another at
// once, though its BYE is not answered yet.
func (c *call) Hangup(status int) {
	c.hung.set(func() { c.refuseBy = refusal(status) })
	c.place.Release()
}

// Watched is part of dialogs.Leg.
func (c *call) Watched() bool { return c.watched.Load() }

// Progress is part of dialogs.Leg.
func (c *call) Progress(early bool) {
	for {
		select {
		case c.progress <- early:
			return
		default:
		}
		select {
		case <-c.progress: // the newest wish counts
		default:
		}
	}
}

// live runs the whole life of the call and reports its end, whatever happens in it. It is false when that was a panic.
// Begin takes the call to its 2xx, or returns why there is none; it has returned while the call talks, which so keeps none of
// the stack that a beginning needs.
func (c *call) live(ctx context.Context, begin func() *dialogs.Cause) bool {
	cause, ok := c.guard(func() *dialogs.Cause {
		if end := begin(); end != nil {
			return end
		}
		return c.talk(ctx)
	})
	if !ok && c.up {
		_, _ = c.guard(func() *dialogs.Cause { c.bye(ctx); return nil })
	}
	c.finish(cause)
	return ok
}

// finish gives back what the call has and reports its end.
func (c *call) finish(cause *dialogs.Cause) {
	if c.failed.Load() {
		cause = failed(internalError)
	}
	c.agent.forget(c)
	c.place.Release()
	c.transfers.alarm.stop()
	c.transfers.parting.stop()
	close(c.done)
	c.untimed()
	c.unhold()
	c.log.Info("sip: call ended", "reason", string(cause.Reason), "details", cause.Details)
	c.events <- &dialogs.LegEvent{Kind: dialogs.LegEnded, Cause: *cause} // eventReserve holds its place
	close(c.events)
	if c.port != nil {
		if err := c.port.Close(); err != nil {
			c.log.Warn("sip: closing the media port failed", "error", err)
		}
	}
}

// drop ends a call that never came to live.
func (c *call) drop() {
	c.agent.forget(c)
	c.place.Release()
	close(c.done)
}

func (c *call) guard(life func() *dialogs.Cause) (cause *dialogs.Cause, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("sip: call failed", "panic", p, "stack", string(debug.Stack()))
			cause = failed(internalError)
		}
	}()
	return life(), true
}

// spawn runs work of the call beside its goroutine. What fails there ends the call, and nothing else.
func (c *call) spawn(work func(context.Context)) bool {
	return c.agent.spawn(func(ctx context.Context) {
		defer func() {
			if p := recover(); p != nil {
				c.log.Error("sip: call failed", "panic", p, "stack", string(debug.Stack()))
				c.failed.Store(true)
				c.Hangup(0)
			}
		}()
		work(ctx)
	})
}

// leaving says whether this end wants the call to be over.
func (c *call) leaving() bool {
	return c.hung.isSet() || c.agent.draining.isSet()
}

// talk is the call from its 2xx to its BYE. Here it waits for as long as it lasts, so what it does then is done in functions of
// their own: of a stack of which less than a quarter is in use the runtime takes half back.
func (c *call) talk(ctx context.Context) *dialogs.Cause {
	c.up = true
	before := c.known.Load()
	c.introduce(&c.peer, false, before != nil && before.inbound)
	c.timed()
	hung, draining := c.hung.ch, c.agent.draining.ch
	for {
		if c.leaving() {
			hung, draining = nil, nil
		}
		if (c.leaving() || c.fault != nil) && c.unacked == nil && !c.reporting() { // no BYE before the ACK (RFC 3261 §15)
			return c.part(ctx)
		}
		c.pursue()
		again, deadline := c.unacked.due()
		select {
		case <-ctx.Done():
			return failed("gateway stopped")
		case <-hung:
		case <-draining:
		case c.outlet() <- c.firstHeld():
			c.held = c.held[1:]
		case r := <-c.requests:
			c.inbox.run() // what came before it: the answer to a request of ours
			if c.handle(r) {
				return &dialogs.Cause{Details: byFarEnd}
			}
		case <-c.inbox.ready:
			c.inbox.run()
		case ack := <-c.acks:
			c.acknowledged(ack)
		case res := <-c.answers:
			c.answeredAgain(ctx, res)
		case <-again:
			c.repeat()
		case <-deadline:
			c.neverAcked()
		}
	}
}

// part hangs up.
func (c *call) part(ctx context.Context) *dialogs.Cause {
	c.bye(ctx)
	if c.fault != nil {
		return c.fault
	}
	return &dialogs.Cause{Details: byThisEnd}
}

// handle deals with a request of the far end. It is true when that was a BYE.
func (c *call) handle(r request) (over bool) {
	defer close(r.handled)
	tag, _ := r.From().Params.Get("tag")
	ours := tag == c.peer.remoteTag()
	switch {
	case r.IsAck():
		if ours {
			c.acknowledged(r.Request)
		}
		return false
	case !ours:
		c.agent.respond(r.Request, r.tx, 481)
		return false
	}
	if seq := r.CSeq().SeqNo; seq < c.peer.theirs {
		c.agent.respond(r.Request, r.tx, 500) // out of order (RFC 3261 §12.2.2)
		return false
	}
	c.peer.theirs = r.CSeq().SeqNo
	if r.Method == sip.BYE {
		c.agent.respond(r.Request, r.tx, 200)
		return true
	}
	if c.up && (r.Method == sip.INVITE || r.Method == sip.UPDATE) {
		c.settle() // it may come right behind the ACK to a re-INVITE of ours
	}
	c.serve(r)
	if c.up && (r.Method == sip.INVITE || r.Method == sip.UPDATE) { // its Contact may have changed
		c.introduce(&c.peer, false, c.known.Load().inbound)
	}
	return false
}

// serve is what a call does with each method (allowed lists them); whoever serves one answers it before it returns.
func (c *call) serve(r request) {
	switch r.Method {
	case sip.INVITE:
		c.changed(r)
	case sip.REFER:
		c.referred(r)
	case sip.NOTIFY:
		c.notified(r)
	case sip.OPTIONS:
		c.agent.respond(r.Request, r.tx, 200)
	case sip.PRACK:
		c.pracked(r)
	case sip.INFO:
		c.informed(r)
	case sip.UPDATE:
		if c.up {
			c.changed(r)
		} else {
			c.updated(r)
		}
	default:
		c.agent.respond(r.Request, r.tx, refusedMethod(r.Method))
	}
}

// answeredAgain takes a 2xx to our INVITE beyond the first: the same again is acknowledged again, that of another
// fork is acknowledged and hung up (RFC 3261 §13.2.2.4).
func (c *call) answeredAgain(ctx context.Context, res *sip.Response) {
	to := res.To()
	if to == nil {
		return
	}
	tag, _ := to.Params.Get("tag")
	if tag == c.peer.remoteTag() {
		c.write(ctx, c.ack, c.peer.shows)
		return
	}
	if ack, ok := c.forks[tag]; ok || len(c.forks) >= maxForks || c.ack == nil {
		c.write(ctx, ack, c.peer.shows)
		return
	}
	fork, err := answeredBy(c.invitation, res, c.peer.network, c.peer.shows)
	if err != nil {
		return
	}
	if e := c.phones.with(tag); e != nil {
		fork.seq = e.peer.seq
	}
	var answer []byte
	if c.offerless {
		unused := newDescription(newSession(), c.local(), termsOf(c.trunk))
		answer, _, _ = unused.answer(res.Body()) // an offer wants one (RFC 3261 §13.2.2.4)
	}
	ack, err := c.ackTo(&fork, c.invitation, answer)
	if err != nil {
		return
	}
	if c.forks == nil {
		c.forks = make(map[string]*sip.Request)
	}
	c.forks[tag] = ack
	c.write(ctx, ack, c.peer.shows)
	if bye, err := c.agent.request(&fork, sip.BYE); err == nil {
		creds := c.credentials()
		c.spawn(func(ctx context.Context) { c.agent.confirmed(ctx, bye, fork.shows, creds) })
	}
}

// write sends an ACK, over a connection that shows a certificate; nil is none.
func (c *call) write(ctx context.Context, ack *sip.Request, shows certFiles) {
	if ack == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, socketTimeout)
	defer cancel()
	err := c.agent.reach(ctx, ack, shows)
	if err == nil {
		err = c.agent.tp.WriteMsg(ack)
	}
	if err != nil {
		c.log.Info("sip: sending the ACK failed", "error", err)
	}
}

// failed is the cause of an end that is nobody's wish.
func failed(details string) *dialogs.Cause {
	return &dialogs.Cause{Reason: dialogs.Error, Details: printable(details, 200)}
}
