package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/test/harness"
)

// TestHotlineOfTheDocuments runs the application of docs/callers.md as it stands there, and calls it: a wrong PIN, the
// right one, and what the operator's lines do to the call.
func TestHotlineOfTheDocuments(t *testing.T) {
	const document, heading, address = "../docs/callers.md", "An example", "127.0.0.1:3000"
	program := blocks(t, document, heading, "python")[0]
	lines := blocks(t, document, heading, "sh")
	require.Len(t, lines, 2)

	mine := fmt.Sprintf("127.0.0.1:%d", harness.Port(t))
	require.Contains(t, blocks(t, document, "A number", "yaml")[0], "callbackUrl: http://"+address+"/phone")
	g, trunk := withHotline(t, gateway.NumberConfig{CallbackURL: "http://" + mine + "/phone"})
	dir := t.TempDir()
	port := strings.TrimPrefix(mine, "127.0.0.1:")
	require.Contains(t, program, `("127.0.0.1", 3000)`)
	program = strings.ReplaceAll(program, `("127.0.0.1", 3000)`, `("127.0.0.1", `+port+`)`)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "phone.py"), []byte(program), 0o600))
	require.Contains(t, lines[0], "http://127.0.0.1:8080/")
	start := strings.ReplaceAll(lines[0], "http://127.0.0.1:8080", g.URL)
	const run = "SESSION=$session python3 phone.py"
	require.Contains(t, start, run)
	start = strings.ReplaceAll(start, run, "echo $session >session\nSESSION=$session exec python3 phone.py")

	app := exec.Command("sh", "-eu", "-c", start)
	app.Dir, app.Env = dir, append(os.Environ(), "no_proxy=*")
	var said bytes.Buffer // to be read once it has ended
	app.Stdout, app.Stderr = &said, &said
	require.NoError(t, app.Start())
	t.Cleanup(func() {
		_ = app.Process.Signal(syscall.SIGTERM)
		_ = app.Wait() // it ends by that signal
		if t.Failed() {
			t.Log(said.String())
		}
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", mine)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, harness.Patience, 20*time.Millisecond, "the application does not listen")

	call, err := dialHotline(t, g, trunk)
	require.NoError(t, err, "asking for a PIN answers the call")
	requireTone(t, tail(harness.WaitRecorded(t, call, 0, listen+listen/2)), 600)
	require.NoError(t, call.SendKeys("0000"))
	requireTone(t, tail(harness.WaitRecorded(t, call, len(call.Recorded()), 2*time.Second)), 600) // again
	require.NoError(t, call.SendKeys("4711"))
	requireTone(t, tail(harness.WaitRecorded(t, call, len(call.Recorded()), 2*time.Second)), 1500)

	session, err := os.ReadFile(filepath.Join(dir, "session"))
	require.NoError(t, err)
	var members []harness.Object
	require.NoError(t, json.Unmarshal(body(t, g, "/sessions/"+strings.TrimSpace(string(session))+"/participants"), &members))
	require.Len(t, members, 1, "the phone is in the session")
	phone := members[0].Text("id")
	dialog := g.LastDialog(t, phone)

	operator := exec.Command("sh", "-eu", "-c", strings.ReplaceAll(lines[1], "curl ", "curl -sS --fail-with-body "))
	operator.Env = append(os.Environ(), "no_proxy=*", "api="+g.URL+"/v1/accounts/"+harness.Account, "participant="+phone, "dialog="+dialog)
	out, err := operator.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), `"state":"TERMINATED"`)
	require.Equal(t, "TERMINATED", g.Must(t, http.MethodGet, "/participants/"+phone+"/dialogs/"+dialog, nil).Text("state"))
	<-call.Done()
}
