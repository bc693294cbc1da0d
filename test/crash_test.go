package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/store/storetest"
	"tandem/test/harness"
)

// TestKillAtAnyPointOfACall kills the gateway with SIGKILL at random points of a call's life, from before its POST to
// after its end, and starts it again. What was answered before is there afterwards, the call is over, and the
// application is told all of it, in order.
func TestKillAtAnyPointOfACall(t *testing.T) {
	seed := rand.Uint64()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		killAtAnyPoint(t, "", 50, seed)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		killAtAnyPoint(t, storetest.Postgres(t), 10, seed)
	})
}

func killAtAnyPoint(t *testing.T, database string, rounds int, seed uint64) {
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, uint64(rounds)))
	c := newCrash(t, database)
	begun := time.Now()
	c.call(t, nil)
	c.callbacks.WaitEvent(t, c.phone, "onLeave")
	life := time.Since(begun)
	c.device.Close()
	c.known[c.dialogs(t)[0].Text("id")] = true
	whole := c.snapshot(t)
	t.Logf("a call that nobody disturbs takes %s", life)

	// The points are spread over the whole life and a little more, denser at its beginning, where the states follow fast.
	for i := range rounds {
		share := (float64(i) + random.Float64()) / float64(rounds)
		delay := time.Duration(share * share * 1.1 * float64(life))
		name := fmt.Sprintf("round %d, killed after %s", i, delay)
		cut := c.callAndKill(t, delay)
		require.Equal(t, whole, c.snapshot(t), name)
		c.check(t, name, cut)
	}

	// Order is kept, so when the last event of one more call is here, nothing is outstanding.
	c.device = harness.Connect(t, c.p.Gateway, c.browser, c.token)
	last := c.call(t, nil)
	c.callbacks.Wait(t, "the end of the last call", func(got harness.Callback) bool {
		return got.Text("dialogId") == last.dialog && got.Text("event") == "onLeave"
	})
	c.device.Close()
	c.callbacks.Wait(t, "the last device's end", func(got harness.Callback) bool {
		return got.Text("deviceId") == c.device.ID && got.Text("event") == "onLeave"
	})
	c.checkAll(t)
}

// keysPressed is what the phone presses during a call. The application hangs up at the last one.
const keysPressed = "1#"

// crash is a gateway that is killed again and again, and what talks to it.
type crash struct {
	p         *harness.Process
	callbacks *harness.Callbacks
	session   string
	phone     string // the participant that calls
	browser   string // the one that listens
	token     string
	device    *harness.Device

	known  map[string]bool     // dialogs that were judged
	hungUp map[string]bool     // dialogs whose hang-up was answered before the kill
	seen   map[string][]string // by dialog, the states that GET showed before the kill
	phases map[string]int      // how often a kill hit which state
}

func newCrash(t *testing.T, database string) *crash {
	trunk := harness.StartLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": ringAnswerPress}})
	c := &crash{
		p: harness.NewProcess(t, database, trunk.URI("udp")), callbacks: harness.NewCallbacks(t),
		known: map[string]bool{}, hungUp: map[string]bool{}, seen: map[string][]string{}, phases: map[string]int{},
	}
	c.p.Start(t)
	c.session = c.p.Session(t)
	c.phone, _ = c.p.Participant(t, c.callbacks.URL)
	c.browser, c.token = c.p.Participant(t, c.callbacks.URL)
	c.p.Join(t, c.session, c.browser)
	c.p.Join(t, c.session, c.phone, c.browser)
	c.device = harness.Connect(t, c.p.Gateway, c.browser, c.token)
	return c
}

// ringAnswerPress is a far end that takes its time to answer, presses keys, and gives up when it hears nothing of a
// gateway that was killed.
func ringAnswerPress(call *lab.Call) {
	pause := func(d time.Duration) bool {
		select {
		case <-call.Ended():
			return false
		case <-time.After(d):
			return true
		}
	}
	if call.Ring() == nil && pause(50*time.Millisecond) && call.Answer() == nil && call.SendKeys(keysPressed) == nil {
		pause(2 * time.Second)
	}
}

// attempt is what the application knows of a call that it made.
type attempt struct {
	dialog string   // empty: the POST was not answered
	seen   []string // the states that GET showed
	hungUp bool     // the hang-up was answered
}

