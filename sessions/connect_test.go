package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/errs"
	"tandem/sessions"
	"tandem/webhooks"
)

func TestOneDevice(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	s := h.session(t)
	p, listener := h.member(t, s, everybody(s)), h.member(t, s, everybody(s))
	_, hears := h.device(t, listener, "x")

	first, firstEnd := h.device(t, p, "first")
	first.Publish(voice(p.ID, "one", ""))
	require.Equal(t, []string{"one"}, hears.hears(t))
	require.Equal(t, p.ID, first.Participant().ID)

	second, secondEnd := h.device(t, p, "second")
	require.Empty(t, hears.hears(t), "what the first sent is over")
	<-firstEnd.closed
	requireCode(t, errs.Conflict, firstEnd.closeCause(), "another device")
	require.Equal(t, []string{"onConnect first", "onLeave first", "onConnect second"}, h.words(t, p.ID))

	// what the replaced one still does changes nothing
	first.Publish(voice(p.ID, "late", ""))
	require.NoError(t, first.Lost(t.Context()))
	require.NoError(t, first.Leave(t.Context()))
	require.Empty(t, hears.hears(t))
	second.Publish(voice(p.ID, "two", ""))
	require.Equal(t, []string{"two"}, hears.hears(t))
	require.NoError(t, second.Lost(t.Context()))
	require.NoError(t, second.Leave(t.Context()))
	require.NoError(t, second.Lost(t.Context()))
	require.Empty(t, hears.hears(t))
	require.Nil(t, secondEnd.closeCause(), "who left by itself need not be told")
	require.Equal(t, []string{"onConnect first", "onLeave first", "onConnect second", "onDisconnect second"}, h.words(t, p.ID))
	require.False(t, h.Online(p.ID))
}

func TestOnePhone(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	p := h.participant(t)
	first, firstEnd := h.phone(t, p)
	_, err := attach(t.Context(), h.Service, p, newRecorder())
	requireCode(t, errs.Conflict, err, "has a call already")
	require.Nil(t, firstEnd.closeCause(), "a second call does not harm the first")
	h.device(t, p, "beside it")
	first.Detach()
	h.phone(t, p)
	require.Equal(t, []string{"onConnect beside it"}, h.words(t, p.ID), "of a leg its dialog tells")
}

func TestTagAndSequence(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	p, _, err := h.CreateParticipant(t.Context(), account, sessions.NewParticipant{CallbackURL: "http://a/", Tag: "support"})
	require.NoError(t, err)
	for range 3 {
		a, _ := h.device(t, p, "d")
		require.NoError(t, a.Leave(t.Context()))
	}
	for i, e := range h.drain(t, p.ID) {
		require.Equal(t, "support", e.Tag)
		require.EqualValues(t, i+1, e.sequence)
	}
}

func TestEndpointsOfTheDeleted(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	p := h.participant(t)
	device, deviceEnd := h.device(t, p, "d")
	leg, legEnd := h.phone(t, p)
	require.NoError(t, h.DeleteParticipant(t.Context(), account, p.ID))
	<-deviceEnd.closed
	<-legEnd.closed
	_, err := h.Connect(t.Context(), p, "again", newRecorder())
	requireCode(t, errs.NotFound, err, p.ID)
	leg.Detach()
	_, err = attach(t.Context(), h.Service, p, newRecorder())
	requireCode(t, errs.NotFound, err, p.ID)
	require.NoError(t, device.Leave(t.Context()))
	require.Equal(t, []string{"onConnect d", "onLeave d"}, h.words(t, p.ID))
	require.Zero(t, h.Live())
}

// TestConnectRaces lets devices of one participant come and go at once, until the participant is deleted: every
// onConnect has one end, the end does not come first, and what is left is what is connected.
func TestConnectRaces(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	for round := range 15 {
		p := h.participant(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				r := newRecorder()
				a, err := h.Connect(t.Context(), p, fmt.Sprint("d", i), r)
				switch {
				case err != nil: // deleted meanwhile
				case i%3 == 0:
					_ = a.Lost(t.Context())
				case i%3 == 1:
					_ = a.Leave(t.Context())
				default: // as a device does: it ends when it is told to
					<-r.closed
					_ = a.Leave(t.Context())
				}
			})
		}
		if round%3 == 0 { // some connect before, some after
			wg.Go(func() { _ = h.DeleteParticipant(t.Context(), account, p.ID) })
			wg.Go(func() { // this one stays until it is replaced or deleted
				r := newRecorder()
				if a, err := h.Connect(t.Context(), p, "last", r); err == nil {
					<-r.closed
					_ = a.Leave(t.Context())
				}
			})
			wg.Wait()
		} else {
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			a, _ := h.device(t, p, "final") // replaces who waits; who comes later may replace it
			for over := false; !over; {
				select {
				case <-done:
					over = true
				default:
					b, _ := h.device(t, p, "final")
					require.NoError(t, a.Leave(t.Context()))
					a = b
				}
			}
			require.NoError(t, a.Leave(t.Context()))
		}
		requireEnds(t, h, p.ID)
		require.Zero(t, h.Live())
	}
}

