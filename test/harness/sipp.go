package harness

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// SIPp is a run of SIPp that plays a phone or a carrier.
type SIPp struct {
	tb   testing.TB
	Addr string // where it listens
	dir  string
	out  *strings.Builder
	done chan struct{}
	err  error // once done
}

// StartSIPp runs a scenario of test/sipp over UDP for one call, no longer than 30 s.
func StartSIPp(tb testing.TB, scenario string, args ...string) *SIPp {
	tb.Helper()
	return PlaySIPp(tb, nil, scenario, args...)
}

// PlaySIPp is StartSIPp with captures that the scenario plays, by the names of their files. SIPp plays them through a raw
// socket: that takes root, or CAP_NET_RAW.
func PlaySIPp(tb testing.TB, captures map[string]*Capture, scenario string, args ...string) *SIPp {
	tb.Helper()
	path, err := exec.LookPath("sipp")
	require.NoError(tb, err, "install the package sip-tester (make test-deps)")
	root, err := os.Getwd()
	require.NoError(tb, err)
	port, sound := strconv.Itoa(Port(tb)), strconv.Itoa(Port(tb))
	s := &SIPp{tb: tb, Addr: net.JoinHostPort("127.0.0.1", port), dir: tb.TempDir(), out: &strings.Builder{}, done: make(chan struct{})}
	for name, c := range captures {
		require.NoError(tb, os.WriteFile(filepath.Join(s.dir, name), c.Bytes(), 0o600))
	}
	all := []string{
		"-sf", filepath.Join(root, "sipp", scenario+".xml"), "-i", "127.0.0.1", "-p", port, "-mp", sound, "-m", "1", "-nostdin",
		"-timeout", "30", "-timeout_error", "-trace_msg", "-message_file", "messages.log", "-trace_err", "-error_file", "errors.log",
	}
	cmd := exec.Command(path, append(all, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, s.out, s.out
	require.NoError(tb, cmd.Start())
	go func() {
		defer close(s.done)
		s.err = cmd.Wait()
	}()
	tb.Cleanup(func() {
		select {
		case <-s.done: // it has ended by itself
		default:
			_ = cmd.Process.Kill()
			<-s.done
		}
		if tb.Failed() {
			tb.Log(s.read("errors.log"), s.Messages())
		}
	})
	ShowRaces(tb) // above the many messages
	return s
}

// Passed waits for the end of the run, which must have met its scenario.
func (s *SIPp) Passed() {
	s.tb.Helper()
	<-s.done
	require.NoError(s.tb, s.err, "sipp: %s", s.out.String())
}

// Messages is what was sent and received so far.
func (s *SIPp) Messages() string { return s.read("messages.log") }

func (s *SIPp) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(s.dir, name))
	return string(text)
}
