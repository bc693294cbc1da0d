package dialogs

import (
	"time"

	"tandem/errs"
)

// drainRetry is told to applications as Retry-After: another gateway may be there by then.
const drainRetry = 10 * time.Second

// drain is the way to the end: no call begins any more, and idle is closed when the last is over and saved.
type drain struct {
	begun bool
	idle  chan struct{}
}

// Drain lets no application begin a call any more. What it returns is closed when no call lives.
func (s *Service) Drain() (idle <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.drain.begun {
		s.drain = drain{begun: true, idle: make(chan struct{})}
		s.settle()
	}
	return s.drain.idle
}

// HangUp ends every call that lives, with its callbacks, without waiting for it.
func (s *Service) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.live {
		c.stop()
	}
}

// settle tells that no call lives. The lock is held.
func (s *Service) settle() {
	if !s.drain.begun || len(s.live) > 0 {
		return
	}
	select {
	case <-s.drain.idle:
	default:
		close(s.drain.idle)
	}
}

// mayBegin refuses a new call while the gateway drains.
func (s *Service) mayBegin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drain.begun {
		return errs.New(errs.Unavailable, "the gateway takes no new calls: it is being stopped").After(drainRetry)
	}
	return nil
}