// requireEnds checks that each connection began once and then ended once, before the next one began.
func requireEnds(t *testing.T, h *house, participant string) {
	t.Helper()
	up, last := map[string]int{}, ""
	for _, e := range h.drain(t, participant) {
		if e.Event == string(webhooks.OnConnect) {
			require.Empty(t, last, "a device began before the last one ended: %v", h.events[participant])
			up[e.DeviceID]++
			last = e.DeviceID
		} else {
			require.Equal(t, last, e.DeviceID, "an end of another device: %v", h.events[participant])
			up[e.DeviceID]--
			last = ""
		}
	}
	for device, n := range up {
		require.Zero(t, n, "%s: %v", device, h.events[participant])
	}
	left, _, err := h.db.Connections(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestAttachRaces attaches a phone while subscriptions change and somebody deletes the participant.
func TestAttachRaces(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	for round := range 30 {
		s := h.session(t)
		speaker, p := h.member(t, s, sessions.Subscriptions{}), h.member(t, s, everybody(s))
		device, _ := h.device(t, speaker, "x")
		device.Publish(voice(speaker.ID, "voice", ""))
		r := newRecorder()
		var leg *sessions.Attachment
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { leg, err = attach(t.Context(), h.Service, p, r) })
		if round%2 == 0 {
			wg.Go(func() { _ = h.SetSubscriptions(t.Context(), account, s, p.ID, sessions.Subscriptions{}) })
			wg.Wait()
			require.NoError(t, err)
			require.Empty(t, r.hears(t), "the subscriptions were taken away")
			leg.Detach()
		} else {
			wg.Go(func() { _ = h.DeleteParticipant(t.Context(), account, p.ID) })
			wg.Wait()
			if err == nil {
				<-r.closed
				leg.Detach()
			}
			require.Empty(t, r.hears(t), "the participant is gone")
		}
		require.False(t, h.OnThePhone(p.ID))
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	alive, gone := h.participant(t), h.participant(t)
	h.device(t, alive, "a")
	h.device(t, gone, "b")
	require.NoError(t, h.DeleteParticipant(t.Context(), account, gone.ID)) // and then the crash, before its device left

	h.Service = serve(sessions.Config{}, h.db)
	require.NoError(t, h.Recover(t.Context()))
	require.NoError(t, h.Recover(t.Context()), "a second time finds nothing")
	require.Equal(t, []string{"onConnect a", "onDisconnect a"}, h.words(t, alive.ID))
	require.Equal(t, []string{"onConnect b", "onDisconnect b"}, h.words(t, gone.ID))
	h.device(t, alive, "a")
	require.Equal(t, []string{"onConnect a", "onDisconnect a", "onConnect a"}, h.words(t, alive.ID))
}

// broken is a database of which some methods fail while their counter says so. After a write that is lost, the row
// stands all the same: its answer did not come back.
type broken struct {
	sessions.Store

	mu                                         sync.Mutex
	connected, disconnected, participant, lost int
}

var errBroken = errs.New(errs.Unavailable, "the database is away")

func (b *broken) fails(counter *int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *counter == 0 {
		return false
	}
	*counter--
	return true
}

func (b *broken) Connected(ctx context.Context, c sessions.Connection, e webhooks.Event) error {
	if b.fails(&b.connected) {
		return errBroken
	}
	err := b.Store.Connected(ctx, c, e)
	if b.fails(&b.lost) {
		return errors.Join(err, errBroken)
	}
	return err
}

func (b *broken) Disconnected(ctx context.Context, connection string, e webhooks.Event) error {
	if b.fails(&b.disconnected) {
		return errBroken
	}
	return b.Store.Disconnected(ctx, connection, e)
}

func (b *broken) Participant(ctx context.Context, account, id string) (sessions.Participant, error) {
	if b.fails(&b.participant) {
		return sessions.Participant{}, errBroken
	}
	return b.Store.Participant(ctx, account, id)
}

func TestConnectWithoutDatabase(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		b    *broken
		want []string
	}{
		{"the row is not written", &broken{connected: 1}, nil},
		{"its answer is lost", &broken{lost: 1}, []string{"onConnect d", "onLeave d"}},
		{"the participant can't be read", &broken{participant: 1}, []string{"onConnect d", "onLeave d"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := open(t, sessions.Config{})
			p := h.participant(t)
			c.b.Store = h.db
			h.Service = serve(sessions.Config{}, c.b)
			_, err := h.Connect(t.Context(), p, "d", newRecorder())
			requireCode(t, errs.Unavailable, err, "the database is away")
			require.Equal(t, c.want, h.words(t, p.ID))
			require.False(t, h.Online(p.ID))
			requireEnds(t, h, p.ID)
		})
	}
	t.Run("attach", func(t *testing.T) {
		t.Parallel()
		h := open(t, sessions.Config{})
		p := h.participant(t)
		h.Service = serve(sessions.Config{}, &broken{Store: h.db, participant: 1})
		_, err := attach(t.Context(), h.Service, p, newRecorder())
		requireCode(t, errs.Unavailable, err, "the database is away")
		require.False(t, h.OnThePhone(p.ID))
	})
}

// TestGivenUpRequest ends a device with a context that is over: its end is written all the same.
func TestGivenUpRequest(t *testing.T) {
	t.Parallel()
	h := open(t, sessions.Config{})
	p := h.participant(t)
	a, _ := h.device(t, p, "d")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, a.Lost(over))
	require.Equal(t, []string{"onConnect d", "onDisconnect d"}, h.words(t, p.ID))
}

