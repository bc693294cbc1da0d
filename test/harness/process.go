package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/api"
)

// Process is the real binary, run as an operator runs it: a configuration file, a database, a signal to stop it. Its
// ports and its database stay the same from one run to the next, and so does the Gateway through which tests speak to
// it.
type Process struct {
	*Gateway

	file string

	mu  sync.Mutex // held while it is started or ended
	run *run       // nil: it does not run
}

// run is one life of the process.
type run struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone and its log is written
	err   error         // of Wait; read after ended
}

// program is what the tests of this binary share: the built program, and the ports that are given away.
type program struct {
	once sync.Once
	dir  string
	hash string // of Password
	err  error

	mu    sync.Mutex
	ports map[int]bool
}

var shared = program{ports: map[int]bool{}}

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

// port finds a port that is free for UDP and TCP. It is none of those that the kernel or the RTP range gives to
// somebody else while the process is down.
func (p *program) port() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const first, count = 10000, 10000
	for range 1000 {
		port := first + rand.IntN(count)
		if p.ports[port] || !free(port) {
			continue
		}
		p.ports[port] = true
		return port, nil
	}
	return 0, errors.New("no free port")
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

// NewProcess prepares the program with a database (empty: an SQLite file of its own) and trunks to far ends (SIP
// URIs). Start runs it.
func NewProcess(tb testing.TB, database string, trunks ...string) *Process {
	tb.Helper()
	_, err := shared.build()
	require.NoError(tb, err)
	ports := make([]int, 3)
	for i := range ports {
		ports[i], err = shared.port()
		require.NoError(tb, err)
	}
	dir := tb.TempDir()
	if database == "" {
		database = "sqlite:" + filepath.Join(dir, "tandem.db")
	}
	p := &Process{
		Gateway: &Gateway{
			URL:    fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
			sip:    []string{fmt.Sprintf("udp://127.0.0.1:%d", ports[1]), fmt.Sprintf("tcp://127.0.0.1:%d", ports[1])},
			client: newClient(),
		},
		file: filepath.Join(dir, "tandem.yaml"),
	}
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, `http:
  listen: %s
sip:
  listen: [%s]
media:
  webrtcUDP: %d
  webrtcTCP: %d
database:
  url: %q
log:
  level: debug
accounts:
  - id: %q
    username: %s
    passwordHash: %q
    callbackSecret: %q
`, strings.TrimPrefix(p.URL, "http://"), strings.Join(p.sip, ", "), ports[2], ports[2], database,
		Account, User, shared.hash, CallbackSecret)
	for i, uri := range trunks {
		if i == 0 {
			text.WriteString("trunks:\n")
		}
		_, _ = fmt.Fprintf(&text, "  - {name: trunk%d, account: %q, uri: %q, allow: [127.0.0.1/32]}\n", i, Account, uri)
	}
	require.NoError(tb, os.WriteFile(p.file, []byte(text.String()), 0o600))
	tb.Cleanup(p.Kill)
	return p
}

// Start runs the program and waits until it is ready.
func (p *Process) Start(tb testing.TB) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Nil(tb, p.run, "it runs already")
	cmd := exec.Command(shared.path(), "serve", "--config", p.file)
	log := testWriter{tb}
	cmd.Stdout, cmd.Stderr = log, log
	// If the tests are killed, the program goes with them; for the kernel that is when the starting thread ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r := &run{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			r.err = cmd.Wait()
		}
		close(r.ended)
	}()
	require.NoError(tb, <-started)
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
}

// Kill ends the program with SIGKILL and waits until it is gone. It may be called from any goroutine.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil {
		_ = p.run.cmd.Process.Kill()
		p.gone()
	}
}

// Stop ends the program with SIGTERM, waits until it is gone and wants it to have ended well.
func (p *Process) Stop(tb testing.TB) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotNil(tb, p.run, "it does not run")
	r := p.run
	require.NoError(tb, r.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-r.ended:
	case <-time.After(2 * Patience):
		_ = r.cmd.Process.Kill()
		p.gone()
		require.FailNow(tb, "the program does not stop")
	}
	p.gone()
	require.NoError(tb, r.err)
}

func (p *Process) gone() {
	<-p.run.ended
	p.run = nil
	p.client.CloseIdleConnections()
}
