package sessions

import "time"

// turn is a place in the line of those who write what became of one participant's devices. It is taken under the
// mutex, together with the change, so events are written in the order in which the changes happened: a page that is
// loaded again leaves before it connects, however long the first write takes.
type turn struct {
	service     *Service
	participant string
	before      <-chan struct{} // closed when the one before is done; nil: there is none
	done        chan struct{}   // closed by end
}

// takeTurn goes to the end of a participant's line. s.mu is held.
func (s *Service) takeTurn(participant string) turn {
	t := turn{service: s, participant: participant, before: s.turns[participant], done: make(chan struct{})}
	s.turns[participant] = t.done
	return t
}

// wait returns when it is t's turn, or when the one before takes longer than a write may.
func (t turn) wait() {
	if t.before == nil {
		return
	}
	patience := time.NewTimer(storeTimeout)
	defer patience.Stop()
	select {
	case <-t.before:
	case <-patience.C:
	}
}

// end lets the next one write.
func (t turn) end() {
	close(t.done)
	t.service.mu.Lock()
	defer t.service.mu.Unlock()
	if t.service.turns[t.participant] == t.done {
		delete(t.service.turns, t.participant)
	}
}
