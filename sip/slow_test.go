package sip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
)

// soon is a limit that a test waits for.
const soon = 100 * time.Millisecond

// strained is an agent with every kind of stream, of which limits bound the connections.
type strained struct {
	*gateway
	t     *testing.T
	peer  *tls.Config
	other net.Conn // of a peer that does nothing wrong
	asked int

	before StreamStats // what was counted until it got through
}

func strain(t *testing.T, limits streamLimits) *strained {
	t.Helper()
	ca := newAuthority(t)
	cfg := Config{Listen: []string{"tcp://127.0.0.1:0", "tls://127.0.0.1:0", "ws://127.0.0.1:0", "wss://127.0.0.1:0"}, Trunks: []Trunk{office}, streams: limits}
	s := &strained{t: t, gateway: startAgent(t, ca.secured(cfg), newCallers(nil)), peer: ca.config("phone", "127.0.0.1")}
	s.peer.ServerName = "127.0.0.1"
	for try, until := 1, time.Now().Add(patience); ; try++ { // a slow machine may be too slow for the limits
		require.Less(t, time.Now(), until, "the agent does not answer")
		s.other = dialAlone(t, s.at("tcp"))
		_, _ = io.WriteString(s.other, options(fmt.Sprint("first", try), "TCP"))
		require.NoError(t, s.other.SetReadDeadline(until))
		if n, _ := s.other.Read(make([]byte, 4096)); n > 0 {
			break
		}
		_ = s.other.Close()
	}
	t.Cleanup(func() { _ = s.other.Close() })
	require.Eventually(t, func() bool { return s.StreamStats().Open == 1 }, patience, time.Millisecond)
	s.before = s.StreamStats()
	s.unharmed()
	return s
}

// dialAlone opens a connection over TCP from a port that no other gets while it is open. By itself the system gives one port to
// connections to several listeners, once in some 15000 times; of those to one agent only the first stays open.
func dialAlone(t *testing.T, addr string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	return conn
}

// dial opens a connection over TCP and does nothing with it.
func (s *strained) dial(network string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.at(network))
	require.NoError(s.t, err)
	return conn
}

// open opens a connection with its handshakes.
func (s *strained) open(network string) net.Conn {
	s.t.Helper()
	switch network {
	case "tls":
		conn, err := tls.Dial("tcp", s.at(network), s.peer)
		require.NoError(s.t, err)
		return conn
	case "ws", "wss":
		ctx, cancel := context.WithTimeout(s.t.Context(), patience)
		defer cancel()
		client := (&messagesClient{tls: s.peer}).http()
		ws, _, err := websocket.Dial(ctx, network+"://"+s.at(network), &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"sip"}}) //nolint:bodyclose // the library takes it
		require.NoError(s.t, err)
		return &socket{websocket.NetConn(context.Background(), ws, websocket.MessageText), ws}
	}
	return s.dial(network)
}

// socket is a WebSocket as a connection, and as what it is.
type socket struct {
	net.Conn
	ws *websocket.Conn
}

// unharmed: the connection of somebody else works.
func (s *strained) unharmed() {
	s.t.Helper()
	s.asked++
	_, err := s.other.Write([]byte(options(fmt.Sprint("other", s.asked), "TCP")))
	require.NoError(s.t, err)
	require.Contains(s.t, readPiece(s.t, s.other), "SIP/2.0 200 OK")
}

// closed waits until the agent ends a connection, and checks that nothing of it is left and that the other one works.
func (s *strained) closed(conn net.Conn) {
	s.t.Helper()
	require.NoError(s.t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.Copy(io.Discard, conn)
	require.NotErrorIs(s.t, err, os.ErrDeadlineExceeded, "it is open")
	require.NotErrorIs(s.t, err, context.DeadlineExceeded, "it is open")
	_ = conn.Close()
	s.alone()
}

// alone waits until nothing but the other connection is left.
func (s *strained) alone() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		s.streams.mu.Lock()
		defer s.streams.mu.Unlock()
		return len(s.streams.all) == 1 && len(s.streams.peers) == 1 && s.streams.accepted == 1 && len(s.streams.sources) == 1 && s.streams.strangers == 0
	}, patience, time.Millisecond, "something of it is left")
	require.Eventually(s.t, func() bool { return s.tp.Pool("tcp").Size() <= 2 }, patience, time.Millisecond, "the library keeps it")
	s.unharmed()
}

// counted is what was counted, without what is open.
func (s *strained) counted() StreamStats {
	now, was := s.StreamStats(), s.before
	return StreamStats{
		Refused: now.Refused - was.Refused, Unmet: now.Unmet - was.Unmet, Silent: now.Silent - was.Silent, Slow: now.Slow - was.Slow,
		Idle: now.Idle - was.Idle, Unread: now.Unread - was.Unread, Broken: now.Broken - was.Broken,
	}
}

