package gateway

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"tandem/api"
	"tandem/sip"
)

const (
	// lastPatience is how long the end of a drain waits for calls that were told to hang up.
	lastPatience = 10 * time.Second
	// callbackPatience is how long it waits for callbacks that are under way; the next start delivers the rest.
	callbackPatience = 5 * time.Second
	callbackPoll     = 50 * time.Millisecond
)

// drain is a stop that lets calls go on for a while.
type drain struct {
	mu    sync.Mutex
	begun bool
	until time.Time
	idle  <-chan struct{} // no call lives any more; set when begun

	changed chan struct{} // holds an element when it has begun or its deadline is another
}

func newDrain() drain { return drain{changed: make(chan struct{}, 1)} }

// deadline returns when calls are cut, and whether the gateway drains at all.
func (d *drain) deadline() (until time.Time, begun bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.until, d.begun
}

// Drain takes no new calls, lets those that are up go on for patience at most, and then ends Run. Called again, it can
// only hasten the end.
func (a *App) Drain(patience time.Duration) {
	a.phase.Store(stopping)
	a.phone.Drain()
	idle := a.calls.Drain()
	until := time.Now().Add(patience)
	a.drain.mu.Lock()
	if !a.drain.begun || until.Before(a.drain.until) {
		a.drain.until = until
	}
	a.drain.begun, a.drain.idle = true, idle
	until = a.drain.until
	a.drain.mu.Unlock()
	a.log.Info("draining", "calls", a.calls.Live(), "until", until)
	select {
	case a.drain.changed <- struct{}{}:
	default:
	}
}

// awaitDrain waits for a drain and its end, and calls stop then. It returns when ctx ends.
func (a *App) awaitDrain(ctx context.Context, stop func()) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.drain.changed:
	}
	for a.callsGoOn(ctx) {
	}
	a.awaitCallbacks(ctx)
	stop()
	<-ctx.Done()
	return nil
}

// callsGoOn waits until no call is left, the deadline is over and the calls have been cut, or the deadline is another;
// it is true for the last.
func (a *App) callsGoOn(ctx context.Context) bool {
	a.drain.mu.Lock()
	until, idle := a.drain.until, a.drain.idle
	a.drain.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-idle:
	case <-a.drain.changed:
		return true
	case <-timer.C:
		a.log.Warn("the drain's deadline is over; calls are cut", "calls", a.calls.Live())
		a.calls.HangUp()
		last := time.NewTimer(lastPatience)
		defer last.Stop()
		select {
		case <-ctx.Done():
		case <-idle:
		case <-last.C:
		}
	}
	return false
}

// awaitCallbacks gives the callbacks of the last calls a moment.
func (a *App) awaitCallbacks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callbackPatience)
	defer cancel()
	tick := time.NewTicker(callbackPoll)
	defer tick.Stop()
	for {
		if waiting, err := a.db.Waiting(ctx); err != nil || len(waiting) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// operator lets the REST API see what the operator of a gateway may do.
type operator struct{ app *App }

func (o operator) Bans() []api.Ban {
	list := o.app.phone.Bans()
	bans := make([]api.Ban, 0, len(list))
	for _, b := range list {
		bans = append(bans, api.Ban{Address: b.Address, Reason: b.Reason, Since: b.Since, Until: b.Until, Dropped: b.Dropped})
	}
	return bans
}

func (o operator) Pardon(addr netip.Addr) bool { return o.app.phone.Pardon(addr) }

func (o operator) Drain(patience *time.Duration) {
	if patience == nil {
		patience = &o.app.cfg.Drain.Deadline
	}
	o.app.Drain(*patience)
}

func (o operator) Draining() (until time.Time, draining bool) { return o.app.drain.deadline() }

func (o operator) Calls() int { return o.app.calls.Live() }

// guardConfig is what the configuration says about strangers.
func (a *App) guardConfig() sip.GuardConfig {
	s := a.cfg.Security
	cfg := sip.GuardConfig{BanAfter: s.BanAfter, BanFor: s.BanFor, RequestsPerSecond: s.RequestsPerSecond}
	if cfg.BanAfter == 0 {
		cfg.BanAfter = -1
	}
	if cfg.RequestsPerSecond == 0 {
		cfg.RequestsPerSecond = -1
	}
	return cfg
}
