package test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/test/harness"
)

// TestSRTPSuites measures both ways of a call between a device and a phone with SDES, in each suite; then the phone changes
// its key while both tones go on, and so does the gateway: everything is heard on, under the new keys alone.
func TestSRTPSuites(t *testing.T) {
	for _, suite := range []string{media.AESCM128HMACSHA180, media.AESCM128HMACSHA132, media.AEADAES128GCM, media.AEADAES256GCM} {
		t.Run(suite, func(t *testing.T) {
			c := joinPhone(t, suite)
			require.Contains(t, c.invite, " RTP/SAVP ")
			c.clear(t)
			require.Zero(t, c.phone.Refused(), "every packet is authentic")
			forged := `tandem_rtp_dropped_total{why="forged"} `
			require.Contains(t, metrics(t, c.g), forged+"0\n")
			c.phone.Forge(3)
			require.Eventually(t, func() bool { return strings.Contains(metrics(t, c.g), forged+"3\n") }, harness.Patience, 20*time.Millisecond)

			// The phone sends under its new key from the offer on, and takes both of the gateway's.
			before := c.theirs
			ours, err := media.NewSRTPKey(suite)
			require.NoError(t, err)
			c.phone.Forget()
			c.device.Forget()
			c.ours = ours
			answer := c.phone.Reoffer(c.sdp("sendrecv"))
			tag, theirs := c.phone.Agree(answer, suite)
			require.Equal(t, c.tag, tag)
			require.False(t, theirs.Equal(before), "another key of ours gets another of theirs")
			c.phone.Secure(ours, theirs)
			toPhone, toDevice := c.phone.WaitHeard(2*listen), c.device.WaitHeard(t, c.caller, 2*listen)
			requireTone(t, toPhone, c.ears, c.phoneHz)
			requireTone(t, toDevice, c.phoneHz, c.ears)
			c.phone.DropOldKeys()
			c.clear(t)
			require.Zero(t, c.phone.Refused(), "the old key is not used any more")
			for _, key := range []*media.SRTPKey{before, theirs, ours} {
				require.NotContains(t, c.g.Logged(), base64.StdEncoding.EncodeToString(key.Key), "no key is logged")
			}
			c.g.HangUp(t, c.caller, c.dialog)
			c.phone.Respond(c.phone.Await("BYE "), "200 OK", "")
		})
	}
}

// TestSRTPOptionalMeetsSRTPOnly calls a phone that takes RTP/SAVP only over a trunk whose srtp is optional: our RTP/AVP is
// refused with 488, and one more INVITE of the same call offers RTP/SAVP. The application sees one call.
func TestSRTPOptionalMeetsSRTPOnly(t *testing.T) {
	for _, takes := range []bool{true, false} {
		t.Run(map[bool]string{true: "it takes the second offer", false: "it refuses both"}[takes], func(t *testing.T) {
			phone := harness.NewHandPhone(t)
			cfg := harness.Config(t)
			trunk := harness.Trunk("phone", "sip:"+phone.Addr)
			trunk.SRTP = "optional"
			cfg.Trunks = append(cfg.Trunks, trunk)
			g := harness.Start(t, cfg)
			callbacks := harness.NewCallbacks(t)
			session := g.Session(t)
			agent, token := g.Participant(t, "")
			caller, _ := g.Participant(t, callbacks.URL)
			g.Join(t, session, agent)
			g.Join(t, session, caller)
			device := harness.Connect(t, g, agent, token)
			device.PublishTone(440, -12, "")
			dialog := g.Call(t, caller, "+15557777")
			plain := phone.Invited()
			require.Contains(t, plain, " RTP/AVP ")
			require.Contains(t, plain, "a=crypto:")
			phone.Respond(plain, "488 Not Acceptable Here", "")
			phone.Await("ACK ")
			secure := phone.Invited()
			require.Contains(t, secure, " RTP/SAVP ")
			for _, name := range []string{"Call-ID", "From", "Contact"} {
				require.Equal(t, harness.SIPHeader(plain, name), harness.SIPHeader(secure, name), "the same call")
			}
			require.Equal(t, "2 INVITE", harness.SIPHeader(secure, "CSeq"))
			if !takes {
				phone.Respond(secure, "488 Not Acceptable Here", "")
				phone.Await("ACK ")
				told := callbacks.WaitState(t, caller, "TERMINATED")
				require.Equal(t, "488 Not Acceptable Here", told.Text("eventData", "details"))
				require.Equal(t, []string{"CALLING", "TERMINATED"}, callbacks.Words(caller), "no third INVITE, one end")
				return
			}
			tag, theirs := phone.Agree(secure, media.AESCM128HMACSHA180)
			ours, err := media.NewSRTPKey(media.AESCM128HMACSHA180)
			require.NoError(t, err)
			phone.Secure(ours, theirs)
			phone.Talk(1000)
			phone.Answer(secure, phone.SDP("sendrecv", true, tag, ours))
			g.WaitState(t, caller, dialog, "ANSWERED")
			requireTone(t, tail(device.WaitHeard(t, caller, 2*listen)), 1000, 440)
			phone.Forget()
			requireTone(t, tail(phone.WaitHeard(2*listen)), 440, 1000)
			require.Zero(t, phone.Refused(), "every packet is SRTP")
			g.HangUp(t, caller, dialog)
			phone.Respond(phone.Await("BYE "), "200 OK", "")
			callbacks.WaitEvent(t, caller, "onLeave")
			require.Equal(t, []string{"CALLING", "ANSWERED", "onConnect", "TERMINATED", "onLeave"}, callbacks.Words(caller))
		})
	}
}
