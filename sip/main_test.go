package sip

import (
	"context"
	"errors"
	"flag"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"tandem/dialogs"
	"tandem/media"
	"tandem/test/testlog"
)

// TestMain makes the timers of RFC 3261 twice as fast, before anything reads them, and no faster: on a machine that is busy,
// 64×T1 must be time enough for what does come. Most tests wait for a SIPp or for a timer rather than work, so that more of
// them than there are cores may run at once.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	sip.SetTimers(250*time.Millisecond, 2*time.Second, 2500*time.Millisecond)
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of these tests, of which some are for 64×T1.
const patience = 90 * time.Second

// callers is a fake dialogs.Callers: decide gives the verdict, the legs of accepted calls come out of legs.
type callers struct {
	decide func(dialogs.Incoming) error
	legs   chan dialogs.Leg

	mu   sync.Mutex
	seen []dialogs.Incoming
}

func newCallers(decide func(dialogs.Incoming) error) *callers {
	return &callers{decide: decide, legs: make(chan dialogs.Leg, 16)}
}

func (c *callers) Incoming(_ context.Context, in dialogs.Incoming) (func(dialogs.Leg), error) {
	c.mu.Lock()
	c.seen = append(c.seen, in)
	c.mu.Unlock()
	if c.decide != nil {
		if err := c.decide(in); err != nil {
			return nil, err
		}
	}
	return func(l dialogs.Leg) { c.legs <- l }, nil
}

func (c *callers) calls() []dialogs.Incoming {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]dialogs.Incoming(nil), c.seen...)
}

// leg returns the next accepted call.
func (c *callers) leg(t *testing.T) dialogs.Leg {
	t.Helper()
	select {
	case l := <-c.legs:
		return l
	case <-time.After(patience):
		require.Fail(t, "no call came in")
		return nil
	}
}

// gateway is an Agent that serves until the test is over.
type gateway struct {
	*Agent
	ports *media.Ports
	ca    *authority // of its certificate, where the test brought none
	stop  func()     // ends Serve and waits for it
	kept  *logbook   // what it has logged
}

// logbook keeps what an agent has logged.
type logbook struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

// lines are those with all of these words.
func (l *logbook) lines(words ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.all.String()) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			found = append(found, line)
		}
	}
	return found
}

func startAgent(t *testing.T, cfg Config, in dialogs.Callers) *gateway {
	t.Helper()
	return startAgentOn(t, cfg, in, media.PortsConfig{From: 40000, To: 49999})
}

func startAgentOn(t *testing.T, cfg Config, in dialogs.Callers, rtp media.PortsConfig) *gateway {
	t.Helper()
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{"udp://127.0.0.1:0", "tcp://127.0.0.1:0"}
	}
	var ca *authority
	if slices.ContainsFunc(cfg.Listen, func(uri string) bool { return strings.HasPrefix(uri, "tls:") }) && cfg.TLSCert == "" {
		ca = newAuthority(t)
		cfg = ca.secured(cfg)
	}
	level := slog.LevelInfo
	if os.Getenv("TANDEM_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	book := &logbook{}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(testlog.Writer(t), book), &slog.HandlerOptions{Level: level}))
	if len(rtp.Listen) == 0 {
		rtp.Listen = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	}
	ports, err := media.NewPorts(rtp)
	require.NoError(t, err)
	a, err := Listen(cfg, ports, log)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, in) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-served:
				require.NoError(t, err)
			case <-time.After(patience):
				require.Fail(t, "Serve does not end")
			}
		})
	}
	t.Cleanup(stop)
	require.Eventually(t, func() bool { _, ok := a.enter(); defer a.leave(ok); return ok }, patience, time.Millisecond)
	return &gateway{Agent: a, ports: ports, ca: ca, stop: stop, kept: book}
}

// leave undoes enter.
func (a *Agent) leave(entered bool) {
	if entered {
		a.work.Done()
	}
}

// at returns host:port of the agent's listener for network.
func (g *gateway) at(network string) string {
	for _, uri := range g.Addrs() {
		if hostport, ok := strings.CutPrefix(uri, network+"://"); ok {
			return hostport
		}
	}
	return ""
}

// on is at for the listener on one of several addresses.
func (g *gateway) on(network, host string) string {
	for _, uri := range g.Addrs() {
		hostport, ok := strings.CutPrefix(uri, network+"://")
		if at, err := netip.ParseAddrPort(hostport); ok && err == nil && at.Addr().String() == host {
			return hostport
		}
	}
	return ""
}

// idle waits until no call is up and no port in use.
func (g *gateway) idle(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		open, _ := g.ports.InUse()
		return open == 0 && g.anyCall() == nil
	}, patience, 5*time.Millisecond, "a call or a port is left")
}

// next returns a leg's next event.
func next(t *testing.T, l dialogs.Leg) dialogs.LegEvent {
	t.Helper()
	select {
	case e, ok := <-l.Events():
		require.True(t, ok, "the events are over")
		return *e
	case <-time.After(patience):
		require.Fail(t, "no event came")
		return dialogs.LegEvent{}
	}
}

