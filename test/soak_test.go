package test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/audio"
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

// transactionTime is how long SIP keeps a transaction that is over for the repeats of its messages: 64 times T1 (RFC 3261
// §17.2.2). Until then the memory of the first changes is not given back, and what is held grows.
const transactionTime = 32 * time.Second

// idleWithin is how soon after the last call nothing of it is left.
const idleWithin = 5 * time.Second

// databaseFiles is how many files SQLite has open at most: two for each of five connections, which are made when they are first needed
// and stay, and one that they share.
const databaseFiles = 11

// usage is what a gateway holds. heap is that at which the next garbage collection begins: twice what the last one left.
type usage struct {
	goroutines, ports, dialogs int
	files, database            int     // open ones, without and of the database
	resident, heap             int64   // bytes
	collected                  float64 // when the last garbage collection was, in seconds
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
	u.dialogs = int(value("tandem_dialogs_live"))
	for _, name := range p.Files(t) {
		if strings.Contains(name, "/tandem.db") {
			u.database++
		} else {
			u.files++
		}
	}
	u.resident, u.heap = int64(value("process_resident_memory_bytes")), int64(value("go_memstats_next_gc_bytes"))
	u.collected = value("go_memstats_last_gc_time_seconds")
	return u
}

// String is for the log.
func (u usage) String() string {
	return fmt.Sprintf("%d dialogs, %d ports, %d goroutines, %d files and %d of the database, %.1f MB resident, heap %.1f MB",
		u.dialogs, u.ports, u.goroutines, u.files, u.database, float64(u.resident)/1e6, float64(u.heap)/2e6)
}

// within says whether nothing is held that was not held before. Connections of HTTP come and go.
func (u usage) within(before usage) bool {
	return u.ports == before.ports && u.dialogs == before.dialogs && u.goroutines <= before.goroutines+2 && u.files <= before.files+2 &&
		u.database <= databaseFiles
}

// backTo waits until p holds no more than at a time before; how long that may take is the promise.
func backTo(t *testing.T, p *harness.Process, before usage, what string) (now usage) {
	t.Helper()
	require.Eventually(t, func() bool {
		now = usageOf(t, p)
		return now.within(before)
	}, idleWithin, 20*time.Millisecond, "%s: it holds %v, and held %v", what, &now, before)
	return now
}

// collected is usage after a garbage collection that begins from now on: who asks for the metrics brings it about.
func collected(t *testing.T, p *harness.Process) (now usage) {
	t.Helper()
	for range 2 { // one that was going on knows of less
		last := usageOf(t, p).collected
		require.Eventually(t, func() bool {
			now = usageOf(t, p)
			return now.collected > last
		}, 6*harness.Patience, 5*time.Millisecond, "no garbage collection")
	}
	return now
}

func residentOf(u usage) float64 { return float64(u.resident) }
func heapOf(u usage) float64     { return float64(u.heap) }

// growth is how many times what of held the second half has in the mean of what the first half has.
func growth(held []usage, what func(usage) float64) float64 {
	mean := func(part []usage) (sum float64) {
		for _, u := range part {
			sum += what(u) / float64(len(part))
		}
		return sum
	}
	return mean(held[len(held)/2:]) / mean(held[:max(1, len(held)/2)])
}

// soaked is a participant of TestSoak: by telephone, by a device, or both.
type soaked struct {
	id, token, number string
	phoneHz, deviceHz float64
	hand              *harness.HandPhone // whose calls go to it; nil: to the lab
	in                bool               // the session
	dialog            string             // empty: no call
	call              *lab.Call          // at the lab
	held, heldThere   bool               // by us, by the far end
	device            *harness.Device
}

// soak is what its changes are made with.
type soak struct {
	t       *testing.T
	p       *harness.Process
	trunk   harness.Lab
	session string
	rnd     *rand.Rand
	all     []*soaked
	done    map[string]int // changes by kind
}

