package sfu

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestQueueOfASocket: its length is what was asked for, in each direction by itself.
func TestQueueOfASocket(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	require.NoError(t, conn.SetReadBuffer(40_000))
	require.NoError(t, conn.SetWriteBuffer(50_000))
	received, err := queueOf(conn, unix.SO_RCVBUF)
	require.NoError(t, err)
	require.Equal(t, 40_000, received)
	sent, err := queueOf(conn, unix.SO_SNDBUF)
	require.NoError(t, err)
	require.Equal(t, 50_000, sent)
	require.NoError(t, conn.Close())
	_, err = queueOf(conn, unix.SO_RCVBUF)
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestShortQueueIsTold: an operator reads what the kernel gives, what would be right, and what to set.
func TestShortQueueIsTold(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	tellShort(log, "received", "net.core.rmem_max", udpSocketQueue, nil)
	require.Empty(t, out.String())
	tellShort(log, "received", "net.core.rmem_max", 212_992, nil)
	require.Contains(t, out.String(), "few packets of browsers wait to be received")
	require.Contains(t, out.String(), "set net.core.rmem_max")
	require.Contains(t, out.String(), "bytes=212992 wanted=4194304")
	out.Reset()
	tellShort(log, "sent", "net.core.wmem_max", 0, errors.New("no such option"))
	require.Contains(t, out.String(), `to be sent is not known" err="no such option"`)
}

// TestBrowsersPortHasLongQueues: as long as the kernel allows; what it does not is in the log.
func TestBrowsersPortHasLongQueues(t *testing.T) {
	var out strings.Builder
	s, err := Listen(Config{UDP: netip.MustParseAddrPort("127.0.0.1:0")}, nil, slog.New(slog.NewTextHandler(&out, nil)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	for _, q := range []struct {
		setting, told string
		option        int
	}{{"rmem_max", "net.core.rmem_max", unix.SO_RCVBUF}, {"wmem_max", "net.core.wmem_max", unix.SO_SNDBUF}} {
		text, err := os.ReadFile("/proc/sys/net/core/" + q.setting)
		require.NoError(t, err)
		most, err := strconv.Atoi(strings.TrimSpace(string(text)))
		require.NoError(t, err)
		queue, err := queueOf(s.udp, q.option)
		require.NoError(t, err)
		require.Equal(t, min(most, udpSocketQueue), queue)
		require.Equal(t, most < udpSocketQueue, strings.Contains(out.String(), q.told), out.String())
	}
}
