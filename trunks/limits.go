package trunks

import (
	"fmt"
	"time"

	"tandem/errs"
)

const (
	// failuresToOpen is how many failures one after the other take a trunk out of service.
	failuresToOpen = 3
	// firstWait is how long it is out of service the first time; each further time in a row doubles that up to maxWait.
	firstWait = 15 * time.Second
	maxWait   = 5 * time.Minute

	maxAnswerTimeout = 32 * time.Second // 64*T1 (RFC 3261 §17.1.1.2)

	// soon is told as Retry-After where a place may become free at any time.
	soon = 2 * time.Second
)

// circuit keeps calls off a trunk that does not work. Out of service, it waits; then one call tries, and when that works
// the circuit closes.
type circuit struct {
	failures int           // one after the other
	wait     time.Duration // of the present opening
	until    time.Time     // zero: closed
	trying   bool          // a trial call is on its way
	why      string        // the last failure
}

// takes returns nil when a call may go; trial says that it is the one that tries.
func (c *circuit) takes(now time.Time) (trial bool, why *errs.Error) {
	switch {
	case c.until.IsZero():
		return false, nil
	case now.Before(c.until):
		return false, errs.New(errs.Unavailable, "it is out of service until %s: %s", c.until.UTC().Format(time.RFC3339), c.why).After(c.until.Sub(now))
	case c.trying:
		return false, errs.New(errs.Unavailable, "it is out of service and one call is trying it: %s", c.why).After(soon)
	}
	return true, nil
}

// failed counts a failure. Rest is how long the trunk wants to be left alone; 0: it did not say.
func (c *circuit) failed(now time.Time, why string, rest time.Duration) {
	open := !c.until.IsZero()
	c.failures++
	c.why, c.trying = why, false
	switch {
	case rest > 0: // RFC 3261 §21.5.4
		if until := now.Add(min(rest, maxWait)); until.After(c.until) {
			c.until = until
		}
	case open && now.Before(c.until): // a probe, or a call that began before: it is known already
	case open || c.failures >= failuresToOpen:
		c.wait = min(max(2*c.wait, firstWait), maxWait)
		c.until = now.Add(c.wait)
	}
}

// worked closes the circuit.
func (c *circuit) worked() { *c = circuit{} }

// window is a limit of so many events in any one second. It remembers when the last ones were.
type window struct {
	at   []time.Time // a ring
	next int
}

// full returns how long it is until one more fits below limit; 0: it fits. Limit 0 is none.
func (w *window) full(now time.Time, limit int) time.Duration {
	if limit <= 0 {
		return 0
	}
	if len(w.at) != limit {
		w.resize(limit)
	}
	oldest := w.at[w.next]
	if oldest.IsZero() {
		return 0
	}
	return max(0, time.Second-now.Sub(oldest))
}

// add counts one event.
func (w *window) add(now time.Time) {
	if len(w.at) > 0 {
		w.at[w.next] = now
		w.next = (w.next + 1) % len(w.at)
	}
}

// resize keeps the newest.
func (w *window) resize(limit int) {
	kept := append(append([]time.Time(nil), w.at[w.next:]...), w.at[:w.next]...) // the oldest first
	if len(kept) > limit {
		kept = kept[len(kept)-limit:]
	}
	w.at = append(make([]time.Time, limit-len(kept)), kept...)
	w.next = 0
}

// usage is what an account or a trunk has going on. The book's lock guards it.
type usage struct {
	calls   int
	rate    window // all
	placed  window // those that an account places
	circuit circuit

	day   int64         // the day (UTC, since 1970) that spent belongs to
	spent time.Duration // in answered calls that are over
	live  map[*Place]struct{}
}

// room returns nil when one more call fits below these limits.
func (u *usage) room(now time.Time, whose string, calls, perSecond int) *errs.Error {
	if calls > 0 && u.calls >= calls {
		return errs.New(errs.TooMany, "%s has %d calls, which is its maxCalls", whose, u.calls).After(soon)
	}
	if wait := u.rate.full(now, perSecond); wait > 0 {
		return errs.New(errs.TooMany, "%s has had %d new calls within a second, which is its maxCallsPerSecond", whose, perSecond).After(wait)
	}
	return nil
}

// enter counts a call in.
func (u *usage) enter(now time.Time) {
	u.calls++
	u.rate.add(now)
}

// minutes returns how long the account has talked today, with the calls that are up.
func (u *usage) minutes(now time.Time) time.Duration {
	u.turn(now)
	total := u.spent
	for p := range u.live {
		total += now.Sub(p.answered)
	}
	return total
}

// turn begins a new day.
func (u *usage) turn(now time.Time) {
	if day := now.Unix() / 86400; day != u.day {
		u.day, u.spent = day, 0
	}
}

// guard checks what an account may place.
func (u *usage) guard(now time.Time, a *Account) *errs.Error {
	if err := u.room(now, fmt.Sprintf("account %q", a.ID), a.MaxCalls, a.MaxCallsPerSecond); err != nil {
		return err
	}
	if wait := u.placed.full(now, a.MaxNewPerSecond); wait > 0 {
		return errs.New(errs.TooMany, "account %q has placed %d calls within a second, which is its maxNewPerSecond", a.ID, a.MaxNewPerSecond).After(wait)
	}
	if a.MinutesPerDay > 0 && u.minutes(now) >= time.Duration(a.MinutesPerDay)*time.Minute {
		midnight := time.Unix((now.Unix()/86400+1)*86400, 0)
		return errs.New(errs.TooMany, "account %q has talked for %d minutes today, which is its minutesPerDay", a.ID, a.MinutesPerDay).After(midnight.Sub(now))
	}
	return nil
}
