package sessions

import (
	"context"
	"time"

	"tandem/errs"
	"tandem/webhooks"
)

const (
	// storeTimeout bounds a write that must happen although its request is over.
	storeTimeout = 10 * time.Second
	// retryAfter is how long Run waits when the database did not answer.
	retryAfter = 5 * time.Second
	// farFuture is longer than any session lives: Run is told when the first one is created.
	farFuture = 24 * time.Hour
)

// Recover writes the end of every device connection that a crash cut: onDisconnect. It must run before devices may
// connect.
func (s *Service) Recover(ctx context.Context) error {
	connections, participants, err := s.store.Connections(ctx)
	if err != nil {
		return err
	}
	byID := make(map[string]Participant, len(participants))
	for _, p := range participants {
		byID[p.ID] = p
	}
	for _, c := range connections {
		e := eventFor(byID[c.Participant], webhooks.OnDisconnect)
		e.Account, e.Participant, e.Device = c.Account, c.Participant, c.Device
		if err := s.store.Disconnected(ctx, c.ID, e); err != nil {
			return err
		}
	}
	if len(connections) > 0 {
		s.log.Info("devices that were connected before the restart are reported as disconnected", "devices", len(connections))
	}
	return nil
}

// Run ends each session when its time is over, and writes the ends of devices that the database did not take at first,
// until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	expiry, again := time.NewTimer(0), time.NewTimer(farFuture)
	defer expiry.Stop()
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.created:
			expiry.Reset(s.expire(ctx))
		case <-expiry.C:
			expiry.Reset(s.expire(ctx))
		case <-s.owing:
			again.Reset(retryAfter)
		case <-again.C:
			if err := s.pay(ctx, ""); err != nil {
				s.log.Error("can't write the ends of some devices yet", "error", err)
				again.Reset(retryAfter)
			}
		}
	}
}

// expire ends all sessions whose time is over and returns how long the next one has.
func (s *Service) expire(ctx context.Context) time.Duration {
	for {
		session, ok, err := s.store.NextExpiry(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.log.Error("can't read which session expires next", "error", err)
			}
			return retryAfter
		}
		if !ok {
			return farFuture
		}
		if left := time.Until(session.Expires); left > 0 {
			return left
		}
		err = s.endSession(ctx, session.Account, session.ID, func(p Participant) (webhooks.Event, bool) {
			e := eventFor(p, webhooks.OnSessionExpired)
			e.Session = session.ID
			return e, true
		})
		if err != nil && errs.CodeOf(err) == errs.NotFound {
			continue // somebody deleted it meanwhile
		}
		if err != nil {
			s.log.Error("can't end an expired session", "session", session.ID, "error", err)
			return retryAfter
		}
		s.log.Info("a session has expired", "session", session.ID, "account", session.Account, "created", session.Created)
	}
}
