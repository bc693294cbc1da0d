package test

import (
	"context"
	"encoding/json"
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

// TestScannerIsBanned runs sipvicious against a gateway: it finds nothing and is banned, and a trunk on another address
// keeps calling meanwhile.
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

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"svmap", "-p", port, host},
		{"svwar", "-p", port, "-e", "100-130", "-m", "INVITE", "--force", host},
		{"svwar", "-p", port, "-e", "100-130", "--force", host},
		{"svcrack", "-p", port, "-u", "100", "-r", "1-50", host},
	} {
		scan := exec.CommandContext(ctx, args[0], args[1:]...)
		out := make(chan string, 1)
		go func() {
			text, _ := scan.CombinedOutput() // it fails when it finds nothing
			out <- string(text)
		}()
		phone, _ := g.Participant(t, "")
		dialog := g.Call(t, phone, "+15550100")
		g.WaitState(t, phone, dialog, "ANSWERED")
		g.HangUp(t, phone, dialog)
		ping(args[0] + args[len(args)-2])
		text := <-out
		require.NoError(t, ctx.Err(), "%v: %s", args, text)
		require.NotContains(t, text, "Tandem")
		require.NotContains(t, text, "reqauth")
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
