package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// CallRequest is a call that the lab makes to the gateway.
type CallRequest struct {
	To         string                     // SIP URI of the gateway, with or without a user: sip:+15550199@127.0.0.1:5060
	From       string                     // number or SIP URI; empty: +15550100
	UserToUser string                     // the header's value as it is to be sent, such as <jwt>;encoding=jwt (RFC 7433)
	Headers    map[string]string          // more headers of the INVITE
	Transport  string                     // udp or tcp; empty: the URI's, else udp
	Username   string                     // answers a challenge
	Password   string                     //
	Codecs     []string                   // of PCMU and PCMA, in this order; empty: both
	Progress   func(call *Call, code int) // called with each 1xx; must not block
}

// CallError is the far end's refusal of a call.
type CallError struct {
	Code   int    // the SIP status
	Reason string // its phrase
}

// Error returns the status as SIP writes it.
func (e *CallError) Error() string {
	return fmt.Sprintf("lab: the far end answered %d %s", e.Code, e.Reason)
}

// Call makes a call and returns once it is answered. The end of ctx before that cancels it. A refusal is a *CallError;
// a *Call is returned beside it that tells what was heard until then.
func (t *Trunk) Call(ctx context.Context, r CallRequest) (*Call, error) {
	select {
	case <-t.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("lab: the trunk isn't running: %w", ctx.Err())
	}
	req, l, err := t.invite(r)
	if err != nil {
		return nil, err
	}
	c, err := t.newCall(req)
	if err != nil {
		return nil, err
	}
	if c.laws, err = parseLaws(r.Codecs); err != nil {
		c.stream.close()
		return nil, err
	}
	req.SetBody(c.localSDP())
	leg := &outboundLeg{call: c, settled: make(chan struct{})}
	c.leg = leg
	tag, _ := req.From().Params.Get("tag")
	key := callKey{c.CallID, tag}
	if !t.register(key, c) {
		c.stream.close()
		return nil, errors.New("lab: the trunk is full or closing")
	}
	err = leg.dial(ctx, l.dialogs, r)
	close(leg.settled)
	if err != nil {
		c.end(true, err.Error())
		c.release()
		t.unregister(key)
		return c, err
	}
	c.log.Info("lab: call out", "to", r.To)
	go func() { // counted by register
		defer t.unregister(key)
		<-c.ended
		_ = leg.dlg.Close()
		c.release()
	}()
	return c, nil
}

// invite writes the request but for its SDP.
func (t *Trunk) invite(r CallRequest) (*sip.Request, *listener, error) {
	var uri sip.Uri
	if err := sip.ParseUri(r.To, &uri); err != nil {
		return nil, nil, fmt.Errorf("lab: call %q: %w", r.To, err)
	}
	transport := r.Transport
	if transport == "" {
		transport = uri.UriParams.GetOr("transport", "udp")
	}
	l := t.listener(transport)
	if l == nil {
		return nil, nil, fmt.Errorf("lab: no %s listener to call from", transport)
	}
	from := sip.FromHeader{Address: sip.Uri{Scheme: "sip", User: r.From, Host: t.host.String()}}
	switch {
	case r.From == "":
		from.Address.User = "+15550100"
	case strings.HasPrefix(r.From, "sip:") || strings.HasPrefix(r.From, "sips:"):
		from.Address = sip.Uri{}
		if err := sip.ParseUri(r.From, &from.Address); err != nil {
			return nil, nil, fmt.Errorf("lab: call from %q: %w", r.From, err)
		}
	}
	from.Params.Add("tag", sip.GenerateTagN(16))
	req := sip.NewRequest(sip.INVITE, uri)
	req.SetTransport(strings.ToUpper(transport))
	if l.packets != nil { // the far end sees the trunk's own port
		req.Laddr = sip.Addr{IP: net.IP(l.addr.Addr().AsSlice()), Port: int(l.addr.Port()), Hostname: l.addr.Addr().String()}
	}
	to := sip.ToHeader{Address: sip.Uri{Scheme: uri.Scheme, User: uri.User, Host: uri.Host, Port: uri.Port}}
	callID := sip.CallIDHeader(sip.GenerateTagN(24) + "@" + t.host.String())
	contact := t.contact(l)
	req.AppendHeader(&from)
	req.AppendHeader(&to)
	req.AppendHeader(&callID)
	req.AppendHeader(&contact)
	req.AppendHeader(sip.NewHeader("Content-Type", "application/sdp"))
	if r.UserToUser != "" {
		req.AppendHeader(sip.NewHeader("User-to-User", r.UserToUser))
	}
	for name, value := range r.Headers {
		req.AppendHeader(sip.NewHeader(name, value))
	}
	return req, l, nil
}

