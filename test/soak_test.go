package test

import (
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/harness"
)

// soakTime is how long TestSoak goes on: TANDEM_TEST_SOAK, for instance 10m, or 30 seconds.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	value := os.Getenv("TANDEM_TEST_SOAK")
	if value == "" {
		return 30 * time.Second
	}
	d, err := time.ParseDuration(value)
	require.NoError(t, err, "TANDEM_TEST_SOAK")
	return d
}

// usage is what a gateway holds.
type usage struct {
	goroutines, files, ports, dialogs int
	resident                          int64 // bytes
}

func usageOf(t *testing.T, p *harness.Process) (u usage) {
	t.Helper()
	all := p.Get(t, "/metrics")
	value := func(name string) float64 {
		found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(all)
		require.NotNil(t, found, name)
		v, err := strconv.ParseFloat(found[1], 64)
		require.NoError(t, err)
		return v
	}
	u.goroutines, u.ports = int(value("go_goroutines")), int(value("tandem_rtp_ports_open"))
	u.files, u.dialogs = int(value("process_open_fds")), int(value("tandem_dialogs_live"))
	u.resident = int64(value("process_resident_memory_bytes"))
	return u
}

// idle says whether nothing is held that was not held before.
func (u usage) idle(before usage) bool {
	return u.ports == 0 && u.dialogs == 0 && u.goroutines <= before.goroutines+2 && u.files <= before.files+2
}

// TestSoak lets phones and devices come and go, be held, and hear others, one change after the other: what the gateway holds
// does not grow, and after the last call it holds what it held before the first. How long that took is in the log.
func TestSoak(t *testing.T) {
	t.Parallel()
	trunk := harness.StartLab(t, lab.Config{})
	p := harness.NewProcess(t, "", trunk.URI("udp"))
	p.Start(t)
	session := p.Session(t)
	type member struct {
		id, token, dialog string
		device            *harness.Device
		held              bool
	}
	members := make([]*member, 8)
	for i := range members {
		m := &member{}
		m.id, m.token = p.Participant(t, "")
		p.Join(t, session, m.id)
		members[i] = m
	}
	// Once around, so that what is made once is there: prepared statements, the encoder's tables.
	phone := func(m *member) {
		if m.dialog != "" {
			p.HangUp(t, m.id, m.dialog)
			m.dialog, m.held = "", false
			return
		}
		m.dialog = p.Call(t, m.id, "+15550105")
		p.WaitState(t, m.id, m.dialog, "ANSWERED")
	}
	device := func(m *member) {
		if m.device != nil {
			m.device.Close()
			m.device = nil
			return
		}
		m.device = harness.Connect(t, p.Gateway, m.id, m.token)
		m.device.PublishTone(440, -20, "")
	}
	hold := func(m *member) {
		if m.dialog == "" {
			return
		}
		verb := map[bool]string{false: "hold", true: "resume"}[m.held]
		status, body := p.Do(t, http.MethodPost, "/participants/"+m.id+"/dialogs/"+m.dialog+"/"+verb, nil)
		require.Less(t, status, 300, "%s: %s", verb, body)
		m.held = !m.held
	}
	empty := func() {
		for _, m := range members {
			if m.dialog != "" {
				phone(m)
			}
			if m.device != nil {
				device(m)
			}
		}
	}
	for _, m := range members {
		phone(m)
		device(m)
	}
	empty()
	idle := func() usage {
		var u usage
		require.Eventually(t, func() bool {
			u = usageOf(t, p)
			return u.ports == 0 && u.dialogs == 0
		}, harness.Patience, 50*time.Millisecond)
		return u
	}
	before := idle()

	rnd := rand.New(rand.NewPCG(5, 5))
	begun, span := time.Now(), soakTime(t)
	var early, late usage
	changes := 0
	for time.Since(begun) < span {
		m := members[rnd.IntN(len(members))]
		switch rnd.IntN(6) {
		case 0, 1:
			phone(m)
		case 2:
			device(m)
		case 3:
			hold(m)
		default:
			var hears []string
			for _, other := range members {
				if other != m && rnd.IntN(2) == 0 {
					hears = append(hears, other.id)
				}
			}
			if len(hears) > 0 {
				p.Hear(t, session, m.id, hears...)
			}
		}
		if changes++; early == (usage{}) && time.Since(begun) > span/3 {
			early = usageOf(t, p)
		}
	}
	late = usageOf(t, p)
	t.Logf("%d changes in %v; idle %v; after a third %v; at the end %v", changes, span, before, early, late)
	require.Less(t, late.resident, early.resident+early.resident/4, "memory does not grow")
	empty()
	ended := time.Now()
	after := usageOf(t, p)
	for !after.idle(before) && time.Since(ended) < harness.Patience { // by itself it takes some 50 ms
		time.Sleep(50 * time.Millisecond)
		after = usageOf(t, p)
	}
	t.Logf("%v after the last call: %v", time.Since(ended).Round(time.Millisecond), after)
	require.True(t, after.idle(before), "it is idle again: %v, and was %v", after, before)
	require.NotContains(t, strings.ToLower(p.Get(t, "/metrics")), "nan")
}
