package webhooks

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// queueOne brings a participant's event to an endpoint.
func queueOne(t *testing.T, s *schedule, participant, host, endpoint string) *lane {
	t.Helper()
	s.poke(participant)
	l := s.nextRead()
	require.NotNil(t, l)
	require.Equal(t, participant, l.participant)
	s.enqueue(l, Delivery{ID: "of " + participant}, host, endpoint)
	return l
}

func TestScheduleTurns(t *testing.T) {
	s := newSchedule(limits{endpoint: span{2, 2}, host: span{3, 3}, total: 100})
	for i := range 5 {
		queueOne(t, s, fmt.Sprint("a", i), "one", "/a")
	}
	for i := range 5 {
		queueOne(t, s, fmt.Sprint("b", i), "one", "/b")
	}
	queueOne(t, s, "c0", "two", "/c")
	var order []string
	for l := s.nextPost(); l != nil; l = s.nextPost() {
		order = append(order, l.participant)
	}
	require.Equal(t, []string{"a0", "c0", "b0", "a1"}, order, "hosts take turns, then endpoints, within their limits")
}

func TestScheduleTotal(t *testing.T) {
	s := newSchedule(limits{endpoint: span{2, 2}, host: span{2, 2}, total: 3})
	for i := range 6 {
		queueOne(t, s, fmt.Sprint(i), fmt.Sprint("host", i), "/")
	}
	var posting []*lane
	for l := s.nextPost(); l != nil; l = s.nextPost() {
		posting = append(posting, l)
	}
	require.Len(t, posting, 3)
	s.posted(posting[1], true)
	s.read(posting[1])
	require.Equal(t, "3", s.nextPost().participant)
	require.Nil(t, s.nextPost())
}

// TestScheduleHanging: an endpoint that hangs leaves places to its neighbours, and keeps one.
func TestScheduleHanging(t *testing.T) {
	s := newSchedule(limits{endpoint: span{2, 9}, host: span{4, 9}, total: 100})
	now := time.Unix(1, 0)
	for i := range 8 {
		queueOne(t, s, fmt.Sprint("dead", i), "host", "/dead")
	}
	for round := range 6 {
		l := s.nextPost()
		require.NotNil(t, l)
		if round == 0 {
			other := s.nextPost()
			require.NotNil(t, other)
			s.posted(other, false)
			s.sleep(other, now)
		} else {
			require.Nil(t, s.nextPost(), "one at a time once it failed")
		}
		s.posted(l, false)
		s.sleep(l, now)
	}
	l := s.nextPost()
	require.NotNil(t, l)
	good := queueOne(t, s, "good", "host", "/good")
	require.Same(t, good, s.nextPost(), "a host that answers nothing still has a place for another endpoint")
	s.posted(good, true)
	s.read(good)
	s.posted(l, true)
	s.read(l)
	require.Zero(t, s.hosts["host"].misses)
}

// TestScheduleEarnsPlaces: who answers gets more places, up to the most.
func TestScheduleEarnsPlaces(t *testing.T) {
	s := newSchedule(limits{endpoint: span{1, 3}, host: span{1, 4}, total: 100})
	for i := range 20 {
		queueOne(t, s, fmt.Sprint(i), "host", "/")
	}
	for _, want := range []int{1, 2, 3, 3} {
		var posting []*lane
		for l := s.nextPost(); l != nil; l = s.nextPost() {
			posting = append(posting, l)
		}
		require.Len(t, posting, want)
		for _, l := range posting {
			s.posted(l, true)
			s.read(l)
		}
	}
}

func TestScheduleForgets(t *testing.T) {
	s := newSchedule(limits{endpoint: span{2, 2}, host: span{2, 2}, total: 2})
	l := queueOne(t, s, "p", "host", "/a")
	require.Same(t, l, s.nextPost())
	s.poke("p")
	s.posted(l, false)
	s.sleep(l, time.Unix(10, 0))
	s.poke("p")
	require.Nil(t, s.nextRead(), "a new event does not overtake the one that waits")
	rest, ok := s.wakeUp(time.Unix(7, 0))
	require.True(t, ok)
	require.Equal(t, 3*time.Second, rest)
	_, ok = s.wakeUp(time.Unix(10, 0))
	require.False(t, ok)
	require.Same(t, l, s.nextRead())
	s.enqueue(l, Delivery{}, "another", "/b")
	require.NotContains(t, s.hosts, "host", "its callback URL changed")
	require.Same(t, l, s.nextPost())
	s.posted(l, true)
	s.read(l)
	require.Same(t, l, s.nextRead())
	s.poke("p")
	s.empty(l)
	require.Same(t, l, s.nextRead(), "it was written while it was read")
	s.empty(l)
	require.Empty(t, s.lanes)
	require.Empty(t, s.hosts)
	require.Zero(t, s.running)
}

func TestRetryIn(t *testing.T) {
	for tries, limit := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second} {
		for range 100 {
			require.LessOrEqual(t, retryIn(tries), limit+time.Millisecond)
		}
	}
	require.Equal(t, lastRetry, backoff(firstRetry, lastRetry, 1000))
}