func parseLaws(codecs []string) ([]law, error) {
	if len(codecs) == 0 {
		return []law{pcmu, pcma}, nil
	}
	laws := make([]law, 0, len(codecs))
	for _, codec := range codecs {
		switch strings.ToUpper(codec) {
		case "PCMU":
			laws = append(laws, pcmu)
		case "PCMA":
			laws = append(laws, pcma)
		default:
			return nil, fmt.Errorf("lab: codec %q: want PCMU or PCMA", codec)
		}
	}
	return laws, nil
}

// outboundLeg is the dialog of a call that we made.
type outboundLeg struct {
	call    *Call
	settled chan struct{} // closed when dial is over: only then others may touch dlg
	dlg     *sipgo.DialogClientSession
}

// dial sends the INVITE and stays until its final answer.
func (l *outboundLeg) dial(ctx context.Context, dialogs *sipgo.DialogUA, r CallRequest) error {
	c := l.call
	dlg, err := dialogs.WriteInvite(ctx, c.request)
	if err != nil {
		return fmt.Errorf("lab: INVITE: %w", err)
	}
	l.dlg = dlg
	dlg.OnState(func(s sip.DialogState) {
		if s == sip.DialogStateEnded {
			c.end(true, "")
		}
	})
	err = dlg.WaitAnswer(ctx, sipgo.AnswerOptions{
		Username: r.Username, Password: r.Password,
		OnResponse: func(res *sip.Response) error { return l.onResponse(res, r.Progress) },
	})
	if err != nil {
		return l.failed(ctx, err)
	}
	if err := dlg.Ack(ctx); err != nil {
		return fmt.Errorf("lab: ACK: %w", err)
	}
	if err := c.remoteSDP(dlg.InviteResponse.Body()); err != nil || c.stream.media.Load() == nil {
		_ = dlg.Bye(ctx)
		return fmt.Errorf("lab: answer without media we have: %w", err)
	}
	c.mu.Lock()
	c.status.Answered = true
	c.mu.Unlock()
	c.startMedia()
	return nil
}

func (l *outboundLeg) onResponse(res *sip.Response, progress func(*Call, int)) error {
	c := l.call
	c.setCode(res.StatusCode, res.Reason)
	if !res.IsProvisional() {
		return nil
	}
	if err := c.remoteSDP(res.Body()); err != nil {
		c.log.Info("lab: SDP of a provisional answer", "err", err)
	}
	c.startMedia()
	if progress != nil {
		progress(c, res.StatusCode)
	}
	return nil
}

// failed sorts out why there is no answer. A 200 that crossed our CANCEL is acknowledged and hung up at once
// (RFC 3261 §13.2.2.4).
func (l *outboundLeg) failed(ctx context.Context, err error) error {
	if refused, ok := errors.AsType[*sipgo.ErrDialogResponse](err); ok {
		return &CallError{Code: refused.Res.StatusCode, Reason: refused.Res.Reason}
	}
	if res := l.dlg.InviteResponse; res != nil && res.IsSuccess() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), byeTime)
		defer cancel()
		if l.dlg.Ack(late) == nil {
			_ = l.dlg.Bye(late)
		}
	}
	return fmt.Errorf("lab: no answer: %w", err)
}

func (l *outboundLeg) respond(int, string, []byte) error {
	return errors.New("lab: an outbound call can't be answered")
}

func (l *outboundLeg) bye(ctx context.Context) error { return l.dlg.Bye(ctx) }

func (l *outboundLeg) abandon() {}

func (l *outboundLeg) readAck(*sip.Request, sip.ServerTransaction) error { return nil } // of a re-INVITE

func (l *outboundLeg) readBye(req *sip.Request, tx sip.ServerTransaction) error {
	<-l.settled
	if l.dlg == nil {
		return errors.New("lab: BYE for a call that was never sent")
	}
	return l.dlg.ReadBye(req, tx)
}

func (l *outboundLeg) readInvite(req *sip.Request, tx sip.ServerTransaction) error {
	<-l.settled
	if l.dlg == nil {
		return errors.New("lab: re-INVITE for a call that was never sent")
	}
	return l.dlg.ReadRequest(req, tx)
}