// eachStream runs a test for each kind of stream.
func eachStream(t *testing.T, limits streamLimits, networks []string, test func(t *testing.T, s *strained, network string)) {
	t.Helper()
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			test(t, strain(t, limits), network)
		})
	}
}

//nolint:gochecknoglobals // a constant in all but the language
var allStreams = []string{"tcp", "tls", "ws", "wss"}

// TestSilentConnectionIsClosed: who connects and says nothing is closed; keep-alives are no message.
func TestSilentConnectionIsClosed(t *testing.T) {
	t.Parallel()
	eachStream(t, streamLimits{first: soon}, allStreams, func(t *testing.T, s *strained, network string) {
		t.Helper()
		s.closed(s.open(network))
		require.Equal(t, StreamStats{Silent: 1}, s.counted())
		pinging := s.open(network)
		pinged := make(chan struct{})
		go func() {
			defer close(pinged)
			for {
				if _, err := pinging.Write([]byte(ping)); err != nil {
					return
				}
				if _, err := io.ReadFull(pinging, make([]byte, len(pong))); err != nil {
					return
				}
			}
		}()
		select {
		case <-pinged:
		case <-time.After(patience):
			require.Fail(t, "pings keep it open")
		}
		_ = pinging.Close()
		s.alone()
		require.Equal(t, StreamStats{Silent: 2}, s.counted())
	})
}

// TestUnfinishedMessageEndsItsConnection: a message has its time from its first byte.
func TestUnfinishedMessageEndsItsConnection(t *testing.T) {
	t.Parallel()
	eachStream(t, streamLimits{whole: soon}, allStreams, func(t *testing.T, s *strained, network string) {
		t.Helper()
		conn := s.open(network)
		if ws, ok := conn.(*socket); ok { // part of a frame
			w, err := ws.ws.Writer(t.Context(), websocket.MessageText)
			require.NoError(t, err)
			_, _ = io.WriteString(w, strings.Repeat("X", 16<<10)) // its time may be over before all of it went
		} else {
			_, err := conn.Write([]byte(options("slow", "TCP")[:40]))
			require.NoError(t, err)
		}
		s.closed(conn)
		require.Equal(t, StreamStats{Slow: 1}, s.counted())
	})
}

// TestMessageWithoutEnd: headers that go on for ever, and a body longer than any, end the connection as soon as that is
// known.
func TestMessageWithoutEnd(t *testing.T) {
	t.Parallel()
	eachStream(t, streamLimits{}, allStreams[:2], func(t *testing.T, s *strained, network string) {
		t.Helper()
		start := options("long", "TCP")
		for i, text := range []string{
			start[:len(start)-2] + strings.Repeat("X-Header: more\r\n", 5000), strings.Replace(start, "Content-Length: 0", "Content-Length: 70000", 1),
		} {
			conn := s.open(network)
			_, _ = conn.Write([]byte(text))
			s.closed(conn)
			require.Equal(t, StreamStats{Broken: uint64(i + 1)}, s.counted())
		}
	})
}

// TestHandshakeHasItsTime: TLS, HTTP and WebSocket together have a bound that nothing prolongs, and what is none of them
// counts as well.
func TestHandshakeHasItsTime(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"silence": "", "half": "GET / HTTP/1.1\r\nHost: a\r\n", "another request": "GET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachStream(t, streamLimits{handshake: soon}, allStreams[1:], func(t *testing.T, s *strained, network string) {
				t.Helper()
				conn := s.dial(network)
				if network == "wss" && text != "" {
					conn = tls.Client(conn, s.peer)
				}
				_, _ = conn.Write([]byte(text)) // the time may be over before TLS is up
				s.closed(conn)
				require.Equal(t, StreamStats{Unmet: 1}, s.counted())
			})
		})
	}
}

// TestConnectionIsRefused: whoever has too many gets no more, before any handshake, and gets more when one has ended.
func TestConnectionIsRefused(t *testing.T) {
	t.Parallel()
	eachStream(t, streamLimits{ofSource: 3}, allStreams, func(t *testing.T, s *strained, network string) {
		t.Helper()
		first, second := s.dial(network), s.dial(network)
		defer func() { _ = second.Close() }()
		require.Eventually(t, func() bool { return s.StreamStats().Open == 3 }, patience, time.Millisecond)
		third := s.dial(network)
		require.NoError(t, third.SetReadDeadline(time.Now().Add(patience)))
		_, err := io.Copy(io.Discard, third)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, StreamStats{Refused: 1}, s.counted())
		require.NoError(t, third.Close())
		require.NoError(t, first.Close())
		require.Eventually(t, func() bool { return s.StreamStats().Open == 2 }, patience, time.Millisecond)
		again := s.open(network)
		_, err = again.Write([]byte(options("again", strings.ToUpper(network))))
		require.NoError(t, err)
		require.Contains(t, readPiece(t, again), "SIP/2.0 200 OK")
		_ = again.Close()
		_ = second.Close()
		s.alone()
	})
}

