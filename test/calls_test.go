package test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/lab"
	"tandem/test/harness"
)

// TestOutboundToTheLab calls every number of the lab and compares what the application is told.
func TestOutboundToTheLab(t *testing.T) {
	g, _ := harness.WithLab(t, lab.Config{})
	callbacks := harness.NewCallbacks(t)
	cases := []struct {
		name, number    string
		hangUpAt        string // the application ends the call in this state
		ringTimeout     int    // seconds
		words           []string
		reason, details string
		code            float64
	}{
		{"answered, ended by us", "+15550100", "ANSWERED", 0, []string{"CALLING", "RINGING", "ANSWERED", "onConnect", "TERMINATED", "onLeave"}, "", "hung up by the application", 0},
		{"busy", "+15550101", "", 0, []string{"CALLING", "TERMINATED"}, "FAR END BUSY", "486 Busy Here", 486},
		{"no answer, cancelled by us", "+15550102", "RINGING", 0, []string{"CALLING", "RINGING", "TERMINATED"}, "", "hung up by the application", 0},
		{"no answer in time", "+15550102", "", 1, []string{"CALLING", "RINGING", "TERMINATED"}, "ERROR", "no answer within 1s", 0},
		{"declined", "+15550103", "", 0, []string{"CALLING", "TERMINATED"}, "FAR END DECLINED", "603 Decline", 603},
		{"not found", "+15550104", "", 0, []string{"CALLING", "TERMINATED"}, "FAR END NOT FOUND", "404 Not Found", 404},
		{"early media, then answered", "+15550106", "ANSWERED", 0, []string{"CALLING", "RINGING", "ANSWERED", "onConnect", "TERMINATED", "onLeave"}, "", "hung up by the application", 0},
		{"answered, ended by the far end", "+15550107", "", 0, []string{"CALLING", "RINGING", "ANSWERED", "onConnect", "TERMINATED", "onLeave"}, "", "hung up by the far end", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			participant, _ := g.Participant(t, callbacks.URL)
			more := harness.Object{}
			if c.ringTimeout > 0 {
				more["ringTimeout"] = c.ringTimeout
			}
			dialog := g.Call(t, participant, c.number, more)
			if c.hangUpAt != "" {
				callbacks.WaitState(t, participant, c.hangUpAt)
				g.HangUp(t, participant, dialog)
			}
			end := callbacks.WaitState(t, participant, "TERMINATED")
			require.Equal(t, c.reason, end.Text("eventData", "reason"))
			require.Equal(t, c.details, end.Text("eventData", "details"))
			if c.code != 0 {
				require.Equal(t, c.code, end.Object["eventData"].(map[string]any)["sipCode"])
			}
			require.Equal(t, dialog, end.Text("dialogId"))
			require.Equal(t, c.number, end.Text("dialogStateData", "to"))
			if c.words[len(c.words)-1] == "onLeave" {
				callbacks.WaitEvent(t, participant, "onLeave")
			}
			require.Equal(t, c.words, callbacks.Words(participant))
			require.Equal(t, "TERMINATED", g.DialogState(t, participant, dialog))
		})
	}
}

func TestOneLiveDialogForAParticipant(t *testing.T) {
	g, _ := harness.WithLab(t, lab.Config{})
	callbacks := harness.NewCallbacks(t)
	participant, token := g.Participant(t, callbacks.URL)
	first := g.Call(t, participant, "+15550102")
	body := harness.Object{"type": "SIP", "data": harness.Object{"to": "+15550100", "from": "UNKNOWN"}}
	status, text := g.Do(t, http.MethodPost, "/participants/"+participant+"/dialogs", body)
	require.Equal(t, http.StatusConflict, status, "%s", text)

	callbacks.WaitState(t, participant, "RINGING")
	_, trunk := g, harness.StartLab(t, lab.Config{})
	_, err := trunk.Call(t.Context(), lab.CallRequest{To: "sip:" + g.SIPAddr(t, "udp"), UserToUser: token + ";encoding=jwt"})
	var refused *lab.CallError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 486, refused.Code, "a second INVITE with its token")

	status, _ = g.Do(t, http.MethodPatch, "/participants/"+participant+"/dialogs/"+first, harness.Object{"state": "ANSWERED"})
	require.Equal(t, http.StatusConflict, status, "only the far end can answer an outbound call")
	status, _ = g.Do(t, http.MethodDelete, "/participants/"+participant+"/dialogs/"+first, nil)
	require.Equal(t, http.StatusNoContent, status)
	status, _ = g.Do(t, http.MethodGet, "/participants/"+participant+"/dialogs/"+first, nil)
	require.Equal(t, http.StatusNotFound, status, "deleted things are not found")
	callbacks.WaitState(t, participant, "TERMINATED")

	second := g.Call(t, participant, "+15550100")
	g.WaitState(t, participant, second, "ANSWERED")
	g.Must(t, http.MethodDelete, "/participants/"+participant, nil)
	end := callbacks.Wait(t, "end of the second call", func(c harness.Callback) bool {
		return c.Text("dialogId") == second && c.Text("state") == "TERMINATED"
	})
	require.Equal(t, "the participant was deleted", end.Text("eventData", "details"))
	callbacks.WaitEvent(t, participant, "onLeave")
}

