package media

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAPortTakesLittleMemory: of what it sends and reads most is short.
func TestAPortTakesLittleMemory(t *testing.T) { // not at once with others: what they allocate would count
	ps, err := NewPorts(PortsConfig{Listen: []netip.Addr{loopback}, From: 30000, To: 30999, ReportEvery: time.Hour})
	require.NoError(t, err)
	far := newEndpoint(t, netip.AddrPort{})
	ports := make([]*Port, 40)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range ports {
		p, err := ps.Open()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		p.Update(PortMedia{Remote: far.addr(), Speech: PCMU, EventType: -1, Send: true, Receive: true})
		p.Start(make(inbox))
		require.True(t, p.Send(0, false, 0, make([]byte, 160)))
		ports[i] = p
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int(after.HeapAlloc) - int(before.HeapAlloc)) / len(ports)
	t.Logf("%d bytes", each)
	require.Less(t, each, 8<<10)
}
