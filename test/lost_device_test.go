package test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/harness"
)

// grace is how long a device without a socket keeps its streams, less what clocks and timers may be off.
const grace = 19 * time.Second

// TestDeviceWhoseNetworkVanishes gets its one onDisconnect when the grace period is over. Until then its streams stay,
// also for those who come meanwhile.
func TestDeviceWhoseNetworkVanishes(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Config(t))
	callbacks := harness.NewCallbacks(t)
	session := g.Session(t)
	lost, lostToken := g.Participant(t, callbacks.URL)
	listener, listenerToken := g.Participant(t, "")
	late, lateToken := g.Participant(t, "")
	for _, participant := range []string{lost, listener, late} {
		g.Join(t, session, participant)
	}
	hears := harness.Connect(t, g, listener, listenerToken)
	talks := harness.Connect(t, g, lost, lostToken)
	talks.PublishTone(1000, -12, "microphone")
	hears.WaitHeard(t, lost, 200*time.Millisecond)
	_, before := hears.Streams()

	dropped := time.Now()
	talks.Drop()
	comes := harness.Connect(t, g, late, lateToken)
	require.Eventually(t, func() bool { return has(comes, lost) }, harness.Patience, tick, "the late one is offered the stream")
	require.Equal(t, []string{"onConnect"}, callbacks.Words(lost), "the grace period is not over")
	streams, revision := hears.Streams()
	require.Equal(t, []string{lost}, streams)
	require.Equal(t, before, revision, "nothing is offered to who has the stream already")

	require.Eventually(t, func() bool { return len(callbacks.Words(lost)) > 1 }, 2*harness.Patience, tick)
	end := callbacks.WaitEvent(t, lost, "onDisconnect")
	require.Equal(t, talks.ID, end.Text("deviceId"))
	ms, err := strconv.ParseInt(end.Text("timestamp"), 10, 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.UnixMilli(ms).Sub(dropped), grace)
	for _, d := range []*harness.Device{hears, comes} {
		require.Eventually(t, func() bool { return !has(d, lost) }, harness.Patience, tick, "the stream ends with its device")
	}

	// The same uniqueId after the grace period is a new device. Order is kept, so its event comes after all others.
	harness.Connect(t, g, lost, lostToken)
	require.Eventually(t, func() bool { return len(callbacks.Words(lost)) > 2 }, harness.Patience, tick)
	require.Equal(t, []string{"onConnect", "onDisconnect", "onConnect"}, callbacks.Words(lost))
}

// has says whether the last offer to d had a stream of a participant.
func has(d *harness.Device, participant string) bool {
	streams, _ := d.Streams()
	return slices.Contains(streams, participant)
}

// TestDeviceThatComesBack loses its socket and opens another one under the same uniqueId: nobody is told, it is heard
// on and hears on, and what it missed is offered.
func TestDeviceThatComesBack(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Config(t))
	callbacks := harness.NewCallbacks(t)
	session := g.Session(t)
	ann, annToken := g.Participant(t, callbacks.URL)
	bob, bobToken := g.Participant(t, callbacks.URL)
	cleo, cleoToken := g.Participant(t, "")
	for _, participant := range []string{ann, bob, cleo} {
		g.Join(t, session, participant)
	}
	away, stays := harness.Connect(t, g, ann, annToken), harness.Connect(t, g, bob, bobToken)
	away.PublishTone(1000, -12, "")
	stays.PublishTone(440, -12, "")
	away.WaitHeard(t, bob, 200*time.Millisecond)
	stays.WaitHeard(t, ann, 200*time.Millisecond)
	_, offered := stays.Streams()

	away.LoseSocket(t)
	comes := harness.Connect(t, g, cleo, cleoToken)
	comes.PublishTone(600, -12, "")
	stays.WaitHeard(t, cleo, 200*time.Millisecond)
	stays.Forget()
	stays.WaitHeard(t, ann, 200*time.Millisecond)
	_, missed := away.Streams()

	away.ComeBack(g, annToken)
	away.WaitHeard(t, cleo, 200*time.Millisecond)
	away.Forget()
	away.WaitHeard(t, bob, 200*time.Millisecond)
	stays.Forget()
	stays.WaitHeard(t, ann, 200*time.Millisecond)
	_, revision := away.Streams()
	require.Equal(t, missed+1, revision, "all that it missed, in one offer")
	_, revision = stays.Streams()
	require.Equal(t, offered+1, revision, "only the new one was offered to the other: the old stream never went")

	away.Close()
	callbacks.WaitEvent(t, ann, "onLeave")
	require.Equal(t, []string{"onConnect", "onLeave"}, callbacks.Words(ann))
	require.Equal(t, []string{"onConnect"}, callbacks.Words(bob))
}
