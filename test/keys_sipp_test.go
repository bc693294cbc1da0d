package test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zaf/g711"

	"tandem/test/audio"
	"tandem/test/harness"
)

// soundOf is a tone as a phone sends it, PCMU.
func soundOf(hz float64, length time.Duration) []byte {
	pcm := audio.Tone(hz, -12, harness.Rate, length)
	payload := make([]byte, len(pcm))
	for i, s := range pcm {
		payload[i] = g711.EncodeUlawFrame(s)
	}
	return payload
}

// keysOf are the keys that an application was told of a participant, and how each of them came.
func keysOf(callbacks *harness.Callbacks, participant string) (digits string, methods []string, milliseconds []float64) {
	for _, c := range callbacks.All() {
		if c.Accepted && c.Text("event") == "onDtmf" && c.Text("participantId") == participant {
			digits += c.Text("digit")
			methods = append(methods, c.Text("method"))
			held, _ := c.Object["duration"].(float64)
			milliseconds = append(milliseconds, held)
		}
	}
	return digits, methods, milliseconds
}

// waitKeys waits for the last key of a participant, and then for the end of its call, by which each must have been told
// once and no more.
func waitKeys(t *testing.T, g *harness.Gateway, callbacks *harness.Callbacks, participant, want string) (methods []string, milliseconds []float64) {
	t.Helper()
	require.Eventually(t, func() bool {
		digits, _, _ := keysOf(callbacks, participant)
		return len(digits) >= len(want)
	}, harness.Patience, 20*time.Millisecond, "the keys do not come")
	g.HangUp(t, participant, g.LastDialog(t, participant))
	callbacks.WaitEvent(t, participant, "onLeave")
	digits, methods, milliseconds := keysOf(callbacks, participant)
	require.Equal(t, want, digits, "each key once, in order")
	return methods, milliseconds
}

// TestKeysOfACarrier has SIPp press keys as RFC 4733 lets carriers and PBXes do it, on each clock, with sound around them
// and without any: whole, without a marker, with a lost start, with lost ends, and when nothing but the ends arrives.
func TestKeysOfACarrier(t *testing.T) {
	shapes := []harness.KeyShape{
		{},
		{NoMarker: true},
		{NoStart: true},
		{NoEnd: true},
		{EndsOnly: true},
		{NoStart: true, NoMarker: true},
		{NoEnd: true, NoMarker: true},
	}
	// Every shape twice: the same digit again is another press.
	var want strings.Builder
	for i := range shapes {
		fmt.Fprintf(&want, "%d%d", i+1, i+1)
	}
	capture := func(clock int, sound bool) *harness.Capture {
		c := &harness.Capture{SSRC: 0x4733}
		between := func(d time.Duration) {
			if sound {
				c.Sound(soundOf(1000, d))
			} else {
				c.Pause(d)
			}
		}
		between(200 * time.Millisecond)
		for i, s := range shapes {
			s.Clock = clock
			for range 2 {
				c.Key(byte(i+1), s)
				between(80 * time.Millisecond)
			}
		}
		between(200 * time.Millisecond)
		return c
	}
	for _, clock := range []int{8000, 16000, 48000} {
		for _, sound := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d Hz, sound %t", clock, sound), func(t *testing.T) {
				captures := map[string]*harness.Capture{"keys.pcap": capture(clock, sound)}
				callbacks := harness.NewCallbacks(t)
				var sipp *harness.SIPp
				var g *harness.Gateway
				var phone string
				if rate := strconv.Itoa(clock); sound { // a PBX calls
					g, phone, sipp = callWithSIPp(t, callbacks, captures, "uac_keys", "-key", "rate", rate)
				} else { // a carrier is called
					sipp = harness.PlaySIPp(t, captures, "uas_keys", "-key", "rate", rate)
					cfg := harness.Config(t)
					cfg.Trunks = append(cfg.Trunks, harness.Trunk("carrier", "sip:"+sipp.Addr))
					g = harness.Start(t, cfg)
					phone, _ = g.Participant(t, callbacks.URL)
					g.Call(t, phone, "+15557777")
				}
				methods, held := waitKeys(t, g, callbacks, phone, want.String())
				sipp.Passed()
				for i := range methods {
					require.Equal(t, "rfc4733", methods[i])
					require.Equal(t, 100.0, held[i], "key %d", i)
				}
			})
		}
	}
}

// callWithSIPp starts a gateway, and has SIPp call it as a participant that is in a session.
func callWithSIPp(t *testing.T, callbacks *harness.Callbacks, captures map[string]*harness.Capture, scenario string, args ...string) (
	g *harness.Gateway, phone string, sipp *harness.SIPp,
) {
	t.Helper()
	g = harness.Start(t, harness.Config(t))
	phone, token := g.Participant(t, callbacks.URL)
	g.Join(t, g.Session(t), phone)
	args = append([]string{g.SIPAddr(t, "udp"), "-s", "+15550199", "-key", "caller", "+15550123", "-key", "token", token}, args...)
	return g, phone, harness.PlaySIPp(t, captures, scenario, args...)
}