// await returns the next event of a kind and fails on the end of the leg before it.
func await(t *testing.T, l dialogs.Leg, kind dialogs.LegEventKind) dialogs.LegEvent {
	t.Helper()
	for {
		e := next(t, l)
		if e.Kind == kind {
			return e
		}
		require.NotEqual(t, dialogs.LegEnded, e.Kind, "the leg ended: %+v", e.Cause)
	}
}

// end returns why a leg ended, and checks that nothing comes after it.
func end(t *testing.T, l dialogs.Leg) dialogs.Cause {
	t.Helper()
	e := await(t, l, dialogs.LegEnded)
	select {
	case _, ok := <-l.Events():
		require.False(t, ok, "an event after LegEnded")
	case <-time.After(patience):
		require.Fail(t, "the events do not end")
	}
	return e.Cause
}

// sipp is a run of SIPp, the phone or the carrier of a test.
type sipp struct {
	t    *testing.T
	addr string // where it listens
	out  *strings.Builder
	done chan struct{}
	err  error // once done
	dir  string
}

// startSIPp runs a scenario of test/sipp for one call, no longer than 60 s.
func startSIPp(t *testing.T, scenario, transport string, args ...string) *sipp {
	t.Helper()
	return startSIPpOn(t, "127.0.0.1", scenario, transport, args...)
}

// startSIPpOn is startSIPp on another address of this machine.
func startSIPpOn(t *testing.T, host, scenario, transport string, args ...string) *sipp {
	t.Helper()
	return startSIPpAt(t, host, freePort(t), scenario, transport, args...)
}

// startSIPpAt is startSIPpOn with a port: one run for UDP and one for TCP may have the same.
func startSIPpAt(t *testing.T, host, port, scenario, transport string, args ...string) *sipp {
	t.Helper()
	path, err := exec.LookPath("sipp")
	require.NoError(t, err, "install the package sip-tester (make test-deps)")
	file, err := filepath.Abs(filepath.Join("..", "test", "sipp", scenario+".xml"))
	require.NoError(t, err)
	s := &sipp{t: t, addr: net.JoinHostPort(host, port), out: &strings.Builder{}, done: make(chan struct{}), dir: t.TempDir()}
	mode := "u1"
	if transport != "udp" {
		mode = "t1"
	}
	all := []string{
		"-sf", file, "-i", sippHost(host), "-p", port, "-t", mode, "-m", "1", "-timeout", "60", "-timeout_error", "-nostdin",
		"-mp", freePort(t), "-trace_err", "-error_file", "errors.log", "-trace_msg", "-message_file", "messages.log",
	}
	cmd := exec.Command(path, append(all, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, s.out, s.out
	require.NoError(t, cmd.Start())
	go func() {
		defer close(s.done)
		s.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		select {
		case <-s.done: // it has ended by itself
		default:
			_ = cmd.Process.Kill()
			<-s.done
		}
		if t.Failed() {
			s.show()
		}
	})
	return s
}

// sippHost writes an address as SIPp wants it.
func sippHost(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// passed waits for the end of the scenario and fails with its log unless it was met, and the rules of every scenario.
func (s *sipp) passed() {
	s.t.Helper()
	<-s.done
	require.NoError(s.t, s.err, "sipp: %s", s.out.String())
	require.Empty(s.t, judge(s.messages()))
}

// show logs what the run saw.
func (s *sipp) show() {
	for _, name := range []string{"errors.log", "messages.log"} {
		text, _ := os.ReadFile(filepath.Join(s.dir, name))
		s.t.Logf("%s:\n%s", name, text)
	}
}

// messages returns the messages of the run.
func (s *sipp) messages() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "messages.log"))
	if !errors.Is(err, fs.ErrNotExist) { // it is about to begin
		require.NoError(s.t, err)
	}
	return string(text)
}

// once is a log of messages without those that are in it before: they were sent again.
func once(messages string) string {
	seen := make(map[string]bool)
	var all strings.Builder
	for block := range strings.SplitSeq(messages, "\n----------") {
		_, message, _ := strings.Cut(block, "\n\n")
		if !seen[message] {
			seen[message] = true
			all.WriteString(block)
			all.WriteByte('\n')
		}
	}
	return all.String()
}

// lastPort is the last block of ports that freePort handed out: two runs of SIPp at once must not share one.
var lastPort atomic.Uint32

// freePort returns a port that was free for UDP and TCP a moment ago; so were the six after it (SIPp takes some for
// media of its own accord). The eighth is held until the test is over, which keeps other processes off the block: what is
// still on its way to a phone that is gone must not meet another's.
func freePort(t *testing.T) string {
	t.Helper()
	lastPort.CompareAndSwap(0, rand.Uint32N(1000)+1)
	for range 1000 {
		port := 10000 + 8*int(lastPort.Add(1)%1200)
		hold, err := net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+7)))
		if err != nil {
			continue
		}
		if slices.ContainsFunc([]int{0, 1, 2, 3, 4, 5, 6}, func(i int) bool { return !isFree(port + i) }) {
			_ = hold.Close()
			continue
		}
		t.Cleanup(func() { _ = hold.Close() })
		return strconv.Itoa(port)
	}
	require.Fail(t, "no free port")
	return ""
}

func isFree(port int) bool {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = l.Close() }()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	return u.Close() == nil
}
