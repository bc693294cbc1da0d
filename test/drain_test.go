package test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/harness"
)

// drained is a gateway with a call up that is told to drain.
type drained struct {
	*harness.Process
	callbacks             *harness.Callbacks
	phone, dialog, second string
	call                  *lab.Call
}

func startDrain(t *testing.T, deadline string) drained {
	t.Helper()
	trunk := harness.StartLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": func(c *lab.Call) {
		if c.Ring() == nil {
			toneOf(1000)(c)
		}
	}}})
	p := harness.NewProcess(t, "", trunk.URI("udp"))
	p.Setenv("TANDEM_DRAIN_DEADLINE", deadline)
	p.Start(t)
	callbacks := harness.NewCallbacks(t)
	d := drained{Process: p, callbacks: callbacks}
	d.phone, _ = p.Participant(t, callbacks.URL)
	d.second, _ = p.Participant(t, callbacks.URL)
	d.dialog = p.Call(t, d.phone, "+15557777")
	d.call = trunk.NextCall(t)
	p.WaitState(t, d.phone, d.dialog, "ANSWERED")
	return d
}

// refuses checks that nothing new begins while the call goes on.
func (d drained) refuses(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return d.status(t, http.MethodGet, "/readyz", "") == http.StatusServiceUnavailable }, harness.Patience, 5*time.Millisecond)
	status, _ := d.Do(t, http.MethodPost, "/participants/"+d.second+"/dialogs", harness.Object{
		"dialogType": "SIP", "dialogStateData": harness.Object{"to": "+15557778", "from": "+15550123"},
	})
	require.Equal(t, http.StatusServiceUnavailable, status)
	conn, err := net.Dial("udp", d.SIPAddr(t, "udp"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	for _, method := range []string{"OPTIONS", "INVITE"} {
		_, err = conn.Write([]byte(method + " sip:+15550199@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP " + conn.LocalAddr().String() +
			";branch=z9hG4bKdrain" + method + ";rport\r\nFrom: <sip:+15550123@x>;tag=1\r\nTo: <sip:+15550199@x>\r\nCall-ID: drain" + method +
			"\r\nCSeq: 1 " + method + "\r\nContact: <sip:a@" + conn.LocalAddr().String() + ">\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"))
		require.NoError(t, err)
		answer := finalAnswer(t, conn)
		require.True(t, strings.HasPrefix(answer, "SIP/2.0 503 "), "%s: %s", method, answer)
		require.Contains(t, answer, "Retry-After: ")
	}
	require.Equal(t, "ANSWERED", d.Must(t, http.MethodGet, "/participants/"+d.phone+"/dialogs/"+d.dialog, nil).Text("state"))
	select {
	case <-d.call.Done():
		require.FailNow(t, "the call was cut")
	default:
	}
}

// finalAnswer reads the next answer that is final.
func finalAnswer(t *testing.T, conn net.Conn) string {
	t.Helper()
	buf := make([]byte, 65536)
	for {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(harness.Patience)))
		n, err := conn.Read(buf)
		require.NoError(t, err)
		if answer := string(buf[:n]); !strings.HasPrefix(answer, "SIP/2.0 1") {
			return answer
		}
	}
}

// status asks for a path outside the accounts.
func (d drained) status(t *testing.T, method, path, body string) int {
	t.Helper()
	req, err := http.NewRequest(method, d.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	if strings.HasPrefix(path, "/admin/drain") && resp.StatusCode < 300 {
		var view struct {
			Draining bool
			Until    time.Time
			Calls    int
		}
		require.NoError(t, json.Unmarshal(text, &view), "%s", text)
		require.Equal(t, method == http.MethodPost, view.Draining)
		require.Equal(t, 1, view.Calls)
	}
	return resp.StatusCode
}

// ended checks the end of the call, and that the program ended well.
func (d drained) ended(t *testing.T) {
	t.Helper()
	select {
	case <-d.call.Done():
	case <-time.After(harness.Patience):
		require.FailNow(t, "the far end's call stays up")
	}
	d.WaitEnded(t)
	ends := 0
	for _, word := range d.callbacks.Words(d.phone) {
		if word == "TERMINATED" {
			ends++
		}
	}
	require.Equal(t, 1, ends, "the end is called back before the program ends: %v", d.callbacks.Words(d.phone))
}

// TestDrainLetsCallsFinish: SIGTERM refuses what is new; the program ends when the call does.
func TestDrainLetsCallsFinish(t *testing.T) {
	t.Parallel()
	d := startDrain(t, "1h")
	d.Signal(t, syscall.SIGTERM)
	d.refuses(t)
	d.HangUp(t, d.phone, d.dialog)
	d.ended(t)
}

// TestDrainByREST has a deadline of its own, after which the call is cut.
func TestDrainByREST(t *testing.T) {
	t.Parallel()
	d := startDrain(t, "1h")
	require.Equal(t, http.StatusOK, d.status(t, http.MethodGet, "/admin/drain", ""))
	require.Equal(t, http.StatusBadRequest, d.status(t, http.MethodPost, "/admin/drain", `{"deadline":"soon"}`))
	require.Equal(t, http.StatusOK, d.status(t, http.MethodGet, "/readyz", ""))
	require.Equal(t, http.StatusAccepted, d.status(t, http.MethodPost, "/admin/drain", `{"deadline":"10m"}`))
	d.refuses(t)
	require.Equal(t, http.StatusAccepted, d.status(t, http.MethodPost, "/admin/drain", `{"deadline":"1s"}`))
	d.ended(t)
}

// TestSecondSIGTERMHastens cuts the call at once.
func TestSecondSIGTERMHastens(t *testing.T) {
	t.Parallel()
	d := startDrain(t, "1h")
	d.Signal(t, syscall.SIGTERM)
	d.refuses(t)
	d.Signal(t, syscall.SIGTERM)
	d.ended(t)
}
