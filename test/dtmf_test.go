package test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/media"
	"tandem/test/audio"
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
	t.Parallel()
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

// TestKeysInTheSound lets a far end press keys as tones, and in both ways at once: each is told once, with how it came,
// and hardly any of it is heard.
func TestKeysInTheSound(t *testing.T) {
	far := harness.StartLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": toneOf(1000)}})
	cfg := harness.Config(t)
	trunk := harness.Trunk("lab", far.URI("udp"))
	trunk.DTMFInBand = true
	cfg.Trunks = append(cfg.Trunks, trunk)
	g := harness.Start(t, cfg)
	callbacks := harness.NewCallbacks(t)
	session := g.Session(t)
	browser, token := g.Participant(t, "")
	phone, _ := g.Participant(t, callbacks.URL)
	g.Join(t, session, browser)
	g.Join(t, session, phone)
	device := harness.Connect(t, g, browser, token)
	dialog := g.Call(t, phone, "+15557777")
	call := far.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")
	device.WaitHeard(t, phone, listen)
	call.SetSource(nil)
	device.WaitHeard(t, phone, 2*listen)
	device.Forget()

	pressed := func() (digits string, methods []string) {
		for _, c := range callbacks.All() {
			if c.Text("event") == "onDtmf" {
				digits += c.Text("digit")
				methods = append(methods, c.Text("method"))
			}
		}
		return digits, slices.Compact(methods)
	}
	become := func(want string) (methods []string) {
		t.Helper()
		require.Eventually(t, func() (ok bool) {
			digits, got := pressed()
			methods = got
			return digits == want
		}, harness.Patience, 20*time.Millisecond)
		return methods
	}
	require.NoError(t, call.SoundKeys("1559#"))
	require.Equal(t, []string{"inband"}, become("1559#"))
	heard := device.WaitHeard(t, phone, 2*listen)
	loud := 0
	for piece := range slices.Chunk(heard, harness.Rate/100) {
		if audio.Level(piece) > -40 {
			loud++
		}
	}
	require.LessOrEqual(t, loud, 5*5, "of each key no more than its first 20 ms leak, which Opus smears over 50")
	narrow := make([]int16, 0, len(heard))
	for piece := range slices.Chunk(heard, harness.Rate/8000) {
		narrow = append(narrow, piece[0])
	}
	var again media.ToneReader
	keys, _ := again.Sound(nil, narrow)
	require.Empty(t, keys, "nobody behind us takes what is heard for a key")

	// Both at once: whichever comes first tells it, and it is not told again.
	require.NoError(t, call.SendKeys("42"))
	require.NoError(t, call.SoundKeys("42"))
	require.Contains(t, become("1559#42"), "rfc4733")
	device.WaitHeard(t, phone, 4*listen)
	become("1559#42")
	g.HangUp(t, phone, dialog)
}
