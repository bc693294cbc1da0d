package lab

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// onInvite runs on a goroutine of its own, which owns the call until its end.
func (t *Trunk) onInvite(req *sip.Request, tx sip.ServerTransaction) {
	if req.From() == nil || req.To() == nil || req.CallID() == nil || req.CSeq() == nil || req.Contact() == nil {
		t.respond(req, tx, sip.StatusBadRequest, "Bad Request")
		return
	}
	if req.To().Params.Has("tag") {
		t.onReinvite(req, tx)
		return
	}
	if !t.authorized(req, tx) {
		return
	}
	script := t.script(req.Recipient.User)
	if script == nil {
		t.respond(req, tx, sip.StatusNotFound, "Not Found")
		return
	}
	l := t.listener(req.Transport())
	if l == nil {
		t.respond(req, tx, sip.StatusInternalServerError, "Server Internal Error")
		return
	}
	dlg, err := l.dialogs.ReadInvite(req, tx)
	if err != nil { // cancelled already
		t.log.Debug("lab: INVITE", "err", err)
		return
	}
	t.serveCall(req, tx, dlg, script)
}

func (t *Trunk) serveCall(req *sip.Request, tx sip.ServerTransaction, dlg *sipgo.DialogServerSession, script func(*Call)) {
	c, err := t.newCall(req)
	if err != nil {
		t.log.Error("lab: no media", "err", err)
		t.respond(req, tx, sip.StatusServiceUnavailable, "Service Unavailable")
		return
	}
	c.Inbound, c.leg = true, &inboundLeg{dlg: dlg, call: c, tx: tx}
	tag, _ := dlg.InviteRequest.To().Params.Get("tag")
	key := callKey{c.CallID, tag}
	if !t.register(key, c) {
		c.stream.close()
		t.respond(req, tx, sip.StatusServiceUnavailable, "Service Unavailable")
		return
	}
	defer t.unregister(key)
	defer c.release()
	defer func() { _ = dlg.Close() }()
	dlg.OnState(func(s sip.DialogState) {
		if s != sip.DialogStateEnded {
			return
		}
		if errors.Is(context.Cause(dlg.Context()), sip.ErrTransactionCanceled) {
			c.setCode(sip.StatusRequestTerminated, "cancelled")
		}
		c.end(true, "")
	})
	if dlg.LoadState() == sip.DialogStateEnded { // it was cancelled before we listened
		c.end(true, "cancelled")
	}
	if err := c.remoteSDP(req.Body()); err != nil {
		c.log.Info("lab: refused", "err", err)
		_ = c.Reject(sip.StatusNotAcceptableHere, "Not Acceptable Here")
		return
	}
	c.log.Info("lab: call in", "to", c.Number, "from", c.From)
	select {
	case t.inbound <- c:
	default: // nobody takes them
	}
	script(c)
	if err := c.Hangup(); err != nil {
		c.log.Info("lab: end of call", "err", err)
	}
}

func (t *Trunk) newCall(req *sip.Request) (*Call, error) {
	s, err := newStream(t.host, t.cfg.RecordLimit)
	if err != nil {
		return nil, err
	}
	c := &Call{
		Number: req.Recipient.User, From: req.From().Address.String(), To: req.To().Address.String(), CallID: req.CallID().Value(),
		request: req, stream: s, laws: []law{pcmu, pcma}, sdpID: rand.Uint32(),
		log:  t.log.With("call", req.CallID().Value()),
		done: make(chan struct{}), ended: make(chan struct{}),
	}
	c.UserToUser = c.Header("User-to-User")
	return c, nil
}

func (t *Trunk) onReinvite(req *sip.Request, tx sip.ServerTransaction) {
	c := t.find(req)
	if c == nil {
		t.respond(req, tx, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
		return
	}
	if err := c.leg.readInvite(req, tx); err != nil {
		t.respond(req, tx, sip.StatusInternalServerError, "Server Internal Error") // RFC 3261 §12.2.2
		return
	}
	if err := c.remoteSDP(req.Body()); err != nil {
		t.respond(req, tx, sip.StatusNotAcceptableHere, "Not Acceptable Here")
		return
	}
	contact := t.contact(t.listens[0])
	if l := t.listener(req.Transport()); l != nil {
		contact = t.contact(l)
	}
	res := sip.NewResponseFromRequest(req, sip.StatusOK, "OK", c.localSDP())
	res.AppendHeader(&contact)
	res.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	if err := tx.Respond(res); err != nil {
		c.log.Info("lab: answer to re-INVITE", "err", err)
	}
}

func (t *Trunk) onAck(req *sip.Request, tx sip.ServerTransaction) {
	c := t.find(req)
	if c == nil {
		return // of a refusal, or of a call that is gone
	}
	if err := c.remoteSDP(req.Body()); err != nil { // the answer to an offer of ours in the 200
		c.log.Info("lab: SDP in ACK", "err", err)
	}
	c.startMedia()
	if err := c.leg.readAck(req, tx); err != nil {
		c.log.Debug("lab: ACK", "err", err)
	}
}

func (t *Trunk) onBye(req *sip.Request, tx sip.ServerTransaction) {
	c := t.find(req)
	if c == nil || req.CSeq() == nil {
		t.respond(req, tx, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
		return
	}
	if err := c.leg.readBye(req, tx); err != nil {
		c.log.Info("lab: BYE", "err", err)
	}
	c.end(true, "the far end hung up")
}

func (t *Trunk) onRegister(req *sip.Request, tx sip.ServerTransaction) {
	if !t.authorized(req, tx) {
		return
	}
	headers := []sip.Header{sip.NewHeader("Expires", "3600")}
	if contact := req.Contact(); contact != nil {
		headers = append(headers, contact.Clone())
	}
	t.respond(req, tx, sip.StatusOK, "OK", headers...)
}

func (t *Trunk) respond(req *sip.Request, tx sip.ServerTransaction, code int, phrase string, headers ...sip.Header) {
	res := sip.NewResponseFromRequest(req, code, phrase, nil)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	if err := tx.Respond(res); err != nil {
		t.log.Debug("lab: respond", "code", code, "err", err)
	}
}

// inboundLeg is the dialog of a call that the gateway made.
type inboundLeg struct {
	dlg  *sipgo.DialogServerSession
	call *Call
	tx   sip.ServerTransaction // of the INVITE
}

func (l *inboundLeg) respond(code int, phrase string, body []byte) error {
	if body == nil {
		return l.dlg.Respond(code, phrase, nil)
	}
	return l.dlg.Respond(code, phrase, body, sip.NewHeader("Content-Type", "application/sdp"))
}

func (l *inboundLeg) bye(ctx context.Context) error { return l.dlg.Bye(ctx) }

// abandon lets the next repeat of the 200 fail, which comes after 4 s at most.
func (l *inboundLeg) abandon() { l.tx.Terminate() }

func (l *inboundLeg) readAck(req *sip.Request, tx sip.ServerTransaction) error {
	return l.dlg.ReadAck(req, tx)
}

func (l *inboundLeg) readBye(req *sip.Request, tx sip.ServerTransaction) error {
	return l.dlg.ReadBye(req, tx)
}

func (l *inboundLeg) readInvite(req *sip.Request, tx sip.ServerTransaction) error {
	return l.dlg.ReadRequest(req, tx)
}
