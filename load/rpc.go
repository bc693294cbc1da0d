package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/coder/websocket"
)

// maxMessage is the largest message of the device protocol.
const maxMessage = 1 << 20

var errClosed = errors.New("load: the device connection is closed")

// message is a JSON-RPC 2.0 request, notification or answer.
type message struct {
	Version string          `json:"jsonrpc"`
	ID      *int            `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// rpc is a device connection. read must run while calls are made.
type rpc struct {
	conn   *websocket.Conn
	notify func(method string, params json.RawMessage) // on the reading goroutine; must not block
	done   chan struct{}                               // closed by read

	mu      sync.Mutex // guards all below
	next    int
	waiting map[int]chan message
}

func dialRPC(ctx context.Context, url string, notify func(string, json.RawMessage)) (*rpc, error) {
	conn, res, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return nil, fmt.Errorf("load: device connection: %w", err)
	}
	if res.Body != nil {
		_ = res.Body.Close()
	}
	conn.SetReadLimit(maxMessage)
	return &rpc{conn: conn, notify: notify, done: make(chan struct{}), waiting: make(map[int]chan message)}, nil
}

// read hands out what comes in until the connection ends.
func (r *rpc) read(ctx context.Context) error {
	defer close(r.done)
	for {
		_, text, err := r.conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("load: device connection: %w", err)
		}
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			return fmt.Errorf("load: message of the gateway: %w", err)
		}
		if m.Method != "" {
			r.notify(m.Method, m.Params)
			continue
		}
		if m.ID == nil {
			continue
		}
		r.mu.Lock()
		answer := r.waiting[*m.ID]
		delete(r.waiting, *m.ID)
		r.mu.Unlock()
		if answer != nil {
			answer <- m // has room for the one answer
		}
	}
}

// call makes a request and reads its result into out, which may be nil.
func (r *rpc) call(ctx context.Context, method string, params, out any) error {
	answer := make(chan message, 1)
	r.mu.Lock()
	r.next++
	id := r.next
	r.waiting[id] = answer
	r.mu.Unlock()
	if err := r.write(ctx, message{Version: "2.0", ID: &id, Method: method}, params); err != nil {
		return err
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("load: %s: %d %s", method, m.Error.Code, m.Error.Message)
		}
		if out == nil {
			return nil
		}
		if err := json.Unmarshal(m.Result, out); err != nil {
			return fmt.Errorf("load: result of %s: %w", method, err)
		}
		return nil
	case <-r.done:
		return fmt.Errorf("load: %s: %w", method, errClosed)
	case <-ctx.Done():
		return fmt.Errorf("load: %s: %w", method, ctx.Err())
	}
}

func (r *rpc) write(ctx context.Context, m message, params any) error {
	var err error
	if m.Params, err = json.Marshal(params); err != nil {
		return fmt.Errorf("load: %s: %w", m.Method, err)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("load: %s: %w", m.Method, err)
	}
	if err := r.conn.Write(ctx, websocket.MessageText, text); err != nil {
		return fmt.Errorf("load: %s: %w", m.Method, err)
	}
	return nil
}
