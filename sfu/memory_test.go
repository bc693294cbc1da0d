package sfu_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/sessions"
	"tandem/sfu"
)

const (
	memoryDevices = 40
	memoryWarm    = 20 // devices more that are there before: what the first ones cost is not what one more costs
	memoryGateway = "SFU_MEMORY_GATEWAY"
)

// loners is a room in which everybody hears one phone, and nobody else.
func loners() *room {
	r := newRoom()
	r.alone = true
	for i := range memoryWarm + memoryDevices {
		p := person(fmt.Sprint("agent", i), sessions.PublishAudio)
		r.people["token-"+p.ID] = p
	}
	return r
}

// BenchmarkDeviceMemory prints what a device holds that publishes a microphone and hears one phone. The browsers are in a
// process of their own.
func BenchmarkDeviceMemory(b *testing.B) {
	g := serve(b, loners(), sfu.Config{})
	leg := newPhone("phone", "leg")
	g.room.publish(leg.src)
	for b.Loop() {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryClients$") //nolint:gosec // this program
		cmd.Env = append(os.Environ(), memoryGateway+"="+g.url)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		require.NoError(b, err)
		out, err := cmd.StdoutPipe()
		require.NoError(b, err)
		require.NoError(b, cmd.Start())
		lines := bufio.NewScanner(out)
		speak := func() memory {
			require.True(b, lines.Scan(), "the clients are gone")
			for range 100 {
				leg.say("v")
				<-time.After(20 * time.Millisecond)
			}
			return memoryNow()
		}
		before := speak()
		_, err = fmt.Fprintln(in, "more")
		require.NoError(b, err)
		after := speak()
		if path := os.Getenv("SFU_MEMORY_PROFILE"); path != "" {
			writeProfile(b, path)
		}
		b.ReportMetric(float64(after.resident-before.resident)/memoryDevices/1024, "KiB/device")
		b.ReportMetric(float64(after.heap-before.heap)/memoryDevices/1024, "heap-KiB/device")
		b.ReportMetric(float64(after.stacks-before.stacks)/memoryDevices/1024, "stack-KiB/device")
		b.ReportMetric(float64(after.goroutines-before.goroutines)/memoryDevices, "goroutines/device")
		require.NoError(b, in.Close())
		require.NoError(b, cmd.Wait())
	}
}

type memory struct{ resident, heap, stacks, goroutines int }

// memoryNow is what this process holds.
func memoryNow() memory {
	debug.FreeOSMemory()
	debug.FreeOSMemory() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var resident int
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size int
		_, _ = fmt.Sscan(string(statm), &size, &resident)
	}
	return memory{resident * os.Getpagesize(), int(m.HeapAlloc), int(m.StackInuse), runtime.NumGoroutine()}
}

// TestMemoryClients are the browsers of BenchmarkDeviceMemory. It is no test by itself.
func TestMemoryClients(t *testing.T) {
	if os.Getenv(memoryGateway) == "" {
		t.Skip("it is run by BenchmarkDeviceMemory")
	}
	g := &gateway{room: &room{}, url: os.Getenv(memoryGateway)}
	orders := bufio.NewScanner(os.Stdin)
	var all []*browser
	for i := range memoryWarm + memoryDevices {
		if i == memoryWarm {
			requireHearing(t, all)
			fmt.Println("warm") //nolint:forbidigo // it is what the benchmark reads
			require.True(t, orders.Scan())
		}
		b := g.browser(t, fmt.Sprint("agent", i), "d")
		mic := b.track(webrtc.MimeTypeOpus, "s", "mic")
		b.offerPublish(nil, nil)
		mic.until(t, strings.Repeat("v", 60), func() bool { return b.pub.ConnectionState() == webrtc.PeerConnectionStateConnected })
		for range 20 {
			mic.say("v")
		}
		all = append(all, b)
	}
	requireHearing(t, all)
	fmt.Println("all") //nolint:forbidigo // it is what the benchmark reads
	orders.Scan()
}

func requireHearing(t *testing.T, all []*browser) {
	t.Helper()
	for _, b := range all {
		require.Eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.sub != nil && b.sub.ConnectionState() == webrtc.PeerConnectionStateConnected
		}, patience, 5*time.Millisecond)
	}
}

func writeProfile(b *testing.B, path string) {
	b.Helper()
	f, err := os.Create(path) //nolint:gosec // the caller says where
	require.NoError(b, err)
	require.NoError(b, pprof.WriteHeapProfile(f))
	require.NoError(b, f.Close())
}
