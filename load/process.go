package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	clockTicks = 100 // per second, in /proc/<pid>/stat: USER_HZ is 100 on every Linux that Go runs on
	readyPoll  = 2 * time.Millisecond
	readyLimit = 30 * time.Second
	stopLimit  = 20 * time.Second
	logTail    = 4 << 10
)

// programOr is how this program is called: as asked, or as it was.
func programOr(asked []string) ([]string, error) {
	if len(asked) > 0 {
		return asked, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("load: this program's path: %w", err)
	}
	return []string{self}, nil
}

// usage is what a process has used and holds.
type usage struct {
	cpu time.Duration // user and system, since its start
	rss int64         // bytes
}

func processUsage(pid int) (usage, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return usage{}, fmt.Errorf("load: CPU of the gateway: %w", err)
	}
	cpu, err := parseStat(string(stat))
	if err != nil {
		return usage{}, err
	}
	statm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return usage{}, fmt.Errorf("load: memory of the gateway: %w", err)
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return usage{}, fmt.Errorf("load: /proc/%d/statm is %q", pid, statm)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return usage{}, fmt.Errorf("load: /proc/%d/statm: %w", pid, err)
	}
	return usage{cpu: cpu, rss: pages * int64(os.Getpagesize())}, nil
}

// parseStat reads utime and stime, fields 14 and 15 of proc(5). The second field, in parentheses, may hold anything.
func parseStat(stat string) (time.Duration, error) {
	_, rest, ok := cutLast(stat, ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("load: /proc stat is %q", stat)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("load: utime: %w", err)
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("load: stime: %w", err)
	}
	return time.Duration(user+system) * time.Second / clockTicks, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// child is the gateway under test.
type child struct {
	cmd     *exec.Cmd
	log     *os.File
	exited  chan struct{} // closed by the goroutine that waits for it
	exitErr error         // written before exited is closed
	ended   atomic.Bool   // stop was called
	ready   time.Duration // from exec to the first 200 of /readyz
}

// startChild runs argv and returns when base/readyz answers 200. Its output goes to logPath.
func startChild(ctx context.Context, argv []string, base, logPath string) (*child, error) {
	return startProcess(ctx, argv, logPath, func(ctx context.Context, c *child) error { return c.waitReady(ctx, base) })
}

// startProcess runs argv and returns when ready does.
func startProcess(ctx context.Context, argv []string, logPath string, ready func(context.Context, *child) error) (*child, error) {
	log, err := os.Create(logPath) //nolint:gosec // a file in our own temporary directory
	if err != nil {
		return nil, fmt.Errorf("load: log of the gateway: %w", err)
	}
	c := &child{log: log, exited: make(chan struct{})}
	c.cmd = exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...) //nolint:gosec // the operator names it
	c.cmd.Stdout, c.cmd.Stderr = log, log
	start := time.Now()
	if err := c.cmd.Start(); err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("load: start %s: %w", argv[0], err)
	}
	go func() {
		c.exitErr = c.cmd.Wait()
		close(c.exited)
	}()
	if err := ready(ctx, c); err != nil {
		tail := c.tail()
		c.stop()
		return nil, fmt.Errorf("%w\n%s", err, tail)
	}
	c.ready = time.Since(start)
	return c, nil
}

func (c *child) waitReady(ctx context.Context, base string) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", http.NoBody)
		if err != nil {
			return fmt.Errorf("load: readyz: %w", err)
		}
		if res, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-c.exited:
			return fmt.Errorf("load: the gateway ended before it was ready: %w", errors.Join(c.exitErr, errEnded))
		case <-ctx.Done():
			return fmt.Errorf("load: the gateway didn't become ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

var errEnded = errors.New("the process ended")

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop asks the gateway to end, and kills it when it doesn't.
func (c *child) stop() {
	if c.ended.Swap(true) {
		return
	}
	defer func() { _ = c.log.Close() }()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(stopLimit):
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}

// tail is the end of what the gateway has logged.
func (c *child) tail() string {
	text, err := os.ReadFile(c.log.Name())
	if err != nil {
		return ""
	}
	return string(text[max(0, len(text)-logTail):])
}