// TestOwedEnd ends devices while the database is away: their ends are written when it is back, once, and before the
// next beginning.
func TestOwedEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, sessions.Config{})
		b := &broken{Store: h.db}
		h.Service = serve(sessions.Config{}, b)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()
		p, other := h.participant(t), h.participant(t)
		first, _ := h.device(t, p, "first")
		lost, _ := h.device(t, other, "lost")

		b.disconnected = 4
		requireCode(t, errs.Unavailable, first.Leave(t.Context()), "the database is away")
		require.Error(t, lost.Lost(t.Context()))
		_, err := h.Connect(t.Context(), p, "too early", newRecorder())
		requireCode(t, errs.Unavailable, err, "the database is away")
		require.False(t, h.Online(p.ID))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"onConnect lost"}, h.words(t, other.ID), "still away")
		second, _ := h.device(t, p, "second")
		require.Equal(t, []string{"onConnect first", "onLeave first", "onConnect second"}, h.words(t, p.ID))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"onConnect lost", "onDisconnect lost"}, h.words(t, other.ID))

		// one that is replaced while the database is away
		b.disconnected = 1
		_, err = h.Connect(t.Context(), p, "third", newRecorder())
		requireCode(t, errs.Unavailable, err, "the database is away")
		require.NoError(t, second.Leave(t.Context()), "it was replaced: its end is owed, once")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"onConnect first", "onLeave first", "onConnect second", "onLeave second"}, h.words(t, p.ID))
		requireEnds(t, h, p.ID)
		cancel()
		require.NoError(t, <-done)
	})
}

// TestSlowConnect lets the row of a device take longer than the next device waits for it: its end is written all the
// same.
func TestSlowConnect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := open(t, sessions.Config{})
		slow := &slowConnect{Store: h.db, release: make(chan struct{})}
		h.Service = serve(sessions.Config{}, slow)
		p := h.participant(t)
		r := newRecorder()
		done := make(chan error, 1)
		slow.hold.Store(true)
		go func() {
			_, err := h.Connect(t.Context(), p, "slow", r)
			done <- err
		}()
		synctest.Wait()
		began := time.Now()
		next := make(chan error, 1)
		go func() {
			_, err := h.Connect(t.Context(), p, "next", newRecorder())
			next <- err
		}()
		synctest.Wait()
		require.Error(t, r.closeCause(), "who is replaced is told at once")
		require.NoError(t, <-next)
		require.Equal(t, 10*time.Second, time.Since(began), "it waits its turn, but not for ever")
		close(slow.release)
		require.NoError(t, <-done)
		require.ElementsMatch(t, []string{"onConnect next", "onConnect slow", "onLeave slow"}, h.words(t, p.ID))
	})
}

// slowConnect is a database that holds one connection's row back.
type slowConnect struct {
	sessions.Store
	hold    atomic.Bool
	release chan struct{}
}

func (s *slowConnect) Connected(ctx context.Context, c sessions.Connection, e webhooks.Event) error {
	if s.hold.CompareAndSwap(true, false) {
		<-s.release
	}
	return s.Store.Connected(ctx, c, e)
}
