package store_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/sessions"
	"tandem/webhooks"
)

// application takes callbacks and remembers, per participant, what it took in which order.
type application struct {
	mu      sync.Mutex
	taken   map[string][]string
	refused map[string]bool
	refuse  bool // the third event of everybody, once
}

func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := r.Header.Get("webhook-id")
	if a.refuse && strings.HasSuffix(id, "-3") && !a.refused[id] {
		a.refused[id] = true
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	participant, _, _ := strings.Cut(id, "-")
	a.taken[participant] = append(a.taken[participant], id)
}

// count is the number of events that were taken; one that came twice in a row counts once.
func (a *application) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, ids := range a.taken {
		n += len(slices.Compact(slices.Clone(ids)))
	}
	return n
}

// TestDelivery runs the webhook worker on the real outbox while events are written, and restarts both halfway.
func TestDelivery(t *testing.T) {
	each(t, func(t *testing.T, s *suite) {
		app := &application{taken: map[string][]string{}, refused: map[string]bool{}, refuse: true}
		server := httptest.NewServer(app)
		defer server.Close()
		deliver := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			worker := webhooks.NewWorker(webhooks.Config{}, s.db, s.wake, silent)
			go func() { done <- worker.Run(ctx) }()
			return func() {
				cancel()
				require.NoError(t, <-done)
			}
		}
		const people, rounds = 6, 12
		want := map[string][]string{}
		for p := range people {
			id := fmt.Sprint("p", p)
			require.NoError(t, s.db.CreateParticipant(t.Context(), sessions.Participant{
				ID: id, Account: account, CallbackURL: server.URL, Created: start,
			}))
			for n := range rounds {
				want[id] = append(want[id], fmt.Sprintf("%s-%d", id, n+1))
			}
		}
		write := func(from, to int) {
			parallel(t, people, func(p int) error {
				for n := from; n < to; n++ {
					e := event(fmt.Sprint("p", p), fmt.Sprintf("p%d-%d", p, n+1))
					e.URL, e.Time = server.URL, time.Now()
					if err := s.db.WriteEvent(t.Context(), e); err != nil {
						return err
					}
				}
				return nil
			})
		}
		stop := deliver()
		write(0, rounds/2)
		stop()
		if s.durable {
			s.reopen()
		}
		stop = deliver()
		write(rounds/2, rounds)
		// Taken is not yet marked as taken: a stop between the two leaves an event to come again, as it must.
		require.Eventually(t, func() bool {
			waiting, err := s.db.Waiting(t.Context())
			require.NoError(t, err)
			return app.count() >= people*rounds && len(waiting) == 0
		}, 30*time.Second, 5*time.Millisecond)
		stop()
		app.mu.Lock()
		defer app.mu.Unlock()
		for id, ids := range app.taken {
			// A request that the stop cut off may have arrived: it came again, next in order.
			require.Equal(t, want[id], slices.Compact(ids))
		}
		require.Len(t, app.refused, people)
	})
}
