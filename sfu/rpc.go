package sfu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"tandem/errs"
)

// request is what a device sends: a call when it has an id, a notification when it has none (JSON-RPC 2.0 §4).
type request struct {
	id     json.RawMessage // a string, a number or null, as it came; nil: a notification
	method string
	params json.RawMessage // nil: absent
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Error returns the message.
func (e *rpcError) Error() string { return e.Message }

// errIgnored is what is not worth an answer: a response to nothing that we asked.
var errIgnored = errors.New("a response, not a request")

// parseRequest reads one message. An error that is an *rpcError is answered with the id that is returned beside it.
func parseRequest(data []byte) (request, error) {
	null := json.RawMessage("null")
	data = bytes.TrimSpace(data)
	if !json.Valid(data) {
		return request{id: null}, &rpcError{rpcParseError, "the message is not JSON"}
	}
	if data[0] == '[' {
		return request{id: null}, &rpcError{rpcInvalidRequest, "batches are not supported: send one object"}
	}
	var fields map[string]json.RawMessage
	if data[0] != '{' || json.Unmarshal(data, &fields) != nil {
		return request{id: null}, &rpcError{rpcInvalidRequest, "a request is an object"}
	}
	r := request{params: fields["params"]}
	if id, ok := fields["id"]; ok {
		if id[0] != '"' && id[0] != '-' && (id[0] < '0' || id[0] > '9') && id[0] != 'n' {
			return request{id: null}, &rpcError{rpcInvalidRequest, "id: expected a string or a number"}
		}
		r.id = id
	}
	answer := r
	if answer.id == nil {
		answer.id = null
	}
	method, ok := fields["method"]
	if !ok {
		_, result := fields["result"]
		_, failed := fields["error"]
		if result || failed {
			return r, errIgnored
		}
		return answer, &rpcError{rpcInvalidRequest, "method: expected a string"}
	}
	if method[0] != '"' || json.Unmarshal(method, &r.method) != nil {
		return answer, &rpcError{rpcInvalidRequest, "method: expected a string"}
	}
	if string(fields["jsonrpc"]) != `"2.0"` {
		return answer, &rpcError{rpcInvalidRequest, `jsonrpc: expected "2.0"`}
	}
	return r, nil
}

// decodeParams fills v from params, which may be absent. The error names the field.
func decodeParams(params json.RawMessage, v any) error {
	if len(params) == 0 || string(params) == "null" {
		return nil
	}
	if params[0] != '{' {
		return errs.New(errs.Invalid, "params: expected an object")
	}
	err := json.Unmarshal(params, v)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return errs.New(errs.Invalid, "%s: expected %s, not %s", wrong.Field, wrong.Type, wrong.Value)
	}
	if err != nil {
		return errs.Wrap(err, errs.Invalid, "params: not what the method takes")
	}
	return nil
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"` // never beside Error: the client refuses a message with both
	Error   *rpcError       `json:"error,omitempty"`
}

type notification struct {
	Version string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

// emptyResult is the {} of methods that return nothing.
type emptyResult struct{}

func encodeResult(id json.RawMessage, result any) ([]byte, error) {
	return encode(response{Version: "2.0", ID: id, Result: result})
}

func encodeError(id json.RawMessage, e *rpcError) ([]byte, error) {
	if id == nil {
		id = json.RawMessage("null")
	}
	return encode(response{Version: "2.0", ID: id, Error: e})
}

func encodeNotification(method string, params any) ([]byte, error) {
	return encode(notification{Version: "2.0", Method: method, Params: params})
}

func encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return data, nil
}
