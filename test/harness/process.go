package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Process is a gateway as an operator runs it: a configuration, a database, a signal to stop it. Its ports and its
// database stay the same from one run to the next, and so does the Gateway through which tests speak to it.
type Process struct {
	*Gateway
	File string // the configuration file; empty: none

	command Command

	mu  sync.Mutex // held while it is started or ended
	run *Program   // nil: it does not run
}

// NewProcess prepares a gateway with a database (empty: an SQLite file of its own) and trunks to far ends (SIP URIs).
// Start runs it.
func NewProcess(tb testing.TB, database string, trunks ...string) *Process {
	tb.Helper()
	_, err := shared.build()
	require.NoError(tb, err)
	dir := tb.TempDir()
	if database == "" {
		database = "sqlite:" + filepath.Join(dir, "tandem.db")
	}
	p := newProcess(tb, Command{Dir: dir})
	p.File = filepath.Join(dir, "tandem.yaml")
	p.command.Args = []string{"serve", "--config", p.File}
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, `database:
  url: %q
log:
  level: debug
accounts:
  - id: %q
    username: %s
    passwordHash: %q
    callbackSecret: %q
`, database, Account, User, shared.hash, CallbackSecret)
	for i, uri := range trunks {
		if i == 0 {
			text.WriteString("trunks:\n")
		}
		_, _ = fmt.Fprintf(&text, "  - {name: trunk%d, account: %q, uri: %q, allow: [127.0.0.1/32]}\n", i, Account, uri)
	}
	require.NoError(tb, os.WriteFile(p.File, []byte(text.String()), 0o600))
	return p
}

// NewServe prepares tandem serve in a folder with these arguments, and nothing but its ports moved.
func NewServe(tb testing.TB, dir string, args ...string) *Process {
	tb.Helper()
	return newProcess(tb, Command{Dir: dir, Args: append([]string{"serve"}, args...)})
}

// newProcess gives a gateway ports of its own, through the environment.
func newProcess(tb testing.TB, c Command) *Process {
	tb.Helper()
	http, sip, browsers := Port(tb), Port(tb), Port(tb)
	g := &Gateway{
		URL:    fmt.Sprintf("http://127.0.0.1:%d", http),
		sip:    []string{fmt.Sprintf("udp://127.0.0.1:%d", sip), fmt.Sprintf("tcp://127.0.0.1:%d", sip)},
		client: newClient(),
	}
	c.Env = append([]string{"TANDEM_DRAIN_DEADLINE=0s"}, c.Env...)
	c.Env = append(c.Env,
		"TANDEM_HTTP_LISTEN="+strings.TrimPrefix(g.URL, "http://"), "TANDEM_SIP_LISTEN="+strings.Join(g.sip, ","),
		fmt.Sprintf("TANDEM_MEDIA_WEBRTC_UDP=%d", browsers), fmt.Sprintf("TANDEM_MEDIA_WEBRTC_TCP=%d", browsers))
	p := &Process{Gateway: g, command: c}
	tb.Cleanup(p.Kill)
	return p
}

// Start runs the gateway and waits until it is ready. The Program is for looking at what it writes.
func (p *Process) Start(tb testing.TB) *Program {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Nil(tb, p.run, "it runs already")
	r := p.command.Begin(tb)
	p.run = r
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !p.ready() {
		select {
		case <-r.ended:
			require.FailNow(tb, "the program ended by itself", "%v", r.err)
		case <-ctx.Done():
			require.FailNow(tb, "the program does not become ready")
		case <-tick.C:
		}
	}
	return r
}

// Kill ends the program with SIGKILL and waits until it is gone. It may be called from any goroutine.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil {
		p.run.Kill()
		p.gone()
	}
}

// Signal sends the program a signal and waits for nothing.
func (p *Process) Signal(tb testing.TB, signal syscall.Signal) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotNil(tb, p.run, "it does not run")
	require.NoError(tb, p.run.cmd.Process.Signal(signal))
}

// Files names what the program has open: files by their path, sockets and the like as the kernel calls them.
func (p *Process) Files(tb testing.TB) (open []string) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotNil(tb, p.run, "it does not run")
	dir := fmt.Sprintf("/proc/%d/fd", p.run.cmd.Process.Pid)
	all, err := os.ReadDir(dir)
	require.NoError(tb, err)
	for _, f := range all {
		if name, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil { // else it was closed meanwhile
			open = append(open, name)
		}
	}
	return open
}

// WaitEnded waits until the program has ended by itself and wants it to have ended well.
func (p *Process) WaitEnded(tb testing.TB) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotNil(tb, p.run, "it does not run")
	defer p.gone()
	select {
	case <-p.run.ended:
		require.NoError(tb, p.run.err)
	case <-time.After(2 * Patience):
		p.run.Kill()
		require.FailNow(tb, "the program does not end")
	}
}

// Setenv sets an environment variable for the next start.
func (p *Process) Setenv(name, value string) { p.command.Env = append(p.command.Env, name+"="+value) }

// Stop ends the program with SIGTERM, waits until it is gone and wants it to have ended well.
func (p *Process) Stop(tb testing.TB) {
	tb.Helper()
	p.stop(tb, syscall.SIGTERM)
}

// Interrupt is Stop as Ctrl+C does it.
func (p *Process) Interrupt(tb testing.TB) {
	tb.Helper()
	p.stop(tb, syscall.SIGINT)
}

func (p *Process) stop(tb testing.TB, signal syscall.Signal) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotNil(tb, p.run, "it does not run")
	defer p.gone()
	p.run.Stop(tb, signal)
}

func (p *Process) gone() {
	p.run = nil
	p.client.CloseIdleConnections()
}
