package sip

import (
	"context"
	"errors"
	"time"

	"github.com/emiago/sipgo/sip"
)

// failoverWait is how long a trunk that says nothing about that may leave an INVITE unanswered while another of its
// addresses or another trunk could take the call: whoever is there sends 100 within 200 ms (RFC 3261 §17.2.1).
const failoverWait = 6 * time.Second

var errNoFirstAnswer = errors.New("no first answer in time")

// firstAnswer fires when the trunk has had its time to answer at all; nil leaves that to Timer B.
func (t *trying) firstAnswer() <-chan time.Time {
	wait := time.Duration(0)
	if t.trunk != nil {
		wait = t.trunk.AnswerTimeout
	}
	if wait == 0 && (t.otherHops || t.place.More()) {
		wait = t.agent.cfg.failoverWait
	}
	if wait == 0 {
		return nil
	}
	return time.After(wait)
}

// abandon sees an INVITE off that was given up before the callee rang. Without a provisional answer (heard) it can't be
// cancelled (RFC 3261 §9.1): should one come after all, it is; should the callee answer, it is hung up.
func (c *call) abandon(invite *sip.Request, tx *sip.ClientTx, network string, heard bool) {
	left := &trying{call: c, invite: invite, tx: tx, network: network, shows: c.trunk.shows()}
	creds := c.credentials()
	ok := c.spawn(func(ctx context.Context) {
		defer tx.Terminate()
		defer func() {
			if left.cancel != nil {
				left.cancel.Terminate()
			}
		}()
		var giveUp <-chan time.Time
		if heard {
			giveUp = time.After(64 * sip.T1)
			left.sendCancel(ctx)
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-c.agent.draining.ch:
				return
			case <-giveUp: // nothing else ends an INVITE that was answered provisionally (RFC 3261 §9.1)
				return
			case <-tx.Done():
				return
			case <-left.again:
				left.sendCancel(ctx)
			case res := <-tx.Responses():
				switch {
				case res.IsProvisional() && left.cancel == nil:
					if giveUp == nil {
						giveUp = time.After(64 * sip.T1)
					}
					left.sendCancel(ctx)
				case res.IsSuccess():
					c.hangUpLate(ctx, left, res, creds)
					return
				case !res.IsProvisional():
					return
				}
			}
		}
	})
	if !ok {
		tx.Terminate()
	}
}

// answeredTooLate hangs up another fork that answers when the call with the first one is over already.
func (c *call) answeredTooLate(t *trying, res *sip.Response, creds *credentials) {
	if to := res.To(); to == nil || c.late.Add(1) > maxForks {
		return
	} else if tag, _ := to.Params.Get("tag"); tag == c.peer.remoteTag() {
		return // that one has its BYE
	}
	c.spawn(func(ctx context.Context) { c.hangUpLate(ctx, t, res, creds) })
}

// hangUpLate acknowledges an answer that nobody waits for any more, and ends that call. It touches nothing that belongs
// to the call's goroutine.
func (c *call) hangUpLate(ctx context.Context, t *trying, res *sip.Response, creds *credentials) {
	late, err := answeredBy(t.invite, res, t.network, t.shows)
	if err != nil {
		return
	}
	ack, err := c.agent.request(&late, sip.ACK)
	if err != nil {
		return
	}
	c.write(ctx, ack, t.shows)
	if bye, err := c.agent.request(&late, sip.BYE); err == nil {
		c.agent.confirmed(ctx, bye, t.shows, creds)
	}
}
