package sfu

import (
	"log/slog"
	"net"

	"golang.org/x/sys/unix"
)

// udpSocketQueue is what the packets that wait in the kernel may take, in either direction. A short queue loses some whenever
// the gateway is not scheduled for some milliseconds. What the kernel counts is more than their bytes: about 1 kB for one of sound.
const udpSocketQueue = 4 << 20 // bytes

// lengthen asks for long queues at the browsers' port, and says in the log if the kernel gives less.
func lengthen(conn *net.UDPConn, log *slog.Logger) {
	_ = conn.SetReadBuffer(udpSocketQueue) // as much of it as the kernel allows: queueOf knows
	_ = conn.SetWriteBuffer(udpSocketQueue)
	for _, q := range []struct {
		what, setting string
		option        int
	}{
		{"received", "net.core.rmem_max", unix.SO_RCVBUF},
		{"sent", "net.core.wmem_max", unix.SO_SNDBUF},
	} {
		queue, err := queueOf(conn, q.option)
		tellShort(log, q.what, q.setting, queue, err)
	}
}

// tellShort says that a queue is shorter than it should be.
func tellShort(log *slog.Logger, what, setting string, queue int, err error) {
	switch {
	case err != nil:
		log.Info("how many packets of browsers may wait to be "+what+" is not known", "err", err)
	case queue < udpSocketQueue:
		log.Info("the kernel lets few packets of browsers wait to be "+what+", and drops what is more; with many calls set "+setting,
			"bytes", queue, "wanted", udpSocketQueue)
	}
}

// queueOf is how long a queue is that was asked for by SO_RCVBUF or SO_SNDBUF, in bytes. The kernel says twice that (socket(7)).
func queueOf(conn *net.UDPConn, option int) (bytes int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) { bytes, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option) })
	if controlErr != nil {
		err = controlErr
	}
	return bytes / 2, err
}
