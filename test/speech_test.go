package test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/audio"
	"tandem/test/harness"
)

// browserRate is what browsers speak at, in Hz.
const browserRate = 48000

// TestSpeechBothWays lets a phone and a browser speak at the same time, each with its own voice, and compares what the
// other one received with the original. It reports, and does not judge, how late it came: from when the first frame
// was sent to when its sound is due at the other end, which includes the codecs' look-ahead but not the 20 ms that a
// microphone takes to fill a frame.
func TestSpeechBothWays(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": func(c *lab.Call) {
		if c.Answer() == nil {
			<-c.Ended()
		}
	}}})
	session := g.Session(t)
	browser, token := g.Participant(t, "")
	phone, _ := g.Participant(t, "")
	g.Join(t, session, browser)
	g.Join(t, session, phone)
	device := harness.Connect(t, g, browser, token)
	phoneVoice := lab.Speech()[:5*harness.Rate]
	browserVoice := slices.Clone(phoneVoice) // spoken backwards: a voice whose loudness takes another course
	slices.Reverse(browserVoice)
	browserSays := device.PublishSamples(audio.Resample(browserVoice, harness.Rate, browserRate), "microphone")
	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")
	device.WaitHeard(t, phone, listen/2) // sound flows both ways before anybody speaks
	harness.WaitRecorded(t, call, 0, listen/2)

	device.Forget()
	phoneFrom, skip := nextPacket(t, call)
	phoneBegan := phoneSays(call, phoneVoice)
	browserBegan := browserSays()
	length := time.Duration(len(phoneVoice))*time.Second/harness.Rate + listen
	device.WaitHeard(t, phone, length)
	atBrowser, browserFrom := device.HeardFrom(phone)
	atPhone := harness.WaitRecorded(t, call, skip, length)

	compare := func(way string, received, said, other []int16, ahead time.Duration) {
		alike, lag := audio.EnvelopeCorrelation(said, received, harness.Rate)
		strange, _ := audio.EnvelopeCorrelation(other, received, harness.Rate)
		t.Logf("%s: the envelopes correlate by %.3f (with the other voice by %.3f); added delay %s",
			way, alike, strange, (lag - ahead).Round(time.Millisecond))
		require.GreaterOrEqual(t, alike, 0.9, way)
		require.Less(t, strange, alike-0.2, "%s: the comparison tells voices apart", way)
	}
	compare("phone to browser", atBrowser, phoneVoice, browserVoice, phoneBegan.Sub(browserFrom))
	compare("browser to phone", atPhone, browserVoice, phoneVoice, browserBegan.Sub(phoneFrom))
	g.HangUp(t, phone, dialog)
}

// phoneSays lets a phone say samples once and returns when their first frame goes out.
func phoneSays(call *lab.Call, samples []int16) time.Time {
	begun := make(chan time.Time, 1)
	rest := samples
	call.SetSource(func(frame []int16) {
		if len(rest) == len(samples) {
			begun <- time.Now()
		}
		rest = rest[copy(frame, rest):]
	})
	return <-begun
}

// nextPacket waits for the next packet that a phone receives and returns when it came and where its sound begins in
// what the phone records.
func nextPacket(t *testing.T, call *lab.Call) (at time.Time, begins int) {
	t.Helper()
	begins = len(call.Recorded())
	require.Eventually(t, func() bool {
		at = time.Now()
		return len(call.Recorded()) > begins
	}, harness.Patience, time.Millisecond, "nothing comes to the phone")
	return at, begins
}
