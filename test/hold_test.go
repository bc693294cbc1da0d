package test

import (
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/audio"
	"tandem/test/harness"
)

// holdTime is how long the hold of TestSoundAfterAHold is: TANDEM_TEST_HOLD, for instance 15m, or two seconds. Longer
// ones take a longer -timeout too.
func holdTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("TANDEM_TEST_HOLD")
	if text == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, "TANDEM_TEST_HOLD")
	return d
}

// phoneAndDevice is a call between a phone by hand and a device.
type phoneAndDevice struct {
	g             *harness.Gateway
	phone         *harness.HandPhone
	device        *harness.Device
	caller        string // the phone's participant
	dialog        string
	invite        string
	suite         string
	tag           int
	ours, theirs  *media.SRTPKey
	phoneHz, ears float64
}

// joinPhone has a phone answer a call: with a suite, the trunk's srtp is required.
func joinPhone(t *testing.T, suite string) *phoneAndDevice {
	t.Helper()
	c := &phoneAndDevice{phone: harness.NewHandPhone(t), suite: suite, phoneHz: 1000, ears: 440}
	cfg := harness.Config(t)
	trunk := harness.Trunk("phone", "sip:"+c.phone.Addr)
	if suite != "" {
		trunk.SRTP = "required"
	}
	cfg.Trunks = append(cfg.Trunks, trunk)
	c.g = harness.Start(t, cfg)
	session := c.g.Session(t)
	agent, token := c.g.Participant(t, "")
	c.caller, _ = c.g.Participant(t, "")
	c.g.Join(t, session, agent)
	c.g.Join(t, session, c.caller)
	c.device = harness.Connect(t, c.g, agent, token)
	c.device.PublishTone(c.ears, -12, "")
	c.dialog = c.g.Call(t, c.caller, "+15557777")
	c.invite = c.phone.Invited()
	c.rekey(t, c.invite)
	c.phone.Talk(c.phoneHz)
	c.phone.Answer(c.invite, c.sdp("sendrecv"))
	c.g.WaitState(t, c.caller, c.dialog, "ANSWERED")
	return c
}

// rekey takes the gateway's key out of a message, and makes one of the phone's own.
func (c *phoneAndDevice) rekey(t *testing.T, message string) {
	t.Helper()
	c.tag, c.theirs = c.phone.Agree(message, c.suite)
	if c.suite != "" {
		var err error
		c.ours, err = media.NewSRTPKey(c.suite)
		require.NoError(t, err)
		c.phone.Secure(c.ours, c.theirs)
	}
}

func (c *phoneAndDevice) sdp(direction string) string {
	return c.phone.SDP(direction, true, c.tag, c.ours)
}

// clear measures both ways from now on, and returns what each heard.
func (c *phoneAndDevice) clear(t *testing.T) (atPhone, atDevice []int16) {
	t.Helper()
	c.phone.Forget()
	c.device.Forget()
	atPhone = tail(c.phone.WaitHeard(2 * listen))
	atDevice = tail(c.device.WaitHeard(t, c.caller, 2*listen))
	requireTone(t, atPhone, c.ears, c.phoneHz)
	requireTone(t, atDevice, c.phoneHz, c.ears)
	require.InDelta(t, -12, audio.Level(atPhone), 1.5, "the level is kept")
	require.InDelta(t, -12, audio.Level(atDevice), 1.5, "the level is kept")
	return atPhone, atDevice
}

// TestSoundAfterAHold holds a call, by us and by the phone, in RTP and in SRTP: nothing of either end is heard meanwhile,
// and both are after it. How fast is logged. A hold of the usual length is tried in RTP and in SRTP once each; a longer one
// in every way, side by side: -parallel says how many.
func TestSoundAfterAHold(t *testing.T) {
	length := holdTime(t)
	for _, suite := range []string{"", media.AESCM128HMACSHA180, media.AEADAES256GCM} {
		for _, byUs := range []bool{true, false} {
			if length < time.Minute && (suite == media.AEADAES256GCM || byUs != (suite == "")) {
				continue
			}
			name := map[bool]string{true: "by us", false: "by the phone"}[byUs]
			if suite != "" {
				name += ", " + suite
			}
			t.Run(name, func(t *testing.T) {
				if length > time.Minute {
					t.Parallel()
				}
				c := joinPhone(t, suite)
				c.clear(t)
				path := "/participants/" + c.caller + "/dialogs/" + c.dialog
				order := func(what, direction string) {
					c.g.Must(t, http.MethodPost, path+"/"+what, nil)
					c.phone.Answer(c.phone.Await("INVITE "), c.sdp(direction))
				}
				if byUs {
					order("hold", "recvonly")
				} else {
					c.phone.Reoffer(c.sdp("inactive"))
				}
				c.phone.Talk(0)
				<-time.After(length)
				c.device.Forget()
				c.phone.Forget()
				<-time.After(500 * time.Millisecond)
				heard, _ := c.phone.Heard()
				require.True(t, len(heard) == 0 || audio.Level(heard) < -60, "the phone hears nothing")
				heard = c.device.Heard(c.caller)
				require.True(t, len(heard) == 0 || audio.Level(heard) < -60, "the device hears nothing")

				c.device.Forget()
				c.phone.Forget()
				begin := time.Now()
				if byUs {
					order("resume", "sendrecv")
				} else {
					c.phone.Reoffer(c.sdp("sendrecv"))
				}
				agreed := time.Now()
				c.phone.Talk(c.phoneHz)
				toPhone, toDevice := c.phone.WaitLoud(), c.firstLoud(t)
				t.Logf("%s after %v: first sound at the phone %v, at the device %v after the resume (%v after it began)",
					name, length, toPhone.Sub(agreed).Round(time.Millisecond), toDevice.Sub(agreed).Round(time.Millisecond),
					agreed.Sub(begin).Round(time.Millisecond))
				atPhone, atDevice := c.clear(t)
				t.Logf("%s: SNR at the phone %.1f dB, at the device %.1f dB", name,
					audio.MedianSNR(atPhone, harness.Rate, c.ears), audio.MedianSNR(atDevice, harness.Rate, c.phoneHz))
				if suite != "" {
					require.Zero(t, c.phone.Refused(), "the phone opens every packet")
				}
				c.g.HangUp(t, c.caller, c.dialog)
				c.phone.Respond(c.phone.Await("BYE "), "200 OK", "")
			})
		}
	}
}

// firstLoud waits for the first sound of the phone at the device since Forget.
func (c *phoneAndDevice) firstLoud(t *testing.T) time.Time {
	t.Helper()
	var at time.Time
	require.Eventually(t, func() bool {
		heard, from := c.device.HeardFrom(c.caller)
		i := slices.IndexFunc(heard, func(s int16) bool { return s > 3000 || s < -3000 })
		if i >= 0 {
			at = from.Add(time.Duration(i) * time.Second / harness.Rate)
		}
		return i >= 0
	}, harness.Patience, time.Millisecond, "the device hears nothing")
	return at
}
