package sip

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	keptBuffer = 4096 // bytes of a stream that waits for a message

	pingInterval = 25 * time.Second // of silence on a connection of ours before we ping
	pongTimeout  = 10 * time.Second // RFC 5626 §4.4.1
)

// The keep-alive of RFC 5626 §4.4.1.
const (
	ping = "\r\n\r\n"
	pong = "\r\n"
)

// stream is a connection over TCP, TLS or WebSocket as the library reads it: whole messages and nothing else. The
// keep-alive of RFC 5626 stays in here, as do the limits on what a peer may send and how long it may take.
type stream struct {
	net.Conn // the bytes, behind TLS and WebSocket

	network    string // tcp, tls, ws or wss
	remote     netip.AddrPort
	dialled    bool           // by us
	name       string         // whom the certificate was checked for, when dialled
	shows      certFiles      // our own, likewise
	registered chan struct{}  // closed when the library has it in its pool
	pooled     sip.Connection // as it has it there, once registered is closed; nil: no longer
	onClose    func(*stream)
	spawn      func(work func()) bool // see streams.spawn
	front      *front                 // judges what comes
	limits     streamLimits
	count      func(func(*StreamStats))
	opened     time.Time
	writing    chan struct{} // a place for one at a time, so that each has its own time
	closing    sync.Once
	gone       chan struct{} // closed when the connection is

	// Owned by the reader.
	buf   []byte
	ready int       // bytes at the front of buf that the library may read
	begun time.Time // when the first byte of an unfinished message came
	heard bool      // a message came
	half  bool      // one CRLF came, of the two of a ping

	mu      sync.Mutex
	spoken  time.Time // when the last bytes came or went
	pinged  time.Time // when our ping went that is not answered; zero: none
	answers bool      // the peer answers pings
	broken  bool      // a transaction on it timed out: not used again
}

// Read is for the library's reader alone.
func (s *stream) Read(b []byte) (int, error) {
	for {
		if s.ready > 0 {
			n := copy(b, s.buf[:s.ready])
			s.ready -= n
			s.buf = s.buf[:copy(s.buf, s.buf[n:])]
			return n, nil
		}
		n, what, err := frame(s.buf)
		if err != nil {
			s.count(func(c *StreamStats) { c.Broken++ })
			_ = s.give(s.front.broken(s.buf[:n], err.Error(), s.remote))
			return 0, io.EOF // nothing to go on from
		}
		switch what {
		case pieceMessage:
			s.heard, s.half, s.begun = true, false, time.Time{}
			if err := s.judge(n); err != nil {
				return 0, err
			}
		case pieceBlank:
			s.begun = time.Time{}
			s.buf = s.buf[:copy(s.buf, s.buf[n:])]
			if err := s.blank(); err != nil {
				return 0, err
			}
		case pieceNone:
			if err := s.fill(); err != nil {
				return 0, err
			}
		}
	}
}

// judge puts what the library may read of the message of n bytes in its place, and answers what is to be answered.
func (s *stream) judge(n int) error {
	if guard := s.front.guard; !s.dialled && !guard.admit(s.remote.Addr(), n, !isResponse(s.buf)) {
		s.buf = s.buf[:copy(s.buf, s.buf[n:])]
		if guard.isBanned(s.remote.Addr()) {
			return io.EOF
		}
		return nil
	}
	v := s.front.judge(s.buf[:n], s.remote)
	if len(v.pass) == n {
		copy(s.buf, v.pass)
	} else {
		s.buf = slices.Replace(s.buf, 0, n, v.pass...)
	}
	s.ready = len(v.pass)
	return s.give(v)
}

// give sends the answer of the front, if there is one.
func (s *stream) give(v verdict) error {
	if v.answer == nil {
		return nil
	}
	return s.send(string(v.answer))
}

