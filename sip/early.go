package sip

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"
	"golang.org/x/time/rate"

	"tandem/dialogs"
	"tandem/media"
)

// earlyDialogTerminated is the provisional answer of a proxy that has lost one of the phones (RFC 6228).
const earlyDialogTerminated = 199

// early is an early dialog of a call that we place: one of the phones that ring for it (RFC 3261 §12.1.2). A proxy may
// fork the INVITE to several; each has its tag, route set, sequence and SDP of its own.
type early struct {
	peer     peer
	sdp      *description
	rseq     uint32 // of the last reliable answer that was taken; 0: none
	media    media.PortMedia
	hasMedia bool
	settled  bool // offer and answer were exchanged reliably: SDP in what follows is none of either (RFC 3261 §13.2.1)
	over     bool // it is gone: the proxy said so, or it hung up
	hungUp   bool // it did
}

// phones are the early dialogs of one call, the one that was heard last at the end.
type phones []*early

// with returns the early dialog with a tag, nil if there is none.
func (es phones) with(tag string) *early {
	for _, e := range es {
		if e.peer.remoteTag() == tag {
			return e
		}
	}
	return nil
}

// heard returns the one whose sound is played: that of the last SDP.
func (es phones) heard() *early {
	for _, e := range slices.Backward(es) {
		if e.hasMedia && !e.over {
			return e
		}
	}
	return nil
}

func tagOf(params sip.HeaderParams) string {
	tag, _ := params.Get("tag")
	return tag
}

// early returns the early dialog that a provisional answer belongs to, a new one for a tag that is new. It is nil for
// an answer that makes none, and for one of more phones than are followed.
func (t *trying) early(res *sip.Response) *early {
	to := res.To()
	if to == nil || tagOf(to.Params) == "" {
		return nil
	}
	if e := t.phones.with(tagOf(to.Params)); e != nil {
		return e
	}
	if res.StatusCode == earlyDialogTerminated {
		return nil
	}
	if len(t.phones) >= maxForks {
		t.crowd()
		return nil
	}
	p, err := answeredBy(t.invite, res, t.network, t.shows)
	if err != nil {
		t.log.Info("sip: provisional answer without a usable Contact", "status", res.StatusCode, "error", err)
		return nil
	}
	e := &early{peer: p, sdp: t.sdp.clone()}
	t.phones = append(t.phones, e)
	return e
}

const (
	// provisionalRate and provisionalBurst bound how many provisional answers of one call are taken. Beyond, they are lost
	// as on the way; nobody rings as often.
	provisionalRate  = 5 // a second
	provisionalBurst = 100
	// maxPracks is how many PRACKs of one call are under way at once: a far end has to wait for each before it sends the
	// next of its provisional answers (RFC 3262 §3), but one that never answers would be owed ever more.
	maxPracks = 16
)

// hurried says whether a provisional answer is one too many.
func (t *trying) hurried(now time.Time) bool {
	if t.pace == nil {
		t.pace = rate.NewLimiter(provisionalRate, provisionalBurst)
	}
	if t.pace.AllowN(now, 1) {
		return false
	}
	t.crowd()
	return true
}

// crowd says once in a call's life that its far end sends too much.
func (c *call) crowd() {
	if !c.crowded {
		c.crowded = true
		c.log.Warn("sip: too many provisional answers; some are passed over")
	}
}

// progressed takes a provisional answer: the far end rings, and may be heard already.
func (t *trying) progressed(res *sip.Response) {
	t.heard = true
	if t.hurried(time.Now()) {
		return
	}
	e := t.early(res)
	rseq, reliably := rseqOf(res)
	switch {
	case e == nil && res.To() != nil && tagOf(res.To().Params) != "" && t.rang:
		return // one of more phones than are followed: its 2xx is taken all the same
	case res.StatusCode == earlyDialogTerminated:
		if e != nil {
			t.lost(e)
		}
		return
	case reliably && e == nil:
		return // nobody to send a PRACK to
	case reliably && e.rseq != 0 && rseq != e.rseq+1:
		return // a repetition, or one before it was lost and comes again (RFC 3262 §4)
	case reliably && t.pracks.Load() >= maxPracks:
		t.crowd()
		return // as if it were lost: it comes again, once those before are answered
	}
	if e != nil {
		t.introduce(&e.peer, true, false)
	}
	var answer []byte
	if len(res.Body()) > 0 && !t.leaving() {
		answer = t.described(e, res, reliably)
	}
	if reliably {
		e.rseq = rseq
		t.prack(e, rack{rseq, t.invite.CSeq().SeqNo, sip.INVITE.String()}, answer)
	}
	if t.rang || t.leaving() || res.StatusCode < sip.StatusRinging || res.StatusCode > sip.StatusSessionInProgress {
		return
	}
	t.rang = true
	t.place.Worked()
	cause := causeOf(res.StatusCode, res.Reason)
	cause.Reason = dialogs.RingingReason
	t.emit(&dialogs.LegEvent{Kind: dialogs.LegRinging, Cause: cause})
}

