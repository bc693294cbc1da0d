package trunks

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Book is the live directory: what is configured now, and what goes on. Its methods may be called from any goroutine and
// never block for long.
type Book struct {
	now  atomic.Pointer[edition]
	draw func(n int) int

	registrations registrations

	mu       sync.Mutex // guards what follows
	trunks   map[Key]*usage
	accounts map[string]*usage
}

// edition is everything that is configured at one time. It never changes.
type edition struct {
	trunks   []*Trunk
	filed    []*Trunk // those of the configuration file as it has them, whatever became of them by REST
	numbers  map[numberKey]Number
	accounts map[string]*Account // nil: there are no accounts to mind, every one may do everything
	replaced chan struct{}
}

type numberKey struct{ account, number string }

// NewBook makes an empty book, in which every account may do everything.
func NewBook() *Book {
	b := &Book{draw: rand.IntN, trunks: map[Key]*usage{}, accounts: map[string]*usage{}}
	b.now.Store(&edition{replaced: make(chan struct{})})
	return b
}

// BookOf is a book with these trunks.
func BookOf(list ...Trunk) *Book {
	b := NewBook()
	b.SetTrunks(list, nil)
	return b
}

// SetTrunks replaces all trunks and numbers. Calls that are up keep theirs. The order decides between equals.
func (b *Book) SetTrunks(list []Trunk, numbers []Number) {
	b.replace(func(e *edition) {
		e.trunks = make([]*Trunk, 0, len(list))
		for _, t := range list {
			t = t.WithDefaults()
			e.trunks = append(e.trunks, &t)
		}
		e.numbers = make(map[numberKey]Number, len(numbers))
		for _, n := range numbers {
			e.numbers[numberKey{n.Account, n.Number}] = n
		}
	})
}

// SetFiled notes the trunks of the configuration file as the operator wrote them.
func (b *Book) SetFiled(list []Trunk) {
	b.replace(func(e *edition) {
		e.filed = make([]*Trunk, 0, len(list))
		for _, t := range list {
			t = t.WithDefaults()
			e.filed = append(e.filed, &t)
		}
	})
}

// SetAccounts replaces what the accounts may do. An account that is not in the list may place no call.
func (b *Book) SetAccounts(list []Account) {
	b.replace(func(e *edition) {
		e.accounts = make(map[string]*Account, len(list))
		for _, a := range list {
			e.accounts[a.ID] = &a
		}
	})
}

// replace makes the next edition of the present one.
func (b *Book) replace(change func(*edition)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.now.Load()
	next := *before
	next.replaced = make(chan struct{})
	change(&next)
	b.now.Store(&next)
	close(before.replaced)
	b.tidy(before, &next)
}

// tidy forgets what went on with trunks that are gone, and why one was out of service that has another address now.
func (b *Book) tidy(before, next *edition) {
	uris := make(map[Key]string, len(next.trunks))
	for _, t := range next.trunks {
		uris[t.Key()] = t.URI
	}
	for _, t := range before.trunks {
		if u := b.trunks[t.Key()]; u != nil && (t.URI == "" || uris[t.Key()] != t.URI) {
			u.circuit.worked()
		}
	}
	for key, u := range b.trunks { // also those that had calls when they went
		if _, stays := uris[key]; !stays && u.calls == 0 {
			delete(b.trunks, key)
		}
	}
}

// Trunks lists all trunks of all accounts as they are now. Changed is closed when they, or anything else, are replaced.
func (b *Book) Trunks() (all []*Trunk, changed <-chan struct{}) {
	e := b.now.Load()
	return slices.Clone(e.trunks), e.replaced
}

// Trunk returns one trunk as it is now, nil if there is none.
func (b *Book) Trunk(key Key) *Trunk {
	for _, t := range b.now.Load().trunks {
		if t.Key() == key {
			return t
		}
	}
	return nil
}

// Number returns an account's number as it is now.
func (b *Book) Number(account, number string) (Number, bool) {
	n, ok := b.now.Load().numbers[numberKey{account, number}]
	return n, ok
}

// Account returns what an account may do now.
func (b *Book) Account(id string) (Account, bool) {
	e := b.now.Load()
	if e.accounts == nil {
		return Account{ID: id, SIPURIs: true, AllowedPrefixes: append([]string{"+"}, Costly()...)}, true
	}
	a, ok := e.accounts[id]
	if !ok {
		return Account{}, false
	}
	return *a, true
}

// Inbound returns the trunk that a sender belongs to, nil if there is none: of those whose networks hold its address the
// narrowest, then one whose account has the number that is called, then the first of the configuration.
func (b *Book) Inbound(from netip.Addr, called string) *Trunk {
	from = from.Unmap()
	e := b.now.Load()
	var best *Trunk
	bits, has := -1, false
	for _, t := range e.trunks {
		width := -1
		for _, network := range t.Allow {
			if network.Contains(from) {
				width = max(width, network.Bits())
			}
		}
		if width < 0 || width < bits {
			continue
		}
		number, _ := t.Normalize(called)
		_, own := e.numbers[numberKey{t.Account, number}]
		if width > bits || own && !has {
			best, bits, has = t, width, own
		}
	}
	return best
}

// Challenged lists the trunks that a sender may be if it has their password: those whose networks hold its address, and
// those that have none, which are known by their username alone.
func (b *Book) Challenged(from netip.Addr) []*Trunk {
	from = from.Unmap()
	var list []*Trunk
	for _, t := range b.now.Load().trunks {
		holds := func(network netip.Prefix) bool { return network.Contains(from) }
		if t.InboundUsername != "" && (len(t.Allow) == 0 || slices.ContainsFunc(t.Allow, holds)) {
			list = append(list, t)
		}
	}
	return list
}

// Failed counts a failure of a trunk: a probe that was not answered, a call that came to nothing. Several, one after the
// other, take it out of service for a time.
func (b *Book) Failed(key Key, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.usageOf(key).circuit.failed(time.Now(), why, 0)
}

// Worked puts a trunk into service.
func (b *Book) Worked(key Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.usageOf(key).circuit.worked()
}

// State is how a trunk does.
type State struct {
	Key
	Calls    int
	Failures int       // one after the other
	OpenTill time.Time // zero: in service; else when it may be tried again
	Why      string    // the last failure, when there are any
}

// States lists how all trunks do, sorted by their keys.
func (b *Book) States() []State {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]State, 0, len(b.trunks))
	for _, t := range b.now.Load().trunks {
		u := b.usageOf(t.Key())
		list = append(list, State{Key: t.Key(), Calls: u.calls, Failures: u.circuit.failures, OpenTill: u.circuit.until, Why: u.circuit.why})
	}
	slices.SortFunc(list, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// State returns how one trunk does.
func (b *Book) State(key Key) State {
	for _, s := range b.States() {
		if s.Key == key {
			return s
		}
	}
	return State{Key: key}
}

// usageOf returns a trunk's, made when it is missing. The caller holds mu.
func (b *Book) usageOf(key Key) *usage {
	u := b.trunks[key]
	if u == nil {
		u = &usage{}
		b.trunks[key] = u
	}
	return u
}

// accountOf returns an account's, made when it is missing. The caller holds mu.
func (b *Book) accountOf(id string) *usage {
	u := b.accounts[id]
	if u == nil {
		u = &usage{live: map[*Place]struct{}{}}
		b.accounts[id] = u
	}
	return u
}

// Spent adds minutes that an account has talked today already: what a restart would forget.
func (b *Book) Spent(account string, talked time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.accountOf(account)
	u.turn(time.Now())
	u.spent += talked
}
