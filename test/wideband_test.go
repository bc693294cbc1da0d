package test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
	"tandem/test/harness"
)

// TestWidebandCalls lets a phone that speaks G.722 or Opus and a browser hear each other, above what G.711 carries: whoever was
// offered all codecs answers with its one, by the payload type of the offer or by another.
func TestWidebandCalls(t *testing.T) {
	const phoneHz, deviceHz = 5200.0, 6100.0 // no product of the one is near the other
	for _, c := range []struct {
		codec            string
		payload, offered uint8
		snr              float64 // G.722 has 2 bits for all above 4 kHz, and Opus adds its own noise
	}{{"G722", 9, 9, 15}, {"G722", 115, 9, 15}, {"opus", 107, 107, 25}, {"opus", 96, 107, 25}} {
		t.Run(fmt.Sprintf("%s as %d", c.codec, c.payload), func(t *testing.T) {
			phone := harness.NewHandPhone(t)
			phone.Speak(c.codec, c.payload, c.offered)
			cfg := harness.Config(t)
			cfg.Trunks = append(cfg.Trunks, harness.Trunk("phone", "sip:"+phone.Addr))
			g := harness.Start(t, cfg)
			session := g.Session(t)
			agent, token := g.Participant(t, "")
			caller, _ := g.Participant(t, "")
			g.Join(t, session, agent)
			g.Join(t, session, caller)
			device := harness.Connect(t, g, agent, token)
			device.HearAt(harness.WideRate)
			device.PublishTone(deviceHz, -12, "")
			dialog := g.Call(t, caller, "+15557777")
			invite := phone.Invited()
			phone.Agree(invite, "")
			phone.Talk(phoneHz)
			phone.Answer(invite, phone.SDP("sendrecv", true, 0, nil))
			g.WaitState(t, caller, dialog, "ANSWERED")

			device.WaitHeard(t, caller, listen)
			phone.WaitHeard(listen)
			phone.Forget()
			device.Forget()
			for _, way := range []struct {
				name    string
				heard   []int16
				rate    int
				hz, not float64
			}{
				{"to the phone", phone.WaitHeard(2 * listen), phone.SoundRate(), deviceHz, phoneHz},
				{"to the device", device.WaitHeard(t, caller, 2*listen), harness.WideRate, phoneHz, deviceHz},
			} {
				last := way.heard[len(way.heard)-way.rate:]
				snr := audio.MedianSNR(last, way.rate, way.hz)
				t.Logf("%s: %.1f Hz, %.1f dBFS, SNR %.1f dB, the own tone %.1f dBFS", way.name,
					audio.Frequency(last, way.rate), audio.Goertzel(last, way.rate, way.hz), snr, audio.Goertzel(last, way.rate, way.not))
				require.InDelta(t, way.hz, audio.Frequency(last, way.rate), 5, way.name)
				require.InDelta(t, -12, audio.Level(last), 1, "%s: the level is kept", way.name)
				require.Greater(t, snr, c.snr, way.name)
				require.Less(t, audio.Goertzel(last, way.rate, way.not), -12-50.0, "%s: the own tone", way.name)
			}
			g.HangUp(t, caller, dialog)
			phone.Respond(phone.Await("BYE "), "200 OK", "")
		})
	}
}
