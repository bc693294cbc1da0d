package trunks

import (
	"time"

	"tandem/errs"
)

// Explanation says what a call would take.
type Explanation struct {
	Refused error   // why the account may not place it at all; nil: it may
	Routes  []Route // in the order in which they would be tried; of equals, the heavier first
	Others  []Other // the account's other trunks
}

// Route is a trunk that takes a call.
type Route struct {
	Trunk  *Trunk
	Rule   string  // in words
	Prefix string  // the one that matches; empty: another rule
	Share  float64 // how often it is the first of its equals: 0..1
	To     string  // as it is sent
	From   string  // as it is sent; a word when there is no number to send
	Header string  // that carries the caller's identity: P-Asserted-Identity, Remote-Party-ID or From
}

// Other is a trunk that does not take a call.
type Other struct {
	Trunk *Trunk
	Why   string
}

// Explain says which trunks a call would take now, and why the others not. It changes nothing and counts nowhere.
func (b *Book) Explain(r Request) Explanation {
	var x Explanation
	account, ok := b.Account(r.Account)
	if !ok {
		x.Refused = errs.New(errs.Forbidden, "the account is not configured")
		return x
	}
	e := b.now.Load()
	x.Refused = e.mayCall(&account, r)
	all := e.consider(&account, r)
	if x.Refused == nil && len(inOrder(all, func(int) int { return 0 })) == 0 {
		if err := nobody(all, r); errs.CodeOf(err) == errs.Forbidden || errs.CodeOf(err) == errs.Invalid {
			x.Refused = err
		}
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if x.Refused == nil {
		if err := b.accountOf(r.Account).guard(now, &account); err != nil {
			x.Refused = err
		}
	}
	for i := range all {
		c := &all[i]
		u := b.usageOf(c.trunk.Key())
		if c.why == nil {
			_, c.why = u.circuit.takes(now)
		}
		if c.why == nil {
			c.why = u.room(now, "it", c.trunk.MaxCalls, c.trunk.MaxCallsPerSecond)
		}
		if c.why != nil {
			x.Others = append(x.Others, Other{Trunk: c.trunk, Why: c.why.Message})
		}
	}
	ordered := inOrder(all, func(int) int { return 0 })
	for len(ordered) > 0 {
		same := ordered[:alike(ordered)]
		total := totalWeight(same)
		for _, c := range byWeight(same) {
			x.Routes = append(x.Routes, Route{
				Trunk: c.trunk, Rule: c.rule(r), Prefix: c.prefix, Share: float64(c.trunk.Weight) / float64(total),
				To: c.trunk.Format(r.To), From: c.trunk.Format(r.From), Header: c.trunk.identityHeader(),
			})
		}
		ordered = ordered[len(same):]
	}
	return x
}

// identityHeader is the one that carries the caller's number.
func (t *Trunk) identityHeader() string {
	switch t.Identity {
	case IdentityRPID:
		return "Remote-Party-ID"
	case IdentityFrom:
		return "From"
	}
	return "P-Asserted-Identity"
}