func TestInboundWithToken(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{})
	callbacks := harness.NewCallbacks(t)
	forms := map[string]func(token string) string{
		"alone":             func(token string) string { return token + ";encoding=jwt" },
		"after the call id": func(token string) string { return "9f2c4a;encoding=base64," + token + ";encoding=jwt" },
		"before it":         func(token string) string { return token + ";encoding=jwt, 9f2c4a;encoding=base64" },
		"quoted":            func(token string) string { return `"` + token + `";encoding=jwt` },
	}
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			participant, token := g.Participant(t, callbacks.URL)
			call := trunk.Dial(t, g, form(token))
			callbacks.WaitState(t, participant, "ANSWERED")
			callbacks.WaitEvent(t, participant, "onConnect")
			require.NoError(t, call.Hangup())
			end := callbacks.WaitState(t, participant, "TERMINATED")
			require.Empty(t, end.Text("eventData", "reason"))
			callbacks.WaitEvent(t, participant, "onLeave")
			require.Equal(t, []string{"RINGING", "ANSWERED", "onConnect", "TERMINATED", "onLeave"}, callbacks.Words(participant))
		})
	}
}

func TestInboundRefused(t *testing.T) {
	trunk := harness.StartLab(t, lab.Config{})
	cfg := harness.Config(t)
	cfg.Security.TokenKey = "a key that this test knows, 32 bytes long"
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("lab", trunk.URI("udp")))
	other := gateway.AccountConfig{ID: "9900001", Username: "other-user", Password: "other-pass", CallbackSecret: harness.CallbackSecret}
	cfg.Accounts = append(cfg.Accounts, other)
	g := harness.Start(t, cfg)
	othersToken := tokenOf(t, g, other)
	participant, token := g.Participant(t, "")
	gone, goneToken := g.Participant(t, "")
	g.Must(t, http.MethodDelete, "/participants/"+gone, nil)
	sign := func(key string, account string, expires time.Time) string {
		s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"a": account, "p": participant, "v": "v3", "iss": "tandem", "exp": expires.Unix(), "tid": "x",
		}).SignedString([]byte(key))
		require.NoError(t, err)
		return s
	}
	soon := time.Now().Add(time.Hour)
	parts := strings.Split(token, ".")
	type refusal struct {
		name, userToUser string
		code             int
	}
	refused := func(cases ...refusal) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
				defer cancel()
				_, err := trunk.Call(ctx, lab.CallRequest{To: "sip:" + g.SIPAddr(t, "udp"), UserToUser: c.userToUser})
				var refused *lab.CallError
				require.ErrorAs(t, err, &refused)
				require.Equal(t, c.code, refused.Code, refused.Reason)
			})
		}
	}
	refused([]refusal{
		{"no token", "", 404},
		{"something else", "cafe;encoding=hex", 404},
		{"not a token", "hello;encoding=jwt", 403},
		{"signed by somebody else", sign("another key that is 32 bytes long too", harness.Account, soon) + ";encoding=jwt", 403},
		{"stolen signature", parts[0] + "." + strings.Split(goneToken, ".")[1] + "." + parts[2] + ";encoding=jwt", 403},
		{"expired", sign(string(cfg.Security.TokenKey), harness.Account, time.Now().Add(-time.Minute)) + ";encoding=jwt", 401},
		{"of another account than the trunk's", othersToken + ";encoding=jwt", 403},
		{"of an account that neither the trunk nor the participant is of", sign(string(cfg.Security.TokenKey), other.ID, soon) + ";encoding=jwt", 403},
	}...)
	require.Contains(t, metrics(t, g), "tandem_rtp_ports_open 0", "a refused call costs no media port")
	// That there is no such participant any more is found when the call is saved.
	refused(refusal{"of a deleted participant", goneToken + ";encoding=jwt", 404})
	require.Eventually(t, func() bool { return strings.Contains(metrics(t, g), "tandem_rtp_ports_open 0") }, harness.Patience, 10*time.Millisecond)
}

// tokenOf creates a participant of an account and returns its token.
func tokenOf(t *testing.T, g *harness.Gateway, account gateway.AccountConfig) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/accounts/"+account.ID+"/participants",
		strings.NewReader(`{"publishPermissions": ["AUDIO"]}`))
	require.NoError(t, err)
	req.SetBasicAuth(account.Username, string(account.Password))
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Less(t, resp.StatusCode, 300)
	var created harness.Object
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&created))
	return created.Text("token")
}

// TestTokenCallsFromTrunksOnly is a token that was carried off: it does not open the door from outside.
func TestTokenCallsFromTrunksOnly(t *testing.T) {
	cfg := harness.Config(t)
	cfg.SIP.TokenCalls = "trunks"
	g := harness.Start(t, cfg)
	_, token := g.Participant(t, "")
	trunk := harness.StartLab(t, lab.Config{})
	_, err := trunk.Call(t.Context(), lab.CallRequest{To: "sip:" + g.SIPAddr(t, "udp"), UserToUser: token + ";encoding=jwt"})
	var refused *lab.CallError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 403, refused.Code)
}

func metrics(t *testing.T, g *harness.Gateway) string {
	t.Helper()
	return g.Get(t, "/metrics")
}
