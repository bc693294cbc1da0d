package browser_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/browser"
	"tandem/test/harness"
)

// TestPassthrough: in a session without codecs a real browser hears a phone over PCMU, clear, and the phone hears the
// browser; muted, nothing is heard.
func TestPassthrough(t *testing.T) {
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": func(c *lab.Call) {
		c.SetSource(lab.Tone(0.25, highTone)) // −12 dBFS
		if c.Answer() == nil {
			<-c.Ended()
		}
	}}})
	page, agent := connect(t, g, browser.Start(t, browser.WriteTone(t, lowTone, -12)), "")
	phone, _ := g.Participant(t, "")
	session := g.Must(t, http.MethodPost, "/sessions", harness.Object{"passthrough": true}).Text("id")
	g.Join(t, session, agent)
	g.Join(t, session, phone)
	_, err := page.Publish(true, false, "microphone")
	require.NoError(t, err)
	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")

	stream := page.WaitParticipant(t, phone)
	requireTone(t, hear(t, page, stream.ID), browser.Rate, highTone, lowTone)
	got, err := page.Received(stream.ID, "audio")
	require.NoError(t, err)
	assert.Equal(t, "audio/PCMU", got.Codec)
	requireTone(t, harness.WaitRecorded(t, call, len(call.Recorded()), listen), harness.Rate, lowTone, highTone)
}