// newSoak starts a gateway with two trunks, to the lab and to a phone by hand, and makes its participants.
func newSoak(t *testing.T) *soak {
	t.Helper()
	const members = 8
	s := &soak{t: t, rnd: rand.New(rand.NewPCG(5, 5)), done: map[string]int{}}
	handlers := map[string]func(*lab.Call){}
	for i := range members {
		m := &soaked{number: fmt.Sprintf("+1555700%d", i), phoneHz: 451 + 110*float64(i), deviceHz: 506 + 110*float64(i)}
		if i >= members-2 {
			m.hand, m.number = harness.NewHandPhone(t), fmt.Sprintf("+1556700%d", i)
		}
		handlers[m.number] = toneOf(m.phoneHz)
		s.all = append(s.all, m)
	}
	s.trunk = harness.StartLab(t, lab.Config{Handlers: handlers})
	s.p = harness.NewProcess(t, "", s.trunk.URI("udp"))
	text, err := os.ReadFile(s.p.File)
	require.NoError(t, err)
	for _, m := range s.all {
		if m.hand != nil {
			text = fmt.Appendf(text, "  - {name: %q, account: %q, uri: %q, prefixes: [%q]}\n", m.number[1:], harness.Account, "sip:"+m.hand.Addr, m.number)
		}
	}
	require.NoError(t, os.WriteFile(s.p.File, text, 0o600))
	s.p.Start(t)
	s.session = s.p.Session(t)
	for _, m := range s.all {
		m.id, m.token = s.p.Participant(t, "")
		s.move(m)
	}
	return s
}

// dial makes m's call, now from the gateway and now to it.
func (s *soak) dial(m *soaked) {
	s.t.Helper()
	if m.hand == nil && s.rnd.IntN(2) == 0 {
		s.done["call in"]++
		m.call = s.trunk.Dial(s.t, s.p.Gateway, m.token+";encoding=jwt")
		m.call.SetSource(lab.Tone(0.25, m.phoneHz))
		m.dialog = s.p.LastDialog(s.t, m.id)
		return
	}
	s.done["call out"]++
	m.dialog = s.p.Call(s.t, m.id, m.number)
	if m.hand != nil {
		invite := m.hand.Invited()
		m.hand.Agree(invite, "")
		m.hand.Answer(invite, m.hand.SDP("sendrecv", true, 0, nil))
		m.hand.Talk(m.phoneHz)
	} else {
		m.call = s.trunk.NextCall(s.t)
	}
	s.p.WaitState(s.t, m.id, m.dialog, "ANSWERED")
}

// hangUp ends m's call, from either side.
func (s *soak) hangUp(m *soaked) {
	s.t.Helper()
	switch {
	case m.hand != nil:
		s.done["hang-up by us"]++
		m.hand.Talk(0)
		s.p.HangUp(s.t, m.id, m.dialog)
		m.hand.Respond(m.hand.Await("BYE "), "200 OK", "")
		m.hand.Forget()
	case s.rnd.IntN(2) == 0:
		s.done["hang-up by us"]++
		s.p.HangUp(s.t, m.id, m.dialog)
	default:
		s.done["hang-up there"]++
		require.NoError(s.t, m.call.Hangup())
		s.p.WaitState(s.t, m.id, m.dialog, "TERMINATED")
	}
	m.dialog, m.call, m.held, m.heldThere = "", nil, false, false
}

func (s *soak) phone(m *soaked) {
	s.t.Helper()
	if m.dialog == "" {
		s.dial(m)
	} else {
		s.hangUp(m)
	}
}

func (s *soak) browser(m *soaked) {
	s.t.Helper()
	s.done["device"]++
	if m.device != nil {
		m.device.Close()
		m.device = nil
		return
	}
	m.device = harness.Connect(s.t, s.p.Gateway, m.id, m.token)
	m.device.PublishTone(m.deviceHz, -15, "")
}

