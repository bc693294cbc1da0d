package sip

import (
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/dialogs"
)

// unacked is a 2xx of ours that waits for its ACK (RFC 3261 §13.3.1.4).
type unacked struct {
	send     func() error // it once more
	seq      uint32
	offered  bool // the ACK brings the answer
	first    bool // the call is not answered before
	interval time.Duration
	again    *time.Timer
	deadline <-chan time.Time
}

// due is when it goes out once more, and when that ends; neither, if none waits.
func (u *unacked) due() (again, deadline <-chan time.Time) {
	if u == nil {
		return nil, nil
	}
	return u.again.C, u.deadline
}

// neverAcked ends the wait for an ACK.
func (c *call) neverAcked() {
	c.unacked.again.Stop()
	c.unacked, c.fault = nil, failed("no ACK came")
}

// confirm sends a 2xx to an INVITE and starts to wait for the ACK.
func (c *call) confirm(req *sip.Request, tx *sip.ServerTx, body []byte, offered, first bool) error {
	res := c.accepted2xx(req, body)
	if err := c.agent.deliver(req, tx, res, c.peer.shows); err != nil {
		return err
	}
	c.acks = tx.Acks()
	shows := c.peer.shows
	c.unacked = &unacked{
		send: func() error { return c.agent.repeat(req, tx, res, shows) }, seq: req.CSeq().SeqNo, offered: offered, first: first,
		interval: sip.T1, again: time.NewTimer(sip.T1), deadline: time.After(64 * sip.T1),
	}
	return nil
}

// repeat sends the 2xx again: the transaction does not, and TCP is no reason not to (RFC 3261 §13.3.1.4).
func (c *call) repeat() {
	u := c.unacked
	if err := u.send(); err != nil {
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
		c.emit(&dialogs.LegEvent{Kind: dialogs.LegAnswered})
	}
}
