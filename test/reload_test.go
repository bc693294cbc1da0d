package test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/harness"
)

// TestReloadTakesTrunksOver sends SIGHUP to a gateway with a call: trunks and numbers follow the file, those of REST stay,
// the call stays, and a file that is wrong changes nothing.
func TestReloadTakesTrunksOver(t *testing.T) {
	t.Parallel()
	trunk := harness.StartLab(t, lab.Config{})
	p := harness.NewProcess(t, "", trunk.URI("udp"))
	run := p.Start(t)
	text, err := os.ReadFile(p.File)
	require.NoError(t, err)
	write := func(more string, replace ...string) {
		t.Helper()
		require.NoError(t, os.WriteFile(p.File, []byte(strings.NewReplacer(replace...).Replace(string(text))+more), 0o600))
	}
	names := func() string {
		_, body := p.Do(t, http.MethodGet, "/trunks", nil)
		var all []harness.Object
		require.NoError(t, json.Unmarshal(body, &all), "%s", body)
		var list []string
		for _, o := range all {
			list = append(list, o.Text("name")+" "+o.Text("origin"))
		}
		return strings.Join(list, ", ")
	}
	becomes := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool { return names() == want }, harness.Patience, 10*time.Millisecond, "trunks never became %s: %s", want, names())
	}
	p.Must(t, http.MethodPost, "/trunks", harness.Object{"name": "mine", "uri": "sip:192.0.2.1", "prefixes": []string{"+4999"}, "password": "hunter2"})
	require.Equal(t, "trunk0 file, mine rest", names())

	phone, _ := p.Participant(t, "")
	call := p.Call(t, phone, "+15550100")
	p.WaitState(t, phone, call, "ANSWERED")

	write("numbers:\n  - {number: \"+15550177\", account: \""+harness.Account+"\"}\n", "trunk0", "renamed")
	run.Reload(t)
	becomes("renamed file, mine rest")
	require.Equal(t, "file", p.Must(t, http.MethodGet, "/numbers/+15550177", nil).Text("origin"))
	require.Equal(t, "ANSWERED", p.DialogState(t, phone, call), "a change never touches calls that are up")

	write("", "name: trunk0", "name: trunk0, identity: nonsense")
	run.Reload(t)
	require.Eventually(t, func() bool {
		return strings.Contains(run.Stderr(), "trunks[0].identity")
	}, harness.Patience, 10*time.Millisecond, "the mistake is named")
	require.Equal(t, "renamed file, mine rest", names(), "the old one goes on")
	status, _ := p.Do(t, http.MethodGet, "/numbers/+15550177", nil)
	require.Equal(t, http.StatusOK, status)

	write("", "trunks:", "trunks: []\nunused:", "  - {name: trunk0", "  # {name: trunk0")
	run.Reload(t)
	require.Eventually(t, func() bool { return strings.Contains(run.Stderr(), "unused") }, harness.Patience, 10*time.Millisecond, "an unknown key is refused whole")
	require.Equal(t, "renamed file, mine rest", names())

	write("", "trunks:", "trunks: []", "  - {name: trunk0", "  # {name: trunk0")
	run.Reload(t)
	becomes("mine rest")
	status, _ = p.Do(t, http.MethodGet, "/numbers/+15550177", nil)
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "ANSWERED", p.DialogState(t, phone, call))
	p.HangUp(t, phone, call)

	p.Stop(t)
	write("")
	run = p.Start(t)
	require.Equal(t, "trunk0 file, mine rest", names(), "what REST made survives a restart")
	require.Equal(t, "ANSWERED", func() string {
		again := p.Call(t, phone, "+15550100")
		p.WaitState(t, phone, again, "ANSWERED")
		return "ANSWERED"
	}())
	require.NotContains(t, run.Stderr(), "hunter2")
}

// TestHeadersTravelBothWays: from POST dialog into the INVITE, and from an INVITE into the callback.
func TestHeadersTravelBothWays(t *testing.T) {
	t.Parallel()
	trunk := harness.StartLab(t, lab.Config{})
	cfg := harness.Config(t)
	carrier := harness.Trunk("lab", trunk.URI("udp"))
	carrier.Headers = []string{"X-Case", "X-Digits"}
	cfg.Trunks = append(cfg.Trunks, carrier)
	g := harness.Start(t, cfg)
	callbacks := harness.NewCallbacks(t)
	phone, _ := g.Participant(t, callbacks.URL)
	dialog := g.Call(t, phone, "+15550100", harness.Object{"headers": harness.Object{"X-Case": "4711"}, "trunk": "lab", "userToUser": "616263;encoding=hex"})
	callbacks.WaitState(t, phone, "ANSWERED")
	call := trunk.NextCall(t)
	require.Equal(t, "4711", call.Header("X-Case"))
	require.Equal(t, "616263;encoding=hex", call.Header("User-to-User"))
	g.HangUp(t, phone, dialog)
	callbacks.WaitState(t, phone, "TERMINATED")

	caller, token := g.Participant(t, callbacks.URL)
	in, err := trunk.Call(t.Context(), lab.CallRequest{
		To: "sip:+15550199@" + g.SIPAddr(t, "udp"), From: "+15550123", UserToUser: "616263;encoding=hex," + token + ";encoding=jwt",
		Headers: map[string]string{"X-Case": "4712", "X-Secret": "not for you"},
	})
	require.NoError(t, err)
	got := callbacks.WaitState(t, caller, "ANSWERED")
	require.Equal(t, "4712", got.Text("data", "headers", "X-Case"))
	require.Empty(t, got.Text("data", "headers", "X-Secret"))
	require.Equal(t, "616263;encoding=hex", got.Text("data", "userToUser"), "without the token")
	require.NoError(t, in.Hangup())
}
