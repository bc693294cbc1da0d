package test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/test/audio"
	"tandem/test/harness"
)

const (
	// allTones has a key of each row and of each column.
	allTones  = "159D*#"
	keyEvents = "0123456789*#ABCD" // in the order of their codes (RFC 4733 §3.2)
	toneLevel = -11.2              // dBFS of each tone of a key, which is -8 dBm0
)

// line is a call with a phone by hand that presses nothing and says nothing.
type line struct {
	g      *harness.Gateway
	phone  *harness.HandPhone
	device *harness.Device // whom it hears, and who is silent
	caller string
	dialog string
	invite string
}

// startLine calls a phone over a trunk that edit changes. Events says whether the phone takes telephone-event.
func startLine(t *testing.T, events bool, edit func(*gateway.TrunkConfig)) *line {
	t.Helper()
	l := &line{phone: harness.NewHandPhone(t)}
	cfg := harness.Config(t)
	trunk := harness.Trunk("phone", "sip:"+l.phone.Addr)
	edit(&trunk)
	cfg.Trunks = append(cfg.Trunks, trunk)
	l.g = harness.Start(t, cfg)
	session := l.g.Session(t)
	agent, token := l.g.Participant(t, "")
	l.caller, _ = l.g.Participant(t, "")
	l.g.Join(t, session, agent)
	l.g.Join(t, session, l.caller)
	l.device = harness.Connect(t, l.g, agent, token)
	l.device.PublishSamples(nil, "")
	l.dialog = l.g.Call(t, l.caller, "+15557777")
	l.invite = l.phone.Invited()
	l.phone.Agree(l.invite, "")
	l.phone.Answer(l.invite, l.phone.SDP("sendrecv", events, 0, nil))
	l.g.WaitState(t, l.caller, l.dialog, "ANSWERED")
	return l
}

// press has the keys pressed by the application or by the device; by the application each is 120 ms long, and so far apart.
func (l *line) press(t *testing.T, byREST bool) {
	t.Helper()
	if !byREST {
		l.device.PressKeys(allTones)
		return
	}
	l.g.Must(t, http.MethodPost, "/participants/"+l.caller+"/dialogs/"+l.dialog+"/dtmf",
		harness.Object{"digits": allTones, "duration": 120, "gap": 120})
}

// end hangs up, and checks that no key came by INFO that was not awaited.
func (l *line) end(t *testing.T) {
	t.Helper()
	l.g.HangUp(t, l.caller, l.dialog)
	for {
		message := l.phone.Await("")
		require.False(t, strings.HasPrefix(message, "INFO "), message)
		if strings.HasPrefix(message, "BYE ") {
			l.phone.Respond(message, "200 OK", "")
			return
		}
	}
}

// requireSilence: no tone is in what the phone heard.
func requireSilence(t *testing.T, heard []int16) {
	t.Helper()
	require.NotEmpty(t, heard, "sound goes on")
	require.Empty(t, bursts(heard))
}

// bursts are the pieces that are not silent, in the grid of 10 ms that they begin and end in.
func bursts(heard []int16) (all [][]int16) {
	const grid = harness.Rate / 100
	begin := -1
	for at := 0; at+grid <= len(heard); at += grid {
		switch loud := audio.Level(heard[at:at+grid]) > -40; {
		case loud && begin < 0:
			begin = at
		case !loud && begin >= 0:
			all = append(all, heard[begin:at])
			begin = -1
		}
	}
	return all
}

// lasted is how long a number of samples is.
func lasted(samples int) time.Duration { return time.Duration(samples) * time.Second / harness.Rate }

