package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lookForWork = time.Second
	holdMillis  = 20 // the runtime interrupts after 10 whoever holds a processor; this ends it where that is turned off

	// Shares of all cores. It takes the less CPU for the same work while the processor is held.
	mostHeld  = 0.55
	mostTaken = 0.5
)

// spareProcessor keeps the runtime's monitor thread calm while there is some work.
//
// The monitor rests while every processor of the scheduler (GOMAXPROCS of them) is idle; the first system call or call of C
// after that wakes it, and then it looks each 20 µs whether they are idle again. A gateway with some calls is idle
// between any two packets: at 20 calls that cost a sixth of its CPU. While a processor is in use, the monitor soon looks
// each 10 ms only. So there is one processor more than the work gets, and one goroutine that sleeps in the kernel has it.
// Under load the gateway is seldom idle, and one processor more than cores lets its threads get in each other's way.
type spareProcessor struct {
	wanted func(held bool) bool // whether the work that there is wants it
	set    func(more bool)      // adds the processor, and takes it away
	hold   func()               // keeps a processor in use for some milliseconds
}

// run holds the processor whenever it is wanted, until ctx ends.
func (s spareProcessor) run(ctx context.Context) {
	look := time.NewTicker(lookForWork)
	defer look.Stop()
	held := false
	change := func(to bool) {
		if to != held {
			s.set(to)
			held = to
		}
	}
	defer change(false)
	for {
		if !held {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				change(s.wanted(false))
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			change(s.wanted(true))
		default:
			// Who wants the processor, as the garbage collector does to look at this goroutine, has it between two holds, where calls of
			// functions check for that. It must not be yielded: that would forget the wish, and the collector would ask again and again.
			s.hold()
		}
	}
}

// workload says how much CPU this process takes.
type workload struct {
	at   time.Time
	used time.Duration
}

// share is what it has taken since the last time, of so many cores.
func (w *workload) share(cores int, now time.Time, used time.Duration) float64 {
	share := float64(used-w.used) / float64(max(1, now.Sub(w.at))) / float64(cores)
	w.at, w.used = now, used
	return share
}

// light says whether there is so little work that the processor helps; one that is held stays so up to somewhat more.
func light(share float64, held bool) bool {
	if held {
		return share < mostHeld
	}
	return share < mostTaken
}

// holdSpareProcessor adds a processor and holds it while there is a little work, until ctx ends. Who sets GOMAXPROCS gets just that
// many, and no such goroutine.
func holdSpareProcessor(ctx context.Context, busy func() bool) error {
	if os.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	// Nothing is ever added to it: a wait for its events lasts its time. The runtime interrupts it by a signal when it wants the processor.
	nothing, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("spare processor: %w", err)
	}
	defer func() { _ = unix.Close(nothing) }()
	cores := runtime.GOMAXPROCS(0)
	load := workload{at: time.Now(), used: cpuTime()}
	spareProcessor{
		wanted: func(held bool) bool {
			share := load.share(cores, time.Now(), cpuTime())
			return busy() && light(share, held)
		},
		set: func(more bool) {
			if more {
				runtime.GOMAXPROCS(cores + 1)
			} else {
				runtime.GOMAXPROCS(cores)
			}
		},
		hold: func() {
			// A raw system call is one that the runtime doesn't know of: to it the goroutine runs.
			_, _, _ = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(nothing), 0, 1, holdMillis, 0, 0)
		},
	}.run(ctx)
	return nil
}

// cpuTime is what this process has taken so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0 // it knows no other error than a wrong argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
