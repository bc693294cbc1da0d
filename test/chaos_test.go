package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"tandem/gateway"
	"tandem/lab"
	"tandem/load"
	"tandem/test/harness"
)

// stormPatience is how long a call may take to end in bad weather: a lost BYE costs 64×T1 (RFC 3261 §17.1.2.2), a lost
// ACK the same, and they may follow each other.
const stormPatience = 3 * time.Minute

// TestStorm makes 500 calls over a network that loses, doubles and reorders SIP. Nearly all that are to be answered are,
// every dialog ends, with one terminal event, and nothing is left behind: no media port, and no goroutine.
func TestStorm(t *testing.T) {
	const calls, atOnce = 500, 50
	const mayFail = calls / 100 // each way: what is lost is sent again seven times and more
	far := fmt.Sprintf("127.0.0.1:%d", harness.Port(t))
	near := fmt.Sprintf("127.0.0.1:%d", harness.Port(t))
	relay := harness.NewRelay(t, near, far, load.Weather{Lost: 0.1, Doubled: 0.1, Late: 0.2, Seed: 20261121})
	trunk := harness.StartLab(t, lab.Config{Listen: []string{"udp://" + far}, RecordLimit: -1})
	cfg := harness.Config(t)
	cfg.SIP.Listen = []string{"udp://" + near}
	cfg.Trunks = []gateway.TrunkConfig{harness.Trunk("storm", "sip:"+relay.FarEnd+";transport=udp")}
	anyPace := 0
	cfg.Accounts[0].MaxNewPerSecond = &anyPace
	g := harness.Start(t, cfg)
	callbacks := harness.NewCallbacks(t)
	before := idle(t, g, trunk, callbacks)

	type caller struct{ participant, token string }
	callers := make([]caller, calls)
	for n := range callers {
		callers[n].participant, callers[n].token = g.Participant(t, callbacks.URL)
	}
	var refused atomic.Int64
	failures := make([]error, calls)
	var workers errgroup.Group
	workers.SetLimit(atOnce)
	for n, c := range callers {
		workers.Go(func() error {
			switch n % 10 {
			case 8, 9:
				if !callIn(t, trunk, relay, c.token) {
					refused.Add(1)
				}
			case 7:
				failures[n] = stormCall(g, callbacks, c.participant, "+15550106", "ANSWERED")
			case 6:
				failures[n] = stormCall(g, callbacks, c.participant, "+15550102", "CALLING")
			case 5:
				failures[n] = stormCall(g, callbacks, c.participant, "+15550101", "")
			case 4:
				failures[n] = stormCall(g, callbacks, c.participant, "+15550107", "")
			default:
				failures[n] = stormCall(g, callbacks, c.participant, "+15550100", "ANSWERED")
			}
			return nil
		})
	}
	require.NoError(t, workers.Wait())
	require.NoError(t, errors.Join(failures...))
	require.Eventually(t, func() bool {
		return metric(t, g, "tandem_dialogs_live") == 0 && metric(t, g, "tandem_rtp_ports_open") == 0
	},
		stormPatience, 100*time.Millisecond, "a call or a port is left")

	datagrams := relay.Count()
	t.Logf("%d calls, %d of the inbound ones never came through; datagrams: %+v", calls, refused.Load(), datagrams)
	require.Positive(t, datagrams.Lost)
	require.LessOrEqual(t, int(refused.Load()), mayFail, "calls in that never came through")
	ended, unanswered := 0, 0
	for n, c := range callers {
		require.Eventually(t, func() bool { return settled(t, g, c.participant, callbacks) }, harness.Patience, 20*time.Millisecond)
		words := callbacks.Words(c.participant)
		ended += requireOneEnd(t, c.participant, words)
		if !slices.Contains([]int{5, 6, 8, 9}, n%10) && !slices.Contains(words, "ANSWERED") {
			unanswered++
		}
	}
	require.GreaterOrEqual(t, ended, calls-int(refused.Load()))
	require.LessOrEqual(t, unanswered, mayFail, "calls out that were not answered")

	require.EventuallyWithT(t, func(c *assert.CollectT) {
		left := goroutines(t)
		maps.DeleteFunc(left, func(by string, n int) bool { return n <= before[by] })
		assert.Empty(c, left, "a goroutine is left")
	}, stormPatience, 100*time.Millisecond)
}

// idle makes a call in fair weather, so that all that runs from the start does, and returns what is left after it.
func idle(t *testing.T, g *harness.Gateway, trunk harness.Lab, callbacks *harness.Callbacks) map[string]int {
	t.Helper()
	participant, token := g.Participant(t, callbacks.URL)
	require.NoError(t, trunk.Dial(t, g, token+";encoding=jwt").Hangup())
	callbacks.WaitEvent(t, participant, "onLeave")
	var left map[string]int
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		left = goroutines(t)
		for by := range left {
			assert.NotContains(c, by, "sipgo", "a transaction is left")
		}
	}, stormPatience, 20*time.Millisecond)
	return left
}

