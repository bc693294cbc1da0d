package dialogs

import (
	"tandem/media"
	"tandem/transcode"
)

// measure fills in how the sound of a call travels that lives here.
func (s *Service) measure(d *Dialog) {
	s.mu.Lock()
	c := s.live[d.ID]
	s.mu.Unlock()
	if c != nil && d.State != Terminated {
		d.Quality = c.quality((*transcode.Bridge).Quality)
	}
}

// quality is what the bridge says, so far or in all; zero: there is none yet. It may be called from any goroutine.
func (c *call) quality(of func(*transcode.Bridge) media.Quality) media.Quality {
	c.mu.Lock()
	bridge := c.bridge
	c.mu.Unlock()
	if bridge == nil {
		return media.Quality{}
	}
	return of(bridge)
}

// Qualities lists how the sound of all calls travels that live here.
func (s *Service) Qualities() []media.Quality {
	s.mu.Lock()
	calls := make([]*call, 0, len(s.live))
	for _, c := range s.live {
		calls = append(calls, c)
	}
	s.mu.Unlock()
	list := make([]media.Quality, 0, len(calls))
	for _, c := range calls {
		if q := c.quality((*transcode.Bridge).Quality); q != (media.Quality{}) {
			list = append(list, q)
		}
	}
	return list
}