// TestKeysAsTheTrunkWants presses keys toward a phone, from the application and from a browser, and measures what the phone
// gets: events, SIP INFO, or, where it takes no events, tones; and of the others nothing.
func TestKeysAsTheTrunkWants(t *testing.T) {
	for _, byREST := range []bool{true, false} {
		who := map[bool]string{true: "application", false: "browser"}[byREST]
		// A browser's key is as long as it is held down, and 80 ms at least; how long it takes to get here is up to the machine.
		requireLong := func(t *testing.T, got time.Duration) {
			t.Helper()
			if byREST {
				require.InDelta(t, 120, got.Milliseconds(), 10)
			} else {
				require.GreaterOrEqual(t, got, 70*time.Millisecond)
			}
		}
		t.Run("RFC 4733 from the "+who, func(t *testing.T) {
			l := startLine(t, true, func(c *gateway.TrunkConfig) { c.DTMF = "rfc4733" })
			require.Contains(t, l.invite, "a=rtpmap:101 telephone-event/8000")
			l.phone.Forget()
			l.press(t, byREST)
			require.Eventually(t, func() bool { return len(l.phone.Pressed()) >= len(allTones) }, harness.Patience, 10*time.Millisecond)
			l.phone.WaitHeard(listen)
			require.Equal(t, allTones, l.phone.Pressed())
			keys := byKey(l.phone.Events())
			require.Len(t, keys, len(allTones), "a timestamp for each")
			for i, packets := range keys {
				first, last := packets[0], packets[len(packets)-1]
				require.Equal(t, allTones[i], keyEvents[first.Code])
				requireLong(t, last.Duration)
				ends := 0
				for n, p := range packets {
					require.Equal(t, first.Code, p.Code)
					require.Equal(t, n == 0, p.Marker, "on the first packet alone")
					if n > 0 {
						require.GreaterOrEqual(t, p.Duration, packets[n-1].Duration)
					}
					if p.End {
						require.Equal(t, last.Duration, p.Duration)
						ends++
					} else {
						require.Zero(t, ends, "nothing behind an end")
					}
				}
				require.Equal(t, 3, ends, "RFC 4733 §2.5.1.4")
				if byREST && i > 0 {
					require.GreaterOrEqual(t, lasted(int(first.Timestamp-keys[i-1][0].Timestamp)), 240*time.Millisecond, "a key and a gap")
				}
			}
			heard, _ := l.phone.Heard()
			requireSilence(t, heard)
			l.end(t)
		})
		t.Run("SIP INFO from the "+who, func(t *testing.T) {
			l := startLine(t, false, func(c *gateway.TrunkConfig) { c.DTMF = "info" })
			require.NotContains(t, l.invite, "telephone-event")
			l.phone.Forget()
			l.press(t, byREST)
			for _, digit := range allTones {
				info := l.phone.Await("INFO ")
				require.Equal(t, "application/dtmf-relay", harness.SIPHeader(info, "Content-Type"))
				held := map[bool]int{true: 120, false: 100}[byREST]
				_, body, _ := strings.Cut(info, "\r\n\r\n")
				require.Equal(t, fmt.Sprintf("Signal=%c\r\nDuration=%d\r\n", digit, held), body)
				l.phone.Respond(info, "200 OK", "")
			}
			requireSilence(t, l.phone.WaitHeard(listen))
			require.Empty(t, l.phone.Events())
			l.end(t)
		})
		t.Run("tones from the "+who, func(t *testing.T) {
			l := startLine(t, false, func(c *gateway.TrunkConfig) { c.DTMF = "rfc4733" })
			l.phone.Forget()
			l.press(t, byREST)
			var keys [][]int16
			require.Eventually(t, func() bool {
				heard, _ := l.phone.Heard()
				keys = bursts(heard)
				return len(keys) >= len(allTones)
			}, harness.Patience, 20*time.Millisecond, "it hears too few tones")
			for i, sound := range keys {
				requireLong(t, lasted(len(sound)))
				requireKeyTones(t, sound[80:len(sound)-80], allTones[i])
			}
			require.Empty(t, l.phone.Events())
			heard, _ := l.phone.Heard()
			require.Len(t, bursts(l.phone.WaitHeard(lasted(len(heard))+listen)), len(allTones), "and no more")
			l.end(t)
		})
	}
}

// requireKeyTones: a sound is the two tones of a key (ITU-T Q.23), each at its level, and no other of the eight.
func requireKeyTones(t *testing.T, sound []int16, digit byte) {
	t.Helper()
	rows, columns := []string{"123A", "456B", "789C", "*0#D"}, []float64{1209, 1336, 1477, 1633}
	for row, low := range []float64{697, 770, 852, 941} {
		column := strings.IndexByte(rows[row], digit)
		for _, tone := range []struct {
			hz float64
			is bool
		}{{low, column >= 0}, {columns[row], slices.ContainsFunc(rows, func(r string) bool { return r[row] == digit })}} {
			level := audio.Goertzel(sound, harness.Rate, tone.hz)
			if tone.is {
				require.InDelta(t, toneLevel, level, 1.5, "%c: %g Hz", digit, tone.hz)
			} else {
				require.Less(t, level, toneLevel-20, "%c: %g Hz", digit, tone.hz)
			}
		}
	}
}

// byKey groups packets by their timestamp, which is that of their key.
func byKey(events []harness.Event) (keys [][]harness.Event) {
	for i, e := range events {
		if i == 0 || e.Timestamp != events[i-1].Timestamp {
			keys = append(keys, nil)
		}
		keys[len(keys)-1] = append(keys[len(keys)-1], e)
	}
	return keys
}
