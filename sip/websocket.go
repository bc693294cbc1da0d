package sip

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// subprotocol is SIP over WebSocket (RFC 7118 §4.1).
const subprotocol = "sip"

// messages is a WebSocket connection as a net.Conn: what is written at once is one message (RFC 7118 §5.1).
type messages struct {
	ws     *websocket.Conn
	local  net.Addr
	remote net.Addr
	whole  time.Duration // from the first byte of a message to its last
	rest   []byte        // of a message that was read in part; owned by the reader

	mu    sync.Mutex
	read  time.Time // deadlines
	write time.Time
}

func newMessages(ws *websocket.Conn, local, remote net.Addr, whole time.Duration) *messages {
	ws.SetReadLimit(maxMessage)
	return &messages{ws: ws, local: local, remote: remote, whole: whole}
}

func (m *messages) within(deadline *time.Time) (context.Context, context.CancelFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if deadline.IsZero() {
		return context.WithCancel(context.Background())
	}
	return context.WithDeadline(context.Background(), *deadline)
}

// errSlow is the end of a message that took too long.
var errSlow = fmt.Errorf("the rest of the message did not come: %w", os.ErrDeadlineExceeded)

// Read returns a message, or the next part of it. One without Content-Length, which needs none here, is given one.
func (m *messages) Read(b []byte) (int, error) {
	if len(m.rest) == 0 {
		message, err := m.next()
		if err != nil {
			return 0, err
		}
		m.rest = withLength(message)
	}
	n := copy(b, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// next returns the next message whole. The deadline is for its beginning; from then on it has its own time.
func (m *messages) next() ([]byte, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m.mu.Lock()
	deadline := m.read
	m.mu.Unlock()
	late := time.AfterFunc(time.Until(deadline), cancel)
	defer late.Stop()
	if deadline.IsZero() {
		late.Stop()
	}
	_, r, err := m.ws.Reader(ctx)
	switch {
	case !late.Stop() && !deadline.IsZero():
		return nil, os.ErrDeadlineExceeded
	case err != nil:
		return nil, io.EOF
	}
	late.Reset(m.whole)
	message, err := io.ReadAll(r)
	switch {
	case err == nil:
		return message, nil
	case ctx.Err() != nil:
		return nil, errSlow
	case errors.Is(err, websocket.ErrMessageTooBig):
		return nil, errTooLong
	}
	return nil, io.EOF
}

// withLength adds the Content-Length that a message over WebSocket may lack.
func withLength(message []byte) []byte {
	end := bytes.Index(message, []byte("\r\n\r\n"))
	if end <= 0 {
		return message
	}
	if _, found, err := contentLength(string(message[:end+2])); found || err != nil {
		return message
	}
	body := message[end+4:]
	return bytes.Join([][]byte{message[:end+2], fmt.Appendf(nil, "Content-Length: %d\r\n\r\n", len(body)), body}, nil)
}

func (m *messages) Write(b []byte) (int, error) {
	ctx, cancel := m.within(&m.write)
	defer cancel()
	switch err := m.ws.Write(ctx, websocket.MessageText, b); {
	case err != nil && ctx.Err() != nil:
		return 0, os.ErrDeadlineExceeded
	case err != nil:
		return 0, err
	}
	return len(b), nil
}

func (m *messages) Close() error {
	err := m.ws.CloseNow()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (m *messages) LocalAddr() net.Addr  { return m.local }
func (m *messages) RemoteAddr() net.Addr { return m.remote }

func (m *messages) SetDeadline(t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read, m.write = t, t
	return nil
}

func (m *messages) SetReadDeadline(t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read = t
	return nil
}

func (m *messages) SetWriteDeadline(t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.write = t
	return nil
}

// upgrade makes a connection of ours a WebSocket.
func upgrade(ctx context.Context, conn net.Conn, host string, whole time.Duration) (net.Conn, error) {
	given := false
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		if given {
			return nil, net.ErrClosed
		}
		given = true
		return conn, nil
	}}
	ws, _, err := websocket.Dial(ctx, "ws://"+host+"/", &websocket.DialOptions{ //nolint:bodyclose // the library takes it
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{subprotocol},
	})
	if err != nil {
		return nil, err
	}
	if ws.Subprotocol() != subprotocol {
		return nil, errors.Join(errors.New("the server does not speak SIP over WebSocket"), ws.CloseNow())
	}
	return newMessages(ws, conn.LocalAddr(), conn.RemoteAddr(), whole), nil
}

// guestKey is where a request's context has the guest that sent it.
type guestKey struct{}

// serveWebSocket accepts WebSockets until the listener is closed.
func (s *streams) serveWebSocket(l net.Listener, network string) error {
	l = door{l, s}
	if network == networkWSS {
		l = tls.NewListener(l, s.certs.server())
	}
	server := &http.Server{ //nolint:gosec // a guest has its time for all of this
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handshake(w, r, network) }),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, guestKey{}, guestOf(conn))
		},
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	err := server.Serve(l)
	return errors.Join(err, server.Close())
}

// handshake turns a request into a connection of the library. Any origin may connect: a caller shows a password or a
// token in the call itself, and a browser adds neither by itself.
func (s *streams) handshake(w http.ResponseWriter, r *http.Request, network string) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	g, _ := r.Context().Value(guestKey{}).(*guest)
	if g == nil || local == nil {
		http.Error(w, "no address", http.StatusInternalServerError)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}, InsecureSkipVerify: true})
	if err != nil {
		return // it has answered
	}
	if ws.Subprotocol() != subprotocol {
		_ = ws.Close(websocket.StatusPolicyViolation, "the subprotocol has to be sip")
		return
	}
	s.welcome(newMessages(ws, local, net.TCPAddrFromAddrPort(g.source), s.limits.whole), g, network)
}