// TestKeysOfACarrierByTwoWays has SIPp tell each key by RFC 4733 and by SIP INFO, in both forms and in both orders: it is
// one key, told by the way that was first.
func TestKeysOfACarrierByTwoWays(t *testing.T) {
	captures := map[string]*harness.Capture{}
	for name, code := range map[string]byte{"first.pcap": 5, "second.pcap": 7} {
		c := &harness.Capture{SSRC: uint32(code)}
		c.Key(code, harness.KeyShape{Clock: 8000})
		captures[name] = c
	}
	// A last key shows that what was told twice would have come by now.
	captures["second.pcap"].Pause(200 * time.Millisecond)
	captures["second.pcap"].Key(9, harness.KeyShape{Clock: 8000})
	callbacks := harness.NewCallbacks(t)
	g, phone, sipp := callWithSIPp(t, callbacks, captures, "uac_keys_info")
	methods, _ := waitKeys(t, g, callbacks, phone, "579")
	sipp.Passed()
	require.Equal(t, []string{"rfc4733", "info", "rfc4733"}, methods)
}

// TestMuteOfACarriersTone mutes a phone that SIPp plays: its tone is gone at the listener, who is told of it, and back.
func TestMuteOfACarriersTone(t *testing.T) {
	const hz, otherHz = 1000, 440
	g := harness.Start(t, harness.Config(t))
	session := g.Session(t)
	listener, listenerToken := g.Participant(t, "")
	phone, token := g.Participant(t, "")
	other, otherToken := g.Participant(t, "")
	for _, p := range []string{listener, phone, other} {
		g.Join(t, session, p)
	}
	device := harness.Connect(t, g, listener, listenerToken)
	harness.Connect(t, g, other, otherToken).PublishTone(otherHz, -12, "")
	tone := &harness.Capture{SSRC: 1}
	tone.Sound(soundOf(hz, 25*time.Second))
	sipp := harness.PlaySIPp(t, map[string]*harness.Capture{"tone.pcap": tone}, "uac_tone",
		g.SIPAddr(t, "udp"), "-s", "+15550199", "-key", "caller", "+15550123", "-key", "token", token)
	requireTone(t, tail(device.WaitHeard(t, phone, 2*listen)), hz)

	mute := func(what string, muted bool) {
		t.Helper()
		g.Must(t, http.MethodPost, "/sessions/"+session+"/participants/"+phone+"/"+what, nil)
		require.Eventually(t, func() bool {
			for _, n := range device.Notices() {
				if n.Method == "streamMuted" && n.Params.Text("participantId") == phone && n.Params["muted"] == muted {
					return true
				}
			}
			return false
		}, harness.Patience, 10*time.Millisecond, "the device is told")
	}
	mute("mute", true)
	device.WaitHeard(t, other, listen)
	device.Forget() // what was on its way
	requireTone(t, tail(device.WaitHeard(t, other, 2*listen)), otherHz, hz)
	require.Zero(t, len(device.Heard(phone)), "muted")
	mute("unmute", false)
	device.Forget()
	requireTone(t, tail(device.WaitHeard(t, phone, 2*listen)), hz)
	g.HangUp(t, phone, g.LastDialog(t, phone))
	sipp.Passed()
}

// TestEarlyToneOfACarrier has SIPp send sound with a 183: it is heard, while nobody has answered.
func TestEarlyToneOfACarrier(t *testing.T) {
	const ringback = 425
	tone := &harness.Capture{SSRC: 1}
	tone.Sound(soundOf(ringback, 10*time.Second))
	sipp := harness.PlaySIPp(t, map[string]*harness.Capture{"tone.pcap": tone}, "uas_early_tone")
	cfg := harness.Config(t)
	cfg.Trunks = append(cfg.Trunks, harness.Trunk("carrier", "sip:"+sipp.Addr))
	g := harness.Start(t, cfg)
	callbacks := harness.NewCallbacks(t)
	session := g.Session(t)
	browser, token := g.Participant(t, "")
	phone, _ := g.Participant(t, callbacks.URL)
	g.Join(t, session, browser)
	g.Join(t, session, phone)
	device := harness.Connect(t, g, browser, token)
	dialog := g.Call(t, phone, "+15557777")
	heard := tail(device.WaitHeard(t, phone, 2*listen))
	requireTone(t, heard, ringback)
	require.InDelta(t, -12, audio.Level(heard), 1.5, "the level is kept")
	require.Equal(t, "RINGING", g.DialogState(t, phone, dialog))
	g.HangUp(t, phone, dialog)
	callbacks.WaitState(t, phone, "TERMINATED")
	sipp.Passed()
	require.NotContains(t, callbacks.Words(phone), "ANSWERED")
}
