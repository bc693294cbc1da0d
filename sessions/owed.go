package sessions

import (
	"context"
	"slices"

	"tandem/webhooks"
)

// end is the end of a device's connection that the database did not take yet.
type end struct {
	connection string
	event      webhooks.Event
}

// owe keeps an end until it can be written: Run tries again, and so does the next device of the participant before it
// connects. A restart before that reports it in Recover.
func (s *Service) owe(e end) {
	s.mu.Lock()
	s.owed = append(s.owed, e)
	s.mu.Unlock()
	select {
	case s.owing <- struct{}{}:
	default:
	}
}

// pay writes the ends that are owed to a participant, or to everybody ("").
func (s *Service) pay(ctx context.Context, participant string) error {
	s.mu.Lock()
	owed := slices.Clone(s.owed)
	s.mu.Unlock()
	for _, e := range owed {
		if participant != "" && e.event.Participant != participant {
			continue
		}
		if err := s.writeEnd(ctx, e); err != nil {
			return err // the database is away: the others would only wait for it in turn
		}
		s.mu.Lock()
		s.owed = slices.DeleteFunc(s.owed, func(o end) bool { return o.connection == e.connection })
		s.mu.Unlock()
	}
	return nil
}

// writeEnd writes an end whatever becomes of the caller. The store writes it once, however often it is asked.
func (s *Service) writeEnd(ctx context.Context, e end) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	return s.store.Disconnected(ctx, e.connection, e.event)
}