// hold holds m's call, or takes it back; there: the far end does.
func (s *soak) hold(m *soaked, there bool) {
	s.t.Helper()
	switch {
	case m.dialog == "", there && (m.hand == nil || m.held), !there && m.heldThere:
		return
	case there:
		s.done["hold there"]++
		m.heldThere = !m.heldThere
		m.hand.Reoffer(m.hand.SDP(map[bool]string{true: "inactive", false: "sendrecv"}[m.heldThere], true, 0, nil))
		m.hand.Talk(map[bool]float64{true: 0, false: m.phoneHz}[m.heldThere])
		return
	}
	s.done["hold by us"]++
	m.held = !m.held
	verb := map[bool]string{true: "hold", false: "resume"}[m.held]
	s.p.Must(s.t, http.MethodPost, "/participants/"+m.id+"/dialogs/"+m.dialog+"/"+verb, nil)
	if m.hand != nil {
		m.hand.Answer(m.hand.Await("INVITE "), m.hand.SDP(map[bool]string{true: "recvonly", false: "sendrecv"}[m.held], true, 0, nil))
	}
}

// move takes m out of the session, or puts it back.
func (s *soak) move(m *soaked) {
	s.t.Helper()
	s.done["membership"]++
	if m.in = !m.in; m.in {
		s.p.Join(s.t, s.session, m.id)
	} else {
		s.p.Must(s.t, http.MethodDelete, "/sessions/"+s.session+"/participants/"+m.id, nil)
	}
}

// subscribe lets m hear some of the others, or nobody.
func (s *soak) subscribe(m *soaked) {
	s.t.Helper()
	if !m.in {
		return
	}
	s.done["subscriptions"]++
	var hears []string
	for _, o := range s.all {
		if o != m && o.in && s.rnd.IntN(2) == 0 {
			hears = append(hears, o.id)
		}
	}
	if len(hears) == 0 || s.rnd.IntN(4) == 0 {
		s.done["subscriptions to nobody"]++
		s.p.Must(s.t, http.MethodPut, "/sessions/"+s.session+"/participants/"+m.id+"/subscriptions", harness.Object{})
		return
	}
	s.p.Hear(s.t, s.session, m.id, hears...)
}

// change makes one change.
func (s *soak) change() {
	s.t.Helper()
	m := s.all[s.rnd.IntN(len(s.all))]
	switch s.rnd.IntN(8) {
	case 0, 1:
		s.phone(m)
	case 2:
		s.browser(m)
	case 3:
		s.hold(m, false)
	case 4:
		s.hold(s.all[len(s.all)-1-s.rnd.IntN(2)], true)
	case 5:
		s.move(m)
	default:
		s.subscribe(m)
	}
}

// full brings everybody into the one state in which what is held at different times can be compared: all in the session,
// hearing everybody, on the phone and not held, and the first half of them on a device.
func (s *soak) full() {
	s.t.Helper()
	for i, m := range s.all {
		if !m.in {
			s.move(m)
		}
		s.p.Hear(s.t, s.session, m.id)
		if m.dialog == "" {
			s.dial(m)
		}
		if m.held {
			s.hold(m, false)
		}
		if m.heldThere {
			s.hold(m, true)
		}
		if (m.device != nil) != (i < len(s.all)/2) {
			s.browser(m)
		}
	}
}

func (s *soak) empty() {
	s.t.Helper()
	for _, m := range s.all {
		if m.dialog != "" {
			s.hangUp(m)
		}
		if m.device != nil {
			s.browser(m)
		}
	}
}

// sound lets one hear one other, and wants that one's tones and not another's. Everybody is as full left it. The levels leave room
// for what a busy machine loses of them.
func (s *soak) sound(n int) {
	s.t.Helper()
	half := len(s.all) / 2
	listener, speaker := s.all[n/2%half], s.all[half+(n/2+n)%half]
	if n%2 == 1 {
		listener, speaker = speaker, listener
	}
	stranger := s.all[(slices.Index(s.all, speaker)+1)%len(s.all)]
	if stranger == listener {
		stranger = s.all[(slices.Index(s.all, listener)+1)%len(s.all)]
	}
	s.p.Hear(s.t, s.session, listener.id, speaker.id)
	tones := []float64{speaker.phoneHz}
	if speaker.device != nil {
		tones = append(tones, speaker.deviceHz)
	}
	judge := func(where string, heard []int16) {
		s.t.Helper()
		strongest := audio.Frequency(heard, harness.Rate)
		said := fmt.Sprintf("%s of %s hears %s: %.1f Hz of %v", where, listener.number, speaker.number, strongest, tones)
		require.True(s.t, slices.ContainsFunc(tones, func(hz float64) bool { return math.Abs(hz-strongest) < 5 }), said)
		for _, hz := range tones {
			require.Greater(s.t, levelOf(heard, hz), -28.0, "%s; %g Hz", said, hz)
		}
		require.Less(s.t, levelOf(heard, stranger.phoneHz), -50.0, "%s; and %s", said, stranger.number)
	}
	if listener.hand != nil {
		listener.hand.Forget()
		judge("the phone", tail(listener.hand.WaitHeard(listen+listen/2)))
	} else {
		judge("the phone", tail(harness.WaitRecorded(s.t, listener.call, len(listener.call.Recorded()), listen+listen/2)))
	}
	if listener.device != nil {
		listener.device.Forget()
		judge("the device", tail(listener.device.WaitHeard(s.t, speaker.id, listen+listen/2)))
	}
}

