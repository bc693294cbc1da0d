package webhooks

import "sync"

// Wakeups tells the worker which participants have new events. Add never blocks; the store calls it after every
// commit that wrote events.
type Wakeups struct {
	mu     sync.Mutex
	set    map[string]struct{}
	signal chan struct{}
}

// NewWakeups makes an empty one.
func NewWakeups() *Wakeups {
	return &Wakeups{set: map[string]struct{}{}, signal: make(chan struct{}, 1)}
}

// Add notes that participant has new events.
func (w *Wakeups) Add(participant string) {
	w.mu.Lock()
	w.set[participant] = struct{}{}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// C has a value when take would return something.
func (w *Wakeups) C() <-chan struct{} { return w.signal }

// Take returns and forgets the noted participants.
func (w *Wakeups) Take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]string, 0, len(w.set))
	for p := range w.set {
		all = append(all, p)
	}
	clear(w.set)
	return all
}