// TestSecondConnectionOfOnePortIsRefused: a port may lead to two listeners, as behind a NAT. The first is answered, whatever becomes of
// the second.
func TestSecondConnectionOfOnePortIsRefused(t *testing.T) {
	t.Parallel()
	eachStream(t, streamLimits{}, allStreams[1:], func(t *testing.T, s *strained, network string) {
		t.Helper()
		shared := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			return errors.Join(raw.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
			}), err)
		}, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} // as in dialAlone: the port is to be had a second time
		first, err := shared.Dial("tcp", s.at("tcp"))
		require.NoError(t, err)
		defer func() { _ = first.Close() }()
		works := func(branch string) {
			_, err := io.WriteString(first, options(branch, "TCP"))
			require.NoError(t, err)
			require.Contains(t, readPiece(t, first), "SIP/2.0 200 OK")
		}
		works("before")

		shared.LocalAddr = first.LocalAddr()
		raw, err := shared.Dial("tcp", s.at(network))
		require.NoError(t, err)
		second := raw
		if network != "ws" {
			second = tls.Client(raw, s.peer)
		}
		if network != "tls" {
			transport := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return second, nil }}
			transport.DialContext = transport.DialTLSContext
			ws, _, err := websocket.Dial(t.Context(), network+"://"+s.at(network), &websocket.DialOptions{ //nolint:bodyclose // the library takes it
				HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"sip"},
			})
			require.NoError(t, err)
			second = websocket.NetConn(t.Context(), ws, websocket.MessageText)
		}
		require.NoError(t, second.SetReadDeadline(time.Now().Add(patience)))
		_, err = io.Copy(io.Discard, second)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is open")
		require.NotErrorIs(t, err, context.DeadlineExceeded, "it is open")
		_ = second.Close()
		require.Equal(t, StreamStats{Refused: 1}, s.counted())
		works("after")
		_ = first.Close()
		s.alone()
	})
}

// TestPeerThatDoesNotReadIsClosed: what it asked for is not kept for it.
func TestPeerThatDoesNotReadIsClosed(t *testing.T) {
	t.Parallel()
	eachStream(t, streamLimits{write: 5 * soon}, []string{"tcp", "wss"}, func(t *testing.T, s *strained, network string) {
		t.Helper()
		conn := s.open(network)
		long := "From: \"" + strings.Repeat("x", 50000) + "\" " // which the answer repeats
		for i := 0; ; i++ {
			text := strings.Replace(options(fmt.Sprint("unread", i), strings.ToUpper(network)), "From: ", long, 1)
			if _, err := conn.Write([]byte(text)); err != nil {
				break
			}
		}
		_ = conn.Close()
		s.alone()
		// A WebSocket ends in the library, for the reader too, before the write that took too long says so.
		require.Eventually(t, func() bool { return s.counted() != StreamStats{} }, patience, time.Millisecond, "nothing is counted")
		require.Equal(t, StreamStats{Unread: 1}, s.counted())
	})
}

// TestPeerThatIsCalledTakesTooLong: a server that accepts our connection and never ends its handshake is given up.
func TestPeerThatIsCalledTakesTooLong(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for _, network := range allStreams[1:] {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			trunk := Trunk{Name: "carrier", Account: "1", URI: "sip:" + w.listen.Addr().String() + ";transport=" + network}
			g := startAgent(t, ca.secured(Config{Trunks: []Trunk{trunk}, streams: streamLimits{connect: soon}}), newCallers(nil))
			leg, err := g.Dial(t.Context(), dialogs.Dial{Dialog: "d", Account: "1", To: "+15550100", From: "+15550199"})
			require.NoError(t, err)
			w.accept()
			require.Equal(t, dialogs.Cause{Reason: dialogs.Error, Details: "trunk carrier: cannot be reached"}, end(t, leg))
			require.NoError(t, w.conn.SetReadDeadline(time.Now().Add(patience)))
			_, err = io.Copy(io.Discard, w.conn)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is open")
			g.idle(t)
			require.False(t, anyStream(g))
		})
	}
}