// described takes the SDP of a provisional answer: the answer to our offer or, in a reliable one to an INVITE without,
// an offer. Then it returns our answer, which goes into the PRACK.
func (t *trying) described(e *early, res *sip.Response, reliably bool) (answer []byte) {
	if e == nil {
		e = &early{sdp: t.sdp} // a far end that gives no tag can be heard all the same
	}
	if e.settled || e.over || (t.offerless && !reliably) {
		return nil
	}
	var agreed media.PortMedia
	var err error
	if t.offerless {
		answer, agreed, err = t.answerOffer(e.sdp, res.Body())
	} else {
		agreed, err = e.sdp.accept(res.Body())
	}
	if err != nil {
		t.log.Info("sip: early media not understood", "error", err)
		return nil
	}
	e.settled = reliably
	t.hear(e, agreed)
	return answer
}

// hear plays what an early dialog agreed, and no longer what another did.
func (t *trying) hear(e *early, agreed media.PortMedia) {
	e.media, e.hasMedia = agreed, true
	if i := slices.Index(t.phones, e); i >= 0 {
		t.phones = append(slices.Delete(t.phones, i, i+1), e)
	}
	t.agree(agreed)
}

// lost ends an early dialog; who was heard before is heard again.
func (t *trying) lost(e *early) {
	e.over = true
	if last := t.phones.heard(); last != nil && !t.leaving() {
		t.agree(last.media)
	}
}

// handleEarly answers what a phone asks before it answered the call.
func (t *trying) handleEarly(r request) {
	defer close(r.handled)
	t.catchUp() // what it said before made the early dialog
	e := t.phones.with(tagOf(r.From().Params))
	switch {
	case r.IsAck():
		return
	case e == nil || e.over:
		t.agent.respond(r.Request, r.tx, 481)
		return
	case r.CSeq().SeqNo < e.peer.theirs:
		t.agent.respond(r.Request, r.tx, 500) // out of order (RFC 3261 §12.2.2)
		return
	}
	e.peer.theirs = r.CSeq().SeqNo
	switch r.Method {
	case sip.BYE: // its 200 was overtaken, or it does not know that a phone must not do so (RFC 3261 §15)
		t.agent.respond(r.Request, r.tx, 200)
		e.hungUp = true
		t.lost(e)
	case sip.UPDATE:
		t.updatedEarly(e, r)
	case sip.INVITE:
		t.agent.respond(r.Request, r.tx, 491) // its offer crosses ours
	case sip.OPTIONS:
		t.agent.respond(r.Request, r.tx, 200)
	case sip.PRACK:
		t.agent.respond(r.Request, r.tx, 481)
	case sip.INFO, sip.NOTIFY, sip.REFER:
		t.serve(r)
	default:
		t.agent.respond(r.Request, r.tx, refusedMethod(r.Method))
	}
}

// updatedEarly answers an UPDATE of a phone that rings (RFC 3311 §5.2).
func (t *trying) updatedEarly(e *early, r request) {
	if status := bodyStatus(r.Request); status != 0 {
		t.agent.respond(r.Request, r.tx, status)
		return
	}
	if len(r.Body()) > 0 && !e.settled {
		if t.offerless {
			t.agent.respond(r.Request, r.tx, 500, sip.NewHeader("Retry-After", strconv.Itoa(rand.IntN(10))))
			return
		}
		t.agent.respond(r.Request, r.tx, 491) // our own offer waits for its answer
		return
	}
	if err := e.peer.retarget(r.Contact()); err != nil {
		t.agent.respond(r.Request, r.tx, 400, t.agent.warning(err.Error()))
		return
	}
	contact := t.agent.contactIn(t.network, r.Request)
	if len(r.Body()) == 0 {
		t.agent.respond(r.Request, r.tx, 200, contact)
		return
	}
	body, agreed, err := e.sdp.answer(r.Body())
	if err != nil {
		t.agent.respond(r.Request, r.tx, offerStatus(err), t.agent.offerWarning(err))
		return
	}
	res := response(r.Request, 200, body)
	res.AppendHeader(contact)
	if err := r.tx.Respond(res); err != nil {
		t.log.Debug("sip: answering failed", "method", r.Method.String(), "error", err)
	}
	t.hear(e, agreed)
}
