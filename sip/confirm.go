package sip

import (
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
)

// unacked is a 2xx of ours that waits for its ACK (RFC 3261 §13.3.1.4).
type unacked struct {
	res      *sip.Response
	conn     sip.Connection
	seq      uint32
	offered  bool // the ACK brings the answer
	first    bool // the call is not answered before
	interval time.Duration
	again    *time.Timer
	deadline <-chan time.Time
}

// reinvited answers a change of the session (RFC 3261 §14.2). When it cannot be made, the session stays as it was.
func (c *call) reinvited(r request) {
	if c.unacked != nil {
		c.agent.respond(r.Request, r.tx, 491)
		return
	}
	if extensions := unsupported(r.Request); extensions != "" {
		c.agent.respond(r.Request, r.tx, 420, sip.NewHeader("Unsupported", extensions))
		return
	}
	if status := bodyStatus(r.Request); status != 0 {
		c.agent.respond(r.Request, r.tx, status)
		return
	}
	var body []byte
	agreed, late := c.media, len(r.Body()) == 0
	var err error
	if late {
		body, err = c.sdp.offer()
	} else {
		body, agreed, err = c.sdp.answer(r.Body())
	}
	if err != nil {
		c.log.Info("sip: re-INVITE refused", "error", err)
		c.agent.respond(r.Request, r.tx, offerStatus(err), c.agent.warning(err.Error()))
		return
	}
	if err := c.peer.retarget(r.Contact()); err != nil {
		c.agent.respond(r.Request, r.tx, 400, c.agent.warning(err.Error()))
		return
	}
	if err := c.confirm(r.Request, r.tx, body, late, false); err != nil {
		c.log.Info("sip: answering the re-INVITE failed", "error", err)
		return
	}
	if !late {
		c.agree(agreed)
	}
}

// confirm sends a 2xx to an INVITE and starts to wait for the ACK.
func (c *call) confirm(req *sip.Request, tx *sip.ServerTx, body []byte, offered, first bool) error {
	res := response(req, 200, body)
	res.AppendHeader(c.agent.contact(c.peer.network, req.Source()))
	res.AppendHeader(sip.NewHeader("Allow", allowed))
	res.AppendHeader(sip.NewHeader("Supported", supported))
	if err := tx.Respond(res); err != nil {
		return err
	}
	c.acks = tx.Acks()
	c.unacked = &unacked{
		res: res, conn: tx.Connection(), seq: req.CSeq().SeqNo, offered: offered, first: first,
		interval: sip.T1, again: time.NewTimer(sip.T1), deadline: time.After(64 * sip.T1),
	}
	return nil
}

// repeat sends the 2xx again: the transaction does not, and TCP is no reason not to (RFC 3261 §13.3.1.4).
func (c *call) repeat() {
	u := c.unacked
	if err := u.conn.WriteMsg(u.res); err != nil {
		c.log.Debug("sip: repeating the 200 failed", "error", err)
	}
	u.interval = min(2*u.interval, sip.T2)
	u.again.Reset(u.interval)
}

// acknowledged takes the ACK to our 2xx. One for another INVITE, or the second, changes nothing.
func (c *call) acknowledged(ack *sip.Request) {
	u := c.unacked
	if u == nil || ack.CSeq() == nil || ack.CSeq().SeqNo != u.seq {
		return
	}
	u.again.Stop()
	c.unacked = nil
	c.inbox.post(c.referWaiting)
	if u.offered {
		agreed, err := c.sdp.accept(ack.Body())
		if err != nil {
			c.fault = failed("no usable SDP in the ACK: " + err.Error())
			return
		}
		c.agree(agreed)
	}
	if u.first {
		c.emit(dialogs.LegEvent{Kind: dialogs.LegAnswered})
	}
}
