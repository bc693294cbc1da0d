package trunks

import (
	"time"

	"tandem/errs"
)

// Place is a call's permission to be: it counts at its account and at the trunk that it is on. Its methods may be called
// from any goroutine; whoever has it calls Release when the call is over. A nil Place counts nowhere.
type Place struct {
	book    *Book
	request Request

	// guarded by the book's lock
	account  *usage
	plan     []*Trunk // not tried yet
	trunk    *Trunk
	on       *usage // of trunk
	trial    bool   // the call tries a trunk that was out of service
	answered time.Time
	placed   bool
	released bool
}

// Place lets an account place a call, on the best trunk that takes it now. The error says in words why not: errs.Invalid
// (no such trunk, a header that no trunk lets pass), errs.Forbidden (the account may not call there), errs.TooMany (a
// limit), errs.Unavailable (no trunk takes it, or none is in service).
func (b *Book) Place(r Request) (*Place, error) {
	account, ok := b.Account(r.Account)
	if !ok {
		return nil, errs.New(errs.Forbidden, "account %q is not configured", clip(r.Account))
	}
	e := b.now.Load()
	if err := e.mayCall(&account, r); err != nil {
		return nil, err
	}
	all := e.consider(&account, r)
	plan := inOrder(all, b.draw)
	if len(plan) == 0 {
		return nil, nobody(all, r)
	}
	p := &Place{book: b, request: r, placed: true}
	for _, c := range plan {
		p.plan = append(p.plan, c.trunk)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	u := b.accountOf(r.Account)
	if err := u.guard(now, &account); err != nil {
		return nil, err
	}
	if err := p.next(now); err != nil {
		return nil, err
	}
	p.account = u
	u.enter(now)
	u.placed.add(now)
	return p, nil
}

// Admit lets a call come in over a trunk. The error is errs.TooMany.
func (b *Book) Admit(t *Trunk) (*Place, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	u := b.usageOf(t.Key())
	if err := u.room(now, "the trunk", t.MaxCalls, t.MaxCallsPerSecond); err != nil {
		return nil, err
	}
	p, err := b.admit(t.Account, now)
	if err != nil {
		return nil, err
	}
	p.trunk, p.on = t, u
	u.enter(now)
	return p, nil
}

// AdmitTo lets a call come in to an account over no trunk. The error is errs.TooMany.
func (b *Book) AdmitTo(account string) (*Place, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.admit(account, time.Now())
}

// admit counts an inbound call at its account. The caller holds mu.
func (b *Book) admit(account string, now time.Time) (*Place, error) {
	a, ok := b.Account(account)
	if !ok {
		return nil, errs.New(errs.Forbidden, "the account is not configured")
	}
	u := b.accountOf(account)
	if err := u.room(now, "the account", a.MaxCalls, a.MaxCallsPerSecond); err != nil {
		return nil, err
	}
	u.enter(now)
	return &Place{book: b, account: u}, nil
}

// next takes the next trunk of the plan that has room and is in service. The caller holds the book's lock.
func (p *Place) next(now time.Time) *errs.Error {
	var first *errs.Error
	for len(p.plan) > 0 {
		t := p.plan[0]
		p.plan = p.plan[1:]
		u := p.book.usageOf(t.Key())
		trial, why := u.circuit.takes(now)
		if why == nil {
			why = u.room(now, "it", t.MaxCalls, t.MaxCallsPerSecond)
		}
		if why == nil {
			u.enter(now)
			u.circuit.trying = u.circuit.trying || trial
			p.trunk, p.on, p.trial = t, u, trial
			return nil
		}
		// A limit is worth telling rather than a fault: it passes by itself.
		if first == nil || errs.CodeOf(why) == errs.TooMany && errs.CodeOf(first) != errs.TooMany {
			first = errs.New(why.Code, "trunk %q takes no call: %s", t.Name, why.Message).After(why.RetryAfter)
		}
	}
	if first == nil {
		first = errs.New(errs.Unavailable, "no further trunk takes calls to %s", clip(p.request.To))
	}
	return first
}

// Trunk returns the one that the call is on, as it was when the place was taken; nil when there is none.
func (p *Place) Trunk() *Trunk {
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	return p.trunk
}

// More says whether there is a trunk to go on to.
func (p *Place) More() bool {
	if p == nil {
		return false
	}
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	return len(p.plan) > 0
}

// Next leaves the trunk and goes on to the next one. The error says why there is none; the place has no trunk then.
func (p *Place) Next() (*Trunk, error) {
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	p.leave()
	if p.released {
		return nil, errs.New(errs.Unavailable, "the call is over")
	}
	if err := p.next(time.Now()); err != nil {
		return nil, err
	}
	return p.trunk, nil
}

// leave gives the place on the trunk back. The caller holds the book's lock.
func (p *Place) leave() {
	if p.on == nil {
		return
	}
	p.on.calls--
	if p.trial { // nobody knows yet: the next call may try
		p.on.circuit.trying = false
	}
	p.trunk, p.on, p.trial = nil, nil, false
}

// Failed counts a failure of the trunk that the call is on. Rest is how long it wants to be left alone (Retry-After); 0
// when it did not say.
func (p *Place) Failed(why string, rest time.Duration) {
	if p == nil {
		return
	}
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	if p.on != nil {
		p.on.circuit.failed(time.Now(), why, rest)
		p.trial = false
	}
}

// Worked tells that the trunk does its work: the callee rings, answered or refused.
func (p *Place) Worked() {
	if p == nil {
		return
	}
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	if p.on != nil {
		p.on.circuit.worked()
		p.trial = false
	}
}

// Answered begins to count the minutes of a call that was placed.
func (p *Place) Answered() {
	if p == nil {
		return
	}
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	if p.placed && !p.released && p.answered.IsZero() {
		p.answered = time.Now()
		p.account.live[p] = struct{}{}
	}
}

// Release gives everything back. Further calls do nothing.
func (p *Place) Release() {
	if p == nil {
		return
	}
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	if p.released {
		return
	}
	p.released = true
	p.leave()
	p.account.calls--
	if !p.answered.IsZero() {
		now := time.Now()
		p.account.turn(now)
		p.account.spent += now.Sub(p.answered)
		delete(p.account.live, p)
	}
}