// goroutines counts what runs by the outermost function of ours, or else by who started it. Connections of HTTP are left
// out: they stay open for the next request. So is what waits for a condition.
func goroutines(t *testing.T) map[string]int {
	t.Helper()
	var stacks strings.Builder
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&stacks, 2))
	ours, starter := regexp.MustCompile(`(?m)^(tandem/\S+)\(`), regexp.MustCompile(`(?m)^created by (\S+)`)
	count := map[string]int{}
	for stack := range strings.SplitSeq(stacks.String(), "\n\n") {
		by := starter.FindStringSubmatch(stack)
		if by == nil || strings.HasPrefix(by[1], "net/http.") || strings.HasPrefix(by[1], "github.com/stretchr/testify/") {
			continue
		}
		if all := ours.FindAllStringSubmatch(stack, -1); len(all) > 0 {
			by = all[len(all)-1]
		}
		count[by[1]]++
	}
	return count
}

// settled says whether the end of a participant's dialog was called back, if it had one.
func settled(t *testing.T, g *harness.Gateway, participant string, callbacks *harness.Callbacks) bool {
	_, text := g.Do(t, http.MethodGet, "/participants/"+participant+"/dialogs", nil)
	if strings.TrimSpace(string(text)) == "[]" {
		return true
	}
	connects, leaves, ends := 0, 0, 0
	for _, w := range callbacks.Words(participant) {
		switch w {
		case "onConnect":
			connects++
		case "onLeave", "onDisconnect":
			leaves++
		case "TERMINATED":
			ends++
		}
	}
	return ends > 0 && connects == leaves
}

// requireOneEnd wants one terminal event for the dialog and one for its leg, in an order that makes sense. It returns
// how many dialogs ended.
func requireOneEnd(t *testing.T, participant string, words []string) int {
	t.Helper()
	count := map[string]int{}
	for _, w := range words {
		count[w]++
	}
	require.LessOrEqual(t, count["TERMINATED"], 1, "%s: %v", participant, words)
	require.LessOrEqual(t, count["ANSWERED"], 1, "%s: %v", participant, words)
	require.Equal(t, count["ANSWERED"], count["onConnect"], "%s: %v", participant, words)
	require.Equal(t, count["onConnect"], count["onLeave"]+count["onDisconnect"], "%s: %v", participant, words)
	if len(words) > 0 {
		require.Equal(t, 1, count["TERMINATED"], "%s: %v", participant, words)
	}
	return count["TERMINATED"]
}

// stormCall calls a number, hangs up in a state (empty: the far end does) and waits for the end.
func stormCall(g *harness.Gateway, callbacks *harness.Callbacks, participant, number, hangUpAt string) error {
	path := "/participants/" + participant + "/dialogs"
	status, text, err := g.Try(http.MethodPost, path, harness.Dial(number))
	if err != nil || status >= 300 {
		return fmt.Errorf("call %s: %d %s: %w", number, status, text, err)
	}
	var made harness.Object
	if err := json.Unmarshal(text, &made); err != nil {
		return err
	}
	reached := func(states ...string) error {
		for deadline := time.Now().Add(stormPatience); ; {
			for _, w := range callbacks.Words(participant) {
				if slices.Contains(states, w) {
					return nil
				}
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("call %s never became one of %v: %v", number, states, callbacks.Words(participant))
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	if hangUpAt != "" {
		if err := reached(hangUpAt, "TERMINATED"); err != nil {
			return err
		}
		status, text, err := g.Try(http.MethodPatch, path+"/"+made.Text("dialogId"), harness.Object{"state": "TERMINATED"})
		if err != nil || status != http.StatusOK && status != http.StatusConflict {
			return fmt.Errorf("hang up: %d %s: %w", status, text, err)
		}
	}
	return reached("TERMINATED")
}

// callIn calls the gateway with a token through the storm and hangs up; false: the call did not come through.
func callIn(t *testing.T, trunk harness.Lab, relay *harness.Relay, token string) bool {
	call, err := trunk.Call(t.Context(), lab.CallRequest{To: "sip:" + relay.Gateway, From: "+15550123", UserToUser: token + ";encoding=jwt"})
	if err != nil {
		return false
	}
	_ = call.Hangup() // the storm may keep the answer from it
	return true
}

// metric reads a number of /metrics.
func metric(t *testing.T, g *harness.Gateway, name string) float64 {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(g.Get(t, "/metrics"))
	require.NotNil(t, found, "there is no metric %s", name)
	value, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	return value
}
