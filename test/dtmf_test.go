package test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/harness"
)

// pressedOn collects so many keys that a call's far end gets.
func pressedOn(t *testing.T, call *lab.Call, n int) string {
	t.Helper()
	var digits []byte
	for len(digits) < n {
		select {
		case d := <-call.Keys():
			digits = append(digits, d)
		case <-time.After(harness.Patience):
			require.FailNow(t, "keys are missing", "got %q", digits)
		}
	}
	return string(digits)
}

// TestKeysToAPhone presses keys on a phone's line over REST, on both paths, in order.
func TestKeysToAPhone(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": toneOf(1000)}})
	session := g.Session(t)
	phone, _ := g.Participant(t, "")
	g.Join(t, session, phone)
	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")
	path := "/participants/" + phone + "/dialogs/" + dialog + "/dtmf"
	got := g.Must(t, http.MethodPost, path, harness.Object{"digits": "12w*", "duration": 60, "gap": 60})
	require.Equal(t, "ANSWERED", got["state"])
	g.Must(t, http.MethodPost, "/sessions/"+session+path, harness.Object{"digits": "#d0"})
	require.Equal(t, "12*#D0", pressedOn(t, call, 6))
	g.HangUp(t, phone, dialog)
	status, _ := g.Do(t, http.MethodPost, path, harness.Object{"digits": "1"})
	require.Equal(t, http.StatusConflict, status)
}