// TestSoak lets phones and devices come and go, be held by either side, leave the session, and hear others or nobody, one
// change after the other. From time to time it brings them all into the same state: then sound arrives, and the gateway holds
// what it held in it the first time. Soon after the last call it holds what it held before the first. The figures are in the log.
func TestSoak(t *testing.T) {
	t.Parallel()
	s := newSoak(t)
	// Twice around, so that what is made once is there: prepared statements, the encoder's tables, connections.
	for range 2 {
		s.full()
		s.empty()
	}
	var none usage
	require.Eventually(t, func() bool {
		none = usageOf(t, s.p)
		return none.ports == 0 && none.dialogs == 0
	}, harness.Patience, 20*time.Millisecond)
	s.full()
	first := usageOf(t, s.p)
	require.Equal(t, len(s.all), first.dialogs)
	require.GreaterOrEqual(t, first.ports, len(s.all))
	s.empty()
	backTo(t, s.p, none, "before the changes")
	before := collected(t, s.p)

	begun, span := time.Now(), soakTime(t)
	every := min(max(span/12, 5*time.Second), 30*time.Second)
	changes := 0
	var moments, steady []usage
	for time.Since(begun) < span {
		for end := min(time.Since(begun)+every, span); time.Since(begun) < end; changes++ {
			s.change()
		}
		s.full()
		now := backTo(t, s.p, first, fmt.Sprintf("after %d changes", changes))
		t.Logf("%v, %d changes: %v", time.Since(begun).Round(time.Second), changes, now)
		s.sound(len(moments))
		if moments = append(moments, now); time.Since(begun) > transactionTime {
			steady = append(steady, now)
		}
	}
	require.Less(t, growth(moments, residentOf), 1.25, "resident memory is flat")
	if len(steady) >= 4 {
		require.Less(t, growth(steady, residentOf), 1.15, "resident memory is flat")
		require.Less(t, growth(steady, heapOf), 1.2, "the heap is flat")
	}
	for _, kind := range []string{
		"call in", "call out", "hang-up by us", "hang-up there", "device", "hold by us", "hold there", "membership", "subscriptions", "subscriptions to nobody",
	} {
		require.NotZero(t, s.done[kind], "%s: %v", kind, s.done)
	}
	s.empty()
	ended := time.Now()
	after := backTo(t, s.p, before, "after the last call")
	t.Logf("%d changes in %v: %v", changes, span, s.done)
	t.Logf("before the first call: %v", before)
	t.Logf("%v after the last one: %v", time.Since(ended).Round(time.Millisecond), after)
	// Then the memory too, as soon as the transactions are over, and with them the garbage.
	small := func() bool { return after.heap < before.heap*6/5 && after.resident < before.resident*5/4 }
	for after = collected(t, s.p); !small() && time.Since(ended) < transactionTime+idleWithin; {
		after = collected(t, s.p)
	}
	t.Logf("%v after the last one: %v", time.Since(ended).Round(time.Millisecond), after)
	require.True(t, small(), "memory: %v, and before %v", after, before)
	require.NotContains(t, strings.ToLower(s.p.Get(t, "/metrics")), "nan")
}
