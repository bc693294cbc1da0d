package gateway

import (
	"context"
	"sync"
	"time"
)

const (
	healthFor  = time.Second // how long what was found counts: many may ask, the database is asked once
	healthTime = time.Second // how long it may take to find out
)

// health says whether the gateway can take a call: whether what every call needs, the database, is there.
type health struct {
	alive func(context.Context) error

	mu    sync.Mutex
	asked time.Time
	err   error
}

// check is nil when a call could be taken. It waits no longer than healthTime for each who asked before.
func (h *health) check(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asked.IsZero() || time.Since(h.asked) >= healthFor {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTime)
		defer cancel()
		h.err = h.alive(ctx)
		h.asked = time.Now()
	}
	return h.err
}
