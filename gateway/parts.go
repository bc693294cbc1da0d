package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// part is something that runs as long as the gateway does.
type part struct {
	name string
	run  func(context.Context) error
}

// stopPatience is how long one part may take to end before the next is told to.
const stopPatience = 10 * time.Second

// runParts starts the parts in order and, when ctx ends or one of them fails, ends them in reverse order: each has
// what it needs until it is done. It returns the first failure.
func runParts(ctx context.Context, parts []part, log *slog.Logger) error {
	type running struct {
		cancel context.CancelFunc
		done   chan struct{}
	}
	failed := make(chan error, len(parts))
	started := make([]running, len(parts))
	for i, p := range parts {
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{cancel: cancel, done: make(chan struct{})}
		started[i] = r
		go func() {
			defer close(r.done)
			if err := p.run(partCtx); err != nil {
				failed <- fmt.Errorf("%s: %w", p.name, err)
			} else if partCtx.Err() == nil {
				failed <- fmt.Errorf("%s ended by itself", p.name)
			}
		}()
	}

	var first error
	select {
	case <-ctx.Done():
	case first = <-failed:
		log.Error("a part of the gateway failed; everything is stopped", "error", first)
	}
	for i, r := range slices.Backward(started) {
		r.cancel()
		select {
		case <-r.done:
		case <-time.After(stopPatience):
			log.Warn("a part of the gateway takes long to stop", "part", parts[i].name)
		}
	}
	for i := range parts {
		<-started[i].done
	}
	return first
}
