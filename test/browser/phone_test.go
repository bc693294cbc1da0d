package browser_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/audio"
	"tandem/test/browser"
	"tandem/test/harness"
)

// TestPhoneAndBrowserTalk: a phone's tone in the browser, the browser's tone at the phone, and the SDK's keys there.
func TestPhoneAndBrowserTalk(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": func(c *lab.Call) {
		c.SetSource(lab.Tone(0.25, highTone)) // −12 dBFS
		if c.Answer() == nil {
			<-c.Ended()
		}
	}}})
	page, agent := connect(t, g, browser.Start(t, browser.WriteTone(t, lowTone, -12)), "")
	phone, _ := g.Participant(t, "")
	session := g.Session(t)
	g.Join(t, session, agent)
	g.Join(t, session, phone)
	_, err := page.Publish(true, false, "microphone")
	require.NoError(t, err)

	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")
	var stream browser.Stream
	page.Wait(t, "the phone's stream", func(all []browser.Stream) bool {
		for _, s := range all {
			if s.ParticipantID == phone {
				stream = s
			}
		}
		return stream.ID != ""
	})
	heard := hear(t, page, stream.ID)
	requireTone(t, heard, browser.Rate, highTone, lowTone)
	assert.InDelta(t, -12, audio.Level(heard), 2, "the level is kept")
	skip := len(call.Recorded())
	requireTone(t, harness.WaitRecorded(t, call, skip, listen), harness.Rate, lowTone, highTone)

	const keys = "159#"
	require.NoError(t, page.SendDTMF(keys))
	for _, want := range keys {
		select {
		case got := <-call.Keys():
			assert.Equal(t, string(want), string(rune(got)))
		case <-time.After(patience):
			require.FailNow(t, "a key did not arrive", "%c", want)
		}
	}

	g.HangUp(t, phone, dialog)
	page.WaitGone(t, stream.ID)
	select {
	case key := <-call.Keys():
		assert.Zero(t, key, "a key came twice")
	default:
	}
}
