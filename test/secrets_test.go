package test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/harness"
)

// TestLogKeepsSecrets makes calls with every secret there is, answered and refused, and searches the whole debug log.
func TestLogKeepsSecrets(t *testing.T) {
	t.Parallel()
	const outbound, inbound = "outbound-pass-4711", "inbound-pass-0815"
	trunk := harness.StartLab(t, lab.Config{Username: "tandem", Password: outbound})
	cfg := harness.Config(t)
	line := harness.Trunk("lab", trunk.URI("udp"))
	line.Username, line.Password = "tandem", outbound
	line.InboundUsername, line.InboundPassword = "caller", inbound
	cfg.Trunks = append(cfg.Trunks, line)
	g := harness.Start(t, cfg)
	callbacks := harness.NewCallbacks(t)
	participant, token := g.Participant(t, callbacks.URL)
	device := harness.Connect(t, g, participant, token)

	dialog := g.Call(t, participant, "+15550100") // challenged, then answered
	g.WaitState(t, participant, dialog, "ANSWERED")
	g.Must(t, http.MethodPost, "/participants/"+participant+"/dialogs/"+dialog+"/dtmf", harness.Object{"digits": "80514711"})
	g.HangUp(t, participant, dialog)
	callbacks.WaitState(t, participant, "TERMINATED")

	gateway := "sip:" + g.SIPAddr(t, "udp")
	call, err := trunk.Call(t.Context(), lab.CallRequest{
		To: gateway, From: "+15550123", UserToUser: token + ";encoding=jwt", Username: "caller", Password: inbound,
	})
	require.NoError(t, err)
	require.NoError(t, call.Hangup())
	for _, wrong := range []lab.CallRequest{
		{To: gateway, UserToUser: token + "x;encoding=jwt", Username: "caller", Password: inbound},
		{To: gateway, UserToUser: token + ";encoding=jwt", Username: "caller", Password: inbound + "x"},
	} {
		_, err := trunk.Call(t.Context(), wrong)
		require.Error(t, err)
	}
	device.Close()
	require.Eventually(t, func() bool { return strings.Count(g.Logged(), "call refused") >= 2 }, harness.Patience, harness.Patience/1000)

	log := g.Logged()
	require.Contains(t, log, "level=DEBUG")
	signature := token[strings.LastIndexByte(token, '.')+1:]
	for name, secret := range map[string]string{
		"the trunk's password": outbound, "the password of its callers": inbound, "a token": token, "a token's signature": signature,
		"the API's password": harness.Password, "the callbacks' secret": harness.CallbackSecret, "keys": "80514711",
	} {
		require.NotContains(t, log, secret, name)
	}
}

// TestLogKeepsKeysOfINFO types a PIN by SIP INFO, where each key is a message of its own: none is in the debug log, alone
// or with the others.
func TestLogKeepsKeysOfINFO(t *testing.T) {
	t.Parallel()
	phone := harness.NewHandPhone(t)
	cfg := harness.Config(t)
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("phone", "sip:"+phone.Addr))
	g := harness.Start(t, cfg)
	callbacks := harness.NewCallbacks(t)
	participant, _ := g.Participant(t, callbacks.URL)
	dialog := g.Call(t, participant, "+15557777")
	invite := phone.Invited()
	phone.Agree(invite, "")
	phone.Answer(invite, phone.SDP("sendrecv", true, 0, nil))
	g.WaitState(t, participant, dialog, "ANSWERED")
	path := "/participants/" + participant + "/dialogs/" + dialog
	g.Must(t, http.MethodPatch, path, harness.Object{"gather": harness.Object{"digits": 6, "timeout": 10}})
	before := len(g.Logged())
	for _, digit := range []byte("471108") {
		phone.Info(digit)
	}
	typed := callbacks.WaitEvent(t, participant, "onDtmf")
	require.Equal(t, "471108", typed.Text("digits"))
	phone.Info('9') // and one that is called back alone
	callbacks.Wait(t, "the single key", func(c harness.Callback) bool { return c.Text("digit") == "9" })
	while := g.Logged()[before:]
	g.HangUp(t, participant, dialog)
	phone.Respond(phone.Await("BYE "), "200 OK", "")
	callbacks.WaitState(t, participant, "TERMINATED")
	require.Eventually(t, func() bool { return strings.Contains(g.Logged(), "call ended") }, harness.Patience, harness.Patience/1000)
	log := g.Logged()
	require.NotContains(t, log, "471108")
	require.NotContains(t, log, "Signal=")
	require.NotRegexp(t, `(?i)(digits?|signal|keys?|event)\W{1,3}[0-9*#]\b`, while)
}
