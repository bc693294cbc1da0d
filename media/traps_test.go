package media

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPortClosesUnderNewStreams: a port that meets a new SSRC in every packet is closed all the same, and at once.
func TestPortClosesUnderNewStreams(t *testing.T) {
	key := newKey(t, AEADAES128GCM)
	for range 5 {
		p := openPort(t)
		far, ctx := newEndpoint(t, p.Local()), secret(t, key)
		m := agreed(far.addr())
		m.Inbound = key
		p.Update(m)
		got := make(inbox, 10_000)
		p.Start(got)
		packets := make([][]byte, 2000)
		for ssrc := range packets {
			packets[ssrc] = sealed(t, ctx, uint32(ssrc), 1)
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for _, b := range packets {
				_, _ = far.WriteToUDPAddrPort(b, far.to) // once the port is closed, the kernel refuses
			}
		}()
		got.next(t)
		closed := make(chan error, 1)
		go func() { closed <- p.Close() }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(30 * time.Second):
			require.Fail(t, "Close does not return")
		}
		<-sent
	}
}
