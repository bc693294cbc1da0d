package test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/store/storetest"
	"tandem/test/harness"
)

// onBoth runs a test on both databases; an empty one is an SQLite file of the process's own.
func onBoth(t *testing.T, test func(t *testing.T, database string)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, "")
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		test(t, storetest.Postgres(t))
	})
}

// TestRestartKeepsEverything stops the gateway in good order and starts it again: the API answers as before, tokens
// are good, and what the application did not take yet comes in order.
func TestRestartKeepsEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, database string) {
		trunk := harness.StartLab(t, lab.Config{})
		p := harness.NewProcess(t, database, trunk.URI("udp"))
		p.Start(t)
		callbacks := harness.NewCallbacks(t)
		session := p.Must(t, http.MethodPost, "/sessions", harness.Object{"tag": "Störung & Co"}).Text("id")
		phone, _ := p.Participant(t, callbacks.URL)
		silent := p.Must(t, http.MethodPost, "/participants", harness.Object{
			"callbackUrl": callbacks.URL + "?who=silent", "tag": "listens", "publishPermissions": []string{}, "deviceApiVersion": "V3",
		})
		browser, token := silent.Text("participant", "id"), silent.Text("token")
		alone, _ := p.Participant(t, "")
		p.Join(t, session, browser)
		p.Join(t, session, phone, browser)
		finished := p.Call(t, phone, "+15550101")
		callbacks.WaitState(t, phone, "TERMINATED")

		callbacks.Refuse(func(harness.Callback) bool { return true })
		answered := p.Call(t, phone, "+15550100")
		p.WaitState(t, phone, answered, "ANSWERED")
		p.HangUp(t, phone, answered)
		refused := callbacks.Wait(t, "the first refused one", func(got harness.Callback) bool { return got.Text("dialogId") == answered })
		require.False(t, refused.Accepted)

		paths := []string{
			"/sessions/" + session, "/sessions/" + session + "/participants",
			"/participants/" + phone, "/participants/" + browser, "/participants/" + alone,
			"/sessions/" + session + "/participants/" + phone + "/subscriptions",
			"/sessions/" + session + "/participants/" + browser + "/subscriptions",
			"/participants/" + phone + "/dialogs", "/participants/" + alone + "/dialogs",
			"/participants/" + phone + "/dialogs/" + finished, "/participants/" + phone + "/dialogs/" + answered,
			"/sessions/" + session + "/participants/" + phone + "/dialogs",
			"/sessions/" + session + "/participants/" + phone + "/dialogs/" + finished,
		}
		before := answers(t, p, paths)
		p.Stop(t)
		require.Len(t, callbacks.Words(phone), 2, "only the finished call was taken: %v", callbacks.Words(phone))
		callbacks.Refuse(nil)
		p.Start(t)
		require.Equal(t, before, answers(t, p, paths))

		callbacks.Wait(t, "the end of the answered call", func(got harness.Callback) bool {
			return got.Accepted && got.Text("dialogId") == answered && got.Text("event") == "onLeave"
		})
		require.Equal(t, []string{"CALLING", "TERMINATED", "CALLING", "RINGING", "ANSWERED", "onConnect", "TERMINATED", "onLeave"},
			wordsOnce(t, callbacks, phone))
		i := slices.IndexFunc(callbacks.All(), func(got harness.Callback) bool { return got.Accepted && got.ID == refused.ID })
		require.GreaterOrEqual(t, i, 0, "the one that was refused before comes again under its webhook-id")

		device := harness.Connect(t, p.Gateway, browser, token)
		require.Equal(t, browser, callbacks.WaitEvent(t, browser, "onConnect").Text("participantId"))
		device.Close()
		callbacks.WaitEvent(t, browser, "onLeave")
		p.Stop(t)
	})
}

// answers is what the API says at paths.
func answers(t *testing.T, p *harness.Process, paths []string) map[string]string {
	all := map[string]string{}
	for _, path := range paths {
		status, text := p.Do(t, http.MethodGet, path, nil)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, text)
		require.True(t, json.Valid(text), "%s: %s", path, text)
		all[path] = string(text)
	}
	return all
}

// TestStopWithACallUp stops the gateway while a phone and a browser talk: nobody is left in the dark.
func TestStopWithACallUp(t *testing.T) {
	onBoth(t, func(t *testing.T, database string) {
		trunk := harness.StartLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": func(c *lab.Call) {
			if c.Ring() == nil {
				toneOf(1000)(c)
			}
		}}})
		p := harness.NewProcess(t, database, trunk.URI("udp"))
		p.Start(t)
		callbacks := harness.NewCallbacks(t)
		session := p.Session(t)
		phone, _ := p.Participant(t, callbacks.URL)
		browser, token := p.Participant(t, callbacks.URL)
		p.Join(t, session, browser)
		p.Join(t, session, phone)
		device := harness.Connect(t, p.Gateway, browser, token)
		device.PublishTone(440, -12, "")
		dialog := p.Call(t, phone, "+15557777")
		call := trunk.NextCall(t)
		p.WaitState(t, phone, dialog, "ANSWERED")
		device.WaitHeard(t, phone, listen)

		p.Stop(t)
		require.Equal(t, websocket.StatusServiceRestart, device.WaitClosed(t))
		select {
		case <-call.Done():
		case <-time.After(harness.Patience):
			require.FailNow(t, "the far end's call stays up")
		}
		status := call.Status()
		require.True(t, status.Ended && status.ByFarEnd && status.Answered, "the gateway's BYE ends the call: %+v", status)

		p.Start(t)
		o := p.Must(t, http.MethodGet, "/participants/"+phone+"/dialogs/"+dialog, nil)
		require.Equal(t, "TERMINATED", o.Text("state"))
		callbacks.WaitEvent(t, phone, "onDisconnect")
		end := callbacks.WaitState(t, phone, "TERMINATED")
		require.Equal(t, "ERROR", end.Text("eventData", "reason"))
		require.Equal(t, "the gateway was stopped", end.Text("eventData", "details"))
		require.Equal(t, []string{"CALLING", "RINGING", "ANSWERED", "onConnect", "TERMINATED", "onDisconnect"}, wordsOnce(t, callbacks, phone))
		require.Equal(t, device.ID, callbacks.WaitEvent(t, browser, "onLeave").Text("deviceId"))
		require.Equal(t, []string{"onConnect", "onLeave"}, wordsOnce(t, callbacks, browser))
	})
}