// call makes a call and hangs up at its last key, as long as nobody kills the gateway.
func (c *crash) call(t *testing.T, killed <-chan struct{}) (a attempt) {
	status, text, err := c.p.Try(http.MethodPost, "/participants/"+c.phone+"/dialogs", harness.Dial("+15557777"))
	if err != nil {
		return a
	}
	require.Equal(t, http.StatusOK, status, "%s", text)
	var o harness.Object
	require.NoError(t, json.Unmarshal(text, &o))
	a.dialog = o.Text("dialogId")
	path := "/participants/" + c.phone + "/dialogs/" + a.dialog
	reached := func(f func(harness.Callback) bool) bool {
		if _, ok := c.callbacks.WaitUnless(killed, func(got harness.Callback) bool {
			return got.Text("dialogId") == a.dialog && f(got)
		}); !ok {
			return false
		}
		_, text, err := c.p.Try(http.MethodGet, path, nil)
		var o harness.Object
		if err != nil || json.Unmarshal(text, &o) != nil {
			return false
		}
		a.seen = append(a.seen, o.Text("state"))
		return true
	}
	for _, state := range []string{"CALLING", "ANSWERED"} {
		if !reached(func(got harness.Callback) bool { return got.Text("state") == state }) {
			return a
		}
	}
	last := keysPressed[len(keysPressed)-1:]
	if !reached(func(got harness.Callback) bool { return got.Text("digit") == last }) {
		return a
	}
	status, _, err = c.p.Try(http.MethodPatch, path, harness.Object{"state": "TERMINATED"})
	a.hungUp = err == nil && status == http.StatusOK
	return a
}

// callAndKill makes a call, kills the gateway this long after its beginning, and starts it again.
func (c *crash) callAndKill(t *testing.T, delay time.Duration) attempt {
	c.device = harness.Connect(t, c.p.Gateway, c.browser, c.token)
	killed := make(chan struct{})
	time.AfterFunc(delay, func() {
		c.p.Kill()
		close(killed)
	})
	a := c.call(t, killed)
	<-killed
	c.device.Drop()
	c.p.Start(t)
	return a
}

// snapshot is everything that must survive, as the API shows it.
func (c *crash) snapshot(t *testing.T) map[string]string {
	all := map[string]string{}
	for _, path := range []string{
		"/sessions/" + c.session, "/sessions/" + c.session + "/participants",
		"/participants/" + c.phone, "/participants/" + c.browser,
		"/sessions/" + c.session + "/participants/" + c.phone + "/subscriptions",
		"/sessions/" + c.session + "/participants/" + c.browser + "/subscriptions",
	} {
		status, text := c.p.Do(t, http.MethodGet, path, nil)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, text)
		all[path] = string(text)
	}
	return all
}

func (c *crash) dialogs(t *testing.T) []harness.Object {
	var all []harness.Object
	_, text := c.p.Do(t, http.MethodGet, "/participants/"+c.phone+"/dialogs", nil)
	require.NoError(t, json.Unmarshal(text, &all), "%s", text)
	return all
}

// check wants the call of a round to be over and the end of it and of the device to be called back.
func (c *crash) check(t *testing.T, name string, a attempt) {
	var fresh []string
	for _, d := range c.dialogs(t) {
		require.Equal(t, "TERMINATED", d.Text("state"), name)
		if id := d.Text("dialogId"); !c.known[id] {
			c.known[id] = true
			fresh = append(fresh, id)
		}
	}
	require.LessOrEqual(t, len(fresh), 1, name)
	if a.dialog != "" {
		require.Equal(t, []string{a.dialog}, fresh, "%s: its POST was answered", name)
	}
	phase := "no dialog"
	for _, id := range fresh {
		end := c.callbacks.Wait(t, name+": TERMINATED", func(got harness.Callback) bool {
			return got.Text("dialogId") == id && got.Text("state") == "TERMINATED"
		})
		c.hungUp[id], c.seen[id] = a.hungUp, a.seen
		phase = end.Text("eventData", "details")
		if len(a.seen) > 0 {
			phase = a.seen[len(a.seen)-1] + ", " + phase
		}
	}
	c.phases[phase]++
	end := c.callbacks.Wait(t, name+": the device's end", func(got harness.Callback) bool {
		return got.Text("deviceId") == c.device.ID && got.Text("event") != "onConnect"
	})
	require.Equal(t, "onDisconnect", end.Text("event"), name)
}

