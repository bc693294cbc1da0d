package test

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/media"
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
