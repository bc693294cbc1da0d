package test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/lab"
	"tandem/test/harness"
)

// tick is how often something is looked at that must come.
const tick = 20 * time.Millisecond

// TestDeviceComesBackAtOnce is a page that is loaded again: the end of the old connection is told before the new one.
func TestDeviceComesBackAtOnce(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Config(t))
	callbacks := harness.NewCallbacks(t)
	browser, token := g.Participant(t, callbacks.URL)
	want := []string{}
	for range 20 {
		harness.Connect(t, g, browser, token).Close()
		want = append(want, "onConnect", "onLeave")
	}
	require.Eventually(t, func() bool { return len(callbacks.Words(browser)) == len(want) }, harness.Patience, tick)
	require.Equal(t, want, callbacks.Words(browser))
}

// busyWords is what a call to the lab's busy number makes the application hear.
func busyWords() []string { return []string{"CALLING", "TERMINATED"} }

// TestEndpointThatFails refuses every other attempt, whatever it is for: order and identity are kept all the same.
func TestEndpointThatFails(t *testing.T) {
	t.Parallel()
	g, _ := harness.WithLab(t, lab.Config{})
	callbacks := harness.NewCallbacks(t)
	tries := map[string]int{}
	callbacks.Refuse(func(got harness.Callback) bool { // one after the other, under the endpoint's lock
		tries[got.ID]++
		return tries[got.ID] == 1
	})
	var all []string
	for range 8 {
		participant, _ := g.Participant(t, callbacks.URL)
		g.Call(t, participant, "+15550101")
		all = append(all, participant)
	}
	for _, participant := range all {
		callbacks.WaitState(t, participant, "TERMINATED")
		require.Equal(t, busyWords(), callbacks.Words(participant))
		events, repeated := once(t, callbacks.All(), participant)
		require.Len(t, events, len(busyWords()))
		require.Equal(t, len(busyWords()), repeated, "each came twice, the second time unchanged")
	}
}

// TestEndpointThatIsAway refuses everything for a while, with events of several calls waiting; then they come, each
// once more, in the order in which they happened.
func TestEndpointThatIsAway(t *testing.T) {
	t.Parallel()
	g, _ := harness.WithLab(t, lab.Config{})
	callbacks := harness.NewCallbacks(t)
	callbacks.Refuse(func(harness.Callback) bool { return true })
	participant, _ := g.Participant(t, callbacks.URL)
	var want []string
	for range 3 {
		dialog := g.Call(t, participant, "+15550101")
		g.WaitState(t, participant, dialog, "TERMINATED")
		want = append(want, dialog, dialog)
	}
	require.Eventually(t, func() bool { return len(callbacks.All()) >= 2 }, harness.Patience, tick, "a retry")
	first := callbacks.All()[0]
	for _, got := range callbacks.All() {
		require.Equal(t, first, got, "nothing overtakes the event that was refused")
	}
	callbacks.Refuse(nil)
	callbacks.Wait(t, "the last event", func(got harness.Callback) bool {
		return got.Accepted && got.Text("dialogId") == want[len(want)-1] && got.Text("state") == "TERMINATED"
	})
	events, _ := once(t, callbacks.All(), participant)
	var dialogs []string
	for _, got := range events {
		dialogs = append(dialogs, got.Text("dialogId"))
	}
	require.Equal(t, want, dialogs)
	require.Equal(t, slices.Concat(busyWords(), busyWords(), busyWords()), callbacks.Words(participant))
	require.Equal(t, first.ID, events[0].ID)
}

// TestEndpointThatHangs never answers one application, with many events waiting for it. The other application gets
// its own meanwhile.
func TestEndpointThatHangs(t *testing.T) {
	t.Parallel()
	g, _ := harness.WithLab(t, lab.Config{})
	hangs, works := harness.NewCallbacks(t), harness.NewCallbacks(t)
	hangs.Hold()
	var stuck []string
	for range 30 { // more than there are requests under way to one endpoint or host
		participant, _ := g.Participant(t, hangs.URL)
		g.Call(t, participant, "+15550101")
		stuck = append(stuck, participant)
	}
	require.Eventually(t, func() bool { return hangs.Hanging() > 0 }, harness.Patience, tick)
	for range 5 {
		participant, _ := g.Participant(t, works.URL)
		g.Call(t, participant, "+15550101")
		works.WaitState(t, participant, "TERMINATED")
		require.Equal(t, busyWords(), works.Words(participant))
		require.Empty(t, hangs.All(), "the other application still hangs")
	}
	hangs.Release()
	for _, participant := range stuck {
		hangs.WaitState(t, participant, "TERMINATED")
		require.Equal(t, busyWords(), hangs.Words(participant))
	}
}

// TestCallbackGoesWithoutParticipant deletes a participant while its events wait: they are delivered all the same.
func TestCallbackGoesWithoutParticipant(t *testing.T) {
	t.Parallel()
	g, _ := harness.WithLab(t, lab.Config{})
	callbacks := harness.NewCallbacks(t)
	callbacks.Refuse(func(harness.Callback) bool { return true })
	participant, _ := g.Participant(t, callbacks.URL)
	dialog := g.Call(t, participant, "+15550100")
	g.WaitState(t, participant, dialog, "ANSWERED")
	g.Must(t, http.MethodDelete, "/participants/"+participant, nil)
	callbacks.Refuse(nil)
	end := callbacks.WaitState(t, participant, "TERMINATED")
	require.Equal(t, "the participant was deleted", end.Text("eventData", "details"))
	callbacks.WaitEvent(t, participant, "onLeave")
	require.Equal(t, []string{"CALLING", "RINGING", "ANSWERED", "onConnect", "TERMINATED", "onLeave"}, callbacks.Words(participant))
}
