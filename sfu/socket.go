package sfu

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	maxMessage  = 1 << 20 // bytes of one message from a device
	writeQueue  = 64      // messages that wait for a slow reader
	writeLimit  = 10 * time.Second
	maxReason   = 123 // bytes of a close frame's text (RFC 6455 §5.5)
	closeLinger = 2 * time.Second
)

var errSlowSocket = errors.New("the socket does not take what is sent")

// socket is one WebSocket of a device. send and end belong to its owner; the goroutines of serve do the rest.
type socket struct {
	conn    *websocket.Conn
	ping    time.Duration // a silent peer is asked this often
	silence time.Duration // and has this long to answer
	out     chan []byte

	once   sync.Once
	ending chan struct{} // closed by end
	code   websocket.StatusCode
	reason string
}

func newSocket(conn *websocket.Conn, ping, silence time.Duration) *socket {
	conn.SetReadLimit(maxMessage)
	return &socket{
		conn: conn, ping: ping, silence: silence,
		out: make(chan []byte, writeQueue), ending: make(chan struct{}),
	}
}

// send queues a message; false: the queue is full and the socket is of no use any more.
func (s *socket) send(message []byte) bool {
	select {
	case s.out <- message:
		return true
	default:
		return false
	}
}

// end lets what is queued go out and then closes with code. Only the first call counts.
func (s *socket) end(code websocket.StatusCode, reason string) {
	s.once.Do(func() {
		s.code, s.reason = code, reason[:min(len(reason), maxReason)]
		close(s.ending)
	})
}

// serve reads until the socket is over and returns why; each message goes to took, which may wait.
func (s *socket) serve(ctx context.Context, took func([]byte) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	all.Go(func() { s.write(ctx, cancel) })
	all.Go(func() { s.watch(ctx, cancel) })
	defer all.Wait()
	defer cancel(nil) // they end with the reader, also where that fails
	for {
		_, message, err := s.conn.Read(ctx)
		if err != nil {
			cancel(err)
			return context.Cause(ctx)
		}
		if !took(message) {
			s.end(websocket.StatusGoingAway, "")
		}
	}
}

// write sends what is queued. At the end it closes the connection, which ends the reader too.
func (s *socket) write(ctx context.Context, cancel context.CancelCauseFunc) {
	defer func() { _ = s.conn.CloseNow() }()
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-s.out:
			if err := s.writeOne(ctx, message); err != nil {
				cancel(err)
				return
			}
		case <-s.ending:
			for len(s.out) > 0 {
				if err := s.writeOne(ctx, <-s.out); err != nil {
					cancel(err)
					return
				}
			}
			s.close()
			return
		}
	}
}

func (s *socket) writeOne(ctx context.Context, message []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, writeLimit, errSlowSocket)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, message)
}

// close says goodbye; a peer that does not answer is not waited for long.
func (s *socket) close() {
	linger := time.AfterFunc(closeLinger, func() { _ = s.conn.CloseNow() })
	defer linger.Stop()
	_ = s.conn.Close(s.code, s.reason)
}

// watch asks the peer for a sign of life: a network that went away closes no socket.
func (s *socket) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(s.ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ending:
			return
		case <-tick.C:
			pingCtx, stop := context.WithTimeout(ctx, s.silence)
			err := s.conn.Ping(pingCtx)
			stop()
			if err != nil {
				cancel(err)
				_ = s.conn.CloseNow()
				return
			}
		}
	}
}
