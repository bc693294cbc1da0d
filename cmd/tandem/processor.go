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
	holdMillis  = 9 // below the 10 ms after which the runtime would interrupt whoever holds a processor
)

// spareProcessor keeps the runtime's monitor thread calm while there is work.
//
// The monitor rests while every processor of the scheduler (GOMAXPROCS of them) is idle; the first system call or call of C
// after that wakes it, and then it looks each 20 µs whether they are idle again. A gateway with some calls is idle
// between any two packets: at 20 calls that cost a sixth of its CPU. While a processor is in use, the monitor soon looks
// each 10 ms only. So there is one processor more than the work gets, and one goroutine that sleeps in the kernel has it.
type spareProcessor struct {
	busy func() bool // whether there is work
	hold func()      // keeps a processor in use for some milliseconds
}

// run holds the processor whenever there is work, until ctx ends.
func (s spareProcessor) run(ctx context.Context) {
	look := time.NewTicker(lookForWork)
	defer look.Stop()
	for working := false; ; {
		if !working {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				working = s.busy()
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			working = s.busy()
		default:
			// Who wants the processor, as the garbage collector does to look at this goroutine, has it between two holds, where calls of
			// functions check for that. It must not be yielded: that would forget the wish, and the collector would ask again and again.
			s.hold()
		}
	}
}

// holdSpareProcessor adds a processor and holds it while there is work, until ctx ends. Who sets GOMAXPROCS gets just that many,
// and no such goroutine.
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
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + 1)
	defer runtime.GOMAXPROCS(before)
	spareProcessor{busy: busy, hold: func() {
		// A raw system call is one that the runtime doesn't know of: to it the goroutine runs.
		_, _, _ = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(nothing), 0, 1, holdMillis, 0, 0)
	}}.run(ctx)
	return nil
}
