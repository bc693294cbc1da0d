package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/api"
	"tandem/gateway"
	"tandem/test/testlog"
)

// Command is one way to start the real binary.
type Command struct {
	Args  []string
	Dir   string   // where it runs; empty: where the test does
	Env   []string // on top of the test's environment, which is passed on without what would configure the binary
	Stdin string
}

// Program is one run of the real binary.
type Program struct {
	cmd            *exec.Cmd
	stdout, stderr *text
	ended          chan struct{} // closed when the process is gone and all that it wrote is here
	err            error         // of Wait; read after ended
}

// text keeps what a program writes and shows it in the test's log.
type text struct {
	show io.Writer

	mu   sync.Mutex
	kept bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept.Write(p)
	return t.show.Write(p)
}

func (t *text) await(tb testing.TB, part string) string {
	tb.Helper()
	require.Eventually(tb, func() bool { return strings.Contains(t.String(), part) }, Patience, time.Millisecond, part)
	return t.String()
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept.String()
}

// Begin starts the binary. It is killed when the test ends.
func (c Command) Begin(tb testing.TB) *Program {
	tb.Helper()
	_, err := shared.build()
	require.NoError(tb, err)
	cmd := exec.Command(shared.path(), c.Args...)
	cmd.Dir, cmd.Stdin = c.Dir, strings.NewReader(c.Stdin)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, gateway.EnvPrefix) {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, c.Env...)
	p := &Program{
		cmd: cmd, ended: make(chan struct{}), stdout: &text{show: testlog.Writer(tb)}, stderr: &text{show: testlog.Writer(tb)},
	}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	// If the tests are killed, the program goes with them; for the kernel that is when the starting thread ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.ended)
	}()
	require.NoError(tb, <-started)
	tb.Cleanup(p.Kill)
	return p
}

// Run lets the binary work until it ends by itself and returns its exit code.
func (c Command) Run(tb testing.TB) (p *Program, code int) {
	tb.Helper()
	p = c.Begin(tb)
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.Kill()
		require.FailNow(tb, "the program does not end", "%v", c.Args)
	}
	return p, p.cmd.ProcessState.ExitCode()
}

// Stdout is what the program has written to its standard output so far.
func (p *Program) Stdout() string { return p.stdout.String() }

// Stderr is what the program has written to its standard error so far.
func (p *Program) Stderr() string { return p.stderr.String() }

// AwaitStdout waits until what the program has written to its standard output contains part, and returns all of it: what a
// program writes arrives here some time later, and may do so after the answer to a request.
func (p *Program) AwaitStdout(tb testing.TB, part string) string {
	tb.Helper()
	return p.stdout.await(tb, part)
}

// AwaitStderr does so with the standard error.
func (p *Program) AwaitStderr(tb testing.TB, part string) string {
	tb.Helper()
	return p.stderr.await(tb, part)
}

// Kill ends the program with SIGKILL and waits until it is gone. It may be called from any goroutine.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Reload has the program read its configuration again, which it does some time later.
func (p *Program) Reload(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, p.cmd.Process.Signal(syscall.SIGHUP))
}

// Stop ends the program with a signal, waits until it is gone and wants it to have ended well.
func (p *Program) Stop(tb testing.TB, signal os.Signal) {
	tb.Helper()
	require.NoError(tb, p.cmd.Process.Signal(signal))
	select {
	case <-p.ended:
	case <-time.After(2 * Patience):
		p.Kill()
		require.FailNow(tb, "the program does not stop")
	}
	require.NoError(tb, p.err)
}

// program is what the tests of this binary share: the built program, and the ports that are given away.
type program struct {
	once sync.Once
	dir  string
	hash string // of Password
	err  error

	mu    sync.Mutex
	block int // the last that Port gave away
}

var shared = program{block: rand.IntN(1200)}

// RemoveProgram removes the program that NewProcess built. TestMain calls it after the tests.
func RemoveProgram() {
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
}

// build builds the program once and returns its file.
func (p *program) build() (string, error) {
	p.once.Do(func() {
		if p.dir, p.err = os.MkdirTemp("", "tandem-test-"); p.err != nil {
			return
		}
		if p.hash, p.err = api.HashPassword(Password); p.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-tags", "nolibopusfile", "-o", p.path(), "tandem/cmd/tandem").CombinedOutput()
		if err != nil {
			p.err = fmt.Errorf("build the program: %w: %s", err, out)
		}
	})
	return p.path(), p.err
}

func (p *program) path() string { return filepath.Join(p.dir, "tandem") }

// Port finds a port of 127.0.0.1 that is free for UDP and TCP, as are the six after it (SIPp takes some for media of its
// own accord). The eighth is held until the test is over: who looks for a port in this way, in this process or in that of
// another package's tests, leaves the block alone. It is none of those that the kernel or the RTP range gives away.
func Port(tb testing.TB) int {
	tb.Helper()
	port, hold, err := shared.port()
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = hold.Close() })
	return port
}

func (p *program) port() (port int, hold net.PacketConn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const first, blocks, size = 10000, 1200, 8
	for range blocks {
		p.block = (p.block + 1) % blocks
		port := first + size*p.block
		hold, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port+size-1))
		if err != nil {
			continue
		}
		if !slices.ContainsFunc([]int{0, 1, 2, 3, 4, 5, 6}, func(i int) bool { return !free(port + i) }) {
			return port, hold, nil
		}
		_ = hold.Close()
	}
	return 0, nil, errors.New("no free port")
}

func free(port int) bool {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	stream, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = stream.Close() }()
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	_ = packets.Close()
	return true
}