// checkAll judges every callback of every round.
func (c *crash) checkAll(t *testing.T) {
	t.Logf("what the kills hit: %v", c.phases)
	all := c.callbacks.All()
	phone, repeated := once(t, all, c.phone)
	browser, again := once(t, all, c.browser)
	t.Logf("%d callbacks, %d of them came twice", len(phone)+len(browser), repeated+again)

	reported := map[string]bool{}
	for len(phone) > 0 {
		id := phone[0].Text("dialogId")
		n := slices.IndexFunc(phone, func(got harness.Callback) bool { return got.Text("dialogId") != id })
		if n < 0 {
			n = len(phone)
		}
		require.False(t, reported[id], "the events of two calls are mixed")
		reported[id] = true
		c.checkCall(t, id, phone[:n])
		phone = phone[n:]
	}
	kept := map[string]bool{}
	for _, d := range c.dialogs(t) {
		kept[d.Text("dialogId")] = true
	}
	require.Equal(t, kept, reported, "the dialogs that are kept and those that were called back")

	for i := 0; i < len(browser); i += 2 {
		require.Less(t, i+1, len(browser), "a device without an end")
		require.Equal(t, "onConnect", browser[i].Text("event"))
		require.Contains(t, []string{"onLeave", "onDisconnect"}, browser[i+1].Text("event"))
		require.Equal(t, browser[i].Text("deviceId"), browser[i+1].Text("deviceId"))
	}
}

// once drops repeated callbacks of a participant: only the latest one may come again, unchanged. It counts them.
func once(t *testing.T, all []harness.Callback, participant string) (events []harness.Callback, repeated int) {
	ids := map[string]bool{}
	for _, got := range all {
		if got.Text("participantId") != participant {
			continue
		}
		require.True(t, got.Signed, "a callback without a good signature: %s", got.Body)
		if n := len(events); n > 0 && events[n-1].ID == got.ID {
			require.Equal(t, events[n-1].Body, got.Body, "a retry says something else")
			repeated++
			continue
		}
		require.False(t, ids[got.ID], "an event came again after a later one: %s", got.Body)
		ids[got.ID] = true
		events = append(events, got)
	}
	return events, repeated
}

// wordsOnce are a participant's events as words, without the repeats that a stop in the middle of a delivery brings.
func wordsOnce(t *testing.T, callbacks *harness.Callbacks, participant string) []string {
	events, _ := once(t, callbacks.All(), participant)
	var words []string
	for _, got := range events {
		words = append(words, got.Word())
	}
	return words
}

// checkCall wants the events of one call to be a path through the dialog machine, from its beginning to its one end.
func (c *crash) checkCall(t *testing.T, id string, events []harness.Callback) {
	var words []string
	var digits string
	var end harness.Callback
	for _, got := range events {
		words = append(words, got.Word())
		digits += got.Text("digit")
		if got.Text("state") == "TERMINATED" {
			end = got
		}
	}
	after := map[string][]string{
		"":           {"CALLING", "TERMINATED"},
		"CALLING":    {"RINGING", "ANSWERED", "TERMINATED"},
		"RINGING":    {"ANSWERED", "TERMINATED"},
		"ANSWERED":   {"onConnect"},
		"onConnect":  {"onDtmf", "TERMINATED"},
		"onDtmf":     {"onDtmf", "TERMINATED"},
		"TERMINATED": {"onLeave", "onDisconnect"},
	}
	at := ""
	for _, word := range words {
		require.Contains(t, after[at], word, "%v", words)
		at = word
	}
	ending := "TERMINATED"
	reason, details := "ERROR", "gateway restarted"
	if slices.Contains(words, "onConnect") {
		ending = "onDisconnect"
	}
	if end.Text("eventData", "details") == "hung up by the application" { // before the kill, whether or not it was answered
		ending, reason, details = "onLeave", "", "hung up by the application"
		require.Equal(t, keysPressed, digits)
	}
	require.Equal(t, ending, at, "%v", words)
	require.Equal(t, reason, end.Text("eventData", "reason"), "%v", words)
	require.Equal(t, details, end.Text("eventData", "details"), "%v", words)
	if c.hungUp[id] {
		require.Equal(t, "onLeave", at, "the hang-up was answered: %v", words)
	}
	require.Equal(t, keysPressed[:len(digits)], digits)
	for _, state := range c.seen[id] {
		require.Contains(t, words, state, "the API had shown it")
	}
}
