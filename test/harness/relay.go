package harness

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/load"
)

// Relay stands between the gateway and a far end that speak SIP over UDP, and lets the weather have its way. Each of
// them knows the other by an address of the relay only: it stands in every message instead of the real one, which has
// as many digits.
type Relay struct {
	Gateway, FarEnd string       // how the far end reaches the gateway, and the gateway the far end
	gateway, farEnd string       // where they are
	near, far       *net.UDPConn // towards the gateway, towards the far end
	reading, flying sync.WaitGroup
	closed          chan struct{}
	begun           time.Time
	mu              sync.Mutex
	network         *load.Network // of both directions
}

// NewRelay runs a relay between two UDP addresses until the test ends.
func NewRelay(tb testing.TB, gateway, farEnd string, weather load.Weather) *Relay {
	tb.Helper()
	r := &Relay{
		gateway: gateway, farEnd: farEnd, closed: make(chan struct{}), begun: time.Now(), network: load.NewNetwork(weather),
	}
	r.near, r.FarEnd = listenUDP(tb)
	r.far, r.Gateway = listenUDP(tb)
	for _, addr := range []string{gateway, farEnd} {
		require.Len(tb, addr, len(r.FarEnd), "an address of another length would need another Content-Length")
	}
	r.reading.Go(func() { r.pump(tb, r.near, r.far, farEnd) })
	r.reading.Go(func() { r.pump(tb, r.far, r.near, gateway) })
	tb.Cleanup(func() {
		close(r.closed)
		_ = r.near.Close()
		_ = r.far.Close()
		r.reading.Wait()
		r.flying.Wait()
	})
	return r
}

func listenUDP(tb testing.TB) (*net.UDPConn, string) {
	tb.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", Port(tb))
	conn, err := net.ListenPacket("udp", addr)
	require.NoError(tb, err)
	udp, ok := conn.(*net.UDPConn)
	require.True(tb, ok)
	return udp, addr
}

// Count says what became of the datagrams so far.
func (r *Relay) Count() load.Count {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.network.Count()
}

// pump carries what comes in at one socket out of the other.
func (r *Relay) pump(tb testing.TB, in, out *net.UDPConn, to string) {
	target, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		tb.Errorf("relay: %v", err)
		return
	}
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := in.ReadFromUDP(buffer)
		if err != nil {
			return
		}
		message := r.translate(buffer[:n], out == r.far)
		copies, delay := r.draw()
		for range copies {
			if delay == 0 {
				_, _ = out.WriteToUDP(message, target)
				continue
			}
			r.flying.Go(func() {
				select {
				case <-time.After(delay):
					_, _ = out.WriteToUDP(message, target)
				case <-r.closed:
				}
			})
		}
	}
}

// translate copies a message and writes the relay's addresses instead of the real ones.
func (r *Relay) translate(message []byte, toFarEnd bool) []byte {
	real, shown, back, meant := r.farEnd, r.FarEnd, r.Gateway, r.gateway
	if toFarEnd {
		real, shown, back, meant = r.gateway, r.Gateway, r.FarEnd, r.farEnd
	}
	message = bytes.ReplaceAll(message, []byte(real), []byte(shown))
	return bytes.ReplaceAll(message, []byte(back), []byte(meant))
}

// draw decides what becomes of a datagram.
func (r *Relay) draw() (copies int, delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.network.Packet(time.Since(r.begun))
}