// fill waits for more bytes, no longer than the rest of the message may take.
func (s *stream) fill() error {
	now := time.Now()
	deadline, missed := now.Add(s.limits.idle), func(c *StreamStats) { c.Idle++ }
	slow := func(c *StreamStats) { c.Slow++ }
	switch {
	case len(s.buf) > 0:
		if s.begun.IsZero() {
			s.begun = now
		}
		deadline, missed = s.begun.Add(s.limits.whole), slow
	case !s.heard && !s.dialled:
		deadline, missed = s.opened.Add(s.limits.first), func(c *StreamStats) { c.Silent++ }
	}
	if err := s.SetReadDeadline(deadline); err != nil {
		return err
	}
	s.room()
	n, err := s.Conn.Read(s.buf[len(s.buf):cap(s.buf)])
	s.buf = s.buf[:len(s.buf)+n]
	if n > 0 {
		s.mu.Lock()
		s.spoken = time.Now()
		s.mu.Unlock()
		return nil
	}
	switch {
	case errors.Is(err, errSlow):
		s.count(slow)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.count(missed)
	case errors.Is(err, errTooLong):
		s.count(func(c *StreamStats) { c.Broken++ })
	default:
		return err
	}
	return io.EOF // to the library that is an end, not an error to shout about
}

// room makes place for more bytes. What a long message took is given back behind it.
func (s *stream) room() {
	switch {
	case len(s.buf) == 0 && cap(s.buf) > keptBuffer:
		s.buf = make([]byte, 0, keptBuffer)
	case cap(s.buf)-len(s.buf) < 1024:
		s.buf = append(make([]byte, 0, max(keptBuffer, 2*cap(s.buf))), s.buf...)
	}
}

// blank takes a CRLF between messages: the pong that we wait for, or half of a ping, which is answered when it is whole.
func (s *stream) blank() error {
	s.mu.Lock()
	waiting := !s.pinged.IsZero()
	s.pinged = time.Time{}
	s.answers = s.answers || waiting
	s.mu.Unlock()
	if waiting {
		return nil
	}
	if s.half = !s.half; s.half {
		return nil
	}
	return s.send(pong)
}

// send writes what is no message.
func (s *stream) send(text string) error {
	_, err := s.Write([]byte(text))
	return err
}

// Write is safe from any goroutine. What could be written in part only is the end of the connection: nothing behind it
// could be read. So is a peer that does not read.
func (s *stream) Write(b []byte) (int, error) {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	now := time.Now()
	s.mu.Lock()
	s.spoken = now
	s.mu.Unlock()
	if err := s.Conn.SetWriteDeadline(now.Add(s.limits.write)); err != nil {
		return 0, err
	}
	n, err := s.Conn.Write(b)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.count(func(c *StreamStats) { c.Unread++ })
		}
		_ = s.Close()
	}
	return n, err
}

// SetWriteDeadline does nothing: the time for a write begins with it, and whoever comes next does not prolong it.
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// keep pings a connection of ours that is silent, and says whether the peer is gone: it answered pings once, and does
// not answer the last.
func (s *stream) keep(now time.Time) (dead bool) {
	s.mu.Lock()
	late := !s.pinged.IsZero() && now.Sub(s.pinged) > s.limits.pong
	dead = late && s.answers
	due := s.dialled && now.Sub(s.spoken) >= s.limits.ping && (s.pinged.IsZero() || late)
	if due && !dead {
		s.pinged = now
	}
	s.mu.Unlock()
	if due && !dead {
		return s.send(ping) != nil
	}
	return dead
}

// retire lets no further request use the connection.
func (s *stream) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
}

// carries says whether what goes over a network and is to show a certificate may go over the connection. Whoever made it
// was shown ours.
func (s *stream) carries(network string, shows certFiles) bool {
	return s.network == network && (!s.dialled || s.shows == shows)
}

func (s *stream) usable() bool {
	select {
	case <-s.registered:
	default:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.broken
}

// Close may be called any number of times. It waits for nobody: TLS says goodbye for up to 5 s to a peer that does not read, and
// the library closes under the lock that all connections share.
func (s *stream) Close() error {
	var err error
	s.closing.Do(func() {
		s.onClose(s) // first: whoever sees it gone finds another
		close(s.gone)
		if s.network == networkTCP || !s.spawn(func() { _ = s.Conn.Close() }) {
			err = s.Conn.Close()
		}
	})
	return err
}
