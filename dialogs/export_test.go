package dialogs

import (
	"time"

	"tandem/media"
)

// Press lets a phone press keys, as its packets would.
func (s *Service) Press(dialog, keys string) {
	c := s.find(dialog)
	for _, digit := range []byte(keys) {
		c.pressed(media.Key{Digit: digit, Ended: true, Duration: 100 * time.Millisecond})
	}
}

// Break makes the goroutine of a call panic.
func (s *Service) Break(dialog string) {
	s.find(dialog).inbox <- fails
}

func fails() { panic("injected") }

// BreakMedia reports what a bridge reports when it failed.
func (s *Service) BreakMedia(dialog string) { s.find(dialog).broke() }
