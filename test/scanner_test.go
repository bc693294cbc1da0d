package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/lab"
	"tandem/test/harness"
)

// scanner is where sipvicious sends from, whatever it is told.
const scanner = "127.0.0.1"

// TestScannerIsBanned runs sipvicious against a gateway: it finds nothing and is banned. As long as each scan runs, a trunk
// on another address makes one call after the other, and is called too.
func TestScannerIsBanned(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"svmap", "svwar", "svcrack"} {
		_, err := exec.LookPath(tool)
		require.NoError(t, err, "install the package sipvicious (make test-deps)")
	}
	trunk := harness.StartLab(t, lab.Config{Listen: []string{"udp://127.0.0.2:0"}, Handlers: map[string]func(*lab.Call){"*": toneOf(1000)}})
	cfg := harness.Config(t)
	carrier := harness.Trunk("carrier", trunk.URI("udp"))
	carrier.Allow = []string{"127.0.0.2/32"}
	cfg.Security.BanAfter = 3 // a scanner that hears nothing soon gives up
	cfg.Trunks = []gateway.TrunkConfig{carrier}
	g := harness.Start(t, cfg)
	host, port, err := net.SplitHostPort(g.SIPAddr(t, "udp"))
	require.NoError(t, err)

	local, err := net.ResolveUDPAddr("udp", "127.0.0.2:0")
	require.NoError(t, err)
	to, err := net.ResolveUDPAddr("udp", g.SIPAddr(t, "udp"))
	require.NoError(t, err)
	conn, err := net.DialUDP("udp", local, to)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	ping := func(branch string) {
		t.Helper()
		_, err := conn.Write([]byte("OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP " + conn.LocalAddr().String() + ";branch=z9hG4bKping" + branch +
			";rport\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: ping" + branch +
			"\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"))
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(finalAnswer(t, conn), "SIP/2.0 200 "))
	}
	ping("before")
	phone, _ := g.Participant(t, "")
	_, token := g.Participant(t, "")
	callBothWays := func() {
		t.Helper()
		dialog := g.Call(t, phone, "+15550100")
		g.WaitState(t, phone, dialog, "ANSWERED")
		g.HangUp(t, phone, dialog)
		call := trunk.Dial(t, g, token+";encoding=jwt")
		harness.WaitRecorded(t, call, 0, 100*time.Millisecond)
		require.NoError(t, call.Hangup())
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"svmap", "-p", port, host},
		{"svwar", "-p", port, "-e", "100-130", "-m", "INVITE", "--force", host},
		{"svwar", "-p", port, "-e", "100-130", "--force", host},
		{"svcrack", "-p", port, "-u", "100", "-r", "1-50", host},
	} {
		scan := exec.CommandContext(ctx, args[0], args[1:]...)
		var out bytes.Buffer
		scan.Stdout, scan.Stderr = &out, &out
		require.NoError(t, scan.Start())
		over := make(chan struct{})
		go func() {
			defer close(over)
			_ = scan.Wait() // it fails when it finds nothing
		}()
		whole := 0 // rounds of calls that began and ended while it ran
		for running := true; running; {
			callBothWays()
			ping(fmt.Sprintf("%s%d-%d", args[0], len(args), whole))
			select {
			case <-over:
				running = false
			default:
				whole++
			}
		}
		text := out.String()
		require.NoError(t, ctx.Err(), "%v: %s", args, text)
		require.Positive(t, whole, "%v: %s", args, text)
		require.NotContains(t, text, "Tandem")
		require.NotContains(t, text, "reqauth")
		t.Logf("%s: %d rounds of calls meanwhile", args[0], whole)
	}

	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(adminGet(t, g.URL+"/admin/bans"))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	var bans []struct{ Address, Reason string }
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &bans), "%s", text)
	require.Len(t, bans, 1, "%s", text)
	require.Equal(t, scanner, bans[0].Address)
	ping("after")
}

func adminGet(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	return req
}
