package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// Janus offers no ICE candidate on a loopback interface, and nothing here is to be reached from elsewhere. So what is
// measured beside it runs in a network namespace of its own, which has the loopback and one more interface, joined to
// nothing, that carries an address of 127.0.0.0/8. The browsers are there too: libnice binds what it sends to the interface.
const (
	janusAddress   = "127.0.0.2"
	benchInterface = "bench0"
)

// isolate makes the interfaces and becomes what it is given.
const isolate = `ip link set lo up &&
ip link add ` + benchInterface + ` type veth peer name bench1 && ip addr add ` + janusAddress + `/32 dev ` + benchInterface + ` &&
ip link set ` + benchInterface + ` up && ip link set bench1 up && exec "$@"`

// isolated says whether this process is in such a namespace.
func isolated() bool {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		addresses, _ := i.Addrs()
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.String() == janusAddress && i.Flags&net.FlagLoopback == 0 {
				return true
			}
		}
	}
	return false
}

// inNamespace runs a program in a new one.
func inNamespace(ctx context.Context, out io.Writer, argv ...string) error {
	line := []string{"--net", "--", "sh", "-c", isolate, "sh"}
	if os.Getuid() != 0 {
		line = append([]string{"--user", "--map-root-user"}, line...)
	}
	cmd := exec.CommandContext(ctx, "unshare", append(line, argv...)...) //nolint:gosec // this program
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("load: in a network namespace: %w", err)
	}
	return nil
}

// canIsolate says whether inNamespace works here.
func canIsolate(ctx context.Context) bool { return inNamespace(ctx, io.Discard, "true") == nil }
