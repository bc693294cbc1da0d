package sfu

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/coder/websocket"

	"tandem/errs"
)

// handle answers one message.
func (d *Device) handle(ctx context.Context, data []byte) {
	r, err := parseRequest(data)
	if errors.Is(err, errIgnored) {
		return
	}
	var result any
	if err == nil {
		result, err = d.call(ctx, r)
	}
	if wrong, ok := errors.AsType[*rpcError](err); ok {
		if r.id != nil {
			d.send(encodeError(r.id, wrong))
		}
		return
	}
	if err != nil {
		d.log.Info("refused", "method", r.method, "err", err)
	}
	switch {
	case r.id == nil:
	case err != nil:
		d.send(encodeError(r.id, rpcErrorOf(err)))
	default:
		d.send(encodeResult(r.id, result))
	}
	if errors.Is(err, errBeganAnew) {
		d.end(errBeganAnew, d.membership != nil)
	}
}

// call does what a request asks. Before setMediaPreferences, the first call of a client that begins, nothing else is
// done: a client that comes back after its device ended here does not make it, and must be sent away.
func (d *Device) call(ctx context.Context, r request) (any, error) {
	switch r.method {
	case "ping":
		return emptyResult{}, nil
	case "leave":
		d.cancel(&ending{cause: errLeft, code: websocket.StatusNormalClosure})
		return emptyResult{}, nil
	case "deviceDiagnostics":
		d.log.Debug("diagnostics", "bytes", len(r.params))
		return emptyResult{}, nil
	case "setMediaPreferences":
		return emptyResult{}, d.begin(ctx, r.params)
	case "offerSdp", "answerSdp":
	default:
		return nil, &rpcError{rpcUnknownMethod, "unknown method"}
	}
	if d.membership == nil {
		return nil, errBeganAnew
	}
	if r.method == "answerSdp" {
		var params answerParams
		if err := decodeParams(r.params, &params); err != nil {
			return nil, err
		}
		return emptyResult{}, d.subscribe.answer(params)
	}
	var params offerParams
	if err := decodeParams(r.params, &params); err != nil {
		return nil, err
	}
	return d.publish.offer(ctx, params)
}

// begin is the greeting: from here on the device is connected.
func (d *Device) begin(ctx context.Context, raw json.RawMessage) error {
	var params struct {
		Protocol string `json:"protocol"`
		Follows  bool   `json:"offersWhenWanted"` // ours: offerWanted is answered with offerSdp
	}
	if err := decodeParams(raw, &params); err != nil {
		return err
	}
	if params.Protocol != "" && params.Protocol != "WEBRTC" {
		return errs.New(errs.Invalid, `protocol: expected "WEBRTC"`)
	}
	if d.membership != nil {
		return nil
	}
	d.follows = params.Follows
	d.helloTimer.Stop()
	storeCtx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	m, err := d.server.members.Connect(storeCtx, d.participant, d.id, d)
	if err != nil {
		code := websocket.StatusNormalClosure
		if c := errs.CodeOf(err); c == errs.Internal || c == errs.Unavailable {
			code = websocket.StatusTryAgainLater // the client knocks again
		}
		d.cancel(&ending{cause: err, code: code, tell: true})
		return err
	}
	d.membership = m
	d.log.Info("device connected")
	return nil
}
