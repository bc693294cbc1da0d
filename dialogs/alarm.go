package dialogs

import "time"

// alarm is a timer that takes memory only while it is set: a call has many, and most calls need one or two. It belongs to one
// goroutine. The zero value is not set.
type alarm struct{ timer *time.Timer }

// set lets it go off after d, whatever it was set to before.
func (a *alarm) set(d time.Duration) {
	if a.timer == nil {
		a.timer = time.NewTimer(d)
		return
	}
	a.timer.Reset(d)
}

// stop forgets that it was set.
func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// goes is where it goes off; nil while it is not set.
func (a *alarm) goes() <-chan time.Time {
	if a.timer == nil {
		return nil
	}
	return a.timer.C
}
