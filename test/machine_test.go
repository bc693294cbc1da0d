package test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/audio"
	"tandem/test/harness"
)

// says answers, says the samples and is silent then.
func says(samples []int16) func(*lab.Call) {
	return func(c *lab.Call) {
		if c.Answer() == nil {
			c.Play(samples)
			<-c.Ended()
		}
	}
}

// TestMachineDetection calls a machine, which speaks and beeps, a person, who says a word and waits, and a machine that
// nobody asked about.
func TestMachineDetection(t *testing.T) {
	word := lab.Speech()[:harness.Rate] // a second of a sentence
	machine := append(lab.Speech(), audio.Tone(1000, -12, harness.Rate, 400*time.Millisecond)...)
	g, _ := harness.WithLab(t, lab.Config{Handlers: map[string]func(*lab.Call){
		"+15557001": says(machine),
		"+15557002": says(word),
	}})
	callbacks := harness.NewCallbacks(t)
	verdicts := func(participant string) []string {
		found := []string{}
		for _, c := range callbacks.All() {
			if c.Accepted && c.Text("participantId") == participant && c.Text("event") == "onMachineDetection" {
				found = append(found, c.Text("verdict"))
			}
		}
		return found
	}
	for _, c := range []struct {
		name, number string
		asked        bool
		want         []string
	}{
		{"machine", "+15557001", true, []string{"MACHINE", "BEEP"}},
		{"person", "+15557002", true, []string{"HUMAN"}},
		{"not asked", "+15557001", false, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			participant, _ := g.Participant(t, callbacks.URL)
			more := harness.Object{"machineDetection": c.asked}
			if !c.asked {
				more["maxDuration"] = 5 // a verdict about that machine comes after some three seconds
			}
			dialog := g.Call(t, participant, c.number, more)
			if c.asked {
				last := c.want[len(c.want)-1]
				callbacks.Wait(t, last, func(got harness.Callback) bool {
					return got.Text("participantId") == participant && got.Text("verdict") == last && got.Text("dialogId") == dialog
				})
				g.HangUp(t, participant, dialog)
			}
			callbacks.WaitEvent(t, participant, "onLeave")
			require.Equal(t, c.want, verdicts(participant))
		})
	}
}