// timedStream is one end of a pipe as the stream of a peer that a trunk names, and the other end.
func timedStream(stats *StreamStats) (s *stream, far net.Conn) {
	near, far := net.Pipe()
	s = streamOver(near)
	quiet := slog.New(slog.DiscardHandler)
	all := netip.MustParsePrefix("0.0.0.0/0")
	s.dialled, s.opened, s.remote = false, time.Now(), netip.MustParseAddrPort("192.0.2.1:5060")
	s.front = newFront(newGuard(GuardConfig{}, all.Contains, quiet), quiet)
	s.count = func(add func(*StreamStats)) { add(stats) }
	return s, far
}

// TestTimeOfAStream: which of the limits ends a connection, and when.
func TestTimeOfAStream(t *testing.T) {
	limits := streamLimits{}.orDefaults()
	message := options("timed", "TCP")
	half := len(message) / 2
	type step struct {
		after time.Duration
		text  string
	}
	drip := func(n int) []step {
		var all []step
		for _, b := range message[:n] {
			all = append(all, step{time.Second, string(b)})
		}
		return all
	}
	for _, c := range []struct {
		name  string
		steps []step
		heard int           // messages
		end   time.Duration // of the connection
		stats StreamStats
	}{
		{"silence", nil, 0, limits.first, StreamStats{Silent: 1}},
		{"pings and no message", []step{{20 * time.Second, ping}, {9 * time.Second, ping}}, 0, limits.first, StreamStats{Silent: 1}},
		{"byte by byte", drip(30), 0, time.Second + limits.whole, StreamStats{Slow: 1}},
		{"a pause before the message", []step{{25 * time.Second, message[:half]}, {9 * time.Second, message[half:]}}, 1, 34*time.Second + limits.idle, StreamStats{Idle: 1}},
		{
			"a ping in two, then a message in two",
			[]step{{0, message}, {0, "\r"}, {time.Second, "\n"}, {20 * time.Minute, message[:half]}, {9 * time.Second, message[half:]}},
			2, 20*time.Minute + 10*time.Second + limits.idle,
			StreamStats{Idle: 1},
		},
		{"keep-alives", []step{{0, message}, {29 * time.Minute, ping}, {29 * time.Minute, ping}}, 1, 58*time.Minute + limits.idle, StreamStats{Idle: 1}},
		{"a part behind a message", []step{{20 * time.Second, message + message[:half]}}, 1, 20*time.Second + limits.whole, StreamStats{Slow: 1}},
		{"a part of a keep-alive", []step{{0, message + "\r"}}, 1, limits.whole, StreamStats{Slow: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stats StreamStats
				s, far := timedStream(&stats)
				defer func() { _ = s.Close() }()
				began := time.Now()
				go func() { _, _ = io.Copy(io.Discard, far) }()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for _, step := range c.steps {
						time.Sleep(step.after)
						if _, err := io.WriteString(far, step.text); err != nil {
							return
						}
					}
				}()
				var read strings.Builder
				_, err := io.Copy(&read, s)
				require.NoError(t, err, "an end")
				require.Equal(t, c.end, time.Since(began))
				require.Equal(t, c.heard, strings.Count(read.String(), "OPTIONS sip:"))
				require.Equal(t, c.stats, stats)
				require.NoError(t, s.Close())
				<-sent
			})
		})
	}
}

// TestTimeOfAWrite: a peer that does not read has the time of one write, however many wait behind it.
func TestTimeOfAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stats StreamStats
		s, _ := timedStream(&stats)
		began := time.Now()
		errs := make(chan error, 10)
		for i := range cap(errs) {
			go func() {
				time.Sleep(time.Duration(i) * time.Second)
				require.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Hour)))
				_, err := s.Write([]byte(ping))
				errs <- err
			}()
		}
		require.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)
		require.Equal(t, s.limits.write, time.Since(began))
		for range cap(errs) - 1 {
			require.Error(t, <-errs)
		}
		<-s.gone
		require.Equal(t, StreamStats{Unread: 1}, stats)
	})
}

// TestLongMessageLeavesNoMemory: the room that one message needed is not kept while the connection waits for the next.
func TestLongMessageLeavesNoMemory(t *testing.T) {
	t.Parallel()
	var stats StreamStats
	s, far := timedStream(&stats)
	long := strings.Replace(options("long", "TCP"), "Content-Length: 0", "Content-Length: 60000", 1) + strings.Repeat("x", 60000)
	go func() {
		_, _ = io.WriteString(far, long)
		_, _ = io.WriteString(far, "\r")
		_ = far.Close()
	}()
	var read strings.Builder
	_, _ = io.Copy(&read, s) // how it ends does not matter
	require.Greater(t, read.Len(), len(long))
	require.Equal(t, keptBuffer, cap(s.buf))
	require.NoError(t, s.Close())
}
