package load

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bareAt serves the SIP library alone until the test is over.
func bareAt(t *testing.T) (sipAddr string) {
	t.Helper()
	ports, err := freePorts(t.Context(), 2)
	require.NoError(t, err)
	sipAddr, httpAddr := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- ServeBare(ctx, sipAddr, httpAddr) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	require.Eventually(t, func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+httpAddr+"/readyz", http.NoBody)
		require.NoError(t, err)
		res, err := client.Do(req)
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond)
	return sipAddr
}

func TestCallerPlacesCalls(t *testing.T) {
	c, err := newCaller(t.Context(), bareAt(t), []string{"a.b.c"})
	require.NoError(t, err)
	defer c.close()
	for range 2 {
		calls, err := c.place(t.Context(), 100, 500*time.Millisecond)
		require.NoError(t, err)
		require.Len(t, calls, 50)
		for _, a := range calls {
			require.Equal(t, http.StatusOK, a.status)
			require.False(t, a.over.IsZero())
			require.True(t, a.invited.Before(a.ringing) && !a.answered.Before(a.ringing) && a.answered.Before(a.over))
		}
	}
}

// TestCallerCountsRefusalsAndRepetitions gives a caller the answers of a far end that does not do as it should.
func TestCallerCountsRefusalsAndRepetitions(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	c, err := newCaller(t.Context(), silent.LocalAddr().String(), nil)
	require.NoError(t, err)
	defer c.close()
	answer := func(a *attempt, status, cseq string) {
		c.answered(fmt.Sprintf("SIP/2.0 %s\r\nTo: <sip:bench@x>;tag=far\r\nCall-ID: %s\r\nCSeq: %s\r\n\r\n", status, a.id, cseq), time.Now())
	}
	refused, repeated := c.invite(), c.invite()
	answer(refused, "503 Service Unavailable", "1 INVITE")
	require.Equal(t, 503, refused.status)
	answer(repeated, "200 OK", "1 INVITE")
	answer(repeated, "200 OK", "1 INVITE")
	require.Equal(t, 1, repeated.repeats)
	require.True(t, strings.HasPrefix(string(repeated.request), "BYE sip:bench@"))
	require.Contains(t, string(repeated.request), "To: <sip:bench@"+c.conn.RemoteAddr().String()+">;tag=far\r\n")
	answer(repeated, "200 OK", "2 BYE")
	require.False(t, repeated.over.IsZero())
	require.Zero(t, c.inFlight())
}

func TestSignalResultIsPrinted(t *testing.T) {
	r := SignalResult{BurstAnswered: 200}
	round := func(gateway, bare float64) signalRound {
		return signalRound{bare: RateResult{CallsPerSecond: bare}, gateway: RateResult{CallsPerSecond: gateway}}
	}
	r.judge([]signalRound{round(900, 3000), round(500, 2000), round(100, 3000)})
	var table, object strings.Builder
	require.NoError(t, r.print(&table, false))
	require.Contains(t, table.String(), "2000, ratio 0.25: the median of [0.03 0.25 0.30]")
	require.NoError(t, r.print(&object, true))
	require.Contains(t, object.String(), `"burstAnswered": 200`)
}

func TestGatewayConfigNamesItsSIP(t *testing.T) {
	path, _, sipAddr, err := gatewayConfig(t.Context(), t.TempDir(), "sip:127.0.0.1:9", Config{Calls: callerPorts, Codec: pcmu})
	require.NoError(t, err)
	require.FileExists(t, path)
	require.Equal(t, "tandem.yaml", filepath.Base(path))
	require.True(t, strings.HasPrefix(sipAddr, "127.0.0.1:"), sipAddr)
}

// TestSearchFindsTheRate gives a search a far end that can do 430 calls per second, and stalls the first time that 225 are
// tried.
func TestSearchFindsTheRate(t *testing.T) {
	s := newSearch(nil)
	var tried []float64
	for stalled := false; !s.over(); {
		rate := s.rate
		tried = append(tried, rate)
		good := rate <= 430
		if rate == 225 && !stalled {
			stalled, good = true, false
		}
		s.took(RateResult{CallsPerSecond: rate}, good)
	}
	require.Equal(t, []float64{100, 150, 225, 225, 337.5, 506.25, 506.25, 421.875, 464.0625, 464.0625}, tried)
	got, err := s.result()
	require.NoError(t, err)
	require.InDelta(t, 421.875, got.CallsPerSecond, 0)

	none := newSearch(nil)
	for !none.over() {
		none.took(RateResult{}, false)
	}
	_, err = none.result()
	require.ErrorContains(t, err, "not even 100")
}
