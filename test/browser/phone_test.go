package browser_test

import (
	"slices"
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
	stream := page.WaitParticipant(t, phone)
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

// TestPhoneThatIsSilentFirst: a phone that has been silent is heard as soon as it speaks, whole and as loud as it is; its silence costs the
// browser next to no packets, none of them is missing, and nothing is made up for them.
func TestPhoneThatIsSilentFirst(t *testing.T) {
	silence := 3 * time.Second
	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": func(c *lab.Call) {
		c.SetSource(nil)
		if c.Answer() == nil {
			<-c.Ended()
		}
	}}})
	page, agent := connect(t, g, browser.Start(t, browser.WriteTone(t, lowTone, -12)), "")
	phone, _ := g.Participant(t, "")
	session := g.Session(t)
	g.Join(t, session, agent)
	g.Join(t, session, phone)
	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")
	stream := page.WaitParticipant(t, phone)
	statistics := func() browser.Statistics {
		s, err := page.Received(stream.ID, "audio")
		require.NoError(t, err)
		return s
	}
	_, err := page.Record(stream.ID, settle)
	require.NoError(t, err)
	before := statistics()
	samples, err := page.Record(stream.ID, silence)
	require.NoError(t, err)
	after := statistics()
	assert.Less(t, audio.Level(samples), -70.0)
	assert.LessOrEqual(t, after.PacketsReceived-before.PacketsReceived, int(silence/(100*time.Millisecond)), "one in 0.4 s, and what begins and ends the recordings")

	const word = 600 * time.Millisecond
	said := slices.Concat(make([]int16, harness.Rate), audio.Tone(highTone, -12, harness.Rate, word)) // when it is already recorded
	call.SetSource(func(frame []int16) {
		clear(frame)
		said = said[copy(frame, said):]
	})
	heard, err := page.Record(stream.ID, silence)
	require.NoError(t, err)
	end := statistics()
	loud := 0
	for piece := range slices.Chunk(heard, browser.Rate/100) {
		if len(piece) == browser.Rate/100 && audio.Goertzel(piece, browser.Rate, highTone) > -14 {
			loud++
		}
	}
	t.Logf("%d ms of the word; packets %d, lost %d, of %d samples %d made up, %d of them silence", loud*10, end.PacketsReceived, end.PacketsLost,
		end.TotalSamplesReceived-before.TotalSamplesReceived, end.ConcealedSamples-before.ConcealedSamples, end.SilentConcealedSamples-before.SilentConcealedSamples)
	assert.InDelta(t, word.Milliseconds(), loud*10, 40, "ms of the word")
	assert.Zero(t, end.PacketsLost)
	madeUp := end.ConcealedSamples - end.SilentConcealedSamples - before.ConcealedSamples + before.SilentConcealedSamples
	assert.Less(t, madeUp, browser.Rate/5, "of %v", 2*silence)
}

// TestSpeech: speech, both ways at once, is at the other end what it was: its envelope is compared with the original's.
func TestSpeech(t *testing.T) {
	speech := lab.Speech()
	original := audio.Resample(speech, harness.Rate, browser.Rate)
	microphone := t.TempDir() + "/speech.wav"
	require.NoError(t, audio.WriteWAV(microphone, original, browser.Rate))

	g, trunk := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){"*": func(c *lab.Call) {
		c.SetSource(lab.Loop(speech, 0))
		if c.Answer() == nil {
			<-c.Ended()
		}
	}}})
	page, agent := connect(t, g, browser.Start(t, microphone), "")
	phone, _ := g.Participant(t, "")
	session := g.Session(t)
	g.Join(t, session, agent)
	g.Join(t, session, phone)
	_, err := page.Publish(true, false, "microphone")
	require.NoError(t, err)
	dialog := g.Call(t, phone, "+15557777")
	call := trunk.NextCall(t)
	g.WaitState(t, phone, dialog, "ANSWERED")
	stream := page.WaitParticipant(t, phone)

	// Both ends repeat the speech without a pause.
	length := time.Duration(len(speech)) * time.Second / harness.Rate
	inBrowser, err := page.Record(stream.ID, settle+length)
	require.NoError(t, err)
	atPhone := harness.WaitRecorded(t, call, len(call.Recorded()), length)
	requireSpeech(t, "phone to browser", original, inBrowser[int(settle.Seconds()*browser.Rate):], browser.Rate)
	requireSpeech(t, "browser to phone", speech, atPhone, harness.Rate)
}

// requireSpeech finds pieces of two seconds of what was heard in what was said over and over. It judges the median,
// as for tones: a jitter buffer stretches time now and then, which moves what follows against the original.
func requireSpeech(t *testing.T, way string, said, heard []int16, rate int) {
	t.Helper()
	likeness := func(name string, original []int16) float64 {
		twice := slices.Concat(original, original)
		var all []float64
		for piece := range slices.Chunk(heard, 2*rate) {
			if len(piece) == 2*rate {
				c, lag := audio.EnvelopeCorrelation(twice, piece, rate)
				all = append(all, c)
				t.Logf("%s, %s: %.3f at %v, %.1f dBFS", way, name, c, -lag, audio.Level(piece))
			}
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	backwards := slices.Clone(said)
	slices.Reverse(backwards)
	got, control := likeness("forwards", said), likeness("backwards", backwards)
	t.Logf("%s: %.3f, and %.3f backwards; %.1f dBFS of %.1f", way, got, control, audio.Level(heard), audio.Level(said))
	assert.GreaterOrEqual(t, got, 0.9, way)
	assert.Less(t, control, 0.85, "the measure would take anything for the speech")
	assert.InDelta(t, audio.Level(said), audio.Level(heard), 3, way)
}
