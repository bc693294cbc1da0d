package load

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	timerT1     = 500 * time.Millisecond // RFC 3261 §17.1.1.1
	callerTick  = time.Millisecond
	repeatTick  = 20 * time.Millisecond
	giveUpAfter = 10 * time.Second // of a call that gets no further
	socketBytes = 8 << 20          // what the kernel keeps while we are not scheduled
)

// caller makes calls over one UDP socket: INVITE, and on its 200 ACK and BYE at once. It speaks SIP by hand, since it must
// cost less than what it measures.
type caller struct {
	conn   *net.UDPConn
	media  net.PacketConn // where the gateway's RTP goes, unread
	tokens []string       // of participants, in turn
	offer  string

	mu    sync.Mutex
	calls map[string]*attempt
	made  int
}

// attempt is one call. Times are zero until they are reached.
type attempt struct {
	id       string
	invited  time.Time
	trying   time.Time
	ringing  time.Time
	answered time.Time
	over     time.Time
	status   int // of the final answer to the INVITE

	request  []byte // to send again
	sent     time.Time
	interval time.Duration
	quiet    bool // a provisional answer came: the INVITE is not repeated
	repeats  int  // of ours, and of the 200
}

func newCaller(ctx context.Context, target string, tokens []string) (*caller, error) {
	addr, err := net.ResolveUDPAddr("udp4", target)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	c := &caller{tokens: tokens, calls: map[string]*attempt{}}
	if c.conn, err = net.DialUDP("udp4", nil, addr); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	_ = c.conn.SetReadBuffer(socketBytes) // as much of it as the kernel allows
	var lc net.ListenConfig
	if c.media, err = lc.ListenPacket(ctx, "udp4", "127.0.0.1:0"); err != nil {
		_ = c.conn.Close()
		return nil, fmt.Errorf("load: %w", err)
	}
	_, port, _ := net.SplitHostPort(c.media.LocalAddr().String())
	number, _ := strconv.Atoi(port)
	c.offer = fixedSDP(number)
	return c, nil
}

func (c *caller) close() {
	_ = c.conn.Close()
	_ = c.media.Close()
}

// place makes calls at a steady rate for a time, waits until they are over, and returns them.
func (c *caller) place(ctx context.Context, rate float64, duration time.Duration) ([]*attempt, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer func() { _ = c.conn.SetReadDeadline(time.Now()) }()
	_ = c.conn.SetReadDeadline(time.Time{})
	running.Go(c.read)
	running.Go(func() { c.repeat(ctx) })
	defer cancel()

	total := int(rate * duration.Seconds())
	all := make([]*attempt, 0, total)
	tick := time.NewTicker(callerTick)
	defer tick.Stop()
	start := time.Now()
	for len(all) < total {
		for due := min(total, int(time.Since(start).Seconds()*rate)+1); len(all) < due; {
			all = append(all, c.invite())
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
	deadline := time.Now().Add(giveUpAfter)
	for c.inFlight() > 0 && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.calls)
	return all, nil
}

func (c *caller) inFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

func (c *caller) invite() *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	a := &attempt{id: "bench-" + strconv.Itoa(c.made) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	user := ""
	if len(c.tokens) > 0 {
		user = "User-to-User: " + c.tokens[c.made%len(c.tokens)] + ";encoding=jwt\r\n"
	}
	a.request = c.message("INVITE", a.id, "i", "", 1, user+"Content-Type: application/sdp\r\n", c.offer)
	c.calls[a.id] = a
	a.invited = time.Now()
	c.send(a)
	return a
}

// message renders a request of a call; step tells its transactions apart.
func (c *caller) message(method, id, step, toTag string, seq int, headers, body string) []byte {
	self, to := c.conn.LocalAddr(), c.conn.RemoteAddr()
	return []byte(fmt.Sprintf("%s sip:bench@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s%s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:+15550123@%s>;tag=%s\r\nTo: <sip:bench@%s>%s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nContact: <sip:bench@%s>\r\n%sContent-Length: %d\r\n\r\n%s",
		method, to, self, id, step, self, id, to, toTag, id, seq, method, self, headers, len(body), body))
}

// send starts the repetition of a's request. The caller holds mu.
func (c *caller) send(a *attempt) {
	a.sent, a.interval, a.quiet = time.Now(), timerT1, false
	_, _ = c.conn.Write(a.request)
}

// repeat sends again what was not answered (timers A and E).
func (c *caller) repeat(ctx context.Context) {
	tick := time.NewTicker(repeatTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		for _, a := range c.calls {
			if !a.quiet && time.Since(a.sent) >= a.interval {
				a.repeats++
				a.sent, a.interval = time.Now(), 2*a.interval
				_, _ = c.conn.Write(a.request)
			}
		}
		c.mu.Unlock()
	}
}

// read takes answers until the socket's deadline.
func (c *caller) read() {
	buf := make([]byte, 65536)
	for {
		n, err := c.conn.Read(buf)
		if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // as it comes from the socket
			return
		}
		if err != nil {
			return
		}
		c.answered(string(buf[:n]), time.Now())
	}
}

func (c *caller) answered(text string, now time.Time) {
	first, _, _ := strings.Cut(text, "\r\n")
	rest, ok := strings.CutPrefix(first, "SIP/2.0 ")
	if !ok || len(rest) < 3 {
		return
	}
	status, err := strconv.Atoi(rest[:3])
	if err != nil {
		return
	}
	id, seq := field(text, "Call-ID"), field(text, "CSeq")
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.calls[id]
	if a == nil {
		return
	}
	if strings.HasSuffix(seq, "BYE") {
		if status >= 200 {
			a.over = now
			delete(c.calls, id)
		}
		return
	}
	switch {
	case status < 200:
		a.quiet = a.answered.IsZero() || a.quiet
		if a.trying.IsZero() {
			a.trying = now
		}
		if status >= 180 && a.ringing.IsZero() {
			a.ringing = now
		}
	case status >= 300:
		a.status, a.over = status, now
		_, _ = c.conn.Write(c.message("ACK", id, "i", tagOf(text), 1, "", ""))
		delete(c.calls, id)
	default:
		tag := tagOf(text)
		_, _ = c.conn.Write(c.message("ACK", id, "a", tag, 1, "", ""))
		if !a.answered.IsZero() {
			a.repeats++
			return
		}
		a.status, a.answered = status, now
		a.request = c.message("BYE", id, "b", tag, 2, "", "")
		c.send(a)
	}
}

// field returns the value of a header as the peers here write it.
func field(text, name string) string {
	_, after, _ := strings.Cut(text, "\r\n"+name+": ")
	value, _, _ := strings.Cut(after, "\r\n")
	return value
}

// tagOf returns the To tag with its semicolon.
func tagOf(text string) string {
	to := field(text, "To")
	i := strings.LastIndex(to, ";tag=")
	if i < 0 {
		return ""
	}
	return to[i:]
}
